"""Export of a trained network as a bundle: shrink, write ONNX, check parity on real frames, then put it in place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, MODEL, Bundle, Head, Input, Manifest, write_bundle
from edgemtl_runtime.engine import Arrays
from edgemtl_runtime.engine.agreement import agreement
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.manifest_schema import ParityFigures, PruningFigures

from . import parity
from .camera_size import Size
from .deployed import Deployed
from .drift_reference import add_drift_reference
from .inputs import example_inputs
from .model_card import MODEL_CARD, model_card
from .precisions import Precisions, write_precisions
from .report import Report
from .self_test import add_self_test
from .shrink import Shrunk, shrink
from .to_onnx import dynamic_batch_size, write_onnx


def export_bundle(
    network: nn.Module,
    inputs: tuple[Input, ...],
    heads: tuple[Head, ...],
    frames: Sequence[Arrays],
    out: str | os.PathLike[str] | AtomicFolder,
    name: str,
    licence: str,
    producer: str = "edgemtl-export",
    align: int = 8,
    precisions: Precisions | None = None,
    dynamic_batch: bool = False,
    overwrite: bool = False,
    camera_size: Size | None = None,
    self_test: bool = True,
    reference: Iterable[Arrays] = (),
) -> tuple[Bundle, Shrunk]:
    """Write ``network`` as a bundle to the folder ``out``, and return the bundle and the shrunk network.

    The network maps named normalised images to named raw heads; those in ``heads`` are shipped, and what they depend
    on. ``frames`` are real images, uint8 (1, H, W, C) by input name, on which the bundle's outputs must be the
    network's; raises `ParityError` and writes nothing otherwise. ``align`` is `shrink`'s: ONNX Runtime's blocked
    layouts want multiples of 8 channels. Of ``precisions`` those are shipped that pass their accuracy gate. With
    ``dynamic_batch`` the ONNX has a dynamic batch size. With ``overwrite`` a bundle of ours at ``out`` is replaced.
    ``out`` may be a folder that was claimed before. With a ``camera_size`` (height, width) the bundle takes images of
    that size, and so are ``frames``: they are resized in the graph, and results are in their pixels. One of ``frames``
    goes with the bundle, with what the network puts out for it, unless ``self_test`` is off. Drift is measured from
    the images of ``reference``, or of ``frames``.
    """
    if not isinstance(out, AtomicFolder):
        with AtomicFolder(out, BUNDLE, overwrite) as claimed:
            return export_bundle(
                network,
                inputs,
                heads,
                frames,
                claimed,
                name,
                licence,
                producer,
                align,
                precisions,
                dynamic_batch,
                camera_size=camera_size,
                self_test=self_test,
                reference=reference,
            )
    network = network.eval()
    batch = dynamic_batch_size()
    shapes = {spec.name: {0: batch} for spec in inputs} if dynamic_batch else None
    examples = example_inputs(inputs, 2 if dynamic_batch else 1)
    names = [head.name for head in heads]
    shrunk = shrink(network, (), examples, outputs=names, align=align, dynamic_shapes=shapes)
    compact = Compact(network, shrunk.module(), shrunk.report)
    bundle = write_compact(
        out,
        compact,
        inputs,
        heads,
        frames,
        name,
        licence,
        producer,
        precisions,
        dynamic_batch,
        camera_size,
        self_test,
        reference,
    )
    return bundle, shrunk


class Compact(NamedTuple):
    """A network that was shrunk: as it was before, as it is, and the report of the removal."""

    network: nn.Module
    small: nn.Module
    report: Report


def write_compact(
    out: AtomicFolder,
    compact: Compact,
    inputs: tuple[Input, ...],
    heads: tuple[Head, ...],
    frames: Sequence[Arrays],
    name: str,
    licence: str,
    producer: str = "edgemtl-export",
    precisions: Precisions | None = None,
    dynamic_batch: bool = False,
    camera_size: Size | None = None,
    self_test: bool = True,
    reference: Iterable[Arrays] = (),
) -> Bundle:
    """Write a network that was shrunk already as a bundle; the rest is as of `export_bundle`."""
    if not frames:
        raise ValueError("give at least one real frame: a bundle that was compared on nothing is not written")
    network, small, report = compact
    file = out.folder / MODEL
    deployed = Deployed(small, inputs, heads, camera_size)
    write_onnx(deployed, file, dynamic_batch=dynamic_batch)
    compared = compare(Deployed(network, inputs, heads, camera_size), small, file, frames)
    written = write_precisions(out.folder, precisions, heads, frames)
    if self_test:
        add_self_test(out.folder, heads, frames)
    add_drift_reference(out.folder, deployed.inputs, heads, reference or frames)
    manifest = Manifest(
        name=name,
        inputs=deployed.inputs,
        heads=heads,
        files={},
        licence=licence,
        producer=producer,
        removed=cast("PruningFigures", report.summary()),
        parity=compared,
        precisions=written.figures,
        rejected=written.rejected,
    )
    (out.folder / MODEL_CARD).write_text(model_card(manifest, camera_size and deployed.size))
    return write_bundle(out, manifest)


def compare(trained: Deployed, small: nn.Module, file: Path, frames: Sequence[Arrays]) -> ParityFigures:
    """Check parity of raw heads in torch and of final outputs in ONNX Runtime; raises `ParityError`."""
    normalised = [
        trained.network_inputs(*(torch.from_numpy(frame[spec.name]) for spec in trained.inputs)) for frame in frames
    ]
    raw = parity.raw_difference(trained.network, small, normalised)
    shares = agreement(trained.run, OrtEngine(file).run, trained.heads, frames)
    parity.check(raw, shares, trained.heads)
    return {"frames": len(frames), "raw_max_abs": raw.largest, "agreement": {**shares}}
