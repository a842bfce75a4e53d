"""`merge` of LoRA adapters: what they change in their base is combined, and factored again at one rank.

The mean of factors is not the mean of adapters, (B_1 + B_2) (A_1 + A_2) is not B_1 A_1 + B_2 A_2. So the
changes s_i B_i A_i are combined, and the nearest product of the rank asked for is written. For weighted sums
that needs no matrix of the weight's size (`combiners/low_rank.py`); others combine the whole changes, as task
vectors of a base of zeros.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.checkpoint import write_tensors
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.whole_folder import created_folder
from deepalign_cli.combiners.combiner import Weighing
from deepalign_cli.combiners.low_rank import Spectrum, spectrum, summed
from deepalign_cli.combiners.rules import weights_of
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.operations.adapters import CONFIG, Adapter
from deepalign_cli.operations.finite import check_finite
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.output_folder import check_files, check_folder, write_beside
from deepalign_cli.operations.provenance import Hashes, recipe_for, with_hashes
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.version import __version__

FACTORS = "adapter_model.safetensors"
_TARGETS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
_EXACT = 1e-10  # the relative error below which nothing was lost but digits


@dataclass(frozen=True)
class AdapterReport:
    """What was done: the rank, the share of the change that a product of this rank lacks, and where most."""

    output: Path
    rank: int
    relative_error: float
    worst: tuple[str, float]
    modules: int
    bytes: int
    seconds: float
    notes: tuple[str, ...]
    files: tuple[str, ...]


class MergedAdapter:
    """The adapter that several are merged into; module by module, each read once.

    Raises:
        MismatchError: a module has two shapes, or tensors beside the factors differ.
        UsageError: the weights fit no adapter.
    """

    def __init__(self, adapters: Sequence[Adapter], merging: Merging, rank: int | None = None) -> None:
        if merging.row.needs_data or merging.row.encodes:
            problem = f"--combine {merging.row.name} needs networks to run, which adapters alone are not."
            raise UsageError(problem, "combine them by another name.")
        self.adapters, self.merging = tuple(adapters), merging
        self.modules = tuple(dict.fromkeys(module for one in adapters for module in one.modules))
        for module in self.modules:
            _check_sizes(self.adapters, module)
        self.rank = rank or max(one.rank(module) for one in adapters for module in one.modules)
        self._combine = merging.of(self.modules)
        self._own = weights_of(merging.rules, self.modules)
        self._lost: dict[str, tuple[float, float]] = {}
        self._check_others()

    @property
    def layout(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """The name, type and shape of each factor that will be written."""
        for module in self.modules:
            owner = self._owner(module)
            outputs, inputs = owner.sizes(module)
            (a, b), info = owner.modules[module].stored, owner.checkpoint.infos[owner.modules[module].a]
            ones = (1,) * (len(inputs) - 1)
            yield from ((a, info.dtype, (self.rank, *inputs)), (b, info.dtype, (outputs, self.rank, *ones)))

    @cached_property
    def config(self) -> dict[str, object]:
        """The first adapter's configuration, with the rank, and a scale of 1."""
        configs = [one.config for one in self.adapters]
        config = dict(configs[0]) | {
            "r": self.rank, "lora_alpha": self.rank, "use_rslora": False, "rank_pattern": {},
            "alpha_pattern": {}, "init_lora_weights": True,
        }  # fmt: skip
        if any(other.get(key) != configs[0].get(key) for other in configs for key in _TARGETS):
            config |= dict.fromkeys(_TARGETS) | {"target_modules": sorted(self.modules)}
        return config

    def tensors(self, progress: Progress = SILENT) -> dict[str, Tensor]:
        """Every tensor of the output by its stored name."""
        tensors: dict[str, Tensor] = {}
        for module in self.modules:
            owner = self._owner(module)
            pair, whole = owner.modules[module], self._spectrum(module)
            self._lost[module] = whole.lost(self.rank), whole.norm
            b, a = whole.factors(self.rank)
            kind = owner.checkpoint[pair.a].dtype
            inputs = owner.sizes(module)[1]
            b = b.reshape(*b.shape, *(1,) * (len(inputs) - 1))
            tensors |= dict(zip(pair.stored, (a.reshape(-1, *inputs).to(kind), b.to(kind)), strict=True))
            progress(1)
        for stored in self.adapters[0].others:
            parts = [one.checkpoint[one.others[stored]] for one in self.adapters]
            tensors[stored] = self.merging.combine(stored, parts)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    @property
    def relative_error(self) -> float:
        """The norm of what was cut off over the norm of the combined change, over all modules so far."""
        lost, norms = zip(*self._lost.values(), strict=True)
        return math.hypot(*lost) / (math.hypot(*norms) or 1.0)

    @property
    def worst(self) -> tuple[str, float]:
        """The module that lost most of its change, and the share."""
        shares = {module: lost / (norm or 1.0) for module, (lost, norm) in self._lost.items()}
        return max(shares.items(), key=lambda pair: pair[1])

    def notes(self) -> list[str]:
        """What the user should know."""
        notes = [note for one in self.adapters for note in one.checkpoint.notes]
        bases = dict.fromkeys(str(one.config.get("base_model_name_or_path")) for one in self.adapters)
        if len(bases) > 1:
            notes.append(f"the adapters name different bases: {', '.join(bases)}; they must be one network")
        lacking = sum(any(module not in one.modules for one in self.adapters) for module in self.modules)
        if lacking:
            notes.append(f"{lacking} modules are not in all adapters: the others change nothing there")
        whole = max(sum(o.rank(m) for o in self.adapters if m in o.modules) for m in self.modules)
        error = 100 * self.relative_error if self._lost else 0.0
        if error > 100 * _EXACT and self._is_sum:
            notes.append(
                f"rank {self.rank} leaves out {error:.3g} % of the combined change (its norm; "
                f"{100 * self.worst[1]:.3g} % in '{self.worst[0]}'); --rank {whole} would be exact"
            )
        elif error > 100 * _EXACT:
            notes.append(f"rank {self.rank} leaves out {error:.3g} % of the combined change")
        return notes

    @property
    def _is_sum(self) -> bool:
        return self.merging.combiner in ("linear", "task_arithmetic")

    def _owner(self, module: str) -> Adapter:
        """The first adapter that has a module: its names and its type are taken."""
        return next(one for one in self.adapters if module in one.modules)

    def _spectrum(self, module: str) -> Spectrum:
        if self._is_sum:
            weights = self.merging.row.shares(self._own.get(module, self.merging.weights))
            if self.merging.row.parameters:  # lambda
                (lambdas,) = self.merging.row.parameters
                values = self.merging.row.values(self.merging.options)[lambdas.name]
                factors = lambdas.spread(values, len(weights))
                weights = tuple(w * factor for w, factor in zip(weights, factors, strict=True))
            pairs = [
                (one.factors(module), weight * one.modules[module].scale)
                for one, weight in zip(self.adapters, weights, strict=True) if module in one.modules
            ]  # fmt: skip
            return summed([factors for factors, _ in pairs], [weight for _, weight in pairs])
        changes = [self._change(one, module) for one in self.adapters]
        base = [torch.zeros_like(changes[0])] if self.merging.has_base else []
        return spectrum(self._combine(module, [*base, *changes]))

    def _change(self, adapter: Adapter, module: str) -> Tensor:
        """S B A as a whole; zeros where the adapter leaves the module as it is."""
        if module not in adapter.modules:
            outputs, inputs = self._owner(module).sizes(module)
            return torch.zeros(outputs, math.prod(inputs))
        b, a = adapter.factors(module)
        wide = torch.float64 if b.dtype == torch.float64 else torch.float32
        return adapter.modules[module].scale * (b.to(wide) @ a.to(wide))

    def _check_others(self) -> None:
        """Whole tensors beside the factors can be averaged, where all adapters have them."""
        first = self.adapters[0]
        for one in self.adapters:
            odd = sorted(one.others.keys() ^ first.others.keys())
            shared = [stored for stored in one.others if stored not in odd]
            odd += [stored for stored in shared if one.shape(stored) != first.shape(stored)]
            if odd:
                problem = f"'{odd[0]}' is not alike in '{first.checkpoint.path}' and '{one.checkpoint.path}'."
                raise MismatchError(problem, "merge adapters that train the same biases and whole modules.")
        if first.others and self.merging.row.weighing is not Weighing.SHARES:
            problem = f"'{next(iter(first.others))}' is a whole tensor, of which there is no base to add to."
            raise UsageError(problem, "leave --combine out: linear averages such tensors.")


