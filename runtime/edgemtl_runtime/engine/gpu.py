"""Detection of the NVIDIA GPU by the driver itself: TensorRT functions that need one are not called without."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
COMPUTE_CAPABILITY = (75, 76)
"""The driver's attribute numbers of the major and minor version."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name, compute capability like "8.7", and the driver's CUDA version."""

    name: str
    compute_capability: str
    driver: str


def find_gpu() -> Gpu | str:
    """Return the first GPU, or why there is none."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no NVIDIA driver here ({LIBRARY} cannot be loaded)"
    if code := cuda.cuInit(0):
        return f"the NVIDIA driver does not start (cuInit gives {code}); is the GPU visible, and the module loaded?"
    device, version = ctypes.c_int(), ctypes.c_int()
    if code := cuda.cuDeviceGet(ctypes.byref(device), 0):
        return f"the NVIDIA driver shows no GPU (cuDeviceGet gives {code})"
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    numbers = []
    for attribute in COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(str(value.value))
    return Gpu(name.value.decode(), ".".join(numbers), f"{version.value // 1000}.{version.value % 1000 // 10}")
