"""What turns by a template: in bare files and folders, without a trace, and as a trace says it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.known_models import match
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.wide import Wide
from tests.symmetry.builders import seeded
from tests.tracing.test_turning import turned

template_nets = pytest.importorskip("benchmarks.template_nets", reason="the benchmarks are not in this copy")
transformers: Any = pytest.importorskip("transformers")

SIZE = template_nets.Size(
    hidden=24, heads=6, kv=2, ffn=20, vocab=61, places=25, layers=2, types=2, labels=3, patch=8
)
NETS = {net.name: net for net in template_nets.NETWORKS}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}

# Template, class and settings; each of the commonest, with what decides whether a stream turns.
CASES = {
    "gpt2, tied": ("gpt2", "GPT2LMHeadModel", TIED),
    "gpt2, untied": ("gpt2", "GPT2LMHeadModel", UNTIED),
    "llama": ("llama", "LlamaForCausalLM", UNTIED),
    "mistral": ("llama", "MistralForCausalLM", UNTIED),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", UNTIED),
    "qwen2, tied": ("qwen2", "Qwen2ForCausalLM", TIED),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", UNTIED),
    "gemma": ("gemma", "GemmaForCausalLM", UNTIED),
    "llama, classes": ("llama", "LlamaForSequenceClassification", {}),
    "bert": ("bert", "BertForSequenceClassification", {}),
    "roberta": ("roberta", "RobertaForMaskedLM", {}),
    "vit": ("vit", "ViTForImageClassification", {}),
    "deit": ("deit", "DeiTForImageClassification", {}),
}
IMAGES = ("vit", "deit")


def built(case: str) -> Any:
    name, cls, settings = CASES[case]
    net = NETS[name]
    one = template_nets.Case(cls, cls.partition("For")[0].replace("LMHeadModel", "") + "Config", settings)
    torch.manual_seed(0)
    module = net.build(one, SIZE).double()
    with torch.no_grad():
        for w in module.parameters():
            w.add_(0.1 * torch.randn(w.shape, dtype=w.dtype))
    return module


class Logits(nn.Module):
    """A network of which the logits count."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).logits  # type: ignore[no-any-return]


def outputs(module: Any, x: Tensor) -> Tensor:
    """In float64 from end to end."""
    with torch.no_grad(), Wide():
        return Logits(module.eval())(x)  # type: ignore[no-any-return]


def inputs(case: str) -> Tensor:
    if CASES[case][0] in IMAGES:
        return torch.randn(2, SIZE.types, 3 * SIZE.patch, 3 * SIZE.patch, generator=seeded(1)).double()
    return torch.randint(3, 60, (2, 7), generator=seeded(1))


def read(case: str, folder: Path) -> tuple[Any, Checkpoint]:
    module = built(case)
    module.config.use_cache = False
    module.save_pretrained(folder)
    return module, open_checkpoint(folder)


def said(spec: Spec, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a spec moves and turns, whatever its groups are called: units of all groups by tensor and axis."""
    symmetry = Symmetry(spec, shapes_of(checkpoint))
    names: dict[str, str] = {}
    axes = {}
    for name in sorted(spec.axes):
        text = []
        for axis in spec.axes[name]:
            atoms = [
                names.setdefault(a.name, f"{len(names)} of kind {symmetry.kinds[a.name]}")
                if a.name
                else a.size
                for a in axis.atoms()
            ]
            text.append(atoms)
        axes[name] = text
    return {"axes": axes, "gains": {g: {*others} for g, others in spec.gains.items()}, "plus": spec.plus_one}


@pytest.mark.parametrize("case", CASES)
def test_a_template_says_what_a_trace_says(case: str, tmp_path: Path) -> None:
    module, checkpoint = read(case, tmp_path)
    spec = match(checkpoint, turns=True)
    assert spec is not None
    assert spec.basis is Basis.TEMPLATE
    traced, _ = turned(Logits(module), inputs(case))
    from deepalign_cli.models.hugging_face import renamed

    stored = {f"inner.{renamed(module)(info.stored_name)}": name for name, info in checkpoint.infos.items()}
    traced = traced.renamed(lambda n: stored.get(n, n))
    traced = traced.with_axes({n: axes for n, axes in traced.axes.items() if n in checkpoint})
    assert said(spec, checkpoint) == said(traced, checkpoint)


# Whether the stream turns in a bare file. One of Llama may be one of Gemma, whose gains are other ones.
BARE = {"llama": False, "gpt2, tied": False, "gpt2, untied": True, "qwen2": True, "qwen3": True}


@pytest.mark.parametrize("case", BARE)
def test_a_bare_file_turns_and_computes_the_same(case: str, tmp_path: Path) -> None:
    module, _ = read(case, tmp_path)
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")
    spec = match(checkpoint, SIZE.heads, turns=True)
    assert spec is not None
    assert ("stream" in spec.mixing) == BARE[case]
    assert len(spec.mixing) > 3
    weights = {name: checkpoint[name].clone() for name in checkpoint}
    symmetry = Symmetry(spec, shapes_of(checkpoint))
    own = symmetry.without_gains(weights)
    moved = symmetry.apply(own.inverse() @ symmetry.random(seeded(2)) @ own, weights)
    before = outputs(module, inputs(case))
    names = {info.stored_name: name for name, info in checkpoint.infos.items()}
    module.load_state_dict({stored: moved[name] for stored, name in names.items()}, strict=False)
    module.tie_weights()
    after = outputs(module, inputs(case))
    assert float((before - after).abs().max() / before.std()) < 1e-9


def test_whether_a_head_is_tied_is_read_off_the_config_or_the_numbers(tmp_path: Path) -> None:
    read("gpt2, untied", tmp_path)

    def turns(change: dict[str, Any] | None, tensors: dict[str, Tensor] | None = None) -> bool:
        shutil.copytree(tmp_path, copy := tmp_path / "copy", dirs_exist_ok=True)
        path = copy / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, **(change or {})}))
        if change is None:
            path.unlink()
        file = copy / "model.safetensors"
        save_file({**load_file(file), **(tensors or {})}, file)
        spec = match(open_checkpoint(copy if change is not None else file), SIZE.heads, turns=True)
        shutil.rmtree(copy)
        assert spec is not None
        return "stream" in spec.mixing

    assert turns({})
    assert not turns({"tie_word_embeddings": True})
    assert not turns({"tie_word_embeddings": None})  # not said: tied, as GPT-2 is
    assert turns(None)
    embedding = load_file(tmp_path / "model.safetensors")["transformer.wte.weight"]
    assert not turns(None, {"lm_head.weight": embedding.clone()})


def test_a_template_that_does_not_tell_is_none(tmp_path: Path) -> None:
    net = NETS["distilbert"]
    net.build(net.classes["DistilBertForMaskedLM"][0], SIZE).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert match(checkpoint) is not None
    assert match(checkpoint, turns=True) is None
