"""The networks that an autoencoder is trained on: a zoo of one design, what it computes, who is held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs import Design
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.functional_losses import answer_error, field_error, outputs_of
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.tasks import load_examples
from deepalign_cli.train.zoo_files import load_family

_HELD_SHARE = 16  # every sixteenth image of a field, or network, is for validation
_LEAST_HELD = 2
_JUDGED = 1000  # inputs of classifiers in a validation
_AT_ONCE = 64


@dataclass(frozen=True)
class Corpus:
    """Stacked networks, and inputs that they are compared on: a field's places, or images without labels.

    `train` and `held` are indices of networks; `judged` are the inputs of a validation. `score` is each
    network's, as the zoo has it.
    """

    design: Design
    blueprint: Blueprint
    names: tuple[str, ...]
    field: bool
    weights: Mapping[str, Float[Tensor, "networks ..."]]
    inputs: Float[Tensor, "n ..."]
    judged: Float[Tensor, "m ..."]
    train: Int64[Tensor, " t"]
    held: Int64[Tensor, " v"]
    score: Float[Tensor, " networks"]

    def stack(self, indices: Int64[Tensor, " k"]) -> dict[str, Float[Tensor, "k ..."]]:
        """The weights of some networks."""
        return {name: w[indices.to(w.device)] for name, w in self.weights.items()}

    def errors(
        self, written: Mapping[str, Tensor], read: Mapping[str, Tensor], x: Float[Tensor, "n ..."],
        temperature: float,
    ) -> Float[Tensor, " k"]:  # fmt: skip
        """How far every written network is from the one that was read, on some inputs."""
        with torch.no_grad():
            target = outputs_of(self.design, read, x)
        outputs = outputs_of(self.design, written, x)
        return field_error(outputs, target) if self.field else answer_error(outputs, target, temperature)

    def moved(
        self, weights: Mapping[str, Tensor], most: float, rng: torch.Generator
    ) -> dict[str, Float[Tensor, "k ..."]]:
        """Fields of images that are moved, turned, sheared and enlarged at random, by up to `most`.

        f(A x + t) is the same field with W A for W and b + W t for b in the first layer: no network has to
        be trained for it. On average the images grow, so that few places are read where nothing was learned.
        """
        link = next(link for link in self.blueprint.links if link.source in self.blueprint.labels)
        (bias,) = self.blueprint.biases[link.target]
        w, b = weights[link.name], weights[bias.cell.name]
        k, dims = len(w), w.shape[-1]
        draw = (2 * torch.rand(k, dims, dims + 1, generator=rng) - 1).to(w) * most
        matrix = torch.eye(dims).to(w) * (1 - most / 2) + draw[..., :dims] / 2
        shift = (w @ draw[..., dims:]).squeeze(-1)
        return {**weights, link.name: w @ matrix, bias.cell.name: b + shift}

    def shaken(
        self, weights: Mapping[str, Tensor], most: float, rng: torch.Generator
    ) -> dict[str, Float[Tensor, "k ..."]]:
        """Networks whose weights are each changed by so large a share of itself: w (1 + most * normal).

        That is so whatever the units' order, signs and scales.
        """
        noise = {name: torch.randn(w.shape, generator=rng).to(w) for name, w in weights.items()}
        return {name: w * (1 + most * noise[name]) for name, w in weights.items()}

    def start(self, seed: int) -> dict[str, Tensor]:
        """What a decoder begins near: a fresh network or, of classifiers, the best for training."""
        if self.field:
            return self.design.init(torch.Generator().manual_seed(seed))
        best = self.train[self.score[self.train].argmax()]
        return {name: w[best] for name, w in self.weights.items()}

    def on(self, device: torch.device) -> Corpus:
        """The same on a device."""
        moved = {name: w.to(device) for name, w in self.weights.items()}
        return Corpus(
            self.design, self.blueprint, self.names, self.field, moved, self.inputs.to(device),
            self.judged.to(device), self.train, self.held, self.score,
        )  # fmt: skip


def load_corpus(zoo: Path, data: Path) -> Corpus:
    """All networks of a zoo, whose families are of one design and one task.

    Raises:
        UsageError: there is no zoo, its families differ, or it has too few networks; or no data.
        MismatchError: metanetworks do not read the design. CheckpointError: a family's file is broken.
    """
    paths = sorted(zoo.glob("*.safetensors"))
    if not paths:
        raise UsageError(f"there is no zoo in '{zoo}'.", "`deepalign zoo RECIPE.toml --data D --out ZOO`.")
    families = [load_family(path) for path in paths]
    design, task = families[0].design, families[0].task
    for path, family in zip(paths, families, strict=True):
        if family.design != design or family.task != task:
            message = f"'{path.name}' has another design or task than '{paths[0].name}'."
            raise UsageError(message, "an autoencoder is for one architecture: give it a zoo of its own.")
    examples = load_examples(task, data)
    weights = {n: torch.cat([family.weights[n] for family in families]) for n in families[0].weights}
    member = torch.cat([family.member for family in families])
    train, held = _split(member if task.field else torch.arange(len(member)))
    judged = examples.train_x if task.field else examples.test_x[:_JUDGED]
    names, blueprint = tuple(path.stem for path in paths), blueprint_of(design, families[0].network(0))
    score = torch.cat([family.score for family in families])
    return Corpus(design, blueprint, names, task.field, weights, examples.train_x, judged, train, held, score)


def blueprint_of(design: Design, network: Mapping[str, Tensor]) -> Blueprint:
    """The architecture of a design, with all that its activations allow.

    Raises:
        SpecError: it cannot be traced. MismatchError: metanetworks do not read it.
    """
    spec = traced_spec(design).with_kinds(scale=True, sign=True)
    return Blueprint(Symmetry(spec, {name: tuple(w.shape) for name, w in network.items()}))


@torch.no_grad()
def accuracy(corpus: Corpus, weights: Mapping[str, Tensor], answers: Float[Tensor, "k n classes"]) -> float:
    """How often networks give the answer that others give, on the judged inputs."""
    return float(
        (outputs_of(corpus.design, weights, corpus.judged).argmax(-1) == answers.argmax(-1)).float().mean()
    )


def _split(member: Int64[Tensor, " networks"]) -> tuple[Tensor, Tensor]:
    """Indices for training and for validation, by whole members."""
    members = torch.unique(member)
    count = max(_LEAST_HELD, len(members) // _HELD_SHARE)
    if len(members) < 2 * count:
        raise UsageError(
            f"the zoo has {len(members)} networks of different images, too few to learn from.",
            f"it needs {2 * _LEAST_HELD} at least, and thousands to be of use.",
        )
    held = torch.isin(member, members[-count:])
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
