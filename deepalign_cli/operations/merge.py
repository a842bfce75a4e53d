"""`merge`: checkpoints in, one network out that is made of all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import measured_for
from deepalign_cli.aligners.methods import Onto
from deepalign_cli.checkpoint import DTYPES
from deepalign_cli.combiners import table as combiners
from deepalign_cli.combiners.combiner import Combine, Combiner
from deepalign_cli.combiners.in_order import in_order
from deepalign_cli.combiners.rules import WeightRule, ruled
from deepalign_cli.combiners.table import COMBINERS, DENSITY
from deepalign_cli.errors import UsageError
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.align import ALIGNING, facts_of, keep_alignment, notes_of_pairs
from deepalign_cli.operations.canonicalize import Canonical, notes_on_latents, reconstructions
from deepalign_cli.operations.job import Job, Report, check_outputs
from deepalign_cli.operations.mergeable import check_mergeable, notes_on_parts
from deepalign_cli.operations.onto_all import by_hashes
from deepalign_cli.operations.provenance import Hashes, recipe_for
from deepalign_cli.operations.repairs import Repaired, frozen_note, repaired
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import OneFile, WeightsTarget
from deepalign_cli.operations.stream import Stream
from deepalign_cli.parameters import load
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.threads import usable_cores
from deepalign_cli.vocabulary.modes import Tokens
from deepalign_cli.vocabulary.other_rows import notes_on_tokens

if TYPE_CHECKING:
    from deepalign_cli.vocabulary.vocabulary import Vocabulary

BATCHNORM_HINT = (
    "BatchNorm statistics were averaged, which understates the merged network; "
    "re-estimating them on data is better: --repair DATA."
)

INFORMED_ON = 1000  # training examples, for combiners that need data


@dataclass(frozen=True)
class Merging:
    """How aligned networks become one: a combiner with its options, and a weight for each input.

    Where the combiner needs a base, or may have one and `base` says that there is, that is the first input
    and has no weight. `seed` is for those that draw random numbers. `rules` are for tensors that have weights
    of their own, `statistics` what a combiner that needs data
    knows of each network.
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    combiner: str = combiners.DEFAULT
    options: Mapping[str, object] = field(default_factory=dict)
    base: bool = False
    seed: int = 0
    rules: tuple[WeightRule, ...] = ()
    statistics: tuple[Mapping[str, Any], ...] = ()

    @property
    def has_base(self) -> bool:
        """Whether the first input is the base."""
        return self.row.needs_base or (self.row.base and self.base)

    @cached_property
    def row(self) -> Combiner:
        """The combiner's row. Raises UsageError where there is no such combiner."""
        return COMBINERS.find(self.combiner)

    @cached_property
    def combine(self) -> Combine:
        """What combines tensors. Raises UsageError where a weight or an option may not be used."""
        return self.with_weights(self.weights)

    def with_weights(self, weights: Sequence[float]) -> Combine:
        """The same, with other weights."""
        return self.row.make(weights, self.options, self.seed, self.statistics)

    def of(self, names: Iterable[str]) -> Combine:
        """What combines the tensors of these names. Raises UsageError where a rule is for none of them."""
        return ruled(self.rules, names, self.with_weights, self.combine) if self.rules else self.combine

    def in_order(self, order: Sequence[int]) -> Merging:
        """The same for inputs that come in that order, a base first."""
        places = [place - self.has_base for place in order[self.has_base :]]

        def taken(values: Any) -> Any:
            return tuple(values[i] for i in places) if isinstance(values, list | tuple) and values else values

        options = {name: taken(value) for name, value in self.options.items()}
        rules = tuple(replace(rule, gradients=taken(rule.gradients)) for rule in self.rules)
        weights, statistics = taken(self.weights), taken(self.statistics)
        return replace(self, weights=weights, options=options, rules=rules, statistics=statistics)

    def check(self, inputs: int) -> None:
        """Check, before any work, that the weights fit the inputs and the options are allowed.

        Raises:
            UsageError: they do not, or are not.
        """
        if self.rules and self.row.encodes:
            problem = f"{self.combiner} makes whole networks: no tensor of them has weights of its own."
            raise UsageError(problem, "leave --weights-for out.")
        weighed = inputs - self.has_base
        if len(self.weights) != weighed:
            problem = f"{len(self.weights)} weights are given for {weighed} inputs."
            raise UsageError(problem, "give one weight to each input.")
        _ = self.combine

    def facts(self) -> dict[str, object]:
        """What an output's metadata say about it."""
        values = {k: v for k, v in self.row.values(self.options).items() if v is not None}
        weights = {"weights": list(self.row.shares(self.weights))} if self.row.weighed else {}
        base = {"base": True} if self.has_base else {}
        rules = {"weights_for": [str(rule) for rule in self.rules]} if self.rules else {}
        return {**weights, **rules, "combine": self.combiner, **base, **values}

    def notes(self) -> list[str]:
        """What the user should know about it."""
        if DENSITY not in self.row.parameters or self.options.get(DENSITY.name) is not None:
            return []
        return [
            f"{self.combiner} kept all entries of the task vectors: add {DENSITY.option} 0.5 to keep half"
        ]


