"""The verbs of the Python face. Each takes networks as paths, checkpoints, state dicts or modules."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.api.arguments import (
    Source,
    network_of,
    open_source,
    open_sources,
    run_settings,
    settings_of,
    testbed_of,
)
from deepalign_cli.api.loras import adapters_of, carried_adapter, check_idle_for_adapters, merged_adapters
from deepalign_cli.api.outputs import Out, writing_of
from deepalign_cli.api.results import Barrier, LandscapeResult, Merged
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.combiners import table as combiners
from deepalign_cli.combiners.combiner import Combiner, Weighing
from deepalign_cli.combiners.rules import WeightRule, parse_rule
from deepalign_cli.errors import UsageError
from deepalign_cli.models.example import Example
from deepalign_cli.models.subject import bare_subject
from deepalign_cli.operations.align import write_aligned, write_aligned_folder
from deepalign_cli.operations.barrier import Question, barrier_of
from deepalign_cli.operations.landscape import landscape_of
from deepalign_cli.operations.merge import Merge, Merging, write_merge
from deepalign_cli.operations.merged_folder import write_folder
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.run_settings import DREAM, RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import OneFile
from deepalign_cli.operations.testbed import Testbed
from deepalign_cli.operations.transport import Transport, write_transport
from deepalign_cli.operations.transported_folder import write_transported
from deepalign_cli.operations.verify import Verdict, verify_session
from deepalign_cli.tracing.pipeline import trace as trace_module
from deepalign_cli.tracing.write import Traced
from deepalign_cli.vocabulary.modes import Tokens


def open(source: Source, key: str | None = None) -> Checkpoint:
    """A checkpoint: a mapping of names to tensors that are read as they are asked for.

    `key` says which state dict to take of a file that holds several (`"ema"`; `"."` takes all).

    Raises:
        UsageError: there is no such file. CheckpointError: it is broken, or no checkpoint.
    """
    return open_source(source, key=key)


def align(
    a: Source, b: Source, *, method: str = methods.DEFAULT, model: Any = None, data: Any = None,
    out: Out = None, **options: Any,
) -> Alignment:  # fmt: skip
    """The alignment that carries `b` onto `a`; `alignment.apply(weights)` moves a network's tensors.

    A `model` (a module, `(module, example inputs)`, or what --model takes; by default the first of the inputs
    that is a module) is asked what may move. `data` (arrays, a DataLoader, a path, or `"dream"`) are for
    methods that use data; without any, networks with BatchNorm and small classifiers dream some unless
    `no_dream=True`. `out` names a file to write aligned b to, or a folder (`"out/"`), in files of at most
    `max_shard_size`, by so many `threads`. `options` are the method's (`restarts=5`), the settings' (`spec`,
    `activation`, `kinds`, `heads`, `seed`), and those of the data (`normalise`, `limit`, `loss`, `dream`,
    ...), named as on the command line.

    Raises:
        DeepalignError: the inputs do not fit each other, the architecture is not known, or an option may not
            be used.
    """
    writing, options = writing_of(out, b, options, ("max_shard_size", "threads"))
    session, started = _session([a, b], [method], model, data, options), time.perf_counter()
    job = writing.job(session, data=data)
    alignment = session.alignments()[0]
    if job is None:
        return alignment
    if writing.is_folder:
        write_aligned_folder(job, session, started)
        return alignment
    with Hashes(session.inputs) as hashes:
        write_aligned(job, session, [alignment], [OneFile(job, job.output)], hashes, started)
    return alignment


def merge(
    networks: Sequence[Source], *, alpha: float | None = None, weights: Sequence[float] | None = None,
    combine: str = combiners.DEFAULT, base: Source | None = None, method: str = methods.DEFAULT,
    model: Any = None, data: Any = None, repair: bool | str = False, out: Out = None,
    weights_for: Mapping[str, str | Sequence[float]] | None = None, rank: int | None = None, **options: Any,
) -> Merged:  # fmt: skip
    """The state dict of the network that all are merged into, aligned to the first (or to `base`).

    Two networks give (1 - alpha) A + alpha aligned(B); `weights` are one for each of more. `weights_for` says
    others for tensors by their names: `{"self_attn": [0, .5, 1]}` is B's share from the first layer to the
    last, `{"mlp": "1,.5/0,.5"}` has a list for each network. With `repair`, statistics are put right on
    `data`, or on what the networks dream (`repair="dream"`). `dtype` is the type of floating-point tensors,
    `tokenizer` (`"A"`, `"union"`) combines vocabularies token by token. `out` names a file to write, too, or
    a folder, which has a card. The other options are those of `align`, and the combiner's. Folders of LoRA
    adapters are merged to one of `rank`.

    Raises:
        DeepalignError: as `align`; UsageError: the weights do not fit the networks.
    """
    least = 2 if base is None else 1
    if isinstance(networks, str | Mapping) or not isinstance(networks, Sequence) or len(networks) < least:
        raise UsageError("merge takes a list of two networks or more.", "da.merge([a, b])")
    adapters = adapters_of(networks)
    if rank is not None and not adapters:
        raise UsageError("rank is for LoRA adapters.", "give folders with an adapter_config.json.")
    merging = _merging(
        len(networks), alpha, weights, combine, base is not None, options, on_zero=bool(adapters)
    )
    merging = replace(merging, rules=_rules(weights_for or {}, merging.row, len(networks)))
    if merging.row.method and method not in (methods.DEFAULT, merging.row.method):
        problem = f"combine='{combine}' goes with method='{merging.row.method}' alone."
        raise UsageError(problem, "leave method out.")
    method = merging.row.method or method
    if adapters:
        used = {"base": base, "model": model, "data": data, "repair": repair or None}
        used |= {name: value for name, value in options.items() if name not in merging.options}
        return merged_adapters(adapters, merging, rank, out, used)
    if repair and repair != DREAM and data is None:
        raise UsageError("repair needs data.", "give data=(inputs, labels), a DataLoader, or repair='dream'.")
    repaired_on = None if not repair else DREAM if repair == DREAM else "data"
    others = {name: value for name, value in options.items() if name not in merging.options}
    sources = [*([] if base is None else [base]), *networks]
    writing, others = writing_of(out, sources[0], others, ("dtype", "max_shard_size", "threads"))
    if others.get("tokenizer") == Tokens.UNION and not writing.is_folder:
        raise UsageError("tokenizer='union' writes a tokenizer, too.", "give out='folder/'.")
    session, started = _session(sources, [method], model, data, others, merges=True), time.perf_counter()
    job = writing.job(session, repair=repaired_on, data=data)
    if job is not None and writing.is_folder:
        report, merge = write_folder(job, session, merging, writing.title, None, started, in_memory=True)
        return Merged(_named(merge.tensors, session), report.alignments, report.notes)
    dtype, threads = writing.told.get("dtype"), writing.told.get("threads")
    merge = Merge(session, merging, repaired_on, dtype=dtype, threads=threads)
    tensors = merge.tensors  # kept, and written from there
    if job is not None:
        with Hashes(session.inputs) as hashes:
            write_merge(job, merge, OneFile(job, job.output), hashes, started)
    alignments = tuple(merge.stream.measured(merge.alignments))
    return Merged(_named(tensors, session), alignments, tuple(dict.fromkeys(merge.notes(alignments))))


def transport(
    base_a: Source, tuned_a: Source, base_b: Source, *, scale: float = 1.0, method: str = methods.DEFAULT,
    model: Any = None, data: Any = None, repair: bool | str = False, out: Out = None, **options: Any,
) -> Merged:  # fmt: skip
    """The state dict of `base_b` with what `tuned_a` has learned since `base_a`.

    It is B + scale (g tuned A - g A), with g what carries base A onto base B; both bases were trained
    separately. With `repair`, BatchNorm is re-estimated on `data`; `dtype` is the type of floating-point
    tensors. Where `tuned_a` is the folder of a LoRA adapter of base A, the factors of the one of base B are
    returned, by peft's names, and `out` is a folder.
    The other arguments are those of `align`.

    Raises:
        DeepalignError: as `align`; MismatchError: `tuned_a` has other tensors or shapes than `base_a`.
    """
    adapters = adapters_of([tuned_a], options.get("key"))
    if adapters:
        written = ("max_shard_size", "dtype", "threads")
        used = {"repair": repair or None, **{name: options.get(name) for name in written}}
        check_idle_for_adapters(used)
        session = _session([base_b, base_a], [method], model, data, options)
        return carried_adapter(session, adapters[0], scale, out)
    if repair and repair != DREAM and data is None:
        raise UsageError("repair needs data.", "give data=(inputs, labels), a DataLoader, or repair='dream'.")
    repaired_on = None if not repair else DREAM if repair == DREAM else "data"
    writing, options = writing_of(out, base_b, options, ("dtype", "max_shard_size", "threads"))
    session, started = _session([base_b, base_a], [method], model, data, options), time.perf_counter()
    tuned = open_source(tuned_a, "C", session.settings.key)
    job = writing.job(session, reads=tuned.files, repair=repaired_on, data=data)
    if job is not None and writing.is_folder:
        report, moved = write_transported(
            job, session, tuned, scale, writing.title, None, started, in_memory=True
        )
        return Merged(_named(moved.tensors, session), report.alignments, report.notes)
    dtype, threads = writing.told.get("dtype"), writing.told.get("threads")
    moved = Transport(session, tuned, scale, repair=repaired_on, dtype=dtype, threads=threads)
    tensors = moved.tensors  # kept, and written from there
    if job is not None:
        with Hashes([*session.inputs, tuned]) as hashes:
            write_transport(job, moved, OneFile(job, job.output), hashes, started)
    notes = tuple(dict.fromkeys(moved.notes()))
    return Merged(_named(tensors, session), (moved.alignment,), notes)


def barrier(
    a: Source, b: Source, *others: Source, method: str | Sequence[str] = methods.DEFAULT, model: Any = None,
    data: Any = None, points: int = 25, repair: bool = False, **options: Any,
) -> Barrier:  # fmt: skip
    """Loss and accuracy along the path from `a` to aligned `b`, by one method or several; `none` included.

    Arguments are those of `align`.

    Raises:
        UsageError: there are no data. DeepalignError: as `align`, or the model does not fit the data.
    """
    names = (method,) if isinstance(method, str) else tuple(method)
    session = _session([a, b, *others], names, model, data, options, points)
    return Barrier(barrier_of(session, Question((), names, session.settings, points=points, repair=repair)))


def landscape(
    a: Source, b: Source, c: Source | None = None, *, method: str = methods.DEFAULT, model: Any = None,
    data: Any = None, points: int = 25, **options: Any,
) -> LandscapeResult:  # fmt: skip
    """The loss on the plane through `a`, `b` and aligned `b`, or through three networks as they are.

    Arguments are those of `align`; without a `limit`, 1000 examples are run.

    Raises:
        UsageError: there are no data. DeepalignError: as `barrier`.
    """
    sources = [a, b, *([] if c is None else [c])]
    session = _session(sources, [method], model, data, {"limit": 1000, **options}, points)
    return LandscapeResult(landscape_of(session, points))


def trace(
    module: nn.Module, *example: Any, outputs: Sequence[str] = (), checked: bool = True, **inputs: Any
) -> Traced:
    """What may move in a module, by asking it: `trace(net, x).spec`, and what `stays`, by reason.

    `example` and `inputs` are what the module is called with; those of a network of transformers are made
    up. `outputs` names the outputs that count, where it returns several by name. The spec has been tried on
    the module in float64, unless `checked` is False.

    Raises:
        UsageError: there are no example inputs. SpecError: the module cannot be traced with them.
    """
    given = Example(example, inputs) if example or inputs else None
    subject = bare_subject(module, given)
    source = f"a trace of {type(module).__name__}"
    return trace_module(module, subject.example, outputs=outputs, source=source, checked=checked)


def verify(
    a: Source, b: Source, *, model: Any = None, tolerance: float | None = None, **options: Any
) -> Verdict:
    """Whether the two are the same up to the spec: `same`, `residual`, the tensor it is in, `rests_on`.

    With a `model` the network is run, too. `options` are the settings' (`spec`, `activation`, `kinds`,
    `heads`, `seed`, `strict`) and `restarts`.

    Raises:
        DeepalignError: the inputs do not fit each other, or the architecture is not known.
    """
    return verify_session(_session([a, b], ["weights"], model, None, options), tolerance=tolerance)


def _session(
    sources: Sequence[Source], names: Sequence[str], model: Any, data: Any, options: Mapping[str, Any],
    points: int | None = None, *, merges: bool = False,
) -> Session:  # fmt: skip
    """The inputs, opened together; `points` says that losses are to be measured."""
    settings, running = settings_of(names, options)
    if settings.tokenizer is not None and not merges:
        raise UsageError("tokenizer is for merge.", "leave it out.")
    if points is not None and data is None:
        hint = "give data=(inputs, labels), a DataLoader, or 'dream'."
        raise UsageError("losses are measured on data.", hint)
    if points is not None and points < 3:
        raise UsageError(f"points is {points}.", "it must be at least 3.")
    opened, how = open_sources(sources, settings.key), run_settings(running, data)
    network = network_of(sources, opened, model, how, settings.activation)
    testbed = testbed_of(opened, network, data, how, settings.activation, measured=points is not None)
    what: Testbed | RunSettings = testbed or how
    return Session(opened, settings, what, network=network, implied=model is None and network is not None)


def _merging(
    count: int, alpha: float | None, weights: Sequence[float] | None, combine: str, has_base: bool,
    options: Mapping[str, Any], *, on_zero: bool = False,
) -> Merging:  # fmt: skip
    row = combiners.COMBINERS.find(combine)
    if row.needs_base and not has_base and not on_zero:
        problem = f"combine='{combine}' needs the base that the networks were trained from."
        raise UsageError(problem, "give base=...")
    options_of_all = {p.name: p for one in combiners.COMBINERS.values() for p in one.parameters}
    idle = [name for name, p in options_of_all.items() if name in options and p not in row.parameters]
    idle += ["base"] if has_base and not row.base else []
    idle += ["weights"] if weights is not None and not row.weighed else []
    if idle:
        raise UsageError(f"combine='{combine}' makes no use of {idle[0]}.", "leave it out.")
    if alpha is not None and (weights is not None or count != 2 or row.weighing is not Weighing.SHARES):
        hint = "give weights, one for each network."
        raise UsageError("alpha is for two networks that have shares, without weights.", hint)
    if alpha is not None and not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha:g}.", "it must be between 0 and 1.")
    if weights is None:
        weights = row.equal(count) if alpha is None else [1 - alpha, alpha]
    own = {p.name: options[p.name] for p in row.parameters if p.name in options}
    merging = Merging(tuple(weights), combine, own, has_base, options.get("seed", 0))
    merging.check(count + (has_base or (on_zero and row.needs_base)))
    return merging


def _rules(
    given: Mapping[str, str | Sequence[float]], row: Combiner, count: int
) -> tuple[WeightRule, ...]:  # fmt: skip
    if given and not row.weighed:
        raise UsageError(f"combine='{row.name}' makes no use of weights_for.", "leave it out.")
    texts = [(p, w if isinstance(w, str) else ",".join(map(str, w))) for p, w in given.items()]
    return tuple(parse_rule(f"{pattern}={text}", row, count) for pattern, text in texts)


def _named(tensors: Mapping[str, Tensor], session: Session) -> dict[str, Tensor]:
    """The tensors under the names that the reference has in its file."""
    infos = session.fit.wholes[0].infos
    return {infos[name].stored_name: _own(w, name, session) for name, w in tensors.items()}


def _own(w: Tensor, name: str, session: Session) -> Tensor:
    """A tensor in memory that is none of the caller's, as counters that come from the first network are."""
    wholes = [getattr(c, "base", c) for c in session.fit.wholes]
    held = {c[name].data_ptr() for c in wholes if isinstance(c, MemoryCheckpoint) and name in c}
    return w.clone() if w.data_ptr() in held else w
