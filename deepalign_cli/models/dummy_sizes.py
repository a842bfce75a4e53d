"""What a `transformers` configuration says of the sizes of its network's inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

_SPECIAL = ("_token_id", "_token_index", "_token_ids")


class Sizes:
    """Sizes read from a configuration, and from those of its parts: the first that has one wins."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.parts = list(_parts("", config))

    def get(self, *names: str, part: str = "", default: Any = None) -> Any:
        """The first value that is set under one of these names, in parts whose path has `part` first."""
        ordered = sorted(self.parts, key=lambda pair: not _is(pair[0], part)) if part else self.parts
        for _, config in ordered:
            for name in names:
                value = getattr(config, name, None)
                if value is not None and not callable(value):
                    return value
        return default

    def number(self, *names: str, part: str = "", default: int) -> int:
        """A whole number; the first of several."""
        value = self.get(*names, part=part, default=default)
        while isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = value[0]
        return int(value) if isinstance(value, int | float) else default

    def product(self, *names: str, part: str = "", default: int) -> int:
        """The product of a list, such as strides."""
        value = self.get(*names, part=part)
        numbers = [x for x in value if isinstance(x, int)] if isinstance(value, Sequence) else []
        return math.prod(numbers) if numbers else default

    @property
    def special(self) -> set[int]:
        """Numbers of tokens that mean something to the code: padding, images, the end of a text."""
        numbers: set[int] = set()
        for _, config in self.parts:
            for name, value in vars(config).items():
                if name.endswith(_SPECIAL):
                    values = value if isinstance(value, list | tuple) else [value]
                    numbers.update(x for x in values if isinstance(x, int))
        return numbers

    def vocabulary(self, part: str) -> int:
        """How many tokens there are."""
        return self.number("vocab_size", "text_vocab_size", part=part, default=64)

    def image(self, part: str = "vision|image|encoder|backbone") -> tuple[int, int]:
        """The rows and columns of an image."""
        size = self.get("image_size", "img_size", "input_image_size", "input_size", part=part)
        if isinstance(size, dict):
            size = [size.get("height", size.get("shortest_edge", 64)), size.get("width", 64)]
        if isinstance(size, int):
            size = [size, size]
        if isinstance(size, Sequence) and len(size) >= 2 and all(isinstance(x, int) for x in size):
            return int(size[-2]), int(size[-1])
        return 64, 64


def _is(path: str, part: str) -> bool:
    return any(word in path for word in part.split("|"))


def _parts(path: str, config: Any) -> Iterator[tuple[str, Any]]:
    yield path, config
    for name, value in vars(config).items():
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _parts(f"{path}.{name}", value)
