"""Weights of four public packages, read from their files into the names of `real_networks.py`.

No code of the packages is run.
"""

from __future__ import annotations

import bz2
import json
import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from real_networks import ELEMENTS
from torch import Tensor

Weights = dict[str, Tensor]
Arrays = Mapping[str, np.ndarray]


def atoms(folder: Path) -> Weights:
    """A member of torchani's ensemble, from NeuroChem's raw numbers: `folder` holds ANN-H.nnf and so on."""
    weights = {}
    for element in ELEMENTS:
        text = (folder / f"ANN-{element}.nnf").read_bytes()
        setup = bz2.decompress(text[text.index(b"BZh") :]).decode(errors="ignore")
        kinds = re.findall(r"activation=(\d+);", setup)
        if kinds != ["9", "9", "9", "6"]:  # CELU of 0.1 three times, then nothing
            raise SystemExit(f"torchani has changed: the activations of {element} are {kinds}.")
        for layer in range(4):
            stem = folder / f"ANN-{element}.nnf-l{layer + 1}"
            bias = np.fromfile(stem.with_name(stem.name + ".bparam"), "<f4")
            matrix = np.fromfile(stem.with_name(stem.name + ".wparam"), "<f4").reshape(len(bias), -1)
            for part, values in (("weight", matrix), ("bias", bias)):
                weights[f"elements.{element}.{2 * layer}.{part}"] = torch.from_numpy(values)
    return weights


def keras(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Keras file by layer and role: `conv1d_1/kernel`."""
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            layer, role = name.split("/")[-2:]
            arrays[f"{layer}/{role.removesuffix(':0')}"] = item[()]

    with h5py.File(path) as file:
        file.get("model_weights", file).visititems(visit)
    return arrays


def layers(path: Path) -> list[dict]:
    """What a Keras file says of its layers."""
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])["config"]["layers"]


def splice(path: Path) -> Weights:
    """SpliceAI: layers are numbered in the order in which Keras wrote them down."""
    arrays, weights = keras(path), Weights()
    norms = iter(range(1, 33))
    convs = iter(range(1, 40))
    _conv(weights, "stem", arrays, next(convs))
    _conv(weights, "skips.0", arrays, next(convs))
    for i in range(16):
        for part in ("1", "2"):
            _norm(weights, f"blocks.{i}.norm{part}", arrays, next(norms))
            _conv(weights, f"blocks.{i}.conv{part}", arrays, next(convs))
        if i % 4 == 3:
            _conv(weights, f"skips.{i // 4 + 1}", arrays, next(convs))
    _conv(weights, "head", arrays, next(convs))
    return weights


def _conv(weights: Weights, name: str, arrays: Arrays, number: int) -> None:
    """Keras has taps, inputs, outputs; PyTorch outputs, inputs, taps."""
    layer = f"conv1d_{number}"
    weights[f"{name}.weight"] = _tensor(arrays[f"{layer}/kernel"].transpose(2, 1, 0))
    weights[f"{name}.bias"] = _tensor(arrays[f"{layer}/bias"])


def _norm(weights: Weights, name: str, arrays: Arrays, number: int) -> None:
    roles = {
        "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"
    }  # fmt: skip
    for ours, theirs in roles.items():
        weights[f"{name}.{ours}"] = _tensor(arrays[f"batch_normalization_{number}/{theirs}"])
    weights[f"{name}.num_batches_tracked"] = torch.tensor(0)


def consensus(path: Path) -> Weights:
    """medaka, as CuDNNGRU wrote it: gates z, r, h; every gate's matrix is stored row by row for cuDNN."""
    arrays, weights = keras(path), Weights()
    for level in (1, 2):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            layer, ending = f"{direction}_gru{level}", f"l{level - 1}{suffix}"
            kernel, recurrent = arrays[f"{layer}/kernel"], arrays[f"{layer}/recurrent_kernel"]
            # cuDNN's own matrices are PyTorch's, outputs by inputs; Keras kept their numbers in its shape.
            inward = [g.reshape(g.shape[::-1]) for g in np.split(kernel, 3, 1)]
            weights[f"gru.weight_ih_{ending}"] = _gates(inward)
            weights[f"gru.weight_hh_{ending}"] = _gates(np.split(recurrent, 3, 1))
            biases = np.split(arrays[f"{layer}/bias"], 6)
            weights[f"gru.bias_ih_{ending}"] = _gates(biases[:3])
            weights[f"gru.bias_hh_{ending}"] = _gates(biases[3:])
    weights["head.weight"] = _tensor(arrays["classify/kernel"].T)
    weights["head.bias"] = _tensor(arrays["classify/bias"])
    return weights


def _gates(parts: list[np.ndarray]) -> Tensor:
    """Keras's update, reset, new as PyTorch's reset, update, new."""
    update, reset, new = parts
    return _tensor(np.concatenate([reset, update, new]))


def binding(path: Path) -> Weights:
    """MHCnuggets: gates i, f, c, o, as PyTorch has them."""
    arrays, weights = keras(path), Weights()
    weights["inward.weight"] = _tensor(arrays["lstm_1/kernel"].T)
    weights["inward.bias"] = _tensor(arrays["lstm_1/bias"])
    weights["recurrent.weight"] = _tensor(arrays["lstm_1/recurrent_kernel"].T)
    for ours, theirs in (("hidden", "dense_1"), ("head", "dense_2")):
        weights[f"{ours}.weight"] = _tensor(arrays[f"{theirs}/kernel"].T)
        weights[f"{ours}.bias"] = _tensor(arrays[f"{theirs}/bias"])
    return weights


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
