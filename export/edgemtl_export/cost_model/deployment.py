"""What is deployed, and how long work is reported: without onnx, which a training by a formula does not load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""


class Deployment(NamedTuple):
    """A network as it runs on the device, with the trained one in it, and example inputs."""

    network: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012  # never written to
