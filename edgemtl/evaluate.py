"""Evaluation of runs and bundles alike: predictions and labels are compared at the resolution of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.result import HeadResult

from .corruptions import CLEAN, Corruption, Suite
from .data.loader import check_inputs, fitted_images
from .data.sample import Dataset, Sample
from .errors import EdgemtlError
from .metric_report import MetricReport, Reports
from .run import Run
from .run_files import is_run
from .tasks import TASKS, Metric, Task


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
        fit = Letterbox.plan(sample.size, (spec.height, spec.width))
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
    if is_run(folder):
        return of_run(Run.open(folder), threshold)
    if not folder.is_dir():
        raise EdgemtlError(f"{folder}: no such folder; give a run or a bundle")
    bundle = Bundle.open(folder)
    return Predictor(open_ort_engine(bundle, 0, precision), bundle.manifest.inputs, bundle.manifest.heads, threshold)


def evaluate(
    predictor: Predictor,
    samples: Dataset,
    progress: Callable[[int], None] | None = None,
    corruptions: Suite | None = None,
) -> Reports:
    """Evaluate a predictor on every sample: on all, by day and by night where that is known, and with corruptions."""
    tasks = _labelled_tasks(predictor, samples)
    suite = corruptions or {}
    metrics: dict[str, dict[str, Metric]] = {}
    for index in range(len(samples)):
        sample = samples[index]
        light = [] if sample.is_day is None else ["day" if sample.is_day else "night"]
        _update(metrics, ["all", *light], tasks, predictor(sample), sample)
        for name, variants in suite.items():
            _update(metrics, [name], tasks, predictor(sample, variants[index % len(variants)]), sample)
        if progress:
            progress(index + 1)
    order = [subset for subset in ("all", "day", "night", *suite) if subset in metrics]
    return {s: MetricReport({task: metric.compute() for task, metric in metrics[s].items()}) for s in order}


def _labelled_tasks(predictor: Predictor, samples: Dataset) -> dict[str, Task]:
    """Return the heads' tasks that the data have labels of; raises `EdgemtlError` where classes or tasks differ."""
    labelled = samples.classes
    check_inputs(predictor.inputs, samples)
    for head in predictor.heads:
        if head.name in labelled and labelled[head.name] != head.classes:
            of_data, of_head = ", ".join(labelled[head.name]), ", ".join(head.classes)
            raise EdgemtlError(f"head '{head.name}' knows the classes {of_head}; the data have {of_data}")
    tasks = {
        head.name: TASKS.require(head.task, f"head {head.name}: task")(head.classes)
        for head in predictor.heads
        if head.name in labelled
    }
    if not tasks:
        raise EdgemtlError(f"the data have labels for {', '.join(labelled) or 'nothing'}, the network has other heads")
    return tasks


def _update(
    metrics: dict[str, dict[str, Metric]],
    subsets: Sequence[str],
    tasks: Mapping[str, Task],
    results: Mapping[str, HeadResult],
    sample: Sample,
) -> None:
    for subset in subsets:
        by_task = metrics.setdefault(subset, {name: task.metric() for name, task in tasks.items()})
        for name, metric in by_task.items():
            metric.update(results[name], sample)
