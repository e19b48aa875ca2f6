"""Evaluation of runs and bundles alike: predictions and labels are compared at the resolution of the labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgemtl_export.deployed import Deployed
from edgemtl_runtime.bundle import Bundle, Head, Input
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.result import HeadResult
from edgemtl_runtime.text import shortened

from . import distributed
from .console import print_message
from .corruptions import CLEAN, Corruption, Suite
from .data.datasets import THREADS
from .data.loader import check_inputs, fitted_images
from .data.read_ahead import read_ahead
from .data.sample import Dataset, Sample
from .errors import EdgemtlError, brief
from .metric_report import MetricReport, Reports
from .run import Interface, Run
from .run_files import is_run
from .tasks import TASKS, Metric, Task

UNLABELLED = "output"
"""The task of an output that nobody described: no data have labels of it."""
MAX_BATCH, BATCH_PIXELS = 16, 2**21
"""The most images, and their pixels, that a network in torch is given at once."""
Collected = dict[str, dict[str, Metric]]
"""Metrics by subset and task, before they are computed."""


class Engine(Protocol):
    """What runs a network: a runtime's engine, or a deployed network in torch."""

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for inputs, both by name."""


class Predictor:
    """A network with its inputs and heads: samples in, typed results in each sample's own pixels out.

    ``batch_size`` is how many images its engine takes at once.
    """

    def __init__(
        self,
        engine: Engine,
        inputs: tuple[Input, ...],
        heads: tuple[Head, ...],
        threshold: float | None,
        batch_size: int = 1,
    ) -> None:
        self.engine, self.batch_size = engine, batch_size
        self.inputs = {spec.name: spec for spec in inputs}
        # Average precision looks at boxes of every score.
        self.heads = heads if threshold is None else tuple(_with_threshold(head, threshold) for head in heads)

    def __call__(self, sample: Sample, corruption: Corruption = CLEAN) -> dict[str, HeadResult]:
        """Return every head's result, with the cameras in this state."""
        return self.predict([sample], [corruption])[0]

    def predict(self, samples: Sequence[Sample], corruptions: Sequence[Corruption]) -> list[dict[str, HeadResult]]:
        """Return the results of up to ``batch_size`` samples, each with the cameras in a state of its own."""
        images = [fitted_images(s, self.inputs, c) for s, c in zip(samples, corruptions, strict=True)]
        outputs = self.engine.run({name: np.concatenate([image[name] for image in images]) for name in self.inputs})
        spec = next(iter(self.inputs.values()))
        results = []
        for index, sample in enumerate(samples):
            fit = Letterbox.plan(sample.size, (spec.height, spec.width))
            results.append(decode({name: output[index] for name, output in outputs.items()}, self.heads, fit))
        return results


class SamplePredictor(Protocol):
    """What can be evaluated: a `Predictor`, or several that answer as one."""

    inputs: dict[str, Input]
    heads: tuple[Head, ...]
    batch_size: int

    def predict(self, samples: Sequence[Sample], corruptions: Sequence[Corruption]) -> list[dict[str, HeadResult]]:
        """Return the results of up to ``batch_size`` samples."""


def _with_threshold(head: Head, threshold: float) -> Head:
    import msgspec

    return msgspec.structs.replace(head, threshold=threshold)


