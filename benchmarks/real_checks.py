"""That the converted networks compute what the originals do. Each check ends the script with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import real_files
import real_inputs
import torch
from real_networks import ELEMENTS, Atoms, Binding, Consensus, Splice
from torch import Tensor

Weights = dict[str, Tensor]
_KCAL = 627.509  # in a Hartree


def must(fits: bool, sentence: str) -> None:
    """End with `sentence` where something does not fit."""
    if not fits:
        raise SystemExit(sentence)


@torch.no_grad()
def atoms(members: list[Weights], ase: Path) -> None:
    """Eight seeds agree on the energies of molecules, as they would not if their files were misread."""
    net, energies = Atoms(), []
    described = [(kinds, real_inputs.surroundings(kinds, at)) for kinds, at in real_inputs.molecules(ase)]
    for weights in members:
        net.load_state_dict(weights)
        energies.append([_energy(net, kinds, rows) for kinds, rows in described])
    spread = float(np.median(np.std(energies, 0))) * _KCAL
    print(f"torchani: the eight energies of a molecule differ by {spread:.2f} kcal/mol (median deviation)")
    must(spread < 1, "torchani: the eight networks disagree on molecules; the package has changed.")


def _energy(net: Atoms, kinds: list[int], rows: Tensor) -> float:
    return sum(float(net.elements[ELEMENTS[k]](row[None])) for k, row in zip(kinds, rows, strict=True))


@torch.no_grad()
def splice(weights: Weights, path: Path, rng: np.random.Generator) -> None:
    """The module agrees with Keras's own description of the network, run in numpy."""
    net = Splice().eval()
    net.load_state_dict(weights)
    x = real_inputs.genes(1, 10_300, rng)
    ours = net(x).log_softmax(1)[0].T.numpy()
    theirs = np.log(_keras(path, x[0].T.numpy().astype(np.float64)))
    error = float(np.abs(ours - theirs).max())
    print(f"spliceai: largest difference of a log-probability from numpy {error:.1e}")
    must(error < 1e-2, "spliceai: the converted network differs from the file; the package has changed.")


def _keras(path: Path, x: np.ndarray) -> np.ndarray:
    """Run what the file says, layer by layer. Values are places by channels."""
    arrays, values = real_files.keras(path), {}
    for layer in real_files.layers(path):
        config, name = layer["config"], layer["config"]["name"]
        inputs = [values[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else [x]
        values[name] = _KINDS[layer["class_name"]](config, arrays, inputs)
    return values[name]


def _conv(config: dict, arrays: dict, inputs: list[np.ndarray]) -> np.ndarray:
    kernel, apart = arrays[f"{config['name']}/kernel"], config["dilation_rate"][0]
    reach = (len(kernel) - 1) * apart
    places = len(inputs[0])
    padded = np.pad(inputs[0], ((reach // 2, reach - reach // 2), (0, 0)))
    y = sum(padded[t * apart : t * apart + places] @ tap for t, tap in enumerate(kernel))
    return _softmax(y + arrays[f"{config['name']}/bias"], config["activation"])


def _softmax(y: np.ndarray, activation: str) -> np.ndarray:
    if activation == "linear":
        return y
    powers = np.exp(y - y.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _norm(config: dict, arrays: dict, inputs: list[np.ndarray]) -> np.ndarray:
    gamma, beta, mean, variance = (
        arrays[f"{config['name']}/{role}"] for role in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (inputs[0] - mean) / np.sqrt(variance + config["epsilon"]) * gamma + beta


_KINDS = {
    "InputLayer": lambda config, arrays, inputs: inputs[0],
    "Conv1D": _conv,
    "BatchNormalization": _norm,
    "Activation": lambda config, arrays, inputs: np.maximum(inputs[0], 0),
    "Add": lambda config, arrays, inputs: sum(inputs),
    "Cropping1D": lambda config, arrays, inputs: inputs[0][config["cropping"][0] : -config["cropping"][1]],
}


@torch.no_grad()
def consensus(weights: Weights, rng: np.random.Generator) -> None:
    """Reads that agree are spelt back: with gates or matrices in any other order they are not."""
    net = Consensus()
    net.load_state_dict(weights)
    bases = torch.from_numpy(rng.integers(0, 4, 100))
    x = torch.zeros(1, 100, 10)
    for strand in (0, 4):
        x[0, torch.arange(100), strand + bases] = 0.5
    right = float((net(x)[0].argmax(1) == bases + 1).double().mean())
    must(right > 0.95, f"medaka: {right:.0%} of unanimous reads are spelt back; the package has changed.")


@torch.no_grad()
def binding(package: Path) -> None:
    """The package's own predictions, which it ships beside a network for this purpose."""
    net = Binding()
    net.load_state_dict(real_files.binding(package / "saves/test/HLA-A01:01_test_model.h5"))
    lines = (package / "saves/test/HLA-A01:01_test_model.predictions").read_text().split()[1:]
    texts, wanted = zip(*(line.split(",") for line in lines), strict=True)
    outputs = net(torch.stack([real_inputs.peptide(text) for text in texts]))[:, 0]
    ours = [f"{50_000 ** (1 - float(y)):.2f}" for y in outputs]
    print(f"mhcnuggets: predictions {', '.join(ours)}; shipped {', '.join(wanted)}")
    must(ours == list(wanted), "mhcnuggets: the shipped predictions are not met; the package has changed.")
