"""Rotations of transformers of the transformers library: are they exact, found again, of use, and fast?

    python benchmarks/rotations.py exact                    # tiny networks, a random element of each
    python benchmarks/rotations.py barriers --pairs FOLDER  # those of rotation_pairs.py
    python benchmarks/rotations.py time                     # 12 layers and 768 units, by weights

Each prints a table in Markdown. Networks pass through folders, as a user has them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from rotation_barrier import curve, load_model, load_pair, pair_names
from safetensors.torch import save_file
from torch import Tensor

import deepalign_cli as da
from deepalign_cli.aligners import head_steps, steps
from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.rotations import RotationMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.trace import trace_folder
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.known_models import match
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.tracing.turn_proposals import is_stream
from deepalign_cli.tracing.wide import Wide

NOISE = 0.01  # deviations of each tensor
_LANGUAGE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
_LLAMA = {**_LANGUAGE, "num_key_value_heads": 2}
_GPT = {"vocab_size": 64, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
_T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_WHISPER = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_mel_bins": 8,
    "max_source_positions": 16, "max_target_positions": 16, "decoder_start_token_id": 1, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip
_PATCHES = {"image_size": 16, "patch_size": 4}
_TOWER = {k: v for k, v in _LANGUAGE.items() if k not in ("vocab_size", "max_position_embeddings")}
_CLIP = {
    "text_config": {**_LANGUAGE, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2},
    "vision_config": {**_TOWER, **_PATCHES}, "projection_dim": 16,
}  # fmt: skip

_GEMMA = {"head_dim": 8, "tie_word_embeddings": False}
_ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}}

# By name: the class, its configuration's class, and the configuration.
TINY: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "Llama, grouped queries": ("LlamaForCausalLM", "LlamaConfig", _LLAMA),
    "Llama, tied": ("LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "tie_word_embeddings": True}),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _LLAMA),
    "GPT-2, tied": ("GPT2LMHeadModel", "GPT2Config", _GPT),
    "GPT-2, untied": ("GPT2LMHeadModel", "GPT2Config", {**_GPT, "tie_word_embeddings": False}),
    "BERT": ("BertForMaskedLM", "BertConfig", _LANGUAGE),
    "ViT": ("ViTForImageClassification", "ViTConfig", {**_TOWER, **_PATCHES, "num_labels": 10}),
    "T5": ("T5ForConditionalGeneration", "T5Config", {**_T5, "decoder_start_token_id": 0}),
    "Whisper": ("WhisperForConditionalGeneration", "WhisperConfig", _WHISPER),
    "CLIP": ("CLIPModel", "CLIPConfig", _CLIP),
    "Gemma, untied": ("GemmaForCausalLM", "GemmaConfig", {**_LLAMA, **_GEMMA}),
    "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config", {**_LLAMA, **_GEMMA}),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_LLAMA, "head_dim": 8}),
    "OLMo 2": ("Olmo2ForCausalLM", "Olmo2Config", _LLAMA),
    "GPT-NeoX": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _LANGUAGE),
    "GPT-NeoX, all rotary": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**_LANGUAGE, **_ROTARY}),
    "GPT-J": ("GPTJForCausalLM", "GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "GPT-2, one head": (
        "GPT2LMHeadModel", "GPT2Config", {**_GPT, "n_head": 1, "tie_word_embeddings": False}
    ),
    "Llama, one head": (
        "LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "num_attention_heads": 1, "num_key_value_heads": 1}
    ),
    "Llama, one key head": ("LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "num_key_value_heads": 1}),
}  # fmt: skip


def made(kind: str, config: str, values: Mapping[str, Any]) -> Any:
    """A network with random weights; norms' gains and shifts are random, too."""
    torch.manual_seed(0)
    model: Any = getattr(transformers, kind)(getattr(transformers, config)(**values)).eval()
    with torch.no_grad():
        for name, w in model.named_parameters():
            if "norm" in name.lower() or ".ln_" in name:
                is_added = name.endswith("bias") or not w.any()  # zeros: the norm adds one to them
                w.add_(0.3 * torch.randn(w.shape)) if is_added else w.mul_(0.5 + torch.rand(w.shape))
    return model


def symmetry_of(folder: Path) -> tuple[Symmetry, dict[str, Tensor]]:
    """What may move and turn in a folder's network, and its tensors."""
    checkpoint = open_checkpoint(folder)
    traced = trace_folder(checkpoint, turns=True)
    if traced is None or traced.turned is None:
        raise ValueError(f"{folder} is no folder of transformers")
    return Symmetry(traced.turned, shapes_of(checkpoint)), {n: checkpoint[n].clone() for n in checkpoint}


def planted(symmetry: Symmetry, weights: Weights, rng: torch.Generator) -> Element:
    """A random element, to a network whose norms have other gains."""
    own = symmetry.without_gains(weights)
    gains = {name: 0.5 + torch.rand(w.shape, generator=rng).double() for name, w in own.enter.items()}
    return Element({}, leave=gains) @ symmetry.random(rng) @ own