def lacks_data(row: Combiner) -> UsageError:
    """What to say where a combiner needs data and there are none."""
    return UsageError(f"--combine {row.name} needs data.", "add --data mnist.npz; labels are not looked at.")


class Merge:
    """The network that a session's inputs are merged into; it is computed once."""

    def __init__(
        self, session: Session, merging: Merging, repair: str | None = None, progress: Progress = SILENT, *,
        dtype: str | None = None, threads: int | None = None,
    ) -> None:  # fmt: skip
        self.session, self.repair = session, repair
        check_mergeable(session.inputs)
        fit = session.fit
        merging.of(fit.layout)  # which refuses rules for no tensor
        _check_vocabulary(fit.vocabulary, merging, repair)
        resting = session.resting() if repair is None else None
        self.alignments = resting or session.alignments(progress=progress)
        self.merging = self._informed(merging) if merging.row.needs_data else merging
        self.reconstructions: tuple[Canonical, ...] = ()
        if merging.row.encodes:
            self.merging, self.reconstructions = self._encoded(merging), reconstructions(session)
        self.combine = self._combine()
        if repair is not None:
            progress.part(0.0, "repairing")
        elementwise = merging.row.elementwise
        self.stream = Stream(
            fit.sources, self.alignments, fit.layout, self.combine, elementwise=elementwise,
            measures=resting is not None, checks=not (elementwise or session.is_finite), dtype=dtype,
            threads=threads or usable_cores(),
        )  # fmt: skip
        if fit.is_cut:
            self.stream.spec = fit.spec_of_output(self.alignments[0].symmetry.spec)
        if fit.vocabulary is not None:
            self.stream.token_rows = fit.vocabulary.token_rows(has_base=merging.has_base)
        self.repaired = self._repaired(repair) if repair is not None else Repaired()
        self.stream.known = self.repaired.tensors

    def _combine(self) -> Combine:
        """What combines tensors; where the order of inputs is not to matter, in that of their hashes."""
        session, merging = self.session, self.merging
        if session.settings.onto is Onto.FIRST or len(session.inputs) < 3:
            return merging.of(session.fit.layout)
        order = by_hashes(session.inputs, base=merging.has_base)
        return in_order(merging.in_order(order).of(session.fit.layout), order)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The whole network, in memory from now on: it is written from there."""
        tensors = {name: self.stream.tensor(name) for name in self.session.fit.layout}
        self.stream.known = tensors
        return tensors

    def _parents(self) -> Iterator[dict[str, Tensor]]:
        """All networks in the reference's units, each in memory when it is asked for."""
        yield dict(self.session.reference)
        for alignment, other in zip(self.alignments, self.session.moving, strict=True):
            yield dict(alignment.apply(other))

    def _informed(self, merging: Merging) -> Merging:
        """With the statistics of all networks on training examples.

        Raises:
            UsageError: there are no data.
        """
        testbed, prepare = self.session.testbed, load(merging.row.prepares)
        if testbed is None:
            raise lacks_data(merging.row)
        batches = testbed.batches(testbed.training.head(testbed.samples or INFORMED_ON))
        values = testbed.loss is not None and testbed.loss.name == "mean squared error"
        statistics = [
            prepare(testbed.run, parent, batches, seed=merging.seed, values=values)
            for parent in self._parents()  # one in memory at a time
        ]
        return replace(merging, statistics=tuple(statistics))

    def _encoded(self, merging: Merging) -> Merging:
        """With what an autoencoder says of all networks."""
        name = self.session.settings.options.get("autoencoder")
        statistics = load(merging.row.encodes)(self.session.symmetry, self.session.inputs, name)
        return replace(merging, statistics=tuple(statistics))

    @property
    def told(self) -> dict[str, object]:
        """What a script is told of it besides what it is told of every merge."""
        vocabulary, own = self.session.fit.vocabulary, self.session.fit.own
        told: dict[str, object] = {"own": own} if own else {}
        told |= {"vocabulary": vocabulary.counts} if vocabulary else {}
        if self.reconstructions:
            told["autoencoder"] = self.reconstructions[0].autoencoder
            told["reconstruction"] = [
                {"name": one.called, "weights_error": r.apart, "error": r.error}
                for one, r in zip(self.session.inputs, self.reconstructions, strict=True)
            ]
        return told

    def _repaired(self, data: str) -> Repaired:
        parents = list(self._parents())
        merged = {name: self.combine(name, [p[name] for p in parents]) for name in parents[0]}
        shares = self.merging.row.goals(self.merging.weights, has_base=self.merging.has_base)
        testbed = self.session.repairing(data)
        return repaired(testbed, self.alignments[0].symmetry, parents, merged, shares)

    def notes(self, alignments: Sequence[Alignment]) -> list[str]:
        """What the user should know about it."""
        inputs = self.session.inputs
        notes = [*notes_of_pairs(inputs, alignments), *notes_on_parts(inputs), *self.merging.notes()]
        notes += notes_on_latents(inputs, self.reconstructions)
        notes += self.repaired.notes
        notes += notes_on_tokens(inputs) if self.session.settings.tokenizer is None else []
        statistics = filter(is_statistic, self.session.reference)
        averaged = [name for name in statistics if name not in self.repaired.tensors]
        if averaged:
            notes.append(BATCHNORM_HINT if self.repair is None else frozen_note(averaged))
        return notes


