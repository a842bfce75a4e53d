"""`deepalign merge`: align all inputs to the first, or to a base, and combine them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepalign_cli.checkpoint.hub import is_reference
from deepalign_cli.cli.adapters import check_idle, default_folder, merge_loras
from deepalign_cli.cli.align import default_output, show
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.dry_run import show_plan
from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.merge_recipe import check_saving, recipe_of, save_recipe
from deepalign_cli.cli.options import MERGING, OUTPUT, MergeInputs, OutputType, WeightsOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.sharing import SharingOptions, target_of, typed, without_folder, words
from deepalign_cli.cli.tables import Method, check_used, described, known, options_of
from deepalign_cli.combiners.combiner import Combiner, Weighing
from deepalign_cli.combiners.rules import parse_rule
from deepalign_cli.combiners.table import COMBINERS, DEFAULT
from deepalign_cli.errors import DeepalignError, UsageError
from deepalign_cli.vocabulary.modes import Tokens

if TYPE_CHECKING:
    from deepalign_cli.operations.merge import Merging

NAIVE = "none"


@dataclass(frozen=True)
class CombineOptions:
    """How aligned networks become one, whatever the combiner."""

    alpha: float | None = option(
        "The share of B, from 0 (A) to 1 (aligned B); 0.5 by default. For two inputs whose weights are "
        "shares.", MERGING, min=0.0, max=1.0,
    )  # fmt: skip
    weights: str | None = option(
        "The weight of each input, or one for all. linear, slerp, nuslerp and karcher divide them by their "
        "sum; others multiply task vectors by them, 1 by default, and sce and model_stock find their own.",
        MERGING, metavar="W1,W2,...",
    )  # fmt: skip
    weights_for: list[str] | None = option(
        "Other weights for tensors in whose name REGEX is found, from the first layer to the last: B's share "
        "of two inputs, or a list for each input, W,.../W,.... Repeat it for more; the first that fits "
        "counts.",
        MERGING, metavar="REGEX=W,...",
    )  # fmt: skip
    base: Path | None = option(
        "The checkpoint that the inputs were fine-tuned from, for combiners of task vectors; all inputs are "
        "aligned to it.", MERGING, metavar="BASE",
    )  # fmt: skip
    combine: str | None = option(
        described(COMBINERS, DEFAULT), MERGING, metavar="COMBINER", parser=known(COMBINERS)
    )
    rank: int | None = option(
        "The rank of the merged adapter, where the inputs are LoRA adapters; by default the largest of "
        "theirs.",
        MERGING, min=1,
    )  # fmt: skip
    path: str | None = option("The old name of --combine.", hidden=True)


@dataclass(frozen=True)
class MergeOptions(WeightsOptions):
    """What else is done with the merged network."""

    dry_run: bool = flag(
        "Say what would be done, of which weights of which tensors, from headers alone; write nothing.",
        OUTPUT,
    )

    recipe: Path | None = option(
        "Read inputs and options from this file, or from an output of merge, which holds its own; what is "
        "typed here counts more.", MERGING, metavar="FILE.toml",
    )  # fmt: skip
    save_recipe: Path | None = option(
        "Also write what was asked for as a recipe.", OUTPUT, metavar="FILE.toml"
    )
    repair: str | None = option(
        "Repair the merged network on training examples of this data (given as for --data, and instead of "
        "it): BatchNorm is re-estimated; other layers get statistics between their parents' (REPAIR).",
        MERGING, metavar="SOURCE",
    )  # fmt: skip
    tokenizer: Tokens | None = option(
        "For folders of transformers with different vocabularies: combine embeddings and heads token by "
        "token, as the tokenizers' files tell. The output has A's tokens (or the base's), or the union of "
        "all.",
        MERGING,
    )  # fmt: skip
    dtype: OutputType | None = option(
        "The type of the output's floating-point tensors: each is rounded to it once; A's by default.", OUTPUT
    )
    output: str | None = option(
        "The .safetensors file to write; or OUT/, a folder that also holds A's configuration and tokenizer "
        "and a model card. OUT is a folder if A is one.", OUTPUT, short="-o", metavar="OUT",
    )  # fmt: skip


if TYPE_CHECKING:

    class MergingOptions(CombineOptions):
        """The same, and the options of all combiners."""

else:
    MergingOptions = options_of("MergingOptions", COMBINERS.values(), "--combine", MERGING, CombineOptions)


def merge(
    inputs: MergeInputs = None, *, merging: MergingOptions, method: Method = None, aligning: AligningOptions,
    running: RunningOptions, sharing: SharingOptions, common: MergeOptions,
) -> None:  # fmt: skip
    """Align checkpoints to the first, or to --base, and combine them.

    By default they are averaged: two inputs give (1 - alpha) A + alpha aligned(B). Integer buffers come from
    the first. BatchNorm statistics are averaged too, with a note; --repair re-estimates them on data.
    Without -o the output is A's name with '.merged.safetensors', in this folder.

    A folder, -o OUT/, is ready for a hub: model.safetensors, config.json and the tokenizer's files where A
    has them, and a README.md that tells how it was made, with --data also what it costs. --push uploads it.

    Example:
        deepalign merge a.pt b.pt --alpha 0.5 -o merged.safetensors
        deepalign merge a.pt b.pt c.pt --weights 2,1,1
        deepalign merge b.pt c.pt --base a.pt --combine ties --density 0.4
        deepalign merge a.pt b.pt --repair mnist.npz --normalise standard --activation relu
        deepalign merge hf://org/a hf://org/b -o merged/
        deepalign merge --recipe merge.toml --density 0.5 -o another.safetensors
    """
    out, inputs = common.sink("merge"), inputs or []
    sources = [*([merging.base] if merging.base else []), *inputs]
    if len(sources) < 2:
        raise UsageError("merge needs at least two checkpoints.", "deepalign merge A B --alpha 0.5")
    if not common.dry_run:
        _begin_hashing(sources)
    running = running if running.data else replace(running, data=common.repair)
    groups = (merging, aligning, running, common)
    bare, whole = (_recipe(inputs, method, groups, bare=bare) for bare in (True, False))
    if _merged_as_adapters(out, inputs, merging, method, aligning, running, sharing, common, bare):
        save_recipe(common.save_recipe, whole, force=common.force)
        return
    weighed = _merging(inputs, merging, aligning.seed or 0)
    _check_method(weighed.row, method)
    name = method or weighed.row.method
    settings = make_settings(
        [name] if name else None, aligning, force=common.force, partial=common.partial,
        tokenizer=common.tokenizer, seeded=weighed.row.seeded,
    )  # fmt: skip
    sharing.check()
    default = default_output(inputs[0], "merged")
    target, is_folder = target_of(common.output, sharing.push, sources[0], default)
    elsewhere = is_folder or common.repair is not None or weighed.row.needs_data
    if weighed.row.needs_data and running.data is None:
        from deepalign_cli.operations.merge import lacks_data

        raise lacks_data(weighed.row)
    check_data([settings.method], aligning, running, elsewhere=elsewhere)
    from deepalign_cli.operations.job import Job
    from deepalign_cli.operations.merge import merge_files
    from deepalign_cli.operations.merged_folder import merge_folder

    reads = (*running.files(), *RunningOptions(data=common.repair).files(), *_own(common.recipe))
    job = Job(
        tuple(sources), target, settings, tuple(aligning.alignment or ()), common.save_alignment,
        running.subject(), common.repair, reads, bare,
        **common.writing(is_folder=is_folder), dtype=common.dtype.code if common.dtype else None,
    )  # fmt: skip
    check_saving(common.save_recipe, job, dry_run=common.dry_run)
    if common.dry_run:
        from deepalign_cli.operations.dry_run import plan_merge

        show_plan(out, plan_merge(job, weighed, is_folder=is_folder))
        return
    with out.progress("aligning") as progress:
        if is_folder:
            title = sharing.push.split("/")[1] if sharing.push else target.resolve().name
            options = _command(title, merging, common, method, aligning, running)
            report = merge_folder(job, title, options, weighed, progress)
        else:
            report = merge_files(job, weighed, progress)
    save_recipe(common.save_recipe, whole, force=common.force)
    more: dict[str, object] = {"combine": weighed.combiner}
    if weighed.row.weighed:
        by_alpha = merging.weights is None and _takes_alpha(weighed.row, inputs)
        more |= {"alpha": weighed.weights[1]} if by_alpha else {"weights": weighed.weights}
    more |= report.more
    more |= {"files": report.files} if is_folder else {}
    more |= {"pushed": sharing.upload(out, target, report.files)} if sharing.push else {}
    show(out, report, more)


def _begin_hashing(sources: Sequence[Path]) -> None:
    """Begin to hash large inputs: that takes a while, and so does loading what merges them.

    What cannot be opened is told when it is opened again.
    """
    from deepalign_cli.checkpoint.open import open_checkpoint

    for source in sources:
        with suppress(DeepalignError):
            if not is_reference(source):
                open_checkpoint(source).begin_hashing()


def _merged_as_adapters(
    out: Output, inputs: Sequence[Path], merging: MergingOptions, method: str | None,
    aligning: AligningOptions, running: RunningOptions, sharing: SharingOptions, common: MergeOptions,
    recipe: str,
) -> bool:  # fmt: skip
    """Merge inputs that are LoRA adapters; False where they are none."""
    from deepalign_cli.operations.adapters import find_adapters

    adapters = find_adapters(tuple(inputs), aligning.key)
    if not adapters:
        if merging.rank is not None:
            problem = "--rank is for LoRA adapters, and the inputs are none."
            raise UsageError(problem, "leave it out, or give folders with an adapter_config.json.")
        return False
    naive = {"method": None if method == NAIVE else method}
    check_idle({**naive, "base": merging.base, "a": aligning, "b": running, "c": sharing, "d": common})
    weighed = _merging(inputs, merging, aligning.seed or 0, on_zero=True)
    from deepalign_cli.operations.job import Job
    from deepalign_cli.operations.settings import Settings

    target = default_folder(inputs[0], common.output)
    settings = Settings(NAIVE, force=common.force)
    job = Job(tuple(inputs), target, settings, reads=_own(common.recipe), recipe=recipe)
    check_saving(common.save_recipe, job, dry_run=common.dry_run)
    merge_loras(out, job, adapters, weighed, merging.rank, dry_run=common.dry_run)
    return True


def _recipe(inputs: Sequence[Path], method: str | None, groups: Sequence[Any], *, bare: bool) -> str:
    """What was asked for, typed or read from a recipe, as a recipe."""
    combine = groups[0].combine or groups[0].path
    return recipe_of(inputs, groups, bare=bare, method=method, combine=combine)


def _own(recipe: Path | None) -> tuple[Path, ...]:
    """The file of a recipe, which no output may take the place of."""
    return () if recipe is None or is_reference(recipe) or not recipe.is_file() else (recipe,)


def _command(
    title: str, merging: MergingOptions, common: MergeOptions, method: str | None, aligning: AligningOptions,
    running: RunningOptions,
) -> list[str]:  # fmt: skip
    """The options that make the network again."""
    how = {name: value for name, value in typed(merging).items() if name not in ("--base", "--path")}
    how |= {
        "--combine": merging.combine or merging.path,
        "--repair": common.repair and without_folder(common.repair),
    }
    size = common.max_shard_size
    wrote = {"--dtype": common.dtype and common.dtype.value, "--max-shard-size": size and str(size)}
    fits = {"--partial": common.partial, "--tokenizer": common.tokenizer}
    ran = {**typed(aligning), **typed(running)}
    return words({**how, "-m": method, **ran, **fits, **wrote, "-o": f"{title}/"})


def _merging(inputs: Sequence[Path], how: MergingOptions, seed: int, *, on_zero: bool = False) -> Merging:
    """The combiner, its options and the weights; `on_zero` says that the base is one of zeros, not an input.

    Raises:
        UsageError: they do not fit one another or the inputs.
    """
    from deepalign_cli.operations.merge import Merging

    row = COMBINERS.find(how.combine or how.path or DEFAULT)
    common = {field.name for field in fields(CombineOptions)}
    values = {name: v for name, v in vars(how).items() if name not in common and v is not None}
    if how.path is not None and how.combine is not None:
        raise UsageError("--path is the old name of --combine.", "leave it out.")
    if row.needs_base and how.base is None and not on_zero:
        problem = f"--combine {row.name} needs the base that the inputs were fine-tuned from."
        raise UsageError(problem, f"deepalign merge B C --base A --combine {row.name}")
    used = [name for name in ("base", "weights", "weights_for") if getattr(how, name)]
    check_used("--combine", [row.name], [*used, *values], COMBINERS)
    has_base = how.base is not None or (on_zero and row.needs_base)
    rules = tuple(parse_rule(text, row, len(inputs)) for text in how.weights_for or ())
    merging = Merging(_weights(inputs, how, row), row.name, values, has_base, seed, rules)
    merging.check(len(inputs) + has_base)
    return merging


def _check_method(row: Combiner, method: str | None) -> None:
    """Refuse a method that a combiner does not go with. Raises UsageError."""
    if row.method and method not in (None, row.method):
        problem = f"--combine {row.name} goes with -m {row.method} alone, not {method}."
        raise UsageError(problem, "leave -m out.")


def _weights(inputs: Sequence[Path], how: MergingOptions, row: Combiner) -> tuple[float, ...]:
    """A weight for each input."""
    if how.alpha is not None:
        if how.weights is not None or not _takes_alpha(row, inputs):
            hint = "give every input its weight: --weights 2,1,1"
            raise UsageError("--alpha is for two inputs that have shares, without --weights.", hint)
        return 1 - how.alpha, how.alpha
    if how.weights is None:
        return row.equal(len(inputs))
    try:
        weights = tuple(float(part) for part in how.weights.split(","))
    except ValueError:
        raise UsageError(f"'{how.weights}' is not a list of numbers.", "write --weights 2,1,1") from None
    return weights * len(inputs) if len(weights) == 1 else weights


def _takes_alpha(row: Combiner, inputs: Sequence[Path]) -> bool:
    return row.weighing is Weighing.SHARES and len(inputs) == 2
