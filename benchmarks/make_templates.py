"""Write the shipped templates from traces of tiny networks, or check them.

    python benchmarks/make_templates.py               # write deepalign_cli/symmetry/templates/
    python benchmarks/make_templates.py bert llama    # some of them
    python benchmarks/make_templates.py --check       # are they what traces say, and do they hold elsewhere?

Every class is traced in two sizes, in which no two lengths are the same pair, with three layers, and under
all of its settings that the tensors do not show; a template says what all of these traces allow. The check
opens networks of other sizes and depths through their template, and moves them by random elements in
float64. `template_nets.py` lists the networks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from template_nets import NETWORKS, Net, Size
from template_text import fold, written
from template_trials import failures, traced_class

from deepalign_cli.symmetry.template import FOLDER

A = Size(hidden=48, heads=6, kv=3, ffn=40, vocab=97, places=33, layers=3, types=5, labels=7, patch=4)
B = Size(hidden=80, heads=8, kv=2, ffn=56, vocab=103, places=37, layers=3, types=3, labels=11, patch=6)


def template_text(net: Net) -> str:
    """The template of a network."""
    classes = {}
    for name, cases in net.classes.items():
        a, b = (traced_class(net, cases, size) for size in (A, B))
        classes[name] = fold(net, a, b)
    return written(net, classes)


def _made(nets: Iterable[Net], check: bool) -> int:
    bad = 0
    for net in nets:
        text, path = template_text(net), FOLDER / f"{net.name}.toml"
        if not check:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or _body(path.read_text(encoding="utf-8")) != _body(text):
            print(f"{path.name} is not what the traces say")
            bad += 1
        print(f"{net.name}: {len(text.splitlines())} lines, {len(net.classes)} classes", flush=True)
    return bad


def _body(text: str) -> str:
    """A template without the versions that it was traced with."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("traced_with"))


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", help="templates, in place of all")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if one is stale or wrong"
    )
    parser.add_argument("--trials", action="store_true", help="only the second half of --check")
    options = parser.parse_args()
    nets = [net for net in NETWORKS if not options.names or net.name in options.names]
    bad = 0 if options.trials else _made(nets, options.check)
    for net in nets if options.check or options.trials else ():
        rows, faults = failures(net)
        for row in rows:
            print(row, flush=True)
        bad += len(faults)
        for fault in faults:
            print(f"WRONG: {fault}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
