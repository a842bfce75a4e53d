"""How a picture is drawn where its user has a say: its width, its font, and what is written in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deepalign_cli.errors import UsageError
from deepalign_cli.plots.series import label_of

PIXELS = 96  # an inch, in HTML
FONTS = ("DejaVu Sans", "Verdana", "Arial", "sans-serif")


@dataclass(frozen=True)
class Drawing:
    """`width` in inches, `font` a family, `labels` other words for methods or networks, by their names."""

    width: float | None = None
    font: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what needs no package.

        Raises:
            UsageError: the font's name is malformed.
        """
        if self.font is not None and not re.fullmatch(r"[\w.-]+( [\w.-]+)*", self.font):
            raise UsageError(f"'{self.font}' is not the name of a font.", "for example --font serif")

    @property
    def families(self) -> tuple[str, ...]:
        """The font and those that stand in for letters that it lacks, the last a generic one."""
        return tuple(dict.fromkeys([*filter(None, [self.font]), *FONTS]))

    @property
    def pixels(self) -> int | None:
        """The width in HTML."""
        return None if self.width is None else round(self.width * PIXELS)

    def label(self, method: str) -> str:
        """What a method is called, `none` and `naive` being one."""
        name = label_of(method)
        return next((text for key, text in self.labels.items() if label_of(key) == name), name)

    def place(self, name: str) -> str:
        """What a network of a landscape is called: `A: a.pt` goes by `A`, `B as it is` by `B`."""
        return self.labels.get(place_key(name), name)

    def check_labels(self, names: Iterable[str]) -> None:
        """Check that every label is of something in the picture.

        Raises:
            UsageError: one is not.
        """
        known = list(dict.fromkeys(names))
        if len(set(self.labels.values())) < len(self.labels):
            raise UsageError("--label gives two of them the same name.", "give each its own.")
        for key in self.labels:
            if label_of(key) not in map(label_of, known):
                raise UsageError(f"--label '{key}' names nothing here.", f"there are: {', '.join(known)}.")


def place_key(name: str) -> str:
    """By what a label names a network of a landscape."""
    return name.partition(":")[0].removesuffix(" as it is")


PLAIN = Drawing()