def inputs_of(model: Any) -> dict[str, Tensor]:
    """Two examples of what a network takes."""
    config, rng = model.config, torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 64, (2, 12), generator=rng)
    name = type(model).__name__
    if name.startswith("ViT"):
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=rng)}
    if name.startswith("Whisper"):
        audio = torch.randn(2, config.num_mel_bins, 32, generator=rng)
        return {"input_features": audio, "decoder_input_ids": tokens}
    if name.startswith("CLIP"):
        return {"input_ids": tokens, "pixel_values": torch.randn(2, 3, 16, 16, generator=rng)}
    return {"input_ids": tokens, **({"decoder_input_ids": tokens} if name.startswith("T5") else {})}


@torch.no_grad()
def outputs_of(folder: Path, dtype: torch.dtype) -> Tensor:
    """A loaded network's outputs. Raises ValueError where a tensor of it is missing or unknown."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind: Any = getattr(transformers, config.architectures[0])
    model, told = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    if told["missing_keys"] or told["unexpected_keys"] or told["mismatched_keys"]:
        raise ValueError(f"{folder}: {told}")
    inputs = {k: x.to(dtype) if x.is_floating_point() else x for k, x in inputs_of(model).items()}
    with Wide() if dtype is torch.float64 else nullcontext():  # some compute their norms in float32
        out = model.eval()(**inputs)
    return (out.logits_per_image if hasattr(out, "logits_per_image") else out.logits).double()


def save(model_folder: Path, weights: Weights, target: Path) -> Path:
    """A folder with other weights."""
    target.mkdir()
    (target / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    save_file({n: w.contiguous() for n, w in weights.items()}, target / "model.safetensors", {"format": "pt"})
    return target


def drift(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the spread of the outputs."""
    return float((a - b).abs().max() / (a.max() - a.min()))


def exact(place: Path, only: Sequence[str] = ()) -> Iterator[list[str]]:
    """For each kind of network what turns, by how much outputs change, and what is found again."""
    yield ["network", "streams turn", "inside heads", "float64", "bfloat16", "noise", "planted", "found"]
    for name, (kind, config, values) in TINY.items():
        if only and name not in only:
            continue
        folder = place / name.replace(" ", "-").replace(",", "")
        made(kind, config, values).double().save_pretrained(folder)
        symmetry, a = symmetry_of(folder)
        rng = torch.Generator().manual_seed(2)
        g = planted(symmetry, a, rng)
        b = symmetry.apply(g, a)
        changes = []
        for dtype in (torch.float64, torch.bfloat16):
            names = [folder.with_name(f"{folder.name}-{side}-{dtype}") for side in "ab"]
            for weights, target in zip((a, b), names, strict=True):
                save(
                    folder,
                    {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()},
                    target,
                )
            changes.append(drift(*(outputs_of(target, dtype) for target in names)))
        noise = {
            n: NOISE * w.std() * torch.randn(w.shape, generator=rng) for n, w in b.items() if w.numel() > 1
        }
        noisy = {n: w + noise[n] if n in noise else w for n, w in b.items()}
        found = RotationMatching()(symmetry, a, noisy, rng=rng)
        streams = [str(symmetry.kinds[g]) for g in symmetry.within if is_stream(g)]
        heads = {str(symmetry.kinds[g]) for g in symmetry.within if not is_stream(g)}
        yield [
            name, ", ".join(sorted(set(streams))) or "no", ", ".join(sorted(heads)),
            *(f"{change:.1e}" for change in changes), f"{found.distance_before:.2f}",
            f"{distance(symmetry, a, noisy, g.inverse()):.4f}", f"{found.distance_after:.4f}",
        ]  # fmt: skip


def barriers(pairs: Path, only: Sequence[str] = ()) -> Iterator[list[str]]:
    """For each pair the barrier by each way of aligning, and the accuracy half-way."""
    ways: Mapping[str, Callable[[Any, Any, Path], Weights]] = {
        "none": lambda a, b, data: _aligned(a, b, "none"),
        "permutations, by weights": lambda a, b, data: _aligned(a, b, "weights"),
        "the default": lambda a, b, data: _aligned(a, b, "deepalign"),
        "rotations, by weights": lambda a, b, data: _aligned(a, b, "rotations", no_dream=True),
        "rotations, on dreams": lambda a, b, data: _aligned(a, b, "rotations", data="dream"),
        "rotations, on data, without gradients": lambda a, b, data: _on_data(a, b, data, path_steps=0),
        "rotations, on data": lambda a, b, data: _on_data(a, b, data),
    }
    yield ["pair", "", "barrier", "of permutations'", "half-way", "ends", "seconds"]
    for name in (name for name in pair_names(pairs) if not only or name in only):
        pair, seconds, permuted = load_pair(pairs, name), 0.0, 0.0
        for way, align in ways.items():
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as place:
                moved = align(pairs / name / "a", pairs / name / "b", pairs / name / "data.safetensors")
                seconds = time.perf_counter() - started
                folder = save(pairs / name / "b", moved, Path(place) / "b")
                line = curve(pair, pair.a, dict(load_model(folder).state_dict()))
            permuted = line.barrier if way.startswith("permutations") else permuted
            share = f"{line.barrier / permuted:.2f}" if permuted else ""
            accuracies = (line.midpoint_accuracy, line.accuracies[0], line.accuracies[-1])
            half_way, *ends = (f"{accuracy:.3f}" for accuracy in accuracies)
            yield [name, way, f"{line.barrier:.3f}", share, half_way, ", ".join(ends), f"{seconds:.0f}"]


