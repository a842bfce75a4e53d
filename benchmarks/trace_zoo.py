# ruff: noqa: E501, SIM905, I001  (tables; tiny_configs stands beside it)
"""Trace every network of transformers that can be made tiny, torchvision's classifiers and some of timm's.

    python benchmarks/trace_zoo.py run zoo.jsonl                 # resumes where it stopped
    python benchmarks/trace_zoo.py run zoo.jsonl --library timm
    python benchmarks/trace_zoo.py table zoo.jsonl

Every spec is checked in float64, as always: random permutations, scales and signs must change no output.
torchvision and timm have to be installed, in the versions that fit torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepalign_cli.models.dummy_inputs import dummy_inputs
from deepalign_cli.models.example import Example
from deepalign_cli.tracing.check import check
from deepalign_cli.tracing.program import export
from deepalign_cli.tracing.pipeline import after_check, label

GIB = 2**30
_MOST_PARAMETERS = 30_000_000
_HEADS = (
    "ForCausalLM LMHeadModel ForMaskedLM ForConditionalGeneration ForSequenceClassification ForImageClassification"
    " ForPreTraining Model ForTokenClassification ForQuestionAnswering ForObjectDetection ForSemanticSegmentation"
    " ForUniversalSegmentation ForDepthEstimation ForCTC ForAudioClassification Backbone ForMultipleChoice"
).split()  # fmt: skip
_SIDES = {"maxvit_t": 224, "inception_v3": 96}

Job = tuple[str, Callable[[], tuple[nn.Module, Example]]]


def declare_torchvision() -> None:
    """Torchvision's build for another torch lacks its own operators; classifiers do without, imports do not."""
    try:
        torch.ops.torchvision.nms  # noqa: B018  (looks it up)
    except (AttributeError, RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        _kept.append(library)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_kept: list[Any] = []


def transformers_jobs() -> Iterator[Job]:
    """Classes of the Auto mappings: first one a model type, then the others."""
    import transformers
    from transformers.models.auto import modeling_auto

    by_type: dict[str, list[str]] = {}
    for mapping in (n for n in dir(modeling_auto) if n.endswith("_MAPPING_NAMES")):
        for kind, names in getattr(modeling_auto, mapping).items():
            for name in [names] if isinstance(names, str) else names:
                cls = getattr(transformers, name, None)
                known = by_type.setdefault(kind, [])
                if (
                    isinstance(cls, type)
                    and issubclass(cls, transformers.PreTrainedModel)
                    and name not in known
                ):
                    known.append(name)
    ranked = [sorted(names, key=_rank) for names in by_type.values()]
    seen: set[str] = set()
    for depth in range(max(map(len, ranked))):
        for names in ranked:
            if depth < len(names) and names[depth] not in seen:
                seen.add(names[depth])
                yield names[depth], lambda name=names[depth]: _of_transformers(name)  # type: ignore[misc]


def _rank(name: str) -> int:
    return next((i for i, head in enumerate(_HEADS) if name.endswith(head)), len(_HEADS))


def _of_transformers(name: str) -> tuple[nn.Module, Example]:
    import transformers
    from tiny_configs import tiny

    cls = getattr(transformers, name)
    config = tiny(cls)
    with torch.device("meta"):
        count = sum(p.numel() for p in cls(config).parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"still {count / 1e6:.0f} million parameters")
    model = cls(config).eval()
    return model, dummy_inputs(model)


def torchvision_jobs() -> Iterator[Job]:
    """The classifiers, one of each family and size."""
    from torchvision import models

    for name in models.list_models(module=models):
        if any(
            part in name
            for part in ("_h_14", "_l_16", "_l_32", "_b_16", "_128gf", "_32gf", "efficientnet_b7")
        ):
            continue
        side = _SIDES.get(name, 224 if name.startswith("vit") else 64)
        options = (
            {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        )
        yield (
            name,
            lambda n=name, s=side, o=options: (  # type: ignore[misc]
                models.get_model(n, num_classes=10, weights=None, **o),
                _image(s),
            ),
        )


TIMM = """resnet18 resnet26d resnetv2_50 efficientvit_b0 ghostnet_050 hrnet_w18_small dla34 cait_xxs24_224
deit_tiny_distilled_patch16_224 beit_base_patch16_224 xcit_nano_12_p16_224 coat_lite_tiny convmixer_768_32
crossvit_9_240 davit_tiny edgenext_xx_small efficientformer_l1 eva02_tiny_patch14_224 fastvit_t8 focalnet_tiny_srf
gmlp_s16_224 levit_128s lcnet_050 mobileone_s0 mobilevit_xxs mvitv2_tiny nest_tiny nfnet_l0 pit_ti_224 poolformer_s12
pvt_v2_b0 repvgg_a0 res2net50_26w_4s resmlp_12_224 rexnet_100 sequencer2d_s skresnet18 tiny_vit_5m_224
tnt_s_patch16_224 twins_svt_small visformer_tiny volo_d1_224 xception41 mambaout_femto starnet_s1 inception_next_tiny
hiera_tiny_224 cspdarknet53 dpn68 halonet26t lambda_resnet26t botnet26t_256 eca_resnet33ts convformer_s18
vit_relpos_small_patch16_224 coatnet_nano_rw_224 selecsls42 tresnet_m hgnet_tiny nextvit_small repghostnet_050
mobilenetv4_conv_small""".split()


def timm_jobs() -> Iterator[Job]:
    """Some of timm's, of many families."""
    for name in TIMM:
        yield name, lambda n=name: _of_timm(n)  # type: ignore[misc]


def _of_timm(name: str) -> tuple[nn.Module, Example]:
    import timm

    model = timm.create_model(name, num_classes=10)
    side = model.default_cfg["input_size"][-1]
    if side > 224 and not model.default_cfg.get("fixed_input_size"):
        side = 128
    return model, _image(side)


def _image(side: int) -> Example:
    return Example((torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)),))


