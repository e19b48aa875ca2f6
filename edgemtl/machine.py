"""The machine that computes, in words."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from . import distributed


def device_name() -> str:
    """Return the name of the device of this process: its GPU, or the CPU with the number of threads."""
    device = distributed.device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'' if threads == 1 else 's'}"


def cpu_name() -> str:
    """Return the name of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()
