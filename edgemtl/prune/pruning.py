"""One pruning from end to end: train, remove, export, measure, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.onnx import OnnxExporterError

from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.cost_model.deployment import Progress
from edgemtl_export.errors import UnsupportedError, first_sentence
from edgemtl_export.parity import ParityError
from edgemtl_export.to_bundle import Compact
from edgemtl_export.to_onnx import write_onnx, write_plain_onnx
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, Bundle

from ..data.sample import Dataset
from ..errors import EdgemtlError
from ..evaluate import evaluate
from ..export import Options
from ..external.class_names import for_classes
from ..external.export import remove_zeros, write_network
from ..external.images import NetworkImages
from ..external.network import Adapter, ExternalNetwork, ProgramCore
from ..external.predictor import predictor_of
from ..external.ultralytics import file_metadata, file_network
from ..run_files import PRUNING
from ..sizes import Sizes
from . import report
from .agreement import agreement
from .figures import Figures, figures_of, measured_ms, write_figures
from .label_free import Pruned, prune_without_labels
from .options import PruneOptions

PROGRAM, ONNX, BUNDLE_FOLDER, REPORT = "network.pt2", "network.onnx", "bundle", "report.html"
PRUNE, EXPORT = PruneOptions(), Options()
Trains = Callable[[ExternalNetwork, NetworkImages, PruneOptions, Progress], Pruned]


def by_teacher(network: ExternalNetwork, data: NetworkImages, options: PruneOptions, progress: Progress) -> Pruned:
    """Prune without labels: the network teaches its smaller self."""
    return prune_without_labels(network, data.train, options, progress)


@dataclass(frozen=True, eq=False)
class Result:
    """What a pruning wrote."""

    path: Path
    adapter: Adapter | None
    """The narrow network, None of a run of ours."""
    bundle: Bundle
    figures: Figures
    shrunk: Shrunk
    warnings: list[str]


def prune(
    network: ExternalNetwork,
    data: NetworkImages,
    out: Path,
    options: PruneOptions = PRUNE,
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
    train: Trains = by_teacher,
    export: Options = EXPORT,
) -> Result:
    """Prune a network, and write the narrow program, ONNX, a bundle, figures and a report to the folder ``out``.

    Raises `EdgemtlError` with what was wrong, and then nothing is written.
    """
    with AtomicFolder(out, PRUNING, overwrite) as output, tempfile.TemporaryDirectory() as outside:
        dense = Path(outside) / ONNX
        if network.adapter.format.is_selected:
            raise EdgemtlError(
                f"{network.name}: chooses its best boxes itself, so that student and teacher cannot be compared box by "
                "box; prune the checkpoint, or a file that was exported with end2end=False"
            )
        try:
            write_dense(network, dense)
            pruned = train(network, data, options, progress)
            progress("removing channels", 0, 0)
            compact, shrunk = remove_zeros(network, pruned.adapter, export.channel_multiple)
            bundle = write_files(output.folder, network, compact, shrunk, data, export, progress)
        except ValueError as error:
            raise EdgemtlError(f"{network.name}: {error}") from error
        except (ParityError, NotEqualError, UnsupportedError, OnnxExporterError) as error:
            raise EdgemtlError(f"{network.name}: nothing written: {first_sentence(error)}") from error
        progress("measuring and evaluating", 0, 0)
        latency_ms = measured_ms(dense, bundle)
        result = _report(output.folder, network, compact, shrunk, latency_ms, data, options, pruned)
        output.commit()
    assert isinstance(compact.small, Adapter)
    return Result(out, compact.small, Bundle.open(out / BUNDLE_FOLDER), *result)


def write_dense(network: ExternalNetwork, file: Path) -> None:
    """Write the dense network's ONNX, deployed, to a file; what cannot be exported is known before the training.

    Raises what `prune` answers with a line, of the network with its own inputs and outputs as well.
    """
    core = file_network(network, network.adapter.core)
    write_plain_onnx(core, network.args, file, network.input_names, network.output_names, optimize=False)
    write_onnx(network.deployed(), file)


def write_files(
    folder: Path,
    network: ExternalNetwork,
    compact: Compact,
    shrunk: Shrunk,
    images: NetworkImages,
    export: Options,
    progress: Progress,
) -> Bundle:
    """Write the narrow program, its ONNX with the network's own inputs and outputs, and a bundle."""
    torch.export.save(shrunk.program, folder / PROGRAM)
    core = file_network(network, ProgramCore(shrunk.module()).eval())
    write_plain_onnx(
        core, network.args, folder / ONNX, network.input_names, network.output_names, file_metadata(network)
    )
    with AtomicFolder(folder / BUNDLE_FOLDER, BUNDLE) as output:
        return write_network(output, network, compact, images, export, progress)


def accuracy_of(
    network: ExternalNetwork, adapters: Sequence[Adapter], samples: Dataset
) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """Return the primary metric of each adapter by head and subset."""
    reports = []
    for adapter in adapters:
        predictor, _ = for_classes(predictor_of(network, adapter, 0.0), samples)
        reports.append(evaluate(predictor, samples))
    heads = [head.name for head in network.heads if head.name in samples.classes]
    return {head: {subset: tuple(r[subset].primary(head) for r in reports) for subset in reports[0]} for head in heads}


def _report(
    folder: Path,
    network: ExternalNetwork,
    compact: Compact,
    shrunk: Shrunk,
    latency_ms: tuple[float, float],
    data: NetworkImages,
    options: PruneOptions,
    pruned: Pruned,
) -> tuple[Figures, Shrunk, list[str]]:
    small = compact.small
    assert isinstance(small, Adapter)
    dense, narrow = (predictor_of(network, adapter, None) for adapter in (network.adapter, small))
    accuracy = accuracy_of(network, (network.adapter, small), data.labelled) if data.labelled is not None else {}
    figures = figures_of(
        network.name,
        latency_ms,
        Sizes.of(shrunk.report),
        options,
        pruned.steps,
        agreement(dense, narrow, data.held_out),
        accuracy,
        tuple(share for _, share in pruned.sparsifier.aim.measured),
    )
    write_figures(folder, figures)
    silent = [head.name for head in network.heads if head.name not in figures.agreement]
    warnings = [
        *pruned.sparsifier.warnings(),
        *shrunk.report.warnings,
        *(f"{name}: the dense network finds nothing on these images to compare with" for name in silent),
        *([f"skipped {len(data.unreadable)} images that cannot be decoded"] if data.unreadable else []),
    ]
    notes = [*network.notes, *data.notes, *warnings]
    report.write_report(folder / REPORT, figures, shrunk, dense, narrow, data.held_out, pruned.history, notes)
    return figures, shrunk, warnings
