"""What may turn in small transformers, of which kind, and that it does: outputs stay in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.kinds import CENTRED, HALF_TURNS, NEIGHBOURS, ORTHOGONAL, ROTARY, SORTED, Kind
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing import pipeline
from deepalign_cli.tracing.check import Trial
from deepalign_cli.tracing.pipeline import label, trace
from deepalign_cli.tracing.turning import turning
from tests.symmetry.builders import seeded, shapes_of
from tests.tracing.quick import Quick
from tests.turning_nets import (
    Attention,
    GainTwice,
    LayerScale,
    OnePlus,
    PostNorm,
    PreNorm,
    ReturnsNormed,
    Rms,
    SharedReader,
    SquareReader,
    WithFused,
    shaken_,
    tokens,
)

QK, VO, QUERIES, PART = (f"block.attn.{word}" for word in ("qk", "vo", "queries", "rotary"))
ALONE = "block.attn.o"  # the values of one head
FUSED = {"block.qk": ORTHOGONAL, VO: ORTHOGONAL, "stream": CENTRED}
HEADS = {QK: ORTHOGONAL, VO: ORTHOGONAL}
RMS_GAINS = {
    "block.n1.weight": ("block.attn.q.weight", "block.attn.k.weight", "block.attn.v.weight"),
    "block.n2.weight": ("block.up.weight",),
    "norm.weight": ("head.weight",),
}


def turned(module: nn.Module, x: Tensor | None = None) -> tuple[Spec, Trial]:
    x = tokens() if x is None else x
    trial = Trial(module, Example((x,)))
    program = Quick(module, x)
    return turning(program, label(program).spec, trial).spec, trial


def change(module: nn.Module, spec: Spec, seed: int = 1) -> float:
    """By how much the outputs change, of a module's own weights in float64, with a random element."""
    module = module.double()
    weights = {n: w.detach().clone() for n, w in module.state_dict().items()}
    symmetry = Symmetry(spec, shapes_of(weights))
    own, rng = symmetry.without_gains(weights), seeded(seed)
    g = own.inverse() @ symmetry.random(rng) @ own
    turned = {group for group in spec.mixing if symmetry.sizes[group] > 1 and not symmetry.kinds[group].jumps}
    assert all(map(g.moved, turned))
    with torch.no_grad():
        before = module(tokens(3))
        moved = {n: w.to(weights[n].dtype) for n, w in symmetry.apply(g, weights).items()}
        after = torch.func.functional_call(module, moved, (tokens(3),), tie_weights=False)
    return float((before - after).abs().max() / before.std())


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Kind]]] = {
    "layer norm": (PreNorm, {**HEADS, "stream": CENTRED}),
    "layer norm without biases": (
        lambda: PreNorm(lambda n: nn.LayerNorm(n, bias=False)), {**HEADS, "stream": CENTRED}
    ),
    "layer norm without gains": (
        lambda: PreNorm(lambda n: nn.LayerNorm(n, elementwise_affine=False)), {**HEADS, "stream": CENTRED}
    ),
    "rms written out": (lambda: PreNorm(Rms), {**HEADS, "stream": ORTHOGONAL}),
    "rms of torch": (lambda: PreNorm(nn.RMSNorm), {**HEADS, "stream": ORTHOGONAL}),
    "rotary": (lambda: PreNorm(Rms, rotary=True), {QK: ROTARY, VO: ORTHOGONAL, "stream": ORTHOGONAL}),
    "grouped": (lambda: PreNorm(Rms, heads=6, kv=2), {**HEADS, QUERIES: SORTED, "stream": ORTHOGONAL}),
    "grouped rotary": (
        lambda: PreNorm(Rms, heads=6, kv=2, rotary=True),
        {QK: ROTARY, VO: ORTHOGONAL, QUERIES: SORTED, "stream": ORTHOGONAL},
    ),
    "keys of all heads": (
        lambda: PreNorm(Rms, heads=3, kv=1),
        {**HEADS, "stream": ORTHOGONAL},
    ),
    "rotary keys of all heads": (
        lambda: PreNorm(Rms, heads=3, kv=1, rotary=True), {QK: ROTARY, VO: ORTHOGONAL, "stream": ORTHOGONAL}
    ),
    "partly rotary": (
        lambda: PreNorm(Rms, inner=6, rotary=True, part=2), {PART: ROTARY, **HEADS, "stream": ORTHOGONAL}
    ),
    "rotary neighbours": (
        lambda: PreNorm(Rms, rotary=True, neighbours=True),
        {QK: NEIGHBOURS, VO: ORTHOGONAL, "stream": ORTHOGONAL},
    ),
    "partly rotary neighbours": (
        lambda: PreNorm(Rms, inner=6, rotary=True, part=4, neighbours=True),
        {PART: NEIGHBOURS, **HEADS, "stream": ORTHOGONAL},
    ),
    "gains of one and more": (lambda: PreNorm(OnePlus), {**HEADS, "stream": ORTHOGONAL}),
    "odd heads": (lambda: PreNorm(inner=3), {**HEADS, "stream": CENTRED}),
    "heads of one dimension": (lambda: PreNorm(Rms, inner=1), {"stream": ORTHOGONAL}),
    "a gain at two places": (GainTwice, {**HEADS, "stream": CENTRED}),
    "normed queries": (lambda: PreNorm(Rms, qk_norm=True), {VO: ORTHOGONAL, "stream": ORTHOGONAL}),
    "normed rotary queries": (
        lambda: PreNorm(Rms, qk_norm=True, rotary=True),
        {QK: HALF_TURNS, VO: ORTHOGONAL, "stream": ORTHOGONAL},
    ),
    "fused": (WithFused, FUSED),
    "fused, by head": (lambda: WithFused(by_head=True), FUSED),
    "fused, transposed": (lambda: WithFused(transposed=True), FUSED),
    "a layer from the stream into it": (SquareReader, {**HEADS, "stream": ORTHOGONAL}),
    "fused, by head, rotary": (
        lambda: WithFused(by_head=True, rotary=4), {QK: ROTARY, VO: ORTHOGONAL, "stream": CENTRED}
    ),
    "fused, by head, partly rotary": (
        lambda: WithFused(by_head=True, rotary=2), {**FUSED, QK: ROTARY}
    ),
    "one head": (
        lambda: PreNorm(heads=1), {"block.attn.k": ORTHOGONAL, ALONE: ORTHOGONAL, "stream": CENTRED}
    ),
    "one rotary head": (
        lambda: PreNorm(heads=1, rotary=True), {QK: ROTARY, ALONE: ORTHOGONAL, "stream": CENTRED}
    ),
    "one head, fused": (
        lambda: WithFused(heads=1), {"block.attn": ORTHOGONAL, ALONE: ORTHOGONAL, "stream": CENTRED}
    ),
    "one rotary head, fused": (
        lambda: WithFused(heads=1, rotary=8), {"block.qk": ROTARY, ALONE: ORTHOGONAL, "stream": CENTRED}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_turns_is_found_and_turning_it_changes_nothing(case: str) -> None:
    make, kinds = CASES[case]
    module = shaken_(make())
    spec, _ = turned(module)
    assert spec.kinds == kinds, spec.stays
    assert change(module, spec) < 1e-10


STAYS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "tied": (lambda: PreNorm(tied=True), "stream would change the outputs by turning"),
    "post-norm": (PostNorm, "of 'block.n1.weight', add sees what it multiplies"),
    "layer scale": (LayerScale, "of 'gamma', add sees what it multiplies"),
    "one layer behind two norms": (SharedReader, "of 'block.n1.weight', 'block.up.weight' is used elsewhere"),
}


@pytest.mark.parametrize("case", STAYS)
def test_a_stream_that_may_not_turn_stays_and_the_reason_is_told(case: str) -> None:
    make, why = STAYS[case]
    module = shaken_(make())
    spec, _ = turned(module)
    assert spec.mixing <= {QK, VO}
    assert not spec.gains
    (line,) = spec.stays
    assert why in line
    assert change(module, spec) < 1e-10


def test_a_stream_that_is_returned_behind_its_norm_stays() -> None:
    spec, _ = turned(shaken_(ReturnsNormed()))
    assert spec.kinds == HEADS


def test_a_stream_of_one_unit_hardly_matters() -> None:
    module = shaken_(PreNorm(Rms, dim=1))
    spec, _ = turned(module)
    assert change(module, spec) < 1e-10


def test_what_undoes_the_gains_is_named() -> None:
    spec, _ = turned(shaken_(PreNorm(Rms, rotary=True)))
    assert spec.gains == RMS_GAINS
    assert not spec.gains.keys() & spec.axes.keys()


class TwoWidths(Attention):
    """Attention whose queries and values have fixed places, and are of two widths."""

    def __init__(self) -> None:
        super().__init__(rotary=True)
        self.v, self.o = nn.Linear(8, 2 * 6), nn.Linear(2 * 6, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k = (layer(x).reshape(b, t, 2, 4).transpose(1, 2) for layer in (self.q, self.k))
        v = self.v(x).reshape(b, t, 2, 6).transpose(1, 2)
        v = v * torch.arange(1, 7, dtype=v.dtype) + torch.arange(6, dtype=v.dtype)
        y = (q * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=q.dtype) @ k.transpose(2, 3)).softmax(-1) @ v
        return self.o(y.relu().cumsum(-1).transpose(1, 2).reshape(b, t, -1))


def test_heads_with_fixed_places_of_two_widths_do_not_turn() -> None:
    module = PreNorm(Rms)
    module.block.attn = TwoWidths()
    shaken_(module)
    spec, _ = turned(module)
    assert "stream" in spec.mixing
    assert change(module, spec) < 1e-10


def without_its_check(module: nn.Module, change: Callable[[Spec], Spec]) -> set[str]:
    """The groups that the trial blames for a spec that has been changed to be wrong."""
    spec, trial = turned(module)
    wrong = change(spec)
    residual, failed = trial.of(Symmetry(wrong, trial.shapes))
    assert residual > 1e-3
    return {*failed}


WRONG: dict[str, tuple[Callable[[], nn.Module], Callable[[Spec], Spec], str]] = {
    "not centred": (PreNorm, lambda s: replace(s, kinds={**s.kinds, "stream": ORTHOGONAL}), "stream"),
    "not planar": (
        lambda: PreNorm(Rms, rotary=True), lambda s: replace(s, kinds={**s.kinds, QK: ORTHOGONAL}), QK
    ),
    "a reader is forgotten": (
        lambda: PreNorm(Rms),
        lambda s: replace(s, gains={**s.gains, "block.n1.weight": RMS_GAINS["block.n1.weight"][:2]}), "",
    ),
    "a gain is forgotten": (
        lambda: PreNorm(Rms), lambda s: replace(s, gains={"norm.weight": RMS_GAINS["norm.weight"]}), "stream"
    ),
    "a bias is forgotten": (
        PreNorm, lambda s: replace(s, axes={n: a for n, a in s.axes.items() if n != "norm.bias"},
                                   gains={**s.gains, "norm.weight": ("head.weight",)}), "stream",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_proposal_does_not_pass_the_trial(case: str) -> None:
    make, wrong, group = WRONG[case]
    failed = without_its_check(shaken_(make()), wrong)
    assert not group or group in failed


def test_a_wide_proposal_falls_back_to_what_the_network_allows() -> None:
    """A norm without gains does not say that it centres: the trial does."""
    spec, _ = turned(shaken_(PreNorm(lambda n: nn.LayerNorm(n, elementwise_affine=False))))
    assert spec.kinds["stream"] is CENTRED


def test_what_turns_is_found_of_a_program_that_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = []

    def export(module: nn.Module, example: Example, outputs: tuple[str, ...]) -> Quick:
        exported.append(module)
        return Quick(module, *example.args)

    monkeypatch.setattr(pipeline, "export", export)
    module, example, last = shaken_(PreNorm(Rms)), Example((tokens(),)), pipeline.Last()
    assert last.turned(module, example, (), None) is None
    plain = trace(module, example, last=last)
    later = last.turned(module, example, (), None)
    assert later is not None
    assert len(exported) == 1
    assert later == trace(module, example, turns=True)
    assert plain == replace(later, turned=None)


@pytest.mark.slow
def test_a_trace_says_that_a_tied_embedding_is_why_a_stream_stays() -> None:
    turned = trace(shaken_(PreNorm(tied=True)), Example((tokens(),)), turns=True).turned
    assert turned is not None
    (line,) = turned.stays
    assert "of 'norm.weight', 'head.weight' is used elsewhere, too" in line


@pytest.mark.slow
def test_a_trace_says_what_turns_where_it_is_asked() -> None:
    module = shaken_(PreNorm(Rms))
    traced = trace(module, Example((tokens(),)), turns=True)
    assert traced.turned is not None
    assert (traced.turned.kinds, traced.turned.gains) == ({**HEADS, "stream": ORTHOGONAL}, RMS_GAINS)
    assert not traced.spec.mixing
    assert trace(module, Example((tokens(),)), checked=False).turned is None
