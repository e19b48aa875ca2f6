"""Latency of programs and single operators on ONNX Runtime, compared in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

Feeds = dict[str, NDArray[Any]]


def session(model: bytes | str, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feeds(opened: onnxruntime.InferenceSession) -> Feeds:
    """Return noise for the inputs of a session."""
    rng = np.random.default_rng(0)
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
    given: Feeds = {}
    for spec in opened.get_inputs():
        shape = [s if isinstance(s, int) else 1 for s in spec.shape]
        given[spec.name] = (rng.random(shape) * 2).astype(kinds.get(spec.type, np.float32))
    return given


def in_turns(runs: Sequence[Callable[[], object]], rounds: int = 15, warm: int = 2) -> list[float]:
    """Return each call's best time in seconds over rounds in which every call has its turn."""
    best = [float("inf")] * len(runs)
    for turn in range(warm + rounds):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            taken = time.perf_counter() - start
            if turn >= warm:
                best[i] = min(best[i], taken)
    return best


def compare(files: Sequence[str | os.PathLike[str]], inputs: Sequence[NDArray[Any]] = ()) -> list[float]:
    """Return the latencies of several models, in seconds, measured in turns on one thread for some seconds.

    ``inputs`` are examples in the models' order; noise is taken where none are given.
    """
    opened = [session(os.fspath(f)) for f in files]
    given = [dict(zip((i.name for i in s.get_inputs()), inputs, strict=True)) if inputs else feeds(s) for s in opened]
    runs = [lambda s=s, g=g: s.run(None, g) for s, g in zip(opened, given, strict=True)]
    once = sum(in_turns(runs, rounds=3))
    return in_turns(runs, rounds=int(min(max(2.0 / once, 15), 2000)))


class Convolutions:
    """Latencies of single convolutions, each measured once: ``table(in, out, ...)`` in seconds."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], float] = {}

    def __call__(self, *shape: Any) -> float:
        """Return the time: channels in and out, kernel, strides, padding, size of the picture, groups."""
        if shape not in self.known:
            self.known[shape] = self._measure(*shape)
        return self.known[shape]

    def _measure(
        self,
        channels: int,
        filters: int,
        kernel: tuple[int, ...],
        strides: tuple[int, ...],
        pads: tuple[int, ...],
        size: tuple[int, ...],
        groups: int = 1,
    ) -> float:
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((filters, channels // groups, *kernel)).astype(np.float32)
        how: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads * 2, "group": groups}
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["y"], **how),
            helper.make_node("Relu", ["y"], ["z"]),
            helper.make_node("GlobalAveragePool", ["z"], ["p"]),  # so that the layout is not converted back
        ]
        graph = helper.make_graph(
            nodes,
            "convolution",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *size])],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        opened = session(model.SerializeToString())
        given = feeds(opened)
        return in_turns([lambda: opened.run(None, given)], rounds=8)[0]
