"""Assignment solvers on gain matrices of trained networks, and what a sweep costs beside them.

    python benchmarks/assignment.py --data mnist.npz --nets DIR [--widths 512 2048 4096]

Trains pairs 784-n-n-10 on 8,000 MNIST images where DIR does not hold them yet. First table: seconds of
each solver on the gains of the first sweep and of the second (every solver must reach the same
optimum). Second table: a whole descent from the identity, the time it spends in the assignments, and the
ratio of the two, for the incremental gains and for gains computed whole at every step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peer_nets import load_data
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from deepalign_cli.aligners import gains
from deepalign_cli.aligners.weights import descend
from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.symmetry import Symmetry

Solver = Callable[[np.ndarray], np.ndarray]


def train(width: int, seed: int, data: Path, out: Path) -> None:
    """Train one wide network for four passes and save it."""
    torch.manual_seed(seed)
    layers = (nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    net, images = nn.Sequential(*layers), load_data(data)
    optimiser = torch.optim.Adam(net.parameters(), 5e-4)
    for _ in range(4):
        for rows in torch.randperm(len(images.train_x)).split(200):
            loss = nn.functional.cross_entropy(net(images.train_x[rows].flatten(1)), images.train_y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    save_file(net.state_dict(), out)


def problem(width: int, data: Path, nets: Path) -> gains.Gains:
    """The matching problem of the pair of this width."""
    paths = [nets / f"wide{width}-{seed}.safetensors" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        if not path.exists():
            train(width, seed, data, path)
    a, b = (load_file(path) for path in paths)
    shapes = {name: tuple(w.shape) for name, w in a.items()}
    spec = next(s for match in FAMILIES if (s := match(Layout(shapes))) is not None)
    return gains.Gains(Symmetry(spec, shapes), a, b)


def solvers() -> dict[str, Solver]:
    """The solvers by name; the LAP packages where they are installed."""
    found: dict[str, Solver] = {
        "assign": lambda gain: assign(torch.from_numpy(gain)).numpy(),
        "scipy": lambda gain: linear_sum_assignment(gain, maximize=True)[1],
    }
    try:
        import lap

        found["lapx lapjv"] = lambda gain: lap.lapjv(-gain.astype(np.float64), return_cost=False)[0]
        found["lapx lapjvc"] = lambda gain: lap.lapjvc(-gain.astype(np.float64), return_cost=False)[1]
    except ImportError:
        pass
    return found


def compare(width: int, task: gains.Gains) -> None:
    """Print the solvers' seconds on the gains of two sweeps."""
    g = task.symmetry.identity()
    for sweep in (1, 2):
        for group in task.symmetry.sizes:
            gain = task.matrices(group, g).plain
            times, values = [], []
            for solve in solvers().values():
                started = time.perf_counter()
                columns = solve(gain.numpy())
                times.append(time.perf_counter() - started)
                values.append(
                    float(gain[torch.arange(width), torch.from_numpy(columns).long()].double().sum())
                )
            same = max(values) - min(values) <= 1e-6 * abs(max(values))
            cells = "".join(f"{seconds:13.3f}" for seconds in times)
            print(f"{width:6d} {sweep:5d} {group:>6}{cells}  {'yes' if same else 'NO'}", flush=True)
            g = task.best_step(group, g).element(group) @ g


def sweep_ratio(width: int, task: gains.Gains, keep: bool) -> None:
    """Print what a descent costs beside its assignments."""
    spent = [0.0, 0.0]

    def timed(gain: Tensor) -> Tensor:
        started = time.perf_counter()
        columns = assign(gain)
        spent[0] += time.perf_counter() - started
        spent[1] += 1
        return columns

    gains.assign = timed
    task._keeps, task._kept = keep, {}
    started = time.perf_counter()
    _, objective = descend(
        task, task.symmetry.identity(), torch.Generator().manual_seed(0), list(task.symmetry.sizes)
    )
    whole = time.perf_counter() - started
    gains.assign = assign
    label = "incremental" if keep else "whole"
    print(
        f"{width:6d} {label:>12} {spent[1]:6.0f} {whole:9.2f} {spent[0]:12.2f} "
        f"{whole / spent[0]:7.2f} {objective[-1]:12.3f}",
        flush=True,
    )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 2048, 4096])
    arguments = parser.parse_args()
    arguments.nets.mkdir(parents=True, exist_ok=True)
    tasks = {width: problem(width, arguments.data, arguments.nets) for width in arguments.widths}
    print(f"{'width':>6} sweep {'group':>6}{''.join(f'{name:>13}' for name in solvers())}  same optimum")
    for width, task in tasks.items():
        compare(width, task)
    print(
        f"\n{'width':>6} {'gains':>12} {'steps':>6} {'descent s':>9} {'assignment s':>12} "
        f"{'ratio':>7} {'<A,gB>':>12}"
    )
    for width, task in tasks.items():
        for keep in (True, False):
            sweep_ratio(width, task, keep)


if __name__ == "__main__":
    main()
