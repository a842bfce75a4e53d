"""What networks are run as and on, as a user says it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DREAM = "dream"  # in the place of data


@dataclass(frozen=True)
class RunSettings:
    """The options; see the help of `deepalign barrier`. Without `data` nothing is measured.

    `data` is a source, or `dream`. `dream` is how many inputs to dream and `dream_steps` in how many steps,
    `save_dreams` where they are kept; with `no_dream` none are dreamed where there are no data.

    `device` is where networks are run, and read by methods that read them.

    `samples` is how many training examples activation matching and repair look at, `batch_size` how many
    examples are run at a time; None leaves that to what they become in the network. `input_shape` is one
    example's, for tracing without data.
    """

    model: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    design: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None
    samples: int | None = None
    batch_size: int | None = None
    normalise: str | None = None
    side: int | None = None
    grey: bool = False
    input_shape: str | None = None
    loss: str | Callable[..., Any] | None = None
    dream: int | None = None
    dream_steps: int | None = None
    no_dream: bool = False
    save_dreams: Path | None = None
    device: str | None = None

    @property
    def dreams_in(self) -> tuple[Path, ...]:
        """The files that dreams are saved to: the picture only where they are images."""
        return (self.save_dreams, self.save_dreams.with_suffix(".png")) if self.save_dreams else ()


def named_files(*sources: str | None) -> list[Path]:
    """The files and folders that are read of sources such as `net.py:make`, as far as they exist."""
    places = [place for source in sources if source for place in (source, source.rpartition(":")[0])]
    return [Path(place) for place in places if os.path.exists(place)]  # noqa: PTH110 - Path's raises
