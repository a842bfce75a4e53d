"""Federated averaging with and without alignment: clients that see few of the classes train in rounds.

    python examples/federated.py --data mnist.npz [--clients 8] [--rounds 3] [--skew 0.3] [--method weights]

`--data` is an `.npz` as `train_demo.py` describes it. The training images are dealt to the clients with label
skew: of every class each client has a share drawn from a Dirichlet distribution, small `--skew` for few
classes a client. In every round all clients train the current network on their own images, and the results
are averaged by the number of images (FedAvg, McMahan et al. 2017, arXiv 1602.05629), as they are or aligned
to the first. In the first round they start from one network, or each from its own, as clients do that trained
before they met.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import deepalign_cli as da


def network(seed: int) -> nn.Module:
    """784-200-100-10, ReLU."""
    torch.manual_seed(seed)
    layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10)]
    return nn.Sequential(*layers)


def images(npz, split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first images of a split as rows, and their digits."""
    rows = torch.from_numpy(npz[f"{split}_images"][:count].reshape(-1, 784)).float()
    return (rows / 255 - 0.1307) / 0.3081, torch.from_numpy(npz[f"{split}_labels"][:count]).long()


def dealt(labels: torch.Tensor, clients: int, skew: float, seed: int) -> list[torch.Tensor]:
    """Which images each client has."""
    rng, hands = np.random.default_rng(seed), [[] for _ in range(clients)]
    for digit in range(10):
        places = rng.permutation(np.flatnonzero(labels.numpy() == digit))
        cuts = (np.cumsum(rng.dirichlet([skew] * clients))[:-1] * len(places)).astype(int)
        for hand, part in zip(hands, np.split(places, cuts), strict=True):
            hand.extend(part)
    return [torch.tensor(hand) for hand in hands if len(hand) > 1]


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> nn.Module:
    """The network after some epochs of SGD."""
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
    return net


def federated(train_set, test_set, hands, method: str, own: bool, asked) -> list[float]:
    """The accuracy of the average after every round, in percent."""
    (x, y), (x_test, y_test), scores = train_set, test_set, []
    nets = [network(i if own else 0) for i in range(len(hands))]
    for _ in range(asked.rounds):
        clients = [train(n, x[hand], y[hand], asked.epochs) for n, hand in zip(nets, hands, strict=True)]
        states = [client.state_dict() for client in clients]
        average = da.merge(states, weights=[len(hand) for hand in hands], method=method)
        for net in nets:
            net.load_state_dict(average)
        scores.append(100 * float((nets[0](x_test).argmax(1) == y_test).float().mean()))
    return scores


def main() -> None:
    """Print a table: one row for each start and average, one column for each round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="weights")
    parser.add_argument("--skew", type=float, default=0.3)
    for name, default in (("clients", 8), ("rounds", 3), ("epochs", 2), ("count", 20_000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with np.load(asked.data) as npz:
        train_set, test_set = images(npz, "train", asked.count), images(npz, "test", 10_000)
    hands = dealt(train_set[1], asked.clients, asked.skew, asked.seed)
    print("| start | average |" + "".join(f" round {i + 1} |" for i in range(asked.rounds)))
    print("|---|---|" + "---|" * asked.rounds)
    for own in (True, False):
        for method in ("none", asked.method):
            torch.manual_seed(asked.seed)
            scores = federated(train_set, test_set, hands, method, own, asked)
            cells = "".join(f" {score:.1f} % |" for score in scores)
            print(
                f"| {'own' if own else 'one'} | {'plain' if method == 'none' else method} |{cells}",
                flush=True,
            )


if __name__ == "__main__":
    main()
