"""The network behind a checkpoint, asked: which spec it has, and whether a spec holds on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import (
    DeepalignError,
    MismatchError,
    MissingExtra,
    SpecError,
    UnknownNetwork,
    UsageError,
    listed,
)
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry import known_models
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

if TYPE_CHECKING:
    from torch import Tensor

    from deepalign_cli.measure.spec_check import SpecCheck
    from deepalign_cli.models.lookup import Network
    from deepalign_cli.models.run import Run
    from deepalign_cli.tracing.pipeline import Last

_SHOWN = 6
_MOST_TRACED = 2**26  # numbers of a folder that has a template
_BYTES_TRACED = 15  # a number, at the peak: measured


class Asked:
    """A checkpoint's network: of `running.model`, of the folder's config.json, or opened already.

    Nothing is opened before it is needed: a folder's trace may lie in the cache. `inputs` gives a few
    examples of the data, if there are any. A network that is `implied`, not named, need not be asked.
    `traced` says whether the spec is the network's, `failure` why it could not be traced, `untried` why a
    spec that does not come from it was not tried on it, where it is named.
    """

    def __init__(
        self, checkpoint: Checkpoint, running: RunSettings, activation: str | None = None,
        network: Network | None = None, inputs: Callable[[], Tensor | None] = lambda: None, *,
        implied: bool = False,
    ) -> None:  # fmt: skip
        self.is_implied, self._is_given = implied, network is not None
        self.checkpoint, self.running, self.activation = checkpoint, running, activation
        self._inputs = inputs
        self.failure: DeepalignError | None = None
        self.untried: DeepalignError | None = None
        self.traced = False
        self._last: Last | None = None  # of the network's programs, of which one has to do
        if network is not None:
            self.network = network  # in place of the cached property

    @property
    def is_named(self) -> bool:
        """Whether the user says what the network is, beyond the checkpoint itself."""
        return self.running.model is not None or (self._is_given and not self.is_implied)

    @cached_property
    def network(self) -> Network:
        """The network, opened. Raises DeepalignError where it cannot be."""
        from deepalign_cli.models.lookup import fit, network_for, open_module

        running, path = self.running, self.checkpoint.path
        if running.model is None and not running.design and self._is_folder:
            with suppress(MissingExtra, UnknownNetwork, MismatchError):  # names and shapes may tell
                return fit(self.checkpoint, open_module(str(path), {}))
        return network_for(
            self.checkpoint, running.model, args=running.arguments, options=running.design,
            activation=self.activation,
        )  # fmt: skip

    @property
    def is_known_class(self) -> bool:
        """Whether the network is one of transformers, which is installed."""
        known = not isinstance(self.failure, MissingExtra | UnknownNetwork)
        return "model_type" in self.checkpoint.config and known

    def spec(self, progress: Progress = SILENT, *, turns: bool = False) -> Spec | None:
        """The spec by tracing; None where there is no network to trace, or it cannot be traced.

        With `turns` the one in which all that may turn does; a network that the checkpoint itself tells is
        asked, too. Not asked is a folder that is too large for that, where a template says what may move.

        Raises:
            DeepalignError: the user names a network, and it cannot be built, or does not fit the checkpoint.
        """
        known = self.is_named or self.is_implied
        if not (known or turns or self._is_folder):
            return None
        if not known and self._is_left_to_a_template(turns=turns):
            return None
        from deepalign_cli.operations.trace import trace_checkpoint, trace_folder
        from deepalign_cli.tracing.pipeline import Last

        self._last = self._last or Last()
        try:
            if (self._is_folder and not known) or self._is_own_folder:
                traced = trace_folder(self.checkpoint, progress, turns=turns, last=self._last)
            else:
                shape, inputs = self.running.input_shape, self._inputs()
                traced = trace_checkpoint(
                    self.checkpoint, self.network, shape=shape, inputs=inputs, turns=turns, last=self._last,
                    progress=progress,
                )  # fmt: skip
        except (MissingExtra, MismatchError, SpecError, UsageError) as error:
            if isinstance(error, UsageError | MismatchError) and self.is_named:
                raise
            self.failure = error
            return None
        self.traced = traced is not None
        if traced is None:
            return None
        return traced.turned if turns else traced.spec

    def _is_left_to_a_template(self, *, turns: bool) -> bool:
        """Whether a folder is too large to be traced, was not traced before, and has a template.

        A trace runs the network in float64, beside one in float32.
        """
        count = sum(info.numel for info in self.checkpoint.infos.values())
        if count <= _MOST_TRACED or not self._is_folder or self._is_in_the_cache(turns=turns):
            return False
        with suppress(UsageError):  # heads of several kinds
            if known_models.match(self.checkpoint, turns=turns) is not None:
                needed = _BYTES_TRACED * count / 1e9
                self.failure = SpecError(f"tracing {count / 1e6:.0f} million numbers takes {needed:.1f} GB.")
                return True
        return False

    def _is_in_the_cache(self, *, turns: bool) -> bool:
        from deepalign_cli.operations.trace import folder_key
        from deepalign_cli.tracing.cache import cached

        with suppress(MissingExtra):
            key = folder_key(self.checkpoint, turns=turns)
            return key is not None and cached(key) is not None
        return False

    def untraced(self, spec: Spec) -> Spec:
        """A spec that has to do in the place of a trace, with why there is none."""
        why = self.failure.message.removesuffix(".") if self.failure else "it was not asked"
        if spec.basis is Basis.TEMPLATE:
            return replace(spec, stays=(f"what may move is from {spec.source}: {why}", *spec.stays))
        return _taking_for_granted(spec, f"what names and shapes show is all there is: {why}")

    def unproven(self, spec: Spec) -> Spec:
        """A spec with the assumption that it holds, where the network that is named does not say so."""
        if self.untried is None:
            return spec
        why = (self.failure or self.untried).message.removesuffix(".")
        return _taking_for_granted(spec, f"this is not tried on the network that was named: {why}")

    def tried(self, symmetry: Symmetry, seed: int = 0) -> SpecCheck | None:
        """Random elements tried on the network; None where there is none to run.

        Raises:
            DeepalignError: it cannot be opened or run.
        """
        if not (self.is_named or self.running.data is not None):
            return None
        from deepalign_cli.operations.trace import spec_check

        shape = self.running.input_shape
        return spec_check(symmetry, self.checkpoint, self.network, shape, self._inputs(), seed)

    def example(self) -> tuple[Run, Tensor]:
        """What runs the network, and a few inputs: of the data, or random ones.

        Raises:
            DeepalignError: nothing says what computes with the weights, or what it reads.
        """
        from deepalign_cli.operations.trace import example_of

        return example_of(self.checkpoint, self.network, self.running.input_shape, self._inputs())

    def require(self, symmetry: Symmetry, *, traced: bool | None = None) -> bool:
        """Check a spec that was not traced on the network; whether there is one, and it is named.

        `traced` says whether this one was; by default, whether the network has been.

        A network that was read from the same names and shapes proves little.

        Raises:
            SpecError: a random element changes what it computes; the tensors to suspect are named.
        """
        if (
            self.traced if traced is None else traced
        ) or not symmetry.sizes:  # a stranger's file may say that it was
            return False
        try:
            check = self.tried(symmetry)
        except SpecError as error:  # it cannot be run in float64, or is no finite number: nothing is learnt
            self.untried = error if self.is_named else None
            return False
        if check is None or check.passed:
            return check is not None and self.is_named
        group, suspects = next(iter(check.broken.items()))
        raise SpecError(
            f"the spec is wrong: a random element of it changes what the network computes (by "
            f"{check.residual:.1e} in float64). Group '{group}': suspect {listed(suspects, _SHOWN)}.",
            self._way_out(symmetry.spec),
        )

    def _way_out(self, spec: Spec) -> str:
        if not self.running.model:
            return "name the network, --model FILE.py:FACTORY: deepalign traces it."
        if self.failure is None and spec.basis is Basis.GIVEN:
            return "leave --spec out: deepalign traces the network."
        why = f" ({self.failure.message.removesuffix('.')})" if self.failure else ""
        return f"the network does not say it{why}: write a spec, --spec FILE.toml (docs/specs.md)."

    @property
    def may_be_text(self) -> bool:
        """Whether the network may be one of language: such are not known by names and shapes alone."""
        return self.is_named or self.is_implied or self._is_folder

    @property
    def _is_folder(self) -> bool:
        """Whether the checkpoint is a folder of transformers."""
        return self.checkpoint.path.is_dir() and (self.checkpoint.path / "config.json").is_file()

    @property
    def _is_own_folder(self) -> bool:
        model = Path(self.running.model or "")
        return model.is_dir() and model.resolve() == self.checkpoint.path.resolve()


def _taking_for_granted(spec: Spec, assumption: str) -> Spec:
    return replace(spec, assumptions=(*spec.assumptions, assumption))
