"""A run to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.accuracy_gate import AccuracyGate, Inference, Score, Scorer
from edgemtl_export.parity import ParityError
from edgemtl_export.precisions import Backend, Precisions, Progress
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, Bundle, Head
from edgemtl_runtime.engine.autotune import choose
from edgemtl_runtime.engine.build import Built, build_engine
from edgemtl_runtime.engine.config import absent, ways
from edgemtl_runtime.engine.selection import Choice
from edgemtl_runtime.engine.trt_build import BACKENDS

from .data.datasets import open_datasets
from .data.loader import fitted_images
from .data.sample import Dataset
from .errors import EdgemtlError, nearest_hint
from .evaluate import Predictor, evaluate
from .run import Run
from .tasks import TASKS

LICENCE = (
    "AGPL-3.0-only: trained with ultralytics' modules and losses, whose authors claim AGPL-3.0 for such weights "
    "and for engines made from them; the terms of your training data come on top"
)
FRAMES = 16
"""Pictures of the held-out split on which a bundle is compared with its run."""


CALIBRATION = 64
"""Pictures of the training split that tell the ranges of fp16 and int8."""


@dataclass(frozen=True)
class Options:
    """How a bundle is made: `edgemtl_export` tells what each does."""

    heads: tuple[str, ...] = ()
    """The heads to ship; all where none is named."""
    precisions: tuple[Literal["fp16", "int8"], ...] = ()
    """What to make beside fp32; each must pass the gate."""
    target: Backend = "onnxruntime"
    max_drop: float = 0.01
    """The largest share of a head's figure that a precision may lose."""
    align: int = 0
    """Dead channels are kept up to a multiple of this; 0 takes what the target wants."""
    dynamic_batch: bool = False
    """Leave the number of pictures open, for servers that gather requests; the runtime feeds one."""

    @property
    def multiple(self) -> int:
        """The multiple of channels: TensorRT computes int8 on 32 at a time, fp16 on 8, ONNX Runtime fp32 on 8."""
        return self.align or (32 if self.target == "tensorrt" and "int8" in self.precisions else 8)


def export(
    run: Run,
    out: str | Path,
    samples: Dataset | None = None,
    options: Options = Options(),
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> tuple[Bundle, Shrunk]:
    """Shrink a run's network, write it as a bundle and compare both on held-out pictures.

    ``samples`` replaces the held-out split of the data that the run was trained on. With ``overwrite`` a bundle of ours
    at ``out`` is replaced. Raises `EdgemtlError`, and then nothing is written.
    """
    with AtomicFolder(out, BUNDLE, overwrite) as output:
        return _export_into(output, run, samples, options, progress)


def _export_into(
    output: AtomicFolder, run: Run, samples: Dataset | None, options: Options, progress: Progress
) -> tuple[Bundle, Shrunk]:
    given = None if samples is not None else open_datasets(run.config)
    samples = given["val"] if given is not None else samples
    assert samples is not None
    heads = chosen_heads(run, options.heads)
    precisions = None
    if options.precisions:
        training = given["train"] if given is not None else open_datasets(run.config, ("train",))["train"]
        calibration = some(run, training, CALIBRATION)
        gate = AccuracyGate(scorer(run, heads, samples), options.max_drop)
        precisions = Precisions(options.precisions, gate, calibration, options.target, progress)
    try:
        return export_bundle(
            run.network,
            run.interface.inputs,
            heads,
            some(run, samples, FRAMES),
            output,
            str(run.interface.network["name"]),
            LICENCE,
            "edgemtl 0.1.0",
            options.multiple,
            precisions,
            options.dynamic_batch,
        )
    except (ParityError, NotEqualError) as error:
        raise EdgemtlError(f"no bundle written: {error}") from error


def chosen_heads(run: Run, names: tuple[str, ...]) -> tuple[Head, ...]:
    """Return the run's heads of these names, all where none is named; raises `EdgemtlError` on an unknown one."""
    known = {head.name: head for head in run.interface.heads}
    for name in names:
        if name not in known:
            raise EdgemtlError(f"--heads: the run has no head '{name}'{nearest_hint(name, list(known))}")
    return tuple(head for head in known.values() if not names or head.name in names)


def some(run: Run, samples: Dataset, count: int) -> list[dict[str, NDArray[Any]]]:
    """Return up to ``count`` pictures, evenly over a split, as the network takes them."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))
    inputs = {spec.name: spec for spec in run.interface.inputs}
    return [fitted_images(samples[int(i)], inputs) for i in chosen]


def scorer(run: Run, heads: tuple[Head, ...], samples: Dataset) -> Scorer:
    """Return what judges a network by each labelled head's primary metric."""
    judged = {head.name: TASKS[head.task](head.classes) for head in heads if head.name in samples.classes}

    def scores(network: Inference) -> dict[str, Score]:
        predictor = Predictor(Running(network), run.interface.inputs, heads, 0.0)
        found = evaluate(predictor, samples)["all"]
        return {name: Score(t.primary, found[t.primary], t.higher_is_better) for name, t in judged.items()}

    return scores


@dataclass(frozen=True)
class Running:
    """A function in the place of an engine."""

    run: Inference


def tensorrt_here() -> str:
    """Return the back end that builds engines on this machine; raises `EdgemtlError` with why there is none."""
    reasons = {name: absent(name) for name in BACKENDS}
    for name, why in reasons.items():
        if not why:
            return name
    told = "; ".join(f"{name}: {why}" for name, why in reasons.items())
    raise EdgemtlError(
        f"--tensorrt: no engine can be built and checked here ({told}). Export with `--for tensorrt --precisions "
        "fp16,int8`, then `edgemtl-runtime build BUNDLE` where the GPU is"
    )


def build_engines(
    bundle: Bundle, run: Run, backend: str, progress: Callable[[str], None] = lambda _: None
) -> tuple[Choice, Built]:
    """Build an engine of every precision, check each on held-out pictures, and return the fastest.

    It is what `edgemtl-runtime run` takes for this bundle on this machine from then on.
    """
    frames = some(run, open_datasets(run.config, ("val",))["val"], FRAMES)
    choice, refused = choose(bundle, ways(bundle, backend), frames=frames, told=progress)
    for why in refused.values():
        progress(f"left out: {why}")
    return choice, build_engine(bundle, backend, choice.way.precision)
