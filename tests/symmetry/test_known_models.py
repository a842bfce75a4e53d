from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.known_models import match
from deepalign_cli.symmetry.template import templates
from tests.operations.making import deepalign

template_nets = pytest.importorskip("benchmarks.template_nets", reason="the benchmarks are not in this copy")

SIZE = template_nets.Size(
    hidden=32, heads=4, kv=2, ffn=24, vocab=61, places=25, layers=2, types=2, labels=3, patch=8
)
NETS = {net.name: net for net in template_nets.NETWORKS}
FAST = {
    "bert": "BertForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "llama": "LlamaForCausalLM",
}
# The others, which are alike, are tried by `benchmarks/make_templates.py --trials`.
SLOW = {
    t.name: next(v.name for v in reversed(t.variants))
    for t in templates()
    if t.name in ("opt", "roberta", "t5", "vit", "clip", "whisper", "gpt_neox", "convnext", "phi3")
}
ALL = [*FAST.items(), *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW.items())]
State = dict[str, Tensor]


def built(name: str, cls: str, seed: int) -> nn.Module:
    """A tiny network with generic values, in float64."""
    net = NETS[name]
    torch.manual_seed(seed)
    module = net.build(net.classes[cls][0], SIZE).double()
    with torch.no_grad():
        for w in module.parameters():
            w.add_(0.1 * torch.randn(w.shape, dtype=w.dtype))
    return module


@cache
def saved(name: str, cls: str, seed: int, parent: Path) -> Path:
    folder = parent / f"{cls}-{seed}"
    module: Any = built(name, cls, seed)
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


def bare(folder: Path) -> Path:
    return folder / "model.safetensors"


def outputs(name: str, cls: str, weights: Path, folder: Path) -> list[Tensor]:
    """What the network computes in float64 with the weights of a file, read by transformers."""
    from deepalign_cli.models.dummy_inputs import dummy_inputs
    from deepalign_cli.models.example import Outputs
    from deepalign_cli.tracing.wide import Wide

    case = NETS[name].classes[cls][0]
    shutil.copytree(folder, copy := weights.parent / "read", dirs_exist_ok=True)
    shutil.copy(weights, bare(copy))
    transformers: Any = pytest.importorskip("transformers")
    module = getattr(transformers, case.cls).from_pretrained(copy, dtype=torch.float64).eval()
    example = dummy_inputs(module).mapped(lambda x: x.double() if x.is_floating_point() else x)
    with torch.no_grad(), Wide():  # some norms ask for float32
        return list(Outputs(module)(*example.args, **dict(example.kwargs)))


def shape_state(folder: Path) -> State:
    return dict(load_file(bare(folder)))


def changed(folder: Path, out: Path, change: Callable[[State], Mapping[str, Tensor]]) -> Path:
    save_file(dict(change(shape_state(folder))), out)
    return out


@pytest.mark.parametrize(("name", "cls"), [("vit", "ViTModel"), ("deit", "DeiTModel"), ("clip", "CLIPModel")])
def test_images_may_have_any_number_of_patches(name: str, cls: str, parent: Path) -> None:
    spec = match(
        open_checkpoint(bare(saved(name, cls, 0, parent)))
    )  # 4, where templates were traced with 9, 16
    assert spec is not None


@pytest.mark.parametrize(("name", "cls"), ALL)
@pytest.mark.parametrize("with_heads", [False, True], ids=["heads stay", "heads move"])
def test_a_bare_file_is_aligned_and_computes_what_it_did(
    name: str, cls: str, with_heads: bool, tmp_path: Path, parent: Path
) -> None:
    unclear = len(NETS[name].heads) != 1 or name == "phi3"
    if with_heads == unclear and not (cls == "BertModel" and with_heads):
        return  # one of the two is enough for each; where --heads does not do, they stay
    a, b = (saved(name, cls, seed, parent) for seed in (0, 1))
    out = tmp_path / "out.safetensors"
    heads = ("--heads", SIZE.heads) if with_heads else ()

    done = deepalign("align", bare(a), bare(b), "-o", out, "-m", "weights", "--restarts", 1, *heads)

    assert done.code == 0, done.err
    assert cls.split()[0] in done.err
    moved = {n for n, w in load_file(out).items() if not torch.equal(w, shape_state(b)[n])}
    assert len(moved) > len(shape_state(b)) / 8
    if not unclear:
        assert ("heads stay in place" in done.err) == (not with_heads and bool(open_template(name).sizes))
    for before, after in zip(outputs(name, cls, bare(b), b), outputs(name, cls, out, b), strict=True):
        assert (before - after).abs().max() <= 1e-10 * before.abs().max()


def open_template(name: str) -> Any:
    return next(t for t in templates() if t.name == name)