def _check_vocabulary(vocabulary: Vocabulary | None, merging: Merging, repair: str | None) -> None:
    """Refuse what needs to know of rows that a network lacks. Raises UsageError."""
    if vocabulary is None:
        return
    if repair is not None:
        problem = "--repair and --tokenizer exclude each other."
        raise UsageError(problem, "leave one of them out.")
    if merging.row.needs_data and vocabulary.mode is Tokens.UNION:
        problem = f"--combine {merging.combiner} knows nothing of tokens that A lacks."
        raise UsageError(problem, "merge in A's tokens: --tokenizer A.")


def merge_files(job: Job, merging: Merging | None = None, progress: Progress = SILENT) -> Report:
    """Write the network that the reference and the aligned inputs are merged into.

    Raises:
        DeepalignError: an input does not fit, or the output cannot be written.
        UsageError: the weights do not fit the inputs.
    """
    started, merging = time.perf_counter(), merging or Merging()
    merging.check(len(job.inputs))
    check_outputs(job, [job.output])
    if job.settings.tokenizer is Tokens.UNION:
        raise UsageError("--tokenizer union writes a tokenizer, too.", "write -o OUT/ for a folder.")
    set_blocks(streams=job.only_streams)
    job, session = job.open()
    with Hashes(session.inputs) as hashes:
        finding = progress.part(0.0 if job.only_streams else ALIGNING, "aligning")
        merge = Merge(session, merging, job.repair, finding, dtype=job.dtype, threads=job.threads)
        return write_merge(job, merge, OneFile(job, job.output), hashes, started, progress)


def write_merge(
    job: Job, merge: Merge, output: WeightsTarget, hashes: Hashes, started: float, progress: Progress = SILENT
) -> Report:
    """Write a merged network, and its alignment where the job asks for that.

    Raises:
        DeepalignError: an alignment was made for other inputs, or the output cannot be written.
    """
    session = merge.session
    facts = facts_of("merge", session, merge.alignments) | merge.merging.facts()
    if job.recipe:
        names = [checkpoint.called for checkpoint in session.inputs]
        facts |= {"recipe": recipe_for(names, job.recipe, has_base=merge.merging.has_base)}
    if job.repair is not None:
        facts |= {"repair": merge.repaired.on, "repair.batch_size": merge.repaired.size}
    facts |= {"tokenizer": str(job.settings.tokenizer)} if session.fit.vocabulary else {}
    facts |= {"autoencoder": merge.reconstructions[0].autoencoder} if merge.reconstructions else {}
    facts |= {"dtype": DTYPES[job.dtype].torch_name} if job.dtype else {}
    size = sum(entry.nbytes for entry in merge.stream.entries())
    writing = progress.part(1.0, f"writing {job.output.name}", size, "B")
    metadata = output.write(merge.stream, facts, hashes.values, writing)
    pairs = zip(merge.stream.measured(merge.alignments), session.moving, strict=True)
    alignments = tuple(measured_for(a, session.reference, m) for a, m in pairs)
    keep_alignment(job, alignments, hashes)
    notes = tuple(dict.fromkeys([*output.notes, *merge.notes(alignments)]))
    report = Report(job.output, alignments, time.perf_counter() - started, size, notes, metadata)
    return replace(report, more=merge.told)
