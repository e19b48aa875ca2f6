"""Export of a run: its shrunk network as a bundle, compared with the run on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.accuracy_gate import AccuracyGate
from edgemtl_export.camera_size import at_camera_size
from edgemtl_export.errors import UnsupportedError
from edgemtl_export.parity import ParityError
from edgemtl_export.precisions import Backend, Precisions, Progress
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, Bundle, Head, Input
from edgemtl_runtime.engine.autotune import autotune
from edgemtl_runtime.engine.build import build_engine
from edgemtl_runtime.engine.config import engine_configs

from .data.datasets import evenly_spaced, open_datasets
from .data.loader import fitted_images
from .data.sample import Dataset
from .errors import EdgemtlError, nearest_hint
from .gate_scores import scorer
from .run import Run

PRODUCER = "edgemtl 0.1.0"
PARITY_IMAGES = 16
"""Images of the held-out split on which a bundle is compared with its run."""
REFERENCE_IMAGES = 200
"""Images of the held-out split from which drift is measured."""
CALIBRATION_IMAGES = 64
"""Images of the training split from which the ranges of fp16 and int8 are taken."""


@dataclass(frozen=True)
class Options:
    """Options of an export; `edgemtl_export` documents what each does."""

    heads: tuple[str, ...] = ()
    """The heads to export; all where none is named."""
    precisions: tuple[Literal["fp16", "int8"], ...] = ()
    """Precisions to add to fp32; each must pass the accuracy gate."""
    backend: Backend = "onnxruntime"
    max_drop: float = 0.01
    """The largest share of a head's metric that a precision may lose."""
    keep_undecided: bool = False
    """Write int8 even where the held-out split has too few labels to judge it on."""
    align: int = 0
    """Pruned channels are kept up to a multiple of this; 0: the backend's."""
    dynamic_batch: bool = False
    """Leave the batch size open, for servers that gather requests; the runtime feeds one image."""
    camera_size: tuple[int, int] | None = None
    """Height and width of images that the graph resizes; None: they are resized before it."""
    self_test: bool = True
    """Let a held-out image travel in the bundle, with what the network puts out for it."""

    @property
    def channel_multiple(self) -> int:
        """The multiple of channels: TensorRT computes int8 on 32 at a time, fp16 on 8, ONNX Runtime fp32 on 8."""
        return self.align or (32 if self.backend == "tensorrt" and "int8" in self.precisions else 8)


def export(
    run: Run,
    out: str | Path,
    samples: Dataset | None = None,
    options: Options = Options(),
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> tuple[Bundle, Shrunk]:
    """Shrink a run's network, write it as a bundle and compare both on held-out images.

    ``samples`` replaces the held-out split of the data that the run was trained on. With ``overwrite`` a bundle of ours
    at ``out`` is replaced. Raises `EdgemtlError`, and then nothing is written.
    """
    with AtomicFolder(out, BUNDLE, overwrite) as output:
        return _export_into(output, run, samples, options, progress)


def _export_into(
    output: AtomicFolder, run: Run, samples: Dataset | None, options: Options, progress: Progress
) -> tuple[Bundle, Shrunk]:
    splits = {} if samples is not None else open_datasets(run.config)
    val = samples if samples is not None else splits["val"]
    heads = select_heads(run, options.heads)
    inputs = at_camera_size(run.interface.inputs, options.camera_size)
    precisions = None
    if options.precisions:
        training = splits["train"] if splits else open_datasets(run.config, ("train",))["train"]
        calibration = frames_of(inputs, training, CALIBRATION_IMAGES)
        gate = AccuracyGate(scorer(inputs, heads, val), options.max_drop)
        precisions = Precisions(
            options.precisions, gate, calibration, options.backend, progress, options.keep_undecided
        )
    try:
        return export_bundle(
            run.network,
            run.interface.inputs,
            heads,
            frames_of(inputs, val, PARITY_IMAGES),
            output,
            str(run.interface.network["name"]),
            run.licence,
            PRODUCER,
            options.channel_multiple,
            precisions,
            options.dynamic_batch,
            camera_size=options.camera_size,
            self_test=options.self_test,
            reference=each_frame(inputs, val, REFERENCE_IMAGES),
        )
    except (ParityError, NotEqualError, UnsupportedError) as error:
        raise EdgemtlError(f"no bundle written: {error}") from error


def select_heads(run: Run, names: tuple[str, ...]) -> tuple[Head, ...]:
    """Return the run's heads of these names, all where none is named; raises `EdgemtlError` on an unknown one."""
    known = {head.name: head for head in run.interface.heads}
    for name in names:
        if name not in known:
            raise EdgemtlError(f"--heads: the run has no head '{name}'{nearest_hint(name, list(known))}")
    return tuple(head for head in known.values() if not names or head.name in names)


def frames_of(inputs: tuple[Input, ...], samples: Dataset, count: int) -> list[dict[str, NDArray[Any]]]:
    """Return up to ``count`` samples' images, evenly over a dataset, as an engine takes them."""
    return list(each_frame(inputs, samples, count))


def each_frame(inputs: tuple[Input, ...], samples: Dataset, count: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield what `frames_of` returns, one after the other."""
    named = {spec.name: spec for spec in inputs}
    for index in evenly_spaced(len(samples), min(count, len(samples))):
        yield fitted_images(samples[index], named)


@dataclass(frozen=True)
class BuiltEngine:
    """The fastest engine of a bundle on this machine, and the median latency of every configuration."""

    backend: str
    precision: str
    plan: Path
    plan_bytes: bytes
    p50_ms: dict[str, float]
    fastest_ms: float


def parity_frames(run: Run, bundle: Bundle) -> list[dict[str, NDArray[Any]]]:
    """Return the held-out images that a run's bundle is compared on, as an engine takes them."""
    return frames_of(bundle.manifest.inputs, open_datasets(run.config, ("val",))["val"], PARITY_IMAGES)


def build_engines(
    bundle: Bundle,
    frames: list[dict[str, NDArray[Any]]],
    backend: str,
    progress: Callable[[str], None] = lambda _: None,
) -> BuiltEngine:
    """Build an engine of every precision, check each on ``frames``, and return the fastest.

    It is what `edgemtl-runtime run` takes for this bundle on this machine from then on.
    """
    selection, rejected = autotune(bundle, engine_configs(bundle, backend), frames=frames, on_message=progress)
    for reason in rejected.values():
        progress(f"rejected: {reason}")
    config, p50_ms = selection.config, selection.p50_ms
    built = build_engine(bundle, backend, config.precision)
    return BuiltEngine(backend, config.precision, built.plan, built.data, p50_ms, p50_ms[str(config)])
