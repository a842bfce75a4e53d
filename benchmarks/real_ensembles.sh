#!/usr/bin/env bash
# Networks that others trained, from public packages: the barrier between them, method by method.
#
#     benchmarks/real_ensembles.sh FOLDER [--only atoms,splice,consensus,binding] [--pairs 4]
#
# Fetches the packages into FOLDER (about 230 MB; none of their code is run), checks that they are the ones that were
# measured, unpacks and converts them, and prints a table. Run again, it needs no network. PYTHON names a Python that has
# deepalign; by default it is python3.
set -euo pipefail
if [ $# -lt 1 ]; then
    echo "usage: benchmarks/real_ensembles.sh FOLDER [--only atoms,splice,consensus,binding] [--pairs 4]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder/wheels" "$folder/unpacked"

fetch() { # NAME VERSION SHA256 [option of pip ...]
    local name=$1 version=$2 sum=$3
    shift 3
    local wheel
    wheel=$(find "$folder/wheels" -name "$name-$version-*.whl" | head -n 1)
    if [ -z "$wheel" ]; then
        "$python" -m pip download -q --no-deps --only-binary :all: --dest "$folder/wheels" "$@" "$name==$version" ||
            { echo "$name $version could not be fetched; the table needs this very version." >&2; exit 1; }
        wheel=$(find "$folder/wheels" -name "$name-$version-*.whl" | head -n 1)
    fi
    if [ "$sum" != any ] && ! echo "$sum  $wheel" | sha256sum --check --status; then
        echo "$name $version has changed: $(basename "$wheel") is not the file that was measured." >&2
        exit 1
    fi
    if [ ! -d "$folder/unpacked/$name" ]; then
        "$python" -m zipfile -e "$wheel" "$folder/unpacked/$name.part"
        mv "$folder/unpacked/$name.part" "$folder/unpacked/$name"
    fi
    echo "$name $version"
}

fetch torchani 1.0.1 9deb980bc8139581a7683d6889dab858bafd5c33d96bbebdceb65ba1b07232a5
fetch spliceai 1.3.1 63c633b8de6803d4ffb613e6ef62f1a896fec9fc13245c0f000ff7adea279776
fetch medaka 1.0.3 17452baefb4e1dcf233a55fdf601d3090f657c74e5f5477ebb4b879487690eac \
    --python-version 3.6 --implementation cp --abi cp36m --platform manylinux1_x86_64
fetch mhcnuggets 2.4.1 ea1c54d020eef8bad3243dfa01af59fe30a789b0faa01ae66eb1f9ff9705cd36
fetch ase 3.29.0 7b9dd103f007810339c24acfee2f6b677c0c48443b21d3c98e52959246cf4ebf # its molecules
fetch h5py 3.16.0 any   # reads Keras's files; the wheel depends on the Python
export PYTHONPATH="$here/..:$folder/unpacked/h5py${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c "import deepalign_cli, torch; print('deepalign', deepalign_cli.__version__, 'torch', torch.__version__)"
exec "$python" "$here/real_ensembles.py" "$folder" "$@"
