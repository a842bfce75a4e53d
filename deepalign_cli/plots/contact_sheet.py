"""Many small images as one picture, to look at what was dreamed."""

from __future__ import annotations

import io
import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.extras import require
from deepalign_cli.images import image_shape
from deepalign_cli.plots.style import PURPOSE

_MOST = 64
_SIDE = 96  # pixels of an image on the sheet, at least
_GAP = 2


def images_in(x: Shaped[Tensor, "count ..."]) -> Float[Tensor, "count colours height width"] | None:
    """Inputs as images of one or three colours, if that is what they look like; rows that are images too."""
    if not x.is_floating_point():
        return None
    if x.ndim == 2:
        shape = image_shape(x.shape[1])
        return None if shape is None else x.reshape(len(x), *shape)
    return x if x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) > 1 else None


def contact_sheet(images: Float[Tensor, "count colours height width"]) -> bytes:
    """The first images in rows, as a PNG; each is shown from its darkest to its brightest value.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    shown = images[:_MOST].float()
    low, high = (f(shown.flatten(1), 1).reshape(-1, 1, 1, 1) for f in (torch.amin, torch.amax))
    shown = (shown - low) / (high - low).clamp(min=1e-12)
    times = max(1, _SIDE // max(shown.shape[2:]))
    shown = shown.repeat_interleave(times, 2).repeat_interleave(times, 3).expand(-1, 3, -1, -1)
    padded = torch.nn.functional.pad(shown, (_GAP, _GAP, _GAP, _GAP), value=1.0)
    columns = math.ceil(math.sqrt(len(padded)))
    blank = padded.new_ones(-len(padded) % columns, *padded.shape[1:])
    rows = torch.cat([padded, blank]).reshape(-1, columns, *padded.shape[1:])
    sheet = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    stored = io.BytesIO()
    require("matplotlib.image", "plot", PURPOSE).imsave(stored, sheet.numpy(), format="png")
    return stored.getvalue()
