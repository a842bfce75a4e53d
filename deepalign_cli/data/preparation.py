"""How stored images are prepared for a network: as the user or a file declares, never guessed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.spelling import british

_CHOICES = "unit, standard, or MEAN,STD such as 0.1307,0.3081 (per channel: 0.5,0.5,0.5/0.2,0.2,0.2)"
STANDARD = "standard"
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Preparation:
    """Pixels in [0, 1], without colours if `grey`, pooled to `side`, less `mean` over `std`.

    `mean` and `std` have one entry, one a channel, or none, which leaves values unchanged.
    """

    side: int | None = None
    grey: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std differ in length")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or any(s <= 0 for s in self.std):
            raise ValueError("mean and std must be finite, and std above 0")
        if self.side is not None and self.side < 1:
            raise ValueError("side must be 1 or more")

    def __call__(self, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """Images [b, h, w], [b, h, w, c] or [b, c, h, w] as [b, c, side, side]; rows stay rows.

        Floating-point inputs [b, t, d] stay as they are unless something is asked for; integers other than
        uint8 are tokens, which become int64 and are otherwise unchanged.

        Raises:
            DataError: the images are smaller than `side`, or have other channels than `mean`.
        """
        raw = x.dtype == torch.uint8
        x = x.float() / 255 if raw else _plain(x)
        if not x.is_floating_point():
            return x
        if x.ndim == 4 or (x.ndim == 3 and (raw or self != Preparation())):
            x = self._resized(channels_first(x))
        elif x.ndim == 2 and self.side is not None and x.shape[1] % self.side**2:
            raise DataError(
                f"the inputs are rows of {x.shape[1]} numbers, not images of side {self.side}.",
                "give the images as [n, h, w], or rows of side x side numbers.",
            )
        return self._normalised(x)

    def _normalised(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if not self.mean:
            return x
        channels = x.shape[1] if x.ndim == 4 else 1
        if len(self.mean) not in (1, channels):
            raise DataError(
                f"the images have {channels} channel{'s' * (channels > 1)}, but mean has {len(self.mean)}.",
                "give one mean and one std, or one for each channel.",
            )
        shape = (-1, *(1,) * max(0, x.ndim - 2))
        mean, std = (torch.tensor(part, dtype=x.dtype).reshape(shape) for part in (self.mean, self.std))
        return (x - mean) / std

    def _resized(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        x = x.mean(1, keepdim=True) if self.grey else x
        if self.side is None or x.shape[-2:] == (self.side, self.side):
            return x
        if min(x.shape[-2:]) < self.side:
            raise DataError(
                f"the images are {x.shape[-2]}x{x.shape[-1]}, smaller than side {self.side}.",
                "give a smaller --side, or other data.",
            )
        return functional.adaptive_avg_pool2d(x, self.side)

    def to_json(self) -> str:
        """As it stands in a checkpoint's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, where: str = "the metadata") -> Preparation:
        """Read what `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            table = json.loads(text)
            if not isinstance(table, dict) or not {british(key) for key in table} <= set(asdict(cls())):
                raise ValueError("it is not a table of side, grey, mean and std")
            values = asdict(cls()) | {british(key): value for key, value in table.items()}
            if type(values["side"]) not in (int, type(None)) or type(values["grey"]) is not bool:
                raise ValueError("side must be an integer, and grey true or false")
            return cls(values["side"], values["grey"], _floats(values["mean"]), _floats(values["std"]))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            message = f"{where} does not describe how images are prepared: {error}."
            raise DataError(message, "add --normalise.") from None


def parse_normalise(text: str, base: Preparation) -> Preparation:
    """`base` with the mean and deviation that a user wrote; `standard` is computed elsewhere.

    Raises:
        UsageError: it is malformed.
    """
    if text in ("none", "unit"):
        return replace(base, mean=(), std=())
    halves = text.split("/") if "/" in text else text.split(",")
    try:
        mean, std = (tuple(float(v) for v in half.split(",")) for half in halves)
        return replace(base, mean=mean, std=std)
    except ValueError:
        raise UsageError(f"--normalise cannot be '{text}'.", f"write {_CHOICES}.") from None


def undeclared(name: str) -> UsageError:
    """The error for pixels of unknown preparation."""
    return UsageError(
        f"'{name}' holds pixels from 0 to 255, and nothing says how the networks read them.",
        f"add --normalise {_CHOICES} (tokens must be int64).",
    )


def _floats(values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or any(type(v) not in (int, float) for v in values):
        raise ValueError("mean and std must be lists of numbers")
    return tuple(float(v) for v in values)


def _plain(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b ..."]:
    """In float32, or float64 where it already is; tokens [b] or [b, t] in int64."""
    if x.is_complex():
        raise DataError("the inputs are complex numbers.", "save them as real ones.")
    if x.is_floating_point() or x.dtype == torch.bool:
        return x if x.dtype == torch.float64 else x.float()
    if x.ndim > 2:
        raise DataError(
            f"inputs of {'x'.join(map(str, x.shape[1:]))} integers ({str(x.dtype)[6:]}) are not tokens.",
            "save images as uint8, from 0 to 255, or as floating point.",
        )
    return x.long()


def channels_first(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b c h w"]:
    """Images [b, h, w], [b, h, w, c] or [b, c, h, w] with their channels on the second axis."""
    if x.ndim == 3:
        return x.unsqueeze(1)
    _, first, middle, last = x.shape
    if last in _CHANNELS and (first not in (1, 3) or first == middle != last):
        return x.movedim(-1, 1)
    return x