def _aligned(a: Path, b: Path, method: str, **options: Any) -> Weights:
    return dict(da.align(a, b, method=method, **options).apply(da.open(b)))


def _on_data(a: Path, b: Path, data: Path, **options: Any) -> Weights:
    images = {"normalise": "0.5,0.5"} if "vit" in str(a) else {}
    return _aligned(a, b, "rotations", data=str(data), **images, **options)


def timed(place: Path) -> Iterator[list[str]]:
    """A pair of 12 layers and 768 units: the time of what the alignment is made of, and its memory."""
    folder, rng = place / "fresh", torch.Generator().manual_seed(0)
    config = transformers.GPT2Config(vocab_size=2**14, tie_word_embeddings=False)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    checkpoint, symmetry = open_checkpoint(folder), by_template(folder)
    a = {n: checkpoint[n].clone() for n in checkpoint}
    moved = symmetry.apply(planted(symmetry, a, rng), a)
    b = {n: w + NOISE * w.std() * torch.randn(w.shape, generator=rng) for n, w in moved.items()}
    paths = [save(folder, weights, place / side) for weights, side in ((a, "a"), (b, "b"))]
    del a, b, moved
    told = subprocess.run(
        [sys.executable, __file__, "aligned", "--pair", *map(str, paths)], check=True, capture_output=True
    )  # in a process of its own, so that no more than the alignment counts
    row = json.loads(told.stdout)
    yield [
        "parameters", "align", "of processors", "in SVDs", "in assignments", "distance", "found", "peak"
    ]  # fmt: skip
    svd, assigned = (f"{row[key]:.1f} s, {row[key] / row['seconds']:.0%}" for key in ("svd", "assign"))
    yield [
        f"{row['parameters'] / 1e6:.0f} M", f"{row['seconds']:.0f} s", f"{row['processor']:.0f} s", svd,
        assigned, f"{row['before']:.1f}", f"{row['after']:.2f}", f"{row['peak']:.2f} GiB",
    ]  # fmt: skip


def aligned(pair: Sequence[Path]) -> dict[str, float]:
    """What it takes to align two folders by weights."""
    symmetry, files = by_template(pair[0]), [open_checkpoint(path) for path in pair]
    started, processor = time.perf_counter(), time.process_time()
    functions = {"svd": [torch.linalg], "eigvalsh": [torch.linalg], "assign": [steps, head_steps]}
    with spent_in(functions) as spent:
        found = RotationMatching()(symmetry, *files, rng=torch.Generator().manual_seed(0))
    return {
        "seconds": time.perf_counter() - started, "processor": time.process_time() - processor,
        "svd": spent["svd"] + spent["eigvalsh"], "assign": spent["assign"], "peak": peak(),
        "before": found.distance_before, "after": found.distance_after,
        "parameters": sum(info.numel for info in files[0].infos.values()),
    }  # fmt: skip


def peak() -> float:
    """The most memory that this process has had, in GiB; not that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def by_template(folder: Path) -> Symmetry:
    """What turns in a folder's network, by its template: a trace of this size takes minutes."""
    checkpoint = open_checkpoint(folder)
    spec = match(checkpoint, turns=True)
    if spec is None:
        raise ValueError(f"no template is of {folder}")
    return Symmetry(spec, shapes_of(checkpoint))


@contextmanager
def spent_in(functions: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, float]]:
    """The seconds spent in some functions, which stand in some modules."""
    spent = dict.fromkeys(functions, 0.0)
    places = [(name, of, getattr(of, name)) for name, all_of in functions.items() for of in all_of]

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            out = function(*args, **kwargs)
            spent[name] += time.perf_counter() - started
            return out

        return call

    try:
        for name, of, function in places:
            setattr(of, name, counted(name, function))
        yield spent
    finally:
        for name, of, function in places:
            setattr(of, name, function)


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("exact", "barriers", "time", "aligned"))
    parser.add_argument("--pairs", type=Path, default=Path("pairs"))
    parser.add_argument("--only", nargs="+", default=(), help="some of the networks, or of the pairs")
    parser.add_argument("--pair", nargs=2, type=Path, help="two folders; `aligned` prints one object of them")
    asked = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as place:
        if asked.what == "aligned":
            print(json.dumps(aligned(asked.pair)))
        elif asked.what == "time":
            show(timed(Path(place)))
        else:
            of_exact = asked.what == "exact"
            show(exact(Path(place), asked.only) if of_exact else barriers(asked.pairs, asked.only))


def show(rows: Iterator[list[str]]) -> None:
    """Print a table in Markdown, a row as soon as it is there."""
    for number, row in enumerate(rows):
        print("|", " | ".join(row), "|", flush=True)
        if not number:
            print("|" + "---|" * len(row))


if __name__ == "__main__":
    main()
