#!/usr/bin/env bash
# Combiners against mergekit 0.1.5: the largest difference of every method, on tiny Llamas.
#
#     benchmarks/mergekit_parity.sh FOLDER
#
# Installs mergekit into FOLDER/mergekit (a virtual environment of its own, about 1.5 GB), makes the Llamas there, merges
# them with mergekit and with deepalign, and prints two tables. Run again, it installs nothing. PYTHON names a Python that
# has deepalign; by default it is python3. Other packages are those of constraints.txt.
set -euo pipefail
if [ $# -ne 1 ]; then
    echo "usage: benchmarks/mergekit_parity.sh FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -x "$folder/mergekit/bin/mergekit-yaml" ]; then
    "$python" -m venv "$folder/mergekit"
    "$folder/mergekit/bin/pip" install -q -c "$here/../constraints.txt" mergekit==0.1.5
fi
"$folder/mergekit/bin/python" "$here/mergekit_parity.py" reference "$folder/work"
"$python" "$here/mergekit_parity.py" compare "$folder/work"