@pytest.mark.parametrize(("name", "cls"), FAST.items())
def test_only_a_file_of_these_very_tensors_matches(name: str, cls: str, tmp_path: Path, parent: Path) -> None:
    folder = saved(name, cls, 0, parent)
    path = tmp_path / "changed.safetensors"

    checkpoint = open_checkpoint(bare(folder))
    spec = match(checkpoint)
    assert spec is not None
    assert spec.basis is Basis.TEMPLATE
    assert spec.assumptions
    matrix = checkpoint.infos[max(spec.axes, key=lambda n: len(checkpoint.infos[n].shape))].stored_name
    for change in (
        lambda state: {**state, "adapter.weight": torch.ones(2, 2)},
        lambda state: {n: w for n, w in state.items() if n != matrix},
        lambda state: {**state, matrix: torch.ones(*(n + 1 for n in state[matrix].shape))},
        lambda state: {**state, matrix: state[matrix][None]},
        lambda state: {n.replace(".1.", ".5.", 1): w for n, w in state.items()},
    ):
        assert match(open_checkpoint(changed(folder, path, change))) is None


def test_a_folder_tells_the_heads_and_the_class(parent: Path) -> None:
    spec = match(open_checkpoint(saved("bert", "BertForSequenceClassification", 0, parent)))

    assert spec is not None
    assert not spec.notes
    assert spec.sizes["encoder.layer.1.attention.self.heads"] == SIZE.heads
    assert "BertForSequenceClassification" in spec.source
    assert "transformers" in spec.source


def test_the_stream_of_a_bare_encoder_stays(parent: Path) -> None:
    spec = match(open_checkpoint(bare(saved("bert", "BertModel", 0, parent))), SIZE.heads)

    assert spec is not None
    assert "stream" not in spec.groups()
    assert "pooler.dense.weight" not in spec.axes
    assert "the residual stream stays in place: it may be an output of BertModel" in spec.stays
    assert "encoder.layer.1.attention.self.heads" in spec.groups()


def test_a_language_model_whose_head_is_tied_may_be_its_body(parent: Path, tmp_path: Path) -> None:
    folder = saved("gpt2", "GPT2LMHeadModel", 0, parent)

    spec, known = match(open_checkpoint(bare(folder))), match(open_checkpoint(folder))

    assert spec is not None
    assert known is not None
    assert "stream" not in spec.groups()
    assert "stream" in known.groups()


def test_prefixes_are_left_out_as_a_whole_or_not(parent: Path, tmp_path: Path) -> None:
    folder = saved("bert", "BertForSequenceClassification", 0, parent)
    path = tmp_path / "changed.safetensors"

    def without(state: State, part: str = "") -> State:
        return {n.removeprefix("bert.") if part in n else n: w for n, w in state.items()}

    whole = match(open_checkpoint(changed(folder, path, without)))
    assert whole is not None
    assert "classifier.weight" in whole.axes
    assert match(open_checkpoint(changed(folder, path, lambda s: without(s, "layer.0")))) is None
    assert match(open_checkpoint(changed(folder, path, lambda s: {f"net.{n}": w for n, w in s.items()})))


def test_norms_of_old_files_have_other_names(parent: Path, tmp_path: Path) -> None:
    folder = saved("bert", "BertForSequenceClassification", 0, parent)

    def old(state: State) -> State:
        return {n.replace("LayerNorm.weight", "LayerNorm.gamma"): w for n, w in state.items()}

    spec = match(open_checkpoint(changed(folder, tmp_path / "old.safetensors", old)))
    assert spec is not None
    assert "bert.encoder.layer.1.output.LayerNorm.gamma" in spec.axes


def test_heads_that_do_not_fit_are_refused(parent: Path) -> None:
    folder = saved("bert", "BertForSequenceClassification", 0, parent)

    with pytest.raises(UsageError, match="5 heads do not fit the shapes of BertForSequenceClassification"):
        match(open_checkpoint(bare(folder)), 5)


def test_another_model_type_is_no_match(parent: Path, tmp_path: Path) -> None:
    shutil.copytree(saved("llama", "LlamaForCausalLM", 0, parent), folder := tmp_path / "other")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"cohere"'))

    assert match(open_checkpoint(folder)) is None


def test_the_shapes_tell_the_heads_of_keys(parent: Path) -> None:
    spec = match(open_checkpoint(bare(saved("llama", "LlamaForCausalLM", 0, parent))), SIZE.heads)

    assert spec is not None
    assert spec.sizes["layers.0.self_attn.heads"] == SIZE.kv
    assert spec.sizes["layers.0.self_attn.queries"] == SIZE.heads // SIZE.kv


def test_reading_templates_imports_no_torch() -> None:
    code = (
        "import sys; from deepalign_cli.symmetry.template import templates; assert templates(); "
        "import deepalign_cli.symmetry.known_models; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