JOBS = {"transformers": transformers_jobs, "torchvision": torchvision_jobs, "timm": timm_jobs}


class Late(BaseException):
    """The time for a model is up."""


def measure(make: Callable[[], tuple[nn.Module, Example]]) -> dict[str, Any]:
    """One row of the table."""
    torch.manual_seed(0)
    module, example = make()
    module.eval()
    started = time.perf_counter()
    program = export(module, example)
    exported = time.perf_counter()
    traced = label(program)
    labelled = time.perf_counter()
    traced = after_check(traced, check(traced.spec, module, example))
    floating = {n: w for n, w in module.state_dict().items() if w.is_floating_point()}
    sizes = traced.spec.sizes
    return {
        "export_s": round(exported - started, 2),
        "trace_s": round(labelled - exported, 2),
        "check_s": round(time.perf_counter() - labelled, 2),
        "nodes": traced.nodes,
        "groups": len(traced.spec.groups()),
        "units": sum(sizes.values()),
        "scale": len(traced.spec.with_kinds(scale=True, sign=False).kinds),
        "sign": len(traced.spec.with_kinds(scale=False, sign=True).kinds),
        "tensors": len(floating),
        "moving": len(traced.spec.axes),
        "unreached": len(traced.unreached),
        "residual": traced.residual,
        "runs": traced.runs,
        "failed": [reason for reason in traced.stays if "failed the check" in reason],
        "unknown": dict(traced.unknown),
        "stays": {reason: len(places) for reason, places in traced.stays.items()},
        "inputs": {k: list(getattr(v, "shape", [])) for k, v in example.kwargs.items()},
    }


def run(out: Path, library: str, only: list[str], seconds: int) -> None:
    """Measure what `out` does not have yet."""
    done = {row["model"] for row in rows(out)} if out.exists() else set()

    def ring(*_: Any) -> None:
        raise Late

    signal.signal(signal.SIGALRM, ring)
    with out.open("a") as file:
        for name, make in JOBS[library]():
            if name in done or (only and name not in only):
                continue
            _write(file, {"model": name, "library": library, "error": "stopped the process"})
            signal.alarm(seconds)
            try:
                row = measure(make)
            except Late:
                row = {"error": f"Late: more than {seconds} s"}
            except Exception as error:
                row = {
                    "error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}",
                    "at": _at(error),
                }
            finally:
                signal.alarm(0)
            _write(file, {"model": name, "library": library, **row})


def _at(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__cause__.__traceback__ if error.__cause__ else error.__traceback__)
    return " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in frames[-1:-4:-1])


def _write(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def rows(out: Path) -> list[dict[str, Any]]:
    """The last row of every model."""
    last: dict[str, dict[str, Any]] = {}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        last[row["model"]] = row
    return list(last.values())


def table(out: Path) -> None:
    """All rows and a summary."""
    good = [row for row in rows(out) if "error" not in row]
    print(
        "| model | export s | trace s | groups | units | tensors that move | worst residual | why the rest stays |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in good:
        why = "; ".join(sorted(row["stays"], key=row["stays"].get, reverse=True)[:3])
        print(f"| {row['model']} | {row['export_s']} | {row['trace_s']} | {row['groups']} | {row['units']} "
              f"| {row['moving']}/{row['tensors']} | {row['residual']:.0e} | {why} |")  # fmt: skip
    summary(rows(out))


def summary(all_rows: list[dict[str, Any]]) -> None:
    """Counts, the worst residual, and what is behind failures."""
    for library in JOBS:
        mine = [row for row in all_rows if row["library"] == library]
        good = [row for row in mine if "error" not in row]
        if not good:
            continue
        shares = sorted(row["moving"] / max(row["tensors"], 1) for row in good)
        print(f"{library}: {len(good)} of {len(mine)} traced, worst residual {max(r['residual'] for r in good):.1e}, "
              f"{sum(bool(r['failed']) for r in good)} with groups that fail, median share that moves "
              f"{shares[len(shares) // 2]:.2f}, below a half {sum(s < 0.5 for s in shares)}")  # fmt: skip


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--library", choices=JOBS, default="transformers")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--gib", type=float, default=3.0)
    arguments = parser.parse_args()
    if arguments.action == "table":
        table(arguments.out)
        return
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    limit = int(arguments.gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    declare_torchvision()
    run(arguments.out, arguments.library, arguments.only, arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
