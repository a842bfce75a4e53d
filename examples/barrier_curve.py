"""Measure what merging two checkpoints costs, by several methods, from Python.

    python examples/barrier_curve.py A B DATA [CURVE.png]

DATA is what `deepalign barrier --data` takes. A picture needs matplotlib: `pip install 'deepalign[plot]'`.
"""

import sys

import deepalign_cli as da

try:
    a, b, data, *picture = sys.argv[1:]
    barrier = da.barrier(a, b, data=data, method=["weights", "deepalign"])
    for curve in barrier.curves:
        print(f"{curve.method:9}  barrier {curve.barrier:.4f}  midpoint loss {curve.midpoint_loss:.4f}")
    for path in picture:
        barrier.plot(path)
except da.DeepalignError as error:
    sys.exit(f"{error.message} {error.hint}")
