"""Precisions of a bundle: each converted from the fp32 model, evaluated, and shipped or rejected with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import onnx

from edgemtl_runtime.bundle import MODELS, Head
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.manifest_schema import PrecisionFigures

from .accuracy_gate import AccuracyGate, Evaluation, Score, score_table, too_few_labels
from .fp16 import emulate_fp16, largest_magnitudes, to_fp16
from .int8 import Quantiser, by_sensitivity, convolutions, fewest
from .latency import one_image

Progress = Callable[[str, int, int], None]
"""Called with the step in progress, the units of it that are done and their total (0 and 0 where it has none)."""
Backend = Literal["onnxruntime", "tensorrt"]
SENSITIVITY_FRAMES = 2
"""Calibration frames on which each convolution's sensitivity is measured."""
MAX_FLOAT_SHARE = 0.5
"""Largest share of the convolutions that may stay in floating point in a model that is called int8."""


@dataclass(frozen=True)
class Precisions:
    """Which precisions to write besides fp32, for which backend, with which calibration frames and accuracy gate.

    ``calibration`` are training frames, uint8 (1, H, W, C) by input name: they set scales and ranges. For
    "tensorrt" what int8 does not quantise computes in fp16, for "onnxruntime" in fp32. int8 is not written where there
    are too few labels to judge it on, unless with ``keep_undecided``.
    """

    names: tuple[Literal["fp16", "int8"], ...]
    gate: AccuracyGate
    calibration: Sequence[Arrays]
    backend: Backend = "onnxruntime"
    progress: Progress = field(default=lambda *_: None)
    keep_undecided: bool = False

    def __post_init__(self) -> None:
        if not self.calibration:
            raise ValueError("give at least one training frame: ranges cannot be calibrated without")


@dataclass
class WrittenPrecisions:
    """Figures of each precision that is shipped, and why each of the others was rejected."""

    figures: dict[str, PrecisionFigures]
    rejected: dict[str, str]


def write_precisions(
    folder: Path, wanted: Precisions | None, heads: Sequence[Head], frames: Sequence[Arrays]
) -> WrittenPrecisions:
    """Write the models of other precisions next to the fp32 one in ``folder``, and return the figures of all."""
    file = folder / MODELS["fp32"]
    single: PrecisionFigures = {"bytes": file.stat().st_size, **_latency(file, frames[0])}
    written = WrittenPrecisions({"fp32": single}, {})
    if wanted is None:
        return written
    exact = OrtEngine(file)
    wanted.progress("evaluating fp32", 0, 0)
    reference = wanted.gate.scorer(exact.run)
    single["scores"] = score_table(reference)
    model = onnx.load(str(file))
    few = too_few_labels(reference)
    for name in wanted.names:
        undecided = few if name == "int8" else ""
        if undecided and not wanted.keep_undecided:
            written.rejected[name] = f"undecided: {undecided}"
            continue
        wanted.progress(f"writing and evaluating {name}", 0, 0)
        conversion = _Conversion(model, folder / MODELS[name], wanted, exact, reference, heads, frames)
        evaluation, layers = conversion.fp16() if name == "fp16" else conversion.int8()
        if evaluation.failures:
            written.rejected[name] = "; ".join(evaluation.failures)
            conversion.file.unlink(missing_ok=True)
        else:
            size = conversion.file.stat().st_size
            written.figures[name] = {"bytes": size, **evaluation.figures(), **layers}
            if wanted.backend == "onnxruntime" and name == "int8":
                written.figures[name] |= _latency(conversion.file, frames[0])
            if undecided:
                written.figures[name]["undecided"] = undecided
    return written


def _latency(file: Path, frame: Arrays) -> PrecisionFigures:
    """Return how long a model takes on a thread of this machine; fp16, which a processor emulates, is not asked."""
    where = f"ONNX Runtime, one thread, {cpu_name()}"
    return {"latency_ms": round(1e3 * one_image(file, frame), 3), "measured_on": where}


@dataclass(frozen=True)
class _Conversion:
    """Conversion of the fp32 model to one precision, written to ``file``."""

    model: onnx.ModelProto
    file: Path
    wanted: Precisions
    exact: OrtEngine
    reference: dict[str, Score]
    heads: Sequence[Head]
    frames: Sequence[Arrays]

    def fp16(self) -> tuple[Evaluation, PrecisionFigures]:
        """Write and evaluate the fp16 model; return also the layers that stay in fp32."""
        magnitudes = largest_magnitudes(self.model, self.wanted.calibration)
        evaluation = self._evaluate(emulate_fp16(self.model, magnitudes))
        model, fp32_layers = to_fp16(self.model, magnitudes)
        onnx.save(model, str(self.file))
        return evaluation, {"fp32_layers": fp32_layers}

    def int8(self) -> tuple[Evaluation, PrecisionFigures]:
        """Write and evaluate an int8 model that passes with the fewest convolutions in floating point.

        Return also which these are.
        """
        calibration, for_ort = self.wanted.calibration, self.wanted.backend == "onnxruntime"
        quantiser = Quantiser(self.model, calibration, outputs=for_ort)
        names = convolutions(self.model)
        candidates: dict[int, tuple[onnx.ModelProto, Evaluation]] = {}
        progress = partial(self.wanted.progress, "int8: sensitivity of convolutions")
        order = by_sensitivity(quantiser, calibration[:SENSITIVITY_FRAMES], progress)

        def passes(count: int) -> bool:
            in_float = f"{count} of {len(names)} convolutions in floating point"
            self.wanted.progress(f"int8: evaluating with {in_float}", 0, 0)
            model = quantiser.quantise([name for name in names if name not in order[:count]])
            if for_ort:
                candidates[count] = model, self._evaluate(model)
            else:
                magnitudes = largest_magnitudes(model, calibration[:SENSITIVITY_FRAMES])
                candidates[count] = to_fp16(model, magnitudes)[0], self._evaluate(emulate_fp16(model, magnitudes))
            return not candidates[count][1].failures

        most = int(MAX_FLOAT_SHARE * len(names))
        count = fewest(most, passes)
        model, evaluation = candidates[most if count is None else count]
        onnx.save(model, str(self.file))
        if count is None:
            in_float = f"with {most} of {len(names)} convolutions in floating point"
            return evaluation._replace(failures=[f"{in_float}, {failure}" for failure in evaluation.failures]), {}
        return evaluation, {"kept": order[:count], "convolutions": len(names)}

    def _evaluate(self, model: onnx.ModelProto) -> Evaluation:
        onnx.save(model, str(self.file))
        network = OrtEngine(self.file).run
        return self.wanted.gate.evaluate(network, self.reference, self.exact.run, self.heads, self.frames)
