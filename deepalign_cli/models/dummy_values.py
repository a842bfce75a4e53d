"""Example values of the arguments that networks of `transformers` take, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deepalign_cli.models.dummy_sizes import Sizes

BATCH, LENGTH, DECODER_LENGTH = 2, 8, 5
_FRAMES = 8

Maker = Callable[[Sizes], Tensor]


def tokens(sizes: Sizes, length: int = LENGTH, part: str = "text") -> Tensor:
    """Tokens that mean nothing to the code."""
    count = max(sizes.vocabulary(part), 2)
    plain = [i for i in range(min(count, 4 * BATCH * LENGTH + 8)) if i not in sizes.special]
    plain = [i for i in plain if i > 2] or plain or [0]
    order = torch.randperm(len(plain), generator=_rng())
    places = torch.arange(BATCH * length) % len(plain)
    return torch.tensor(plain)[order][places].reshape(BATCH, length)


def decoder_tokens(sizes: Sizes) -> Tensor:
    """Tokens of a decoder."""
    return tokens(sizes, DECODER_LENGTH, "decoder|text|generator")


def boxes(sizes: Sizes) -> Tensor:
    """Places on a page: one corner for both, as every order of these is a box."""
    return torch.full((BATCH, LENGTH, 4), 7)


def images(sizes: Sizes) -> Tensor:
    """Images, of the size that the network is made for."""
    rows, columns = sizes.image()
    channels = sizes.number("num_channels", "in_channels", "in_chans", part="vision|image|encoder", default=3)
    return _numbers(BATCH, channels, rows, columns)


def videos(sizes: Sizes) -> Tensor:
    """Frames of images."""
    x = images(sizes)
    frames = sizes.number("num_frames", "frames_per_clip", part="vision|video", default=2)
    return _numbers(len(x), frames, *x.shape[1:])


def waves(sizes: Sizes) -> Tensor:
    """Sound as samples, enough for a few frames; or as a spectrogram where the network wants one."""
    if (length := sizes.get("max_length")) and (bins := sizes.get("num_mel_bins")):
        return _numbers(BATCH, length, bins)
    hop = sizes.product("conv_stride", "upsampling_ratios", "downsampling_ratios", default=320)
    if sizes.get("audio_channels"):
        return _numbers(BATCH, int(sizes.get("audio_channels")), hop * _FRAMES)
    return _numbers(BATCH, hop * _FRAMES + 400)


def features(sizes: Sizes) -> Tensor:
    """Sound as a spectrogram: bins by frames where the network wants a fixed number of them."""
    bins = sizes.number(
        "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "n_mels", "mel_bins",
        part="audio|encoder", default=80,
    )  # fmt: skip
    if (places := sizes.get("max_source_positions", part="audio|encoder")) and not sizes.get(
        "input_channels"
    ):
        return _numbers(BATCH, bins, 2 * places)
    return _numbers(BATCH, 4 * _FRAMES, bins)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_rng())


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


MAKERS: Mapping[str, Maker] = {
    "input_ids": tokens,
    "decoder_input_ids": decoder_tokens,
    "qformer_input_ids": tokens,
    "attention_mask": lambda sizes: torch.ones(BATCH, LENGTH, dtype=torch.long),
    "bbox": boxes,
    "pixel_values": images,
    "pixel_values_videos": videos,
    "input_values": waves,
    "input_features": features,
}
