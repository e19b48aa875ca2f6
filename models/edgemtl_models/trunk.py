"""What every trunk is: images by modality in, features for the heads out; and what some trunks can do besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Feature = Literal["alignment", "unimodal_aux_loss", "distillation"]
"""What only trunks with a full stream for each modality support."""
Slices = dict[str, dict[int, dict[str, int]]]
"""By parameter and dimension, how many entries belong to each modality, in the order they stand in."""


class StreamFeatures(NamedTuple):
    """The features of a trunk that has a full stream for each modality, from one forward pass."""

    fused: list[Tensor]
    """By level, (B, C, H, W): what the heads read."""
    streams: list[list[Tensor]]
    """By level and modality: each stream's own, as they are fused, so registered to the first modality."""
    shifts: list[Tensor | None]
    """By modality, (B, 2) across and down: by how many cells of stride 8 it was shifted back; None where it was not."""

    def unimodal(self, missing: Tensor | None = None) -> list[Tensor]:
        """Return the fused features and then each modality's own, along the batch: (B * (1 + modalities), C, H, W).

        ``missing`` (B,) is the index of the modality that an image does not show, -1 where it shows all; the fused
        features stand for its own.
        """
        out = []
        for fused, streams in zip(self.fused, self.streams, strict=True):
            if missing is not None:
                masks = [(missing == index).view(-1, 1, 1, 1) for index in range(len(streams))]
                streams = [torch.where(mask, fused, stream) for mask, stream in zip(masks, streams, strict=True)]
            out.append(torch.cat([fused, *streams]))
        return out


class Trunk(nn.Module):
    """The part of a network that all heads read; called with one (B, C, H, W) image for each modality.

    Returns feature maps (B, ``widths[i]``, H / ``strides[i]``, W / ``strides[i]``), finest first unless ``reads`` says
    otherwise.
    """

    widths: Sequence[int]
    strides: Sequence[int]

    @property
    def reads(self) -> dict[str, list[int]]:
        """The indices of the features that a head reads, by head; a head that is not listed reads all."""
        return {}

    def forward(self, images: dict[str, Tensor]) -> list[Tensor]:
        """Return the features for one image a modality."""
        raise NotImplementedError

    def supports(self, _feature: Feature) -> bool:
        """Whether the methods below that a feature needs are there."""
        return False

    def twins(self) -> list[list[str]]:
        """Return groups of parameters, by name, that are each other's counterparts in the modalities' streams."""
        return []

    def modality_slices(self) -> Slices:
        """Return the dimensions of parameters along which the modalities' channels stand one after the other."""
        return {}

    def tied_parameters(self) -> dict[str, str]:
        """Return the parameters that are stored once for all modalities: the others' names, and the stored one."""
        return {}

    def alignable(self) -> dict[str, list[nn.Conv2d]]:
        """Return the convolutions whose weights may be tied, one of each modality, by their path in a stream."""
        return {}

    def share(self, path: str) -> None:
        """Store the convolution at a path of `alignable` once for all modalities."""
        raise NotImplementedError

    def stream_features(self, images: dict[str, Tensor]) -> StreamFeatures:
        """Return the fused features and each modality's own, of one forward pass."""
        raise NotImplementedError

    def unimodal_features(self, images: dict[str, Tensor], missing: Tensor | None = None) -> list[Tensor]:
        """Return `StreamFeatures.unimodal` of images."""
        return self.stream_features(images).unimodal(missing)