def of_network(
    network: nn.Module, interface: Interface, threshold: float | None = 0.0, device: torch.device | None = None
) -> Predictor:
    """Return the predictor of a network in torch, on its device or on a copy of it on another one."""
    if device is not None and device.type != "cpu":
        network = copy.deepcopy(network).to(device)
    first = interface.inputs[0]
    batch_size = max(1, min(MAX_BATCH, BATCH_PIXELS // (first.height * first.width)))
    deployed = Deployed(network, interface.inputs, interface.heads)
    return Predictor(deployed, interface.inputs, interface.heads, threshold, batch_size)


def of_run(run: Run, threshold: float | None = 0.0) -> Predictor:
    """Return the predictor of a run, in torch, on this process's device."""
    return of_network(run.network, run.interface, threshold, distributed.device())


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
    predictor: SamplePredictor,
    samples: Dataset,
    progress: Callable[[int], None] | None = None,
    corruptions: Suite | None = None,
    shared: bool = False,
) -> Reports:
    """Evaluate a predictor on every sample: on all, by day and by night where that is known, and with corruptions.

    A ``shared`` evaluation is called by all processes of a training: each takes a part of the samples, and the main
    process returns what one process would; the others return no report. An error in one of them is raised by all.
    """
    tasks, suite = _labelled_tasks(predictor, samples), corruptions or {}
    if not shared or distributed.world_size() == 1:
        return reports_of([collect(predictor, samples, tasks, suite, progress)], suite)
    part: Collected = {}
    error: Exception | None = None
    try:
        part = collect(predictor, samples, tasks, suite, progress, distributed.rank(), distributed.world_size())
    except Exception as raised:  # the others wait for this process: they hear of it first
        error = raised
    parts = distributed.gather((part, None if error is None else f"{type(error).__name__}: {error}"))
    if error:
        raise error
    for rank, (_, reason) in enumerate(parts):
        if reason:
            raise EdgemtlError(f"process {rank} failed in the evaluation: {reason}")
    return reports_of([collected for collected, _ in parts], suite) if distributed.is_main() else {}


def collect(
    predictor: SamplePredictor,
    samples: Dataset,
    tasks: Mapping[str, Task],
    suite: Suite,
    progress: Callable[[int], None] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Collected:
    """Return the metrics, by subset and task, of one process's part of the samples.

    Parts are whole batches, and the same batches for any number of processes: so are the results.
    """
    batches = -(-len(samples) // predictor.batch_size)
    first, end = (min(batches * r // world_size * predictor.batch_size, len(samples)) for r in (rank, rank + 1))
    metrics: Collected = {}
    with closing(read_ahead(samples.__getitem__, range(first, end), THREADS)) as read:
        for start in range(first, end, predictor.batch_size):
            batch = list(islice(read, min(predictor.batch_size, end - start)))
            _update(metrics, tasks, "", batch, predictor.predict(batch, [CLEAN] * len(batch)))
            for name, variants in suite.items():
                states = [variants[index % len(variants)] for index in range(start, start + len(batch))]
                _update(metrics, tasks, name, batch, predictor.predict(batch, states))
            if progress:
                progress(min((start - first + len(batch)) * world_size, len(samples)))
    return metrics


def reports_of(parts: Sequence[Collected], suite: Suite) -> Reports:
    """Return the reports of the parts' samples together, in the order of the parts."""
    whole, *others = parts
    for part in others:
        for subset, by_task in part.items():
            for task, metric in by_task.items():
                if subset in whole:
                    whole[subset][task].merge(metric)
            whole.setdefault(subset, by_task)
    order = [subset for subset in ("all", "day", "night", *suite) if subset in whole]
    return {subset: MetricReport(_computed(whole[subset])) for subset in order}


def _computed(metrics: Mapping[str, Metric]) -> dict[str, dict[str, float]]:
    """Return each task's metrics; one that cannot be computed is skipped with a warning."""
    by_task: dict[str, dict[str, float]] = {}
    for task, metric in metrics.items():
        try:
            by_task[task] = {name: float(value) for name, value in metric.compute().items()}
        except Exception as error:
            print_message(f"warning: the metrics of {task} could not be computed ({brief(error)})")
    if not by_task:
        raise EdgemtlError("no metric could be computed")
    return by_task


def _labelled_tasks(predictor: SamplePredictor, samples: Dataset) -> dict[str, Task]:
    """Return the heads' tasks that the data have labels of; raises `EdgemtlError` where classes or tasks differ."""
    labelled = samples.classes
    check_inputs(predictor.inputs, samples)
    heads = [head for head in predictor.heads if head.task != UNLABELLED]
    if not heads:
        raise EdgemtlError("the network's outputs have no decoder: there is nothing to evaluate them by")
    for head in heads:
        if head.name in labelled and labelled[head.name] != head.classes:
            of_data, of_head = ", ".join(labelled[head.name]), shortened(", ".join(head.classes), 200)
            lacking = next((name for name in labelled[head.name] if name not in head.classes), "")
            lacks = f"; it lacks '{lacking}'" if lacking else ""
            raise EdgemtlError(f"head '{head.name}' knows the classes {of_head}; the data have {of_data}{lacks}")
    tasks = {
        head.name: TASKS.require(head.task, f"head {head.name}: task")(head.classes)
        for head in heads
        if head.name in labelled
    }
    if not tasks:
        raise EdgemtlError(f"the data have labels for {', '.join(labelled) or 'nothing'}, the network has other heads")
    return tasks


def _update(
    metrics: Collected,
    tasks: Mapping[str, Task],
    corruption: str,
    samples: Sequence[Sample],
    results: Sequence[Mapping[str, HeadResult]],
) -> None:
    """Add a batch's results to the metrics of a corruption, or to those of all and of day or night."""
    for sample, result in zip(samples, results, strict=True):
        light = [] if sample.is_day is None else ["day" if sample.is_day else "night"]
        for subset in [corruption] if corruption else ["all", *light]:
            by_task = metrics.setdefault(subset, {name: task.metric() for name, task in tasks.items()})
            for name, metric in by_task.items():
                metric.update(result[name], sample)
