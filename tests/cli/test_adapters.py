"""`merge` of LoRA adapters, as peft saves them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from tests.cli.subjects import refused
from tests.operations.making import deepalign, listing, metadata, save, tensors
from tests.symmetry.builders import seeded

SHAPES: Mapping[str, tuple[int, int]] = {
    "layers.0.q_proj": (12, 8), "layers.0.v_proj": (6, 8), "layers.1.q_proj": (12, 8),
}  # fmt: skip

FACTORS = "adapter_model.safetensors"


def adapter(
    folder: Path, seed: int, rank: int = 2, alpha: float = 3, modules: Any = None, **config: object
) -> Path:
    """A folder as peft writes it."""
    rng, state = seeded(seed), {}
    for module, (outputs, inputs) in (modules or SHAPES).items():
        name = f"base_model.model.{module}.lora_{{}}.weight"
        state[name.format("A")] = torch.randn(rank, inputs, generator=rng)
        state[name.format("B")] = torch.randn(outputs, rank, generator=rng)
    folder.mkdir()
    save(state, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**told, **config}))
    return folder


def changes(folder: Path, scale: float | None = None) -> dict[str, Tensor]:
    """What an adapter changes, as whole matrices in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    state = {n: w.double() for n, w in tensors(folder / "adapter_model.safetensors").items()}
    found = {}
    for name, a in state.items():
        if name.endswith("lora_A.weight"):
            b = state[name.replace("lora_A", "lora_B")]
            factor = config["lora_alpha"] / len(a) if scale is None else scale
            found[name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")] = factor * b @ a
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    adapter(tmp_path / "a", 0, rank=2, alpha=3)
    adapter(tmp_path / "b", 1, rank=3, alpha=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_changes_are_averaged_and_factored_again(folder: Path) -> None:
    done = deepalign("merge", "a", "b", "--alpha", "0.25", "--rank", "5", "-o", "m", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert (told["rank"], told["modules"], told["combine"], told["weights"]) == (5, 3, "linear", [0.75, 0.25])
    assert told["relative_error"] < 1e-10
    a, b, merged = (changes(folder / name) for name in "abm")
    for module, change in merged.items():
        assert torch.allclose(change, 0.75 * a[module] + 0.25 * b[module], atol=1e-5)
    config = json.loads((folder / "m" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (5, 5, ["q_proj", "v_proj"])
    facts = metadata(folder / "m" / "adapter_model.safetensors")
    assert (facts["deepalign.rank"], facts["deepalign.input.1"]) == ("5", "b")
    assert facts["deepalign.sha256.0"] != facts["deepalign.sha256.1"]


def test_the_error_of_a_smaller_rank_is_told(folder: Path) -> None:
    done = deepalign("merge", "a", "b", "-o", "m/", "--json")
    assert done.code == 0, done.err
    a, b, merged = (changes(folder / name) for name in "abm")
    lost = norm = 0.0
    for module, change in merged.items():
        whole = (a[module] + b[module]) / 2
        best = float(torch.linalg.svdvals(whole)[3:].norm())
        assert float((change - whole).norm()) == pytest.approx(best, rel=1e-4)
        lost, norm = math.hypot(lost, best), math.hypot(norm, float(whole.norm()))
    assert done.json["rank"] == 3  # the largest of theirs
    assert done.json["relative_error"] == pytest.approx(lost / norm, rel=1e-6)
    assert any("--rank 5 would be exact" in note for note in done.json["notes"])


def test_weights_have_names_and_layers_and_may_be_factors(folder: Path) -> None:
    use = ["merge", "a", "b", "--rank", "5", "--force", "-q", "-o", "m"]
    assert deepalign(*use, "--weights-for", "layers.0=0", "--weights-for", "q_proj=1").out == "m\n"
    a, b, merged = (changes(folder / name) for name in "abm")
    for module, change in merged.items():
        assert torch.allclose(change, (a if "layers.0" in module else b)[module], atol=1e-5)
    done = deepalign(*use, "--combine", "task_arithmetic", "--weights", "1,-2", "--lambda", "0.5")
    assert done.code == 0, done.err
    for module, change in changes(folder / "m").items():
        assert torch.allclose(change, 0.5 * a[module] - b[module], atol=1e-5)


def test_the_files_of_another_tokenizer_go_where_one_is_brought(folder: Path) -> None:
    (folder / "m").mkdir()
    for name in ("vocab.json", "notes.txt"):
        (folder / "m" / name).write_text("{}")
    assert deepalign("merge", "a", "b", "-q", "-o", "m").code == 0  # which brings none
    assert (folder / "m" / "vocab.json").exists()
    (folder / "a" / "tokenizer.json").write_text('{"of": "a"}')
    done = deepalign("merge", "a", "b", "-q", "-o", "m", "--force")
    assert done.code == 0, done.err
    assert sorted(listing(folder / "m")) == ["adapter_config.json", FACTORS, "notes.txt", "tokenizer.json"]
    assert (folder / "m" / "tokenizer.json").read_text() == '{"of": "a"}'
    (folder / "m" / "vocab.json").write_text("{}")
    done = deepalign("merge", "a", "b", "-q", "-o", "m")
    assert done.code == 2
    assert (folder / "m" / "vocab.json").exists()


def test_other_combiners_see_the_whole_change(folder: Path) -> None:
    from deepalign_cli.combiners.table import COMBINERS

    done = deepalign("merge", "a", "b", "--rank", "8", "-o", "m", "--combine", "ties", "--density", "0.5")
    assert done.code == 0, done.err
    a, b, merged = (changes(folder / name) for name in "abm")
    ties = COMBINERS["ties"].make((1, 1), {"density": 0.5})
    for module, change in merged.items():
        wanted = ties(module, [torch.zeros_like(change), a[module], b[module]])
        assert torch.allclose(change, wanted, atol=1e-5)


def test_modules_of_one_adapter_only(folder: Path) -> None:
    own = {"layers.1.q_proj": (12, 8), "layers.1.up": (5, 8)}
    adapter(folder / "c", 2, rank=1, modules=own, target_modules="all")
    done = deepalign("merge", "a", "c", "--rank", "3", "-o", "m", "--json")
    assert done.code == 0, done.err
    a, c, merged = (changes(folder / name) for name in "acm")
    assert merged.keys() == a.keys() | c.keys()
    for module, change in merged.items():
        zero = torch.zeros_like(change)
        assert torch.allclose(change, (a.get(module, zero) + c.get(module, zero)) / 2, atol=1e-5)
    assert any("3 modules are not in all adapters" in note for note in done.json["notes"])
    config = json.loads((folder / "m" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(merged)


def test_scales_are_those_of_the_configuration(folder: Path) -> None:
    adapter(folder / "rs", 0, rank=4, alpha=2, use_rslora=True)
    adapter(folder / "own", 0, rank=4, alpha=2, alpha_pattern={"layers.1.q_proj": 8.0, "v_proj": 6})
    for name, scales in (("rs", {}), ("own", {"layers.1.q_proj": 2.0, "layers.0.v_proj": 1.5})):
        done = deepalign("merge", name, name, "-o", f"{name}-m", "-m", "none")
        assert done.code == 0, done.err
        wanted, plain = changes(folder / name, 1.0), 1.0 if name == "rs" else 0.5
        for module, change in changes(folder / f"{name}-m").items():
            assert torch.allclose(change, scales.get(module, plain) * wanted[module], atol=1e-5), module


def test_convolutions_embeddings_and_whole_tensors(folder: Path) -> None:
    for seed, name in enumerate(("x", "y")):
        rng = seeded(seed)
        state = {
            "base_model.model.conv.lora_A.weight": torch.randn(2, 3, 3, 3, generator=rng),
            "base_model.model.conv.lora_B.weight": torch.randn(5, 2, 1, 1, generator=rng),
            "base_model.model.embed.lora_embedding_A": torch.randn(2, 11, generator=rng),
            "base_model.model.embed.lora_embedding_B": torch.randn(4, 2, generator=rng),
            "base_model.model.head.weight": torch.randn(3, 4, generator=rng),
        }
        adapter(folder / name, 0, rank=2, alpha=2)
        save(state, folder / name / "adapter_model.safetensors")
    done = deepalign("merge", "x", "y", "--rank", "4", "-o", "m")
    assert done.code == 0, done.err
    x, y, m = (tensors(folder / n / "adapter_model.safetensors") for n in "xym")
    assert m.keys() == x.keys()
    head = "base_model.model.head.weight"
    assert torch.allclose(m[head], (x[head] + y[head]) / 2)
    for name in ("conv.lora_{}.weight", "embed.lora_embedding_{}"):
        a, b = (f"base_model.model.{name.format(side)}" for side in "AB")
        wanted, got = (sum(s[b].flatten(1) @ s[a].flatten(1) for s in some) for some in ((x, y), (m,)))
        assert torch.allclose(torch.as_tensor(got), torch.as_tensor(wanted) / 2, atol=1e-5)
        assert m[a].shape[1:] == x[a].shape[1:]
    refused(deepalign("merge", "x", "y", "--combine", "task_arithmetic", "-o", "n"), 2, "is a whole tensor")


def test_from_python(folder: Path) -> None:
    merged = da.merge(["a", "b"], weights=[1, 3], rank=4, out="m")
    assert repr(merged).startswith("Merged(6 tensors, ")
    assert all(torch.equal(w, merged[n]) for n, w in tensors(folder / "m" / FACTORS).items())
    again = da.merge([folder / "a", folder / "b"], weights=[1, 3], rank=4, combine="linear")
    assert all(torch.equal(w, again[n]) for n, w in merged.items())
    assert any("--rank 5 would be exact" in note for note in again.notes)
    with pytest.raises(UsageError, match="'activation' has no effect on LoRA adapters"):
        da.merge(["a", "b"], activation="relu")
    with pytest.raises(UsageError, match="rank is for LoRA adapters"):
        da.merge([{"fc.weight": torch.ones(2, 2)}] * 2, rank=2)


def test_recipes_are_of_adapters_too(folder: Path) -> None:
    done = deepalign("merge", "a", "b", "--rank", "4", "-o", "m", "--save-recipe", "r.toml")
    assert done.code == 0, done.err
    for recipe, out in (("r.toml", "n"), ("m", "o")):
        done = deepalign("merge", "--recipe", recipe, "-o", out)
        assert done.code == 0, done.err
        again, first = (tensors(folder / one / FACTORS) for one in (out, "m"))
        assert all(torch.equal(w, again[n]) for n, w in first.items())


def test_a_dry_run_reads_headers(folder: Path) -> None:
    before = listing(folder)
    done = deepalign("merge", "a", "b", "--dry-run")
    assert done.out.startswith("would write a-merged: 3 modules of 2 adapters, combined by linear, at rank 3")
    told = deepalign("merge", "a", "b", "--dry-run", "--json", "--rank", "4").json
    assert told["tensors"][0]["shape"] == [4, 8]
    assert listing(folder) == before


KINDS: Mapping[str, tuple[dict[str, object], str]] = {
    "dora": ({"use_dora": True}, "is an adapter with DoRA"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "a base that was changed at the start"),
    "ia3": ({"peft_type": "IA3"}, "peft's type IA3"),
    "expression": ({"alpha_pattern": {"(a+)+$": 3}}, "which is not evaluated"),
    "no alpha": ({"lora_alpha": None}, "says lora_alpha None"),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_are_refused(folder: Path, name: str) -> None:
    config, message = KINDS[name]
    adapter(folder / "c", 2, **config)  # type: ignore[arg-type]
    before = listing(folder)
    refused(deepalign("merge", "a", "c", "-o", "m"), 3, message)
    assert listing(folder) == before


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    adapter(folder / "wide", 2, modules={"layers.0.q_proj": (13, 8)})
    adapter(folder / "empty", 2, rank=0)
    twice = tensors(adapter(folder / "twice", 2) / FACTORS)
    twice |= {n.replace(".weight", ".other.weight"): w.clone() for n, w in twice.items()}
    save(twice, folder / "twice" / FACTORS)
    save({"fc.weight": torch.ones(2, 2)}, folder / "net.pt")
    lone = adapter(folder / "lone", 2)
    state = tensors(lone / "adapter_model.safetensors")
    first = next(iter(state))
    save({n: w for n, w in state.items() if n != first}, lone / "adapter_model.safetensors")
    save(state, folder / "file.pt")
    cases: list[tuple[list[str], int, str]] = [
        (["a", "wide", "-o", "m"], 3, "'layers.0.q_proj' has other sizes"),
        (["a", "net.pt", "-o", "m"], 3, "'net.pt' is not a LoRA adapter"),
        (["a", "lone", "-o", "m"], 3, "has no partner"),
        (["a", "empty", "-o", "m"], 3, "have the shapes [0, 8] and [12, 0]"),
        (["a", "twice", "-o", "m"], 3, "holds more than one adapter"),
        (["file.pt", "file.pt", "-m", "none", "-o", "m.safetensors"], 3, "is a factor of a LoRA adapter"),
        (["net.pt", "net.pt", "--rank", "2"], 2, "--rank is for LoRA adapters"),
        (["a", "b", "-o", "m.safetensors"], 2, "would be a file"),
        (["a", "b", "-o", "a", "--force"], 2, "'a' is one of the inputs"),
        (["a", "b", "-m", "weights"], 2, "--method has no effect on LoRA adapters"),
        (["a", "b", "--activation", "relu"], 2, "--activation has no effect"),
        (["a", "b", "--weights", "1,2,3"], 2, "3 weights are given for 2 inputs"),
        (["a", "b", "--rank", "0"], 2, "--rank"),
    ]
    before = listing(folder)
    for words, code, message in cases:
        refused(deepalign("merge", *words), code, message)
    assert listing(folder) == before
