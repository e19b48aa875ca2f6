"""How good a run or a bundle is: the same figures by the same way, at the pixels of the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_engine
from edgemtl_runtime.letterbox import Fit
from edgemtl_runtime.result import HeadResult

from .corruptions import CLEAN, Corruption, Suite
from .data.loader import check_inputs, fitted_images
from .data.sample import Dataset, Sample
from .errors import EdgemtlError
from .run import CONFIG, Run
from .tasks import TASKS, Metric

Figures = dict[str, dict[str, float]]
"""Figures by part of the data: "all", and "day" and "night" where both are known; and by corruption, if asked for."""


class Engine(Protocol):
    """What runs a network: a runtime's engine, or a deployed network in torch."""

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...


class Predictor:
    """A network with its inputs and heads: a sample in, typed results in the sample's own pixels out."""

    def __init__(
        self, engine: Engine, inputs: tuple[Input, ...], heads: tuple[Head, ...], threshold: float | None
    ) -> None:
        self.engine = engine
        self.inputs = {spec.name: spec for spec in inputs}
        # Average precision looks at boxes of every score.
        self.heads = heads if threshold is None else tuple(_with_threshold(head, threshold) for head in heads)

    def __call__(self, sample: Sample, corruption: Corruption = CLEAN) -> dict[str, HeadResult]:
        """Return every head's result, with the cameras in this state."""
        spec = next(iter(self.inputs.values()))
        fit = Fit.plan(sample.size, (spec.height, spec.width))
        outputs = self.engine.run(fitted_images(sample, self.inputs, corruption))
        return decode({name: output[0] for name, output in outputs.items()}, self.heads, fit)


def _with_threshold(head: Head, threshold: float) -> Head:
    import msgspec

    return msgspec.structs.replace(head, threshold=threshold)


def of_run(run: Run, threshold: float | None = 0.0) -> Predictor:
    """Return the predictor of a run, in torch."""
    return Predictor(run.deployed(), run.interface.inputs, run.interface.heads, threshold)


def open_predictor(path: str | Path, threshold: float | None = 0.0, precision: str = "fp32") -> Predictor:
    """Open a run or a bundle, whichever the folder holds; of a bundle the network in a ``precision``."""
    folder = Path(path)
    if (folder / CONFIG).is_file():
        return of_run(Run.open(folder), threshold)
    if not folder.is_dir():
        raise EdgemtlError(f"{folder}: no such folder; give a run or a bundle")
    bundle = Bundle.open(folder)
    return Predictor(open_engine(bundle, 0, precision), bundle.manifest.inputs, bundle.manifest.heads, threshold)


def evaluate(
    predictor: Predictor,
    samples: Dataset,
    progress: Callable[[int], None] | None = None,
    corruptions: Suite | None = None,
) -> Figures:
    """Evaluate a predictor on every sample: all, by day and by night where that is known, and with ``corruptions``."""
    labelled = samples.classes
    check_inputs(predictor.inputs, samples)
    for head in predictor.heads:
        if head.name in labelled and labelled[head.name] != head.classes:
            theirs, ours = ", ".join(labelled[head.name]), ", ".join(head.classes)
            raise EdgemtlError(f"head '{head.name}' knows the classes {ours}; the data have {theirs}")
    tasks = {head.name: TASKS[head.task](head.classes) for head in predictor.heads if head.name in labelled}
    if not tasks:
        raise EdgemtlError(f"the data have labels for {', '.join(labelled) or 'nothing'}, the network has other heads")
    metrics: dict[str, dict[str, Metric]] = {}
    for index in range(len(samples)):
        sample = samples[index]
        light = [] if sample.is_day is None else ["day" if sample.is_day else "night"]
        judged = [(["all", *light], predictor(sample))]
        judged += [([name], predictor(sample, each[index % len(each)])) for name, each in (corruptions or {}).items()]
        for parts, results in judged:
            for part in parts:
                for task, metric in metrics.setdefault(part, {n: t.metric() for n, t in tasks.items()}).items():
                    metric.update(results[task], sample)
        if progress:
            progress(index + 1)
    order = [part for part in ("all", "day", "night", *(corruptions or {})) if part in metrics]
    return {part: {k: v for metric in metrics[part].values() for k, v in metric.compute().items()} for part in order}


def table(figures: Figures) -> list[list[str]]:
    """Return the figures as rows of words, a header first."""
    names = list(figures["all"])
    rows = [["", *figures]]
    return rows + [
        [name, *(f"{figures[part][name]:.3f}" if name in figures[part] else "-" for part in figures)] for name in names
    ]
