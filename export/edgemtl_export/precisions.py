"""The precisions of a bundle: each made from the fp32 model, judged, and shipped or refused with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import onnx

from edgemtl_runtime.bundle import MODELS, Head
from edgemtl_runtime.engine.agreement import Arrays
from edgemtl_runtime.engine.ort import OrtEngine

from .accuracy_gate import Gate, Judgement, Score, judge, told
from .fp16 import peaks, rounded, to_fp16
from .int8 import Quantiser, by_harm, convolutions, fewest

Tell = Callable[[str, int, int], None]
"""Told what is being done; of work in steps also how many are done, and of how many (0 and 0 otherwise)."""
Target = Literal["onnxruntime", "tensorrt"]
SEARCHED = 2
"""Frames on which convolutions are quantised one by one."""
AT_MOST = 0.5
"""Of the convolutions, what may stay unquantised in a model that is called int8."""


@dataclass(frozen=True)
class Precisions:
    """Which precisions to make beside fp32, for what, on which frames, and what they are judged by.

    ``calibration`` are frames of training, uint8 (1, H, W, C) by input name: they set scales and ranges. For
    "tensorrt" what int8 leaves alone computes in fp16, for "onnxruntime" in fp32.
    """

    names: tuple[Literal["fp16", "int8"], ...]
    gate: Gate
    calibration: Sequence[Arrays]
    target: Target = "onnxruntime"
    progress: Tell = field(default=lambda *_: None)

    def __post_init__(self) -> None:
        if not self.calibration:
            raise ValueError("give at least one frame of training: ranges cannot be known without")


@dataclass
class Made:
    """What a manifest tells of the precisions: of each that is shipped its figures, of each refused why."""

    precisions: dict[str, dict[str, Any]]
    refused: dict[str, str]


def make(folder: Path, wanted: Precisions | None, heads: Sequence[Head], frames: Sequence[Arrays]) -> Made:
    """Write the models of other precisions beside the one in ``folder``, and return what to tell of all of them."""
    file = folder / MODELS["fp32"]
    single: dict[str, Any] = {"bytes": file.stat().st_size}
    made = Made({"fp32": single}, {})
    if wanted is None:
        return made
    exact = OrtEngine(file)
    wanted.progress("judging fp32", 0, 0)
    reference = wanted.gate.scorer(exact.run)
    single["scores"] = told(reference)
    given = onnx.load(str(file))
    for name in wanted.names:
        wanted.progress(f"making and judging {name}", 0, 0)
        variant = _Variant(given, folder / MODELS[name], wanted, exact, reference, heads, frames)
        judgement, more = variant.fp16() if name == "fp16" else variant.int8()
        if judgement.faults:
            made.refused[name] = "; ".join(judgement.faults)
            variant.file.unlink(missing_ok=True)
        else:
            made.precisions[name] = {"bytes": variant.file.stat().st_size, **judgement.told(), **more}
    return made


@dataclass(frozen=True)
class _Variant:
    """One precision in the making, at ``file``."""

    given: onnx.ModelProto
    file: Path
    wanted: Precisions
    exact: OrtEngine
    reference: dict[str, Score]
    heads: Sequence[Head]
    frames: Sequence[Arrays]

    def fp16(self) -> tuple[Judgement, dict[str, Any]]:
        """Write the fp16 model and judge it; tell what stays in fp32."""
        largest = peaks(self.given, self.wanted.calibration)
        judgement = self._judged(rounded(self.given, largest))
        model, stays = to_fp16(self.given, largest)
        onnx.save(model, str(self.file))
        return judgement, {"fp32_layers": stays}

    def int8(self) -> tuple[Judgement, dict[str, Any]]:
        """Write the int8 model with as few convolutions left alone as it takes, and judge it; tell which are."""
        quantiser = Quantiser(self.given, self.wanted.calibration, outputs=self.wanted.target == "onnxruntime")
        every, found = convolutions(self.given), {}
        weighed = partial(self.wanted.progress, "int8: weighing convolutions")
        order = by_harm(quantiser, self.wanted.calibration[:SEARCHED], weighed)

        def passes(count: int) -> bool:
            self.wanted.progress(f"int8: judging it with {count} of {len(every)} convolutions left alone", 0, 0)
            model = quantiser.quantised([name for name in every if name not in order[:count]])
            if self.wanted.target == "tensorrt":
                largest = peaks(model, self.wanted.calibration[:SEARCHED])
                found[count] = to_fp16(model, largest)[0], self._judged(rounded(model, largest))
            else:
                found[count] = model, self._judged(model)
            return not found[count][1].faults

        most = int(AT_MOST * len(every))
        count = fewest(most, passes)
        model, judgement = found[most if count is None else count]
        onnx.save(model, str(self.file))
        if count is None:
            judgement.faults[:] = [
                f"with {most} of {len(every)} convolutions left alone, {f}" for f in judgement.faults
            ]
            return judgement, {}
        return judgement, {"kept": order[:count], "convolutions": len(every)}

    def _judged(self, model: onnx.ModelProto) -> Judgement:
        onnx.save(model, str(self.file))
        run = OrtEngine(self.file).run
        return judge(self.wanted.gate, self.reference, run, self.exact.run, self.heads, self.frames)
