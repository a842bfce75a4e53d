"""Networks opened together: their symmetry, what they are run on, and alignments, each found once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.artifact import load_alignment
from deepalign_cli.aligners.evidence import Dreaming
from deepalign_cli.aligners.methods import DEFAULT, METHODS, ROTATIONS, DataUse, Onto
from deepalign_cli.aligners.straight_through import steps_within
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import DeepalignError, SpecError, UsageError
from deepalign_cli.models.on_device import runs_on
from deepalign_cli.operations import far_heads
from deepalign_cli.operations.asked import Asked
from deepalign_cli.operations.finite import check_finite
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.one_type import in_one_type
from deepalign_cli.operations.onto_all import aligned_at_once
from deepalign_cli.operations.run_device import run_device
from deepalign_cli.operations.run_settings import DREAM, RunSettings, named_files
from deepalign_cli.operations.settings import NAIVE, Settings
from deepalign_cli.operations.shared_tensors import fitted
from deepalign_cli.operations.twins import with_twins
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.norm_gains import steadied
from deepalign_cli.symmetry.resolve import shapes_of, turning_spec
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import refuse_assumptions, stored_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.symmetry.unrounded import unrounded

if TYPE_CHECKING:
    from torch import Tensor

    from deepalign_cli.models.lookup import Network
    from deepalign_cli.operations.dreaming import Dreamer
    from deepalign_cli.operations.testbed import Testbed


class Session:
    """Checkpoints of one architecture, of which the others move onto the first; those named are opened.

    `saved` are files of alignments, one for each moving input, that take the place of a method. `running`
    says what the networks are run as and on (or is that, opened already); `measured` that losses are to be
    measured, so that data without labels will not do. `network` is the reference's, where it is open;
    `implied` says that nobody named it, so that it need not be asked.
    """

    def __init__(
        self, inputs: Sequence[Checkpoint | Path], settings: Settings,
        running: RunSettings | Testbed | None = None, saved: Sequence[Path] = (), *, measured: bool = False,
        network: Network | None = None, implied: bool = False,
    ) -> None:  # fmt: skip
        opened = (open_network(one, settings.key) if isinstance(one, Path) else one for one in inputs)
        runs = running is not None and needs_data(running)
        if runs and settings.tokenizer and isinstance(running, RunSettings) and running.data == DREAM:
            raise UsageError("--tokenizer and dreams exclude each other.", "give data in A's tokens.")
        self.fit = fitted(tuple(opened), partial=settings.partial, tokens=settings.tokenizer, runs=runs)
        self.inputs = self.fit.inputs
        self.settings, self.saved = settings, tuple(saved)
        self._running, self._measured = running, measured
        self._device = (
            run_device(running) if isinstance(running, RunSettings | None) else runs_on(running.run)
        )
        self._alignments: dict[str, list[Alignment]] = {}
        self.is_finite = False
        self._network, self._implied = network, implied
        if saved and len(saved) != len(inputs) - 1:
            problem = f"{len(saved)} alignments are given for {len(inputs) - 1} moving inputs."
            raise UsageError(problem, "repeat --alignment once for each.")
        if self.fit.is_partial and (saved or runs):
            problem = "--partial goes neither with data nor with saved alignments."
            raise UsageError(problem, "leave one of them out.")
        if isinstance(running, RunSettings) and running.save_dreams is not None:
            self._check_saving(running.save_dreams)

    @property
    def reference(self) -> Checkpoint:
        """The input that the others move onto."""
        return self.inputs[0]

    @property
    def moving(self) -> tuple[Checkpoint, ...]:
        """The others."""
        return self.inputs[1:]

    @property
    def files(self) -> list[Path]:
        """The files that the inputs are read from."""
        return [file for one in self.inputs for file in one.files]

    @cached_property
    def asked(self) -> Asked:
        """The reference's network, as far as anything says what it is."""
        running = self._running if isinstance(self._running, RunSettings) else RunSettings()
        activation = self.settings.activation.value if self.settings.activation else None
        whole = self.fit.wholes[0]
        return Asked(whole, running, activation, self._network, self._examples, implied=self._implied)

    def _examples(self) -> Tensor | None:
        """A few examples of the data, if there are any: to trace a network with, and to try a spec on."""
        from deepalign_cli.models.input_shape import COUNT

        if self._dreams_alone or not self.testbed:  # which need no trace, and may rest on one
            return None
        return next(self.testbed.training.inputs(COUNT))

    @cached_property
    def symmetry(self) -> Symmetry:
        """What may move among the tensors that all inputs share. Raises SpecError where that is not known."""
        return self._restricted(self.whole)

    def _restricted(self, symmetry: Symmetry) -> Symmetry:
        if not self.fit.is_cut:
            return symmetry
        return Symmetry(self.fit.restricted(symmetry.spec), shapes_of(self.reference))

    @cached_property
    def whole(self) -> Symmetry:
        """What may move, by the whole reference; checked on its network where that is named and not traced.

        Raises:
            SpecError: what may move is not known, or the network computes something else when it does;
                or it is taken for granted, and the settings are strict.
        """
        symmetry = self.resolved
        symmetry = self._required(symmetry)
        if self.settings.strict:
            refuse_assumptions(symmetry.spec)
        return symmetry

    @cached_property
    def turned(self) -> Symmetry:
        """What may move where groups that may turn do; checked on the network where it was not traced.

        Raises:
            SpecError: nothing says what may turn. UsageError: the inputs differ in their tensors.
        """
        if self.fit.is_partial:
            problem = "--partial and -m rotations exclude each other."
            raise UsageError(problem, "leave --partial out, or use another method.")
        asked, settings, told = self.asked, self.settings, list[Spec | None]()
        reference = self.fit.wholes[0]

        def ask() -> Spec | None:
            told.append(asked.spec(turns=True))
            return told[-1]

        try:
            spec = turning_spec(reference, settings.spec, ask, settings.heads)
        except SpecError:
            if asked.failure is not None and asked.may_be_text:  # it is known what was asked
                raise asked.failure from None
            raise
        is_traced = any(one is spec for one in told)
        if spec.basis is Basis.TEMPLATE and asked.failure is not None:
            spec = asked.untraced(spec)
        spec = spec.with_activation(settings.activation, settings.kinds)
        symmetry = Symmetry(spec, shapes_of(reference))
        symmetry = self._required(symmetry, traced=is_traced)
        for one in self.inputs:
            symmetry = Symmetry(steadied(symmetry.spec, symmetry.norms, one, one.called), symmetry.shapes)
        if self.settings.strict:
            refuse_assumptions(symmetry.spec)
        return symmetry

    def _required(self, symmetry: Symmetry, *, traced: bool | None = None) -> Symmetry:
        """The same, tried on the network where that is named; what is still taken for granted is said."""
        spec = symmetry.spec
        if self.asked.require(symmetry, traced=traced):  # nothing is left to be taken for granted
            return Symmetry(replace(spec, assumptions=()), symmetry.shapes)
        return Symmetry(self.asked.unproven(spec), symmetry.shapes)

    @cached_property
    def resolved(self) -> Symmetry:
        """The same before it is checked."""
        asked = self.asked
        try:
            settings = replace(self.settings, method=DEFAULT)  # the naive one needs no spec that is known
            symmetry = settings.symmetry(self.fit.wholes[0], self._spec_elsewhere)
        except SpecError:
            if asked.failure is not None:  # names and shapes do not tell either
                raise asked.failure from None
            raise
        if asked.failure is not None and asked.is_known_class and symmetry.spec.basis is Basis.READ:
            raise asked.failure  # it is no chain that names and shapes could show
        if asked.failure is None or asked.is_named:
            return symmetry
        return Symmetry(asked.untraced(symmetry.spec), symmetry.shapes)

    def _spec_elsewhere(self) -> Spec | None:
        """The spec that the network tells, or that another of the inputs carries."""
        carried = (stored_spec(one.metadata, f"the metadata of {one.called}") for one in self.moving)
        return self.asked.spec() or next((self.fit.of_reference(spec) for spec in carried if spec), None)

    @cached_property
    def testbed(self) -> Testbed | None:
        """The network and the data, opened; None where there are no data."""
        running = self._running
        if not isinstance(running, RunSettings):
            return running
        if running.data is None:
            return None
        return self.dreamer.testbed() if running.data == DREAM else self._opened(running, self._measured)

    @property
    def _dreams_alone(self) -> bool:
        return isinstance(self._running, RunSettings) and self._running.data == DREAM

    def _check_saving(self, path: Path) -> None:
        from deepalign_cli.operations.dreaming import check_saving

        spec, running = self.settings.spec, self._running
        reads = [*self.files, *self.saved, *([spec] if isinstance(spec, Path) else [])]
        reads += named_files(running.model, running.data) if isinstance(running, RunSettings) else []
        check_saving(path, reads, force=self.settings.force)

    @cached_property
    def dreamer(self) -> Dreamer:
        """What dreams inputs of all networks together, once."""
        return self._dreamer(is_asked=self._dreams_alone)

    def _dreamer(self, *, is_asked: bool) -> Dreamer:
        from deepalign_cli.operations.dreaming import Dreamer

        running = self._running if isinstance(self._running, RunSettings) else RunSettings()
        self.check_finite()
        return Dreamer(self.inputs, running, self.settings, lambda: self.asked.network, is_asked=is_asked)

    def repairing(self, data: str) -> Testbed:
        """The network and the data that a merge of the inputs is repaired on: the same where they are."""
        if data == DREAM:
            return (self.dreamer if self._dreams_alone else self._dreamer(is_asked=True)).testbed()
        if self._running is not None and not isinstance(self._running, RunSettings):
            return self._running
        running = self._running or RunSettings()
        if data == running.data and self.testbed is not None:
            return self.testbed
        return self._opened(replace(running, data=data), measured=False)

    def _opened(self, running: RunSettings, measured: bool) -> Testbed:
        from deepalign_cli.operations.testbed import open_testbed  # which takes a while

        network = self.asked.network
        return open_testbed(
            self.reference, running, self.settings.activation, measured=measured, network=network
        )

    def alignments(self, method: str | None = None, progress: Progress = SILENT) -> list[Alignment]:
        """An alignment for every moving input: the saved ones, or by a method (that of the settings).

        One aligner serves all, from the same seed each time: it keeps what it computed for the reference.

        Raises:
            UsageError: the method is not known, or needs an option or data that are missing.
            MismatchError, NonFiniteError, SpecError: the inputs do not fit each other or the spec.
        """
        name = method or ("" if self.saved else self.settings.method)
        if name not in self._alignments:
            self._alignments[name] = self._computed(name, progress) if name else self._loaded()
        return self._alignments[name]

    def resting(self) -> list[Alignment] | None:
        """Alignments by which all units stay, not measured; None where any may move, or more is to be read.

        Whoever reads the inputs measures them, and looks for NaN.
        """
        is_naive = self.settings.method == NAIVE and not (self.saved or self.fit.is_partial)
        if not is_naive or (self._running is not None and needs_data(self._running)):
            return None
        symmetry = self._restricted(self._unmoved(self.settings))
        still = Alignment(symmetry, symmetry.identity(), NAIVE, 0.0, math.nan, math.nan)
        return [still] * len(self.moving)

    def is_aligned(self, method: str) -> bool:
        """Whether an alignment by a method takes no more time: it is saved, known, or naive."""
        return bool(self.saved) or method == NAIVE or method in self._alignments

    def check_finite(self) -> None:
        """Check, once, that no input holds NaN or Inf. Raises NonFiniteError where one does."""
        for checkpoint in () if self.is_finite else self.fit.sources:
            check_finite(checkpoint)
        self.is_finite = True

    def _computed(self, method: str, progress: Progress, *, quick: bool = False) -> list[Alignment]:
        """The alignments by a method; `quick` where nobody asked for it, so that it may not take long."""
        options = {**self.settings.options, **({"path_steps": far_heads.QUICK_STEPS} if quick else {})}
        settings = replace(self.settings, method=method, options=options)
        if settings.onto is not Onto.FIRST:
            self._check_joint(method)
        uses_data = METHODS.find(method).data is not DataUse.NONE
        dreaming = self._dreaming(settings)
        evidence = self.testbed.evidence if uses_data and not dreaming and self.testbed else None
        turns = METHODS.find(method).turns
        whole = self._unmoved(settings) if method == NAIVE else self.turned if turns else self.whole
        symmetry = self._restricted(whole)
        if method != NAIVE and not self.fit.is_cut:
            symmetry = with_twins(symmetry, self.inputs)
            if settings.strict:
                refuse_assumptions(symmetry.spec)
        aligner = settings.aligner(evidence, dreaming, self._device)
        self.check_finite()
        values = getattr(aligner, "making", METHODS[method].values(settings.options))
        making = {name: value for name, value in values.items() if value is not None}
        if settings.onto is not Onto.FIRST and method != NAIVE and len(self.moving) > 1:
            found = aligned_at_once(symmetry, self.inputs, aligner, settings, making, progress)
            return [self._exactly(self.fit.of_whole(one, i, whole.spec), i) for i, one in enumerate(found, 1)]
        alignments, weights = [], in_one_type(self.inputs)
        for place, other in enumerate(self.moving, 1):
            stage = progress.part(1 / len(self.moving), f"aligning {other.called} by {method}")
            alignment = aligner(symmetry, weights[0], weights[place], rng=settings.rng(), progress=stage)
            alignment = replace(alignment, making=making)
            alignment = far_heads.with_note(alignment, *far_heads.left_out(method, alignment))
            alignments.append(self._exactly(self.fit.of_whole(alignment, place, whole.spec), place))
        if self._hands_over(settings, alignments):
            return [
                far_heads.with_note(one, far_heads.HANDED_OVER)
                for one in self._computed(ROTATIONS, progress, quick=True)
            ]
        if isinstance(self._running, RunSettings) and self._running.save_dreams is not None:
            self.dreamer.testbed(progress)  # which keeps what it dreams
        return alignments

    def _hands_over(self, settings: Settings, alignments: Sequence[Alignment]) -> bool:
        """Whether the default leaves it to rotations: heads stay far apart, and turn."""
        return any(map(far_heads.heads_are_far, alignments)) and self._turns(settings)

    def _turns(self, settings: Settings) -> bool:
        """Whether rotations may take over, and anything turns."""
        is_auto = settings.method == DEFAULT and settings.options.get("refine", "auto") == "auto"
        can_turn = not self.fit.is_partial and "network" not in settings.options
        is_joint = settings.onto is not Onto.FIRST and len(self.moving) > 1
        if is_joint or not (is_auto and can_turn and far_heads.has_heads(self.whole)):
            return False
        try:
            return (self.asked.traced or self.whole.spec.basis is Basis.TEMPLATE) and bool(self.turned.within)
        except DeepalignError:
            return False

    def _check_joint(self, method: str) -> None:
        if METHODS.find(method).turns or self.fit.is_partial:
            what = f"-m {method}" if METHODS.find(method).turns else "--partial"
            problem = f"--onto {self.settings.onto} and {what} exclude each other."
            raise UsageError(problem, "leave one of them out.")

    def _dreaming(self, settings: Settings) -> Dreaming | None:
        """What dreams for a method that may by itself: where there are no data, or dreams in their place."""
        running, turns = self._running or RunSettings(), METHODS.find(settings.method).turns
        if not settings.may_dream or not isinstance(running, RunSettings) or self.fit.is_cut:
            return None
        if running.data == DREAM:
            return partial(self.dreamer.evidence, trained_on=turns)
        may_show = self.asked.may_be_text or any(map(is_statistic, self.reference))  # before it is opened
        wants = running.data is None and not running.no_dream and (may_show or self.dreamer.may_train)
        if not (wants and self.dreamer.is_cheap):
            return None
        leaves = partial(self._leaves_classes, settings)
        return partial(self.dreamer.evidence, trained_on=turns, leaves_classes=leaves)

    def _leaves_classes(self, settings: Settings) -> bool:
        return self._turns(settings) or not steps_within(self.whole)

    def _unmoved(self, settings: Settings) -> Symmetry:
        """What may move where nothing will: nothing is taken for granted by that."""
        symmetry = settings.symmetry(self.fit.wholes[0])
        return Symmetry(replace(symmetry.spec, assumptions=()), symmetry.shapes)

    def _exactly(self, alignment: Alignment, place: int) -> Alignment:
        """The same, for an input, by an element that rounds nothing."""
        symmetry, moving = alignment.symmetry, self.inputs[place]
        element = unrounded(symmetry, alignment.element, self.fit.wholes[place])
        if element is alignment.element:
            return alignment
        after = distance(symmetry, self.reference, moving, element)
        return replace(alignment, element=element, distance_after=after)

    def _loaded(self) -> list[Alignment]:
        own = self.fit.wholes[1:] if self.fit.is_cut else [self.reference] * len(self.saved)
        wholes = [shapes_of(one) for one in own]
        found = map(partial(load_alignment, respelt=self.fit.respelt), self.saved, wholes)
        pairs = zip(found, self.moving, strict=True)
        alignments = [alignment.between(self.reference, moving) for alignment, moving in pairs]
        for alignment in alignments if self.settings.strict else ():
            refuse_assumptions(alignment.symmetry.spec)
        self.asked.require(alignments[0].symmetry)
        return alignments


def needs_data(running: RunSettings | Testbed) -> bool:
    """Whether networks are to be run."""
    return not isinstance(running, RunSettings) or running.data is not None
