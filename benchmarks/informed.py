"""What combiners that look at data are worth: the accuracy of merged MNIST networks, trained separately.

    python benchmarks/informed.py --data mnist.npz

Pairs of networks of `transport.py`, which differ in their seed alone, are merged half and half: as they are,
and aligned by weights; by `linear`, and by `fisher` and `regmean` on 1,000 unlabelled training examples. Mean
accuracy on 10,000 test examples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transport import accuracy, cnn, copied, mlp, read, trained

import deepalign_cli as da


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=["mlp", "cnn"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--count", type=int, default=10_000, help="training examples")
    asked = parser.parse_args()
    train, test = read(asked.data, asked.count)
    print("| network | parents | -m | linear | fisher | regmean |\n|---|---|---|---|---|---|")
    for kind in asked.kinds:
        make, found, alone = {"mlp": mlp, "cnn": cnn}[kind], {}, []
        for pair in range(asked.pairs):
            nets = []
            for seed in (2 * pair, 2 * pair + 1):
                torch.manual_seed(seed)
                nets.append(trained(make(), train, 4, seed))
            alone += [accuracy(net, test) for net in nets]
            for method in ("none", "weights"):
                for combine in ("linear", "fisher", "regmean"):
                    data = None if combine == "linear" else train[0][:1000]
                    merged = da.merge(nets, method=method, combine=combine, data=data)
                    found.setdefault((method, combine), []).append(accuracy(copied(make, merged), test))
        for method in ("none", "weights"):
            cells = [found[method, combine] for combine in ("linear", "fisher", "regmean")]
            told = [f"{np.mean(one):.1f} ± {np.std(one):.1f}" for one in cells]
            print("|", " | ".join([kind, f"{np.mean(alone):.1f}", method, *told]), "|", flush=True)


if __name__ == "__main__":
    main()
