"""What a user can set about finding an alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.evidence import Dreaming, Evidence
from deepalign_cli.aligners.methods import METHODS, DataUse, Onto
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.kinds import Kind
from deepalign_cli.symmetry.resolve import Ask, blank_spec, no_network, resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import Activation, Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.vocabulary.modes import Tokens

NAIVE = "none"


@dataclass(frozen=True)
class Settings:
    """How to find the spec and the alignment; `force` overwrites files and overrides hashes.

    `strict` refuses a spec that takes something for granted. `key` says which state dict to take of files
    that hold several; `partial` that tensors may differ in classes or vocabulary, which stay as they are;
    `tokenizer` that rows of tokens are brought together, and which tokens a merged network has.
    `onto` says what more than two networks are moved onto: the first, or one another.
    `options` are those of methods, by name; each method takes its own.
    """

    method: str = methods.DEFAULT
    options: Mapping[str, object] = field(default_factory=dict)
    spec: Path | Spec | None = None
    activation: Activation | None = None
    kinds: frozenset[Kind] = frozenset()
    heads: int | None = None
    seed: int = 0
    force: bool = False
    strict: bool = False
    key: str | None = None
    partial: bool = False
    tokenizer: Tokens | None = None
    onto: Onto = Onto.FIRST

    def aligner(
        self, evidence: Evidence | None = None, dreaming: Dreaming | None = None,
        device: torch.device | None = None,
    ) -> Aligner:  # fmt: skip
        """The aligner that these settings ask for; `evidence` is a network to run and data.

        `dreaming` dreams such evidence, for methods that do where there are no data. Methods that read
        networks do so on the `device`.

        Raises:
            UsageError: there is no such method, an option may not be used, or data are needed.
            CheckpointError: its network cannot be had, or is no aligner.
        """
        return METHODS.find(self.method).make(self.options, evidence, dreaming, device)

    @property
    def may_dream(self) -> bool:
        """Whether the method, with its options, makes use of dreams where there are no data."""
        row = METHODS.find(self.method)
        return row.dreams and row.data_use(self.options) is DataUse.OPTIONAL

    def rng(self) -> torch.Generator:
        """A generator seeded with `seed`."""
        return torch.Generator().manual_seed(self.seed)

    def symmetry(self, reference: Checkpoint, ask: Ask = no_network) -> Symmetry:
        """The symmetry of the reference; the naive method needs none that is known.

        `ask` traces the reference's network, where there is one.

        Raises:
            SpecError: no spec fits; AmbiguousError: more than one does.
        """
        try:
            spec = resolve_spec(reference, self.spec, self.activation, self.heads, self.kinds, ask)
        except SpecError:
            if self.method != NAIVE or self.spec:
                raise
            spec = blank_spec(reference)
        return Symmetry(spec, shapes_of(reference))
