"""Align and merge two checkpoints from Python: python examples/merge_two.py A B OUT."""

import sys

import deepalign_cli as da

try:
    merged = da.merge(sys.argv[1:3], out=sys.argv[3])
    print(merged, *merged.notes, sep="\n")
except da.DeepalignError as error:
    sys.exit(f"{error.message} {error.hint}")
