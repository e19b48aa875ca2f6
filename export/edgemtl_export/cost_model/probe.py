"""A probe: what has to be measured on a device so that the latency of a network is known at any widths.

It holds each distinct block at quarters of its widths, and the whole network at some patterns of pruned channels, by
which the sum of its parts is fitted. The names of its models say what they are: ``block-3-i64-o32-x1`` is one copy of
block 3 that reads 64 channels and makes 32; ``network-0`` is the dense one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from ..fp16 import to_fp16
from ..groups import CoupledChannels, coupled_channels
from ..tracing import on_cpu
from .block_onnx import block_model, half_weights
from .blocks import Block, NetworkBlocks, Signature, network_blocks
from .narrow import Patterns, network_model

Mask = NDArray[np.bool_]
COPIES = (1, 3)
VERSION = 1


@dataclass(frozen=True)
class BlockAt:
    """A distinct block: the first of its kind, and how many channels it reads and makes at most."""

    signature: Signature
    reads: int
    makes: int
    read_marks: tuple[int, ...]
    make_marks: tuple[int, ...]

    @classmethod
    def of(cls, block: Block) -> BlockAt:
        """Return what is to be measured of a block."""
        groups = max(1, block.signature.geometry.groups if block.signature.geometry else 1)
        marks = [(len(ids),) if (ids < 0).all() else quarters(len(ids), groups) for ids in (block.reads, block.makes)]
        return cls(block.signature, len(block.reads), len(block.makes), *marks)


def quarters(width: int, groups: int = 1) -> tuple[int, ...]:
    """Return the quarters of a width, as multiples of 8, or of 16 where it is 64 or more, and of ``groups``."""
    step = math.lcm(16 if width >= 64 else 8 if width >= 16 else 1, groups)
    marks = {min(width, max(step, round(width * q / 4 / step) * step)) for q in (1, 2, 3)}
    return (*sorted(m for m in marks if m < width and m % groups == 0), width)


class Probe:
    """What to measure of a network as it is deployed."""

    networks = 12
    """Patterns at which the whole network is measured, besides the dense one."""

    def __init__(self, network: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        """``args`` and ``kwargs`` are example inputs. Raises `UnsupportedError` where torch.export fails."""
        self.network, (self.args, self.kwargs) = network, on_cpu((args, kwargs or {}))
        self.coupled: CoupledChannels = coupled_channels(network, self.args, self.kwargs)
        self.parts: NetworkBlocks = network_blocks(self.coupled)
        distinct = [BlockAt.of(block) for block in self.parts.blocks]
        self.blocks = list(dict.fromkeys(distinct))
        """The distinct blocks."""
        index = {block: number for number, block in enumerate(self.blocks)}
        self.block_of = np.array([index[block] for block in distinct], np.int64)
        """The distinct block of each of ``parts.blocks``."""
        self.patterns = Patterns(self.coupled.count, [ids for b in self.parts.blocks for ids in (b.reads, b.makes)])

    @cached_property
    def pruned(self) -> list[Mask]:
        """The groups that are pruned in each whole network, the dense one first."""
        return [np.zeros(self.coupled.count, bool), *self.patterns.spread(self.networks)]

    @cached_property
    def names(self) -> list[str]:
        """The names of all models."""
        blocks = [block_name(b, i, o, c) for b, i, o, c in self._block_models()]
        return [*blocks, *(network_name(number) for number in range(len(self.pruned)))]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what is measured: costs of one network are no other's."""
        kept = [np.packbits(mask).tobytes().hex() for mask in self.pruned]
        blocks = [[repr(b), number] for b, number in zip(self.blocks, np.bincount(self.block_of).tolist(), strict=True)]
        return hashlib.sha256(json.dumps([VERSION, blocks, kept]).encode()).hexdigest()[:16]

    def models(self, precision: str = "fp32") -> Iterator[tuple[str, bytes]]:
        """Yield the name and the ONNX of every model, blocks first."""
        for number, reads, makes, copies in self._block_models():
            model = block_model(self.blocks[number].signature, reads, makes, copies)
            yield block_name(number, reads, makes, copies), in_precision(model, precision)
        for number, mask in enumerate(self.pruned):
            yield network_name(number), in_precision(self.network_model(mask), precision)

    def network_model(self, pruned: Mask) -> onnx.ModelProto:
        """Return the ONNX of the whole network without some groups; its weights are noise."""
        return network_model(self.network, self.args, self.kwargs, self.coupled, pruned)

    def _block_models(self) -> Iterator[tuple[int, int, int, int]]:
        for number, block in enumerate(self.blocks):
            for reads, makes, copies in itertools.product(block.read_marks, block.make_marks, COPIES):
                yield number, reads, makes, copies


def in_precision(model: onnx.ModelProto, precision: str) -> bytes:
    """Return a model's bytes, in half precision where that is asked for."""
    if precision == "fp16":
        model, _ = to_fp16(model, {})
        half_weights(model)
    return bytes(model.SerializeToString())


def block_name(number: int, reads: int, makes: int, copies: int) -> str:
    """Return the name of a block's model."""
    return f"block-{number}-i{reads}-o{makes}-x{copies}"


def network_name(number: int) -> str:
    """Return the name of a whole network's model."""
    return f"network-{number}"
