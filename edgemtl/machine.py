"""The machine that computes, in words."""

from __future__ import annotations

import torch

from edgemtl_runtime.engine.cpu import cpu_name

from . import distributed


def device_name() -> str:
    """Return the name of the device of this process: its GPU, or the CPU with the number of threads."""
    device = distributed.device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'' if threads == 1 else 's'}"
