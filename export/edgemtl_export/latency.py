"""Latency of networks and of single convolutions on ONNX Runtime, by interleaved timing.

onnx and onnxruntime are imported where something is measured: a training whose costs come from a formula needs neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgemtl_runtime.engine import Arrays

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from numpy.typing import NDArray

Extents = tuple[int, ...]
INPUT_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}


def session(model: bytes | str, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a model on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_inputs(opened: onnxruntime.InferenceSession) -> Arrays:
    """Return noise for the inputs of a session, by name; a size that is not fixed becomes 1."""
    rng = np.random.default_rng(0)
    inputs: Arrays = {}
    for spec in opened.get_inputs():
        shape = [s if isinstance(s, int) else 1 for s in spec.shape]
        inputs[spec.name] = (rng.random(shape) * 2).astype(INPUT_TYPES.get(spec.type, np.float32))
    return inputs


def interleaved(
    runs: Sequence[Callable[[], object]],
    repeats: int = 15,
    warmup: int = 2,
    of: Callable[[Sequence[float]], float] = min,
    clock: Callable[[], float] = time.thread_time,
) -> list[float]:
    """Return the best time of every call in seconds, or another statistic ``of`` the repeats, each once in a turn.

    Interleaving lets a slow spell of the machine fall on all of them alike. The clock is that of calls that one thread
    computes (`clock_for`).
    """
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(warmup + repeats):
        for run, seconds in zip(runs, times, strict=True):
            start = clock()
            run()
            elapsed = clock() - start
            if repeat >= warmup:
                seconds.append(elapsed)
    return [of(seconds) for seconds in times]


def compare(files: Sequence[str | os.PathLike[str]], inputs: Sequence[NDArray[np.generic]] = ()) -> list[float]:
    """Return the latencies of several models in seconds, by interleaved timing on one thread for some seconds.

    ``inputs`` are example inputs in the models' order; noise is taken where none are given.
    """
    sessions = [session(os.fspath(f)) for f in files]
    feeds = [
        dict(zip((i.name for i in s.get_inputs()), inputs, strict=True)) if inputs else random_inputs(s)
        for s in sessions
    ]
    runs = [lambda s=s, f=f: s.run(None, f) for s, f in zip(sessions, feeds, strict=True)]
    once = sum(interleaved(runs, repeats=3))
    return interleaved(runs, repeats=int(min(max(2.0 / once, 15), 2000)))


def one_image(file: str | os.PathLike[str], inputs: Arrays) -> float:
    """Return the median latency of a model on one thread in seconds, measured in about half of one."""
    opened = session(os.fspath(file))
    run = partial(opened.run, None, inputs)
    (once,) = interleaved([run], repeats=1)
    (seconds,) = interleaved([run], repeats=int(min(max(0.5 / once, 5), 100)), of=median)
    return seconds


class Convolutions:
    """A latency lookup table of single convolutions, each measured when it is first asked for, in seconds."""

    def __init__(self) -> None:
        self.known: dict[tuple[int | Extents, ...], float] = {}

    def __call__(
        self,
        channels: int,
        filters: int,
        kernel: Extents,
        strides: Extents,
        pads: Extents,
        size: Extents,
        groups: int = 1,
    ) -> float:
        """Return the latency for input and output channels, kernel, strides, padding, (height, width) and groups."""
        key = (channels, filters, kernel, strides, pads, size, groups)
        if key not in self.known:
            self.known[key] = self._measure(*key)
        return self.known[key]

    def _measure(
        self,
        channels: int,
        filters: int,
        kernel: Extents,
        strides: Extents,
        pads: Extents,
        size: Extents,
        groups: int,
    ) -> float:
        model = convolution(channels, filters, kernel, strides, pads, size, groups)
        opened = session(model.SerializeToString())
        inputs = random_inputs(opened)
        return interleaved([lambda: opened.run(None, inputs)], repeats=8)[0]


def convolution(
    channels: int, filters: int, kernel: Extents, strides: Extents, pads: Extents, size: Extents, groups: int
) -> onnx.ModelProto:
    """Return a model of one convolution and its activation."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((filters, channels // groups, *kernel)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=kernel, strides=strides, pads=pads * 2, group=groups),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),  # so that the layout is not converted back
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *size])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