def check_adapters(job: Job) -> None:
    """Refuse, before any work, an output that could not be written in the end.

    Raises:
        UsageError, OutputError: it is no folder, or holds files that must not be overwritten.
    """
    if job.output.suffix[1:2].isalpha():
        problem = f"'{job.output}' would be a file, and an adapter needs its {CONFIG} beside it."
        raise UsageError(problem, f"write -o {job.output.with_suffix('')}/")
    check_folder(job, (FACTORS, CONFIG))


def write_adapter(
    place: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], config: Mapping[str, object], *,
    force: bool,
) -> None:  # fmt: skip
    """Write factors and their configuration, as peft names both, into a folder.

    Raises UsageError, OutputError where a file is in the way or cannot be written.
    """
    write_tensors(place / FACTORS, tensors, metadata, force=force)
    write_bytes(place / CONFIG, f"{json.dumps(config, indent=2)}\n".encode(), force=force)


def merge_adapters(
    job: Job, adapters: Sequence[Adapter], merging: Merging, rank: int | None = None,
    progress: Progress = SILENT,
) -> AdapterReport:  # fmt: skip
    """Write the adapter that several are merged into, a folder that peft loads, at one rank for all modules.

    Raises:
        DeepalignError: the adapters do not fit one another, or the folder cannot be written.
    """
    started = time.perf_counter()
    check_adapters(job)
    merged = MergedAdapter(adapters, merging, rank)
    checkpoints = [one.checkpoint for one in adapters]
    for checkpoint in checkpoints:
        check_finite(checkpoint)
    beside, left_out = companions(checkpoints[0])
    check_files(job, (*beside, FACTORS, CONFIG))
    with created_folder(job.output) as place, Hashes(checkpoints) as hashes:
        tensors = merged.tensors(progress.part(1.0, "factoring", len(merged.modules)))
        metadata = with_hashes(_facts(merged, job.recipe), hashes.values())
        force = job.settings.force
        write_adapter(place, tensors, metadata, merged.config, force=force)
        write_beside(place, beside, force=force)
    notes = tuple(dict.fromkeys([*merged.notes(), *merging.notes(), *left_out]))
    size = sum(w.nbytes for w in tensors.values())
    return AdapterReport(
        job.output, merged.rank, merged.relative_error, merged.worst, len(merged.modules), size,
        time.perf_counter() - started, notes, (FACTORS, CONFIG, *beside),
    )  # fmt: skip


def _facts(merged: MergedAdapter, recipe: str) -> Mapping[str, str]:
    """What the metadata say about how it was made."""
    names = [one.checkpoint.called for one in merged.adapters]
    facts = {
        "version": __version__, "command": "merge", **merged.merging.facts(), "rank": merged.rank,
        "relative_error": merged.relative_error,
        **({"recipe": recipe_for(names, recipe)} if recipe else {}),
        **{f"input.{i}": name for i, name in enumerate(names)},
    }  # fmt: skip
    told = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items() if k != "base"}
    return {"format": "pt", **{f"deepalign.{key}": value for key, value in told.items()}}


def _check_sizes(adapters: Sequence[Adapter], module: str) -> None:
    having = [one for one in adapters if module in one.modules]
    first, *others = having
    for one in others:
        if one.sizes(module) != first.sizes(module):
            problem = (
                f"'{module}' has other sizes in '{one.checkpoint.path}' than in '{first.checkpoint.path}'."
            )
            raise MismatchError(problem, "merge adapters of one base.")
