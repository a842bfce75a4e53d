"""The learned aligner's prediction for streams that turn, by units whose features no rotation changes.

The aligner reads units one by one, so it cannot read those of a stream, which turn into one another. But
what a hidden unit reads of the labelled ends *through* the stream stays the same however the stream turns:
with W [n, d] from the stream to n units and E [labels, d] from labels into it, W E^T = (W Q^T) (E Q^T)^T. So
both networks are read with every stream multiplied out, as plain layers between labels and hidden units, by
the same trained weights as any other network. From the similarities that come out each network's units are
matched softly, P [n, n], and a stream's rotation is the one nearest to the cross-covariance

    C = sum_labels E_A^T E_B + sum_hidden W_A^T P W_B,    Q = argmax_Q <Q, C>.

Under a rotation R of B's stream C becomes C R^T and Q becomes Q R^T: the prediction turns with the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.sketched import is_clear
from deepalign_cli.assignment import assign, log_sinkhorn
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained, widened
from deepalign_cli.symmetry.turns import Turn

_ROUNDS = 40  # of Sinkhorn's scaling
_MOST_LABELS = 256  # that units are read by; more are mixed by a random matrix, the same for both networks

View = dict[str, tuple[Tensor, tuple[str, ...]]]  # a tensor, and the group on each axis or nothing


@dataclass(frozen=True)
class _Tie:
    """A tensor that ties a stream to labels (`group` is empty) or to the units of a group, and to no more.

    `reads` says that the stream is on the later axis, as in what reads it.
    """

    name: str
    stream: str
    group: str
    reads: bool

    def rows(self, symmetry: Symmetry, w: Tensor) -> Float[Tensor, "n rest d"]:
        """The tensor's entries by unit of the group (or by label), with the stream last."""
        (place,) = (o for o in symmetry.occurrences[self.stream] if o.name == self.name)
        if not self.group:
            return symmetry.unfold(place, widened(w)).T[:, None]
        axes = symmetry.spec.axes[self.name]
        own = next(i for i, axis in enumerate(axes) if self.group in axis.groups())
        x = widened(w).movedim((own, place.axis), (0, -1))
        return x.reshape(len(x), -1, x.shape[-1])


def predicted_streams(
    aligner: LearnedAligner, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator,
    progress: Progress = SILENT,
) -> dict[str, Turn]:  # fmt: skip
    """The rotation of every stream, of networks whose norms have no gains.

    Streams that no tensor ties to labels are left out.
    """
    ties = list(_ties(symmetry))
    labelled = dict.fromkeys(tie.stream for tie in ties if not tie.group)
    ties = [tie for tie in ties if tie.stream in labelled]
    if not ties:
        return {}
    matched = _matched(aligner, symmetry, ties, (reference, moving), rng, progress)
    found = {}
    for stream in labelled:
        size = symmetry.sizes[stream]
        total = torch.zeros(size, size, dtype=torch.float64)
        for tie in (tie for tie in ties if tie.stream == stream):
            a, b = (tie.rows(symmetry, weights[tie.name]) for weights in (reference, moving))
            if tie.group:
                b = _in_order(matched[tie.group], b)
            dtype = torch.promote_types(a.dtype, b.dtype)
            total += a.flatten(0, 1).T.to(dtype) @ b.flatten(0, 1).to(dtype)
        found[stream] = Turn(symmetry.kinds[stream].nearest(total[None]))
    return found


def _ties(symmetry: Symmetry) -> Iterator[_Tie]:
    """The tensors that tie streams to labels, or to the units of one group that does not turn."""
    for stream in (group for group, outer in symmetry.within.items() if not outer):
        for place in symmetry.occurrences[stream]:
            parts = symmetry.blocks[place.name]
            groups = [a.name for axis in symmetry.spec.axes[place.name] for a in axis.atoms() if a.name]
            others = [group for group in groups if group != stream]
            alone = all(len(blocks) == 1 and len(blocks[0].factors) == 1 for blocks in parts)
            if not alone or len(groups) > 2 or len(others) != len(groups) - 1:
                continue
            if not others or others[0] not in symmetry.within:
                yield _Tie(place.name, stream, others[0] if others else "", place.axis > 0)


def _matched(
    aligner: LearnedAligner, symmetry: Symmetry, ties: list[_Tie], pair: tuple[Weights, Weights],
    rng: torch.Generator, progress: Progress,
) -> Mapping[str, Tensor]:  # fmt: skip
    """The matching of every group that is tied to a stream, by what it reads and writes through it.

    It is soft, but where nearly all units are each other's nearest: there it is which unit goes where.
    """
    seed = int(torch.randint(2**31, (1,), generator=rng))
    views = [_multiplied_out(symmetry, ties, weights, seed) for weights in pair]
    if not views[0]:
        return {}
    shapes = {name: tuple(w.shape) for name, (w, _) in views[0].items()}
    axes = {name: tuple(map(_axis, groups, shapes[name])) for name, (_, groups) in views[0].items()}
    plain = Symmetry(Spec(axes, source=f"{symmetry.spec.source}, with streams multiplied out"), shapes)
    a, b = ({name: w for name, (w, _) in view.items()} for view in views)
    similarity = aligner.similarity(plain, a, b, rng, progress)
    temperature = float(aligner.network.temperature)
    matched = {}
    for group in plain.sizes:
        alike = widened(similarity[group])
        clear = is_clear({group: alike})
        matched[group] = assign(alike) if clear else log_sinkhorn(temperature * alike, _ROUNDS).exp()
    return matched


def _in_order(matching: Tensor, rows: Float[Tensor, "n rest d"]) -> Float[Tensor, "n rest d"]:
    """The rows of one network's units in the order of the other's, or their means by a soft matching."""
    if matching.ndim == 1:
        return rows[matching]
    return (matching.to(rows.dtype) @ rows.flatten(1)).reshape(rows.shape)


def _multiplied_out(symmetry: Symmetry, ties: list[_Tie], weights: Weights, seed: int) -> View:
    """The network in which hidden units meet labels directly, and the biases of the units."""
    made: View = {}
    for stream in dict.fromkeys(tie.stream for tie in ties):
        labels = _labels(symmetry, [tie for tie in ties if tie.stream == stream], weights, seed)
        for tie in (tie for tie in ties if tie.stream == stream and tie.group):
            rows = tie.rows(symmetry, weights[tie.name])
            product = (rows.to(labels.dtype) @ labels.T).flatten(1)
            made[tie.name] = (product, (tie.group, "")) if tie.reads else (product.T, ("", tie.group))
    for place in (o for tie in ties if tie.group for o in symmetry.occurrences[tie.group]):
        w = weights[place.name]
        if w.ndim == 1 and is_trained(place.name, w):
            made[place.name] = (widened(w), symmetry.groups_of(place.name))
    return made


def _labels(symmetry: Symmetry, ties: list[_Tie], weights: Weights, seed: int) -> Float[Tensor, "labels d"]:
    """All that labels write into a stream or read from it, one row a label; of many a few random mixtures."""
    labels = torch.cat([tie.rows(symmetry, weights[tie.name])[:, 0] for tie in ties if not tie.group])
    if len(labels) <= _MOST_LABELS:
        return labels
    mixer = torch.randn(_MOST_LABELS, len(labels), generator=torch.Generator().manual_seed(seed))
    return mixer.to(labels) @ labels / math.sqrt(_MOST_LABELS)


def _axis(group: str, size: int) -> Axis:
    return Axis(((Atom(group) if group else Atom(size=size),),))
