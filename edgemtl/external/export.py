"""Export of a network from elsewhere: a bundle of it, with other precisions where they pass, compared on images."""

from __future__ import annotations

from pathlib import Path

from torch.onnx import OnnxExporterError

import edgemtl_export
from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.accuracy_gate import AccuracyGate
from edgemtl_export.camera_size import at_camera_size
from edgemtl_export.errors import UnsupportedError, first_sentence
from edgemtl_export.inputs import example_inputs
from edgemtl_export.parity import ParityError
from edgemtl_export.precisions import Precisions, Progress
from edgemtl_export.to_bundle import Compact, write_compact
from edgemtl_export.to_onnx import dynamic_batch_size
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.bundle import BUNDLE, Bundle

from ..errors import EdgemtlError
from ..export import CALIBRATION_IMAGES, PARITY_IMAGES, PRODUCER, REFERENCE_IMAGES, Options, each_frame, frames_of
from ..gate_scores import scorer
from ..synthetic.streets import HELD_OUT, Streets
from .images import NetworkImages
from .network import Adapter, ExternalNetwork, ProgramCore


def export_network(
    network: ExternalNetwork,
    out: Path,
    images: NetworkImages,
    options: Options,
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> tuple[Bundle, Shrunk]:
    """Write a network as a bundle, without channels that are zero already; raises `EdgemtlError`."""
    with AtomicFolder(out, BUNDLE, overwrite) as output:
        try:
            compact, shrunk = remove_zeros(network, network.adapter, options.channel_multiple, options.dynamic_batch)
            return write_network(output, network, compact, images, options, progress), shrunk
        except (ParityError, NotEqualError, UnsupportedError, OnnxExporterError) as error:
            reason = "it cannot take batches of any size" if options.dynamic_batch else first_sentence(error)
            raise EdgemtlError(f"{network.name}: no bundle written: {reason}") from error


def remove_zeros(
    network: ExternalNetwork, masked: Adapter, align: int, dynamic_batch: bool = False
) -> tuple[Compact, Shrunk]:
    """Remove the zero channels of an adapter's core; returns the adapter before and after, and the removal."""
    args, shapes = network.args, None
    if dynamic_batch:
        args = masked.core_inputs(example_inputs(network.inputs, 2))  # a batch of one would be taken for a constant
        size = dynamic_batch_size()
        shapes = tuple({0: size} for _ in args)
    shrunk = edgemtl_export.shrink(masked.core, args, align=align, dynamic_shapes=shapes)
    return Compact(masked, masked.around(ProgramCore(shrunk.module())), shrunk.report), shrunk


def write_network(
    output: AtomicFolder,
    network: ExternalNetwork,
    compact: Compact,
    images: NetworkImages,
    options: Options,
    progress: Progress,
) -> Bundle:
    """Write the bundle of a network that was shrunk already, compared on held-out images."""
    precisions = None
    inputs = at_camera_size(network.inputs, options.camera_size)
    if options.precisions:
        samples = images.labelled if images.labelled is not None else images.held_out
        precisions = Precisions(
            options.precisions,
            AccuracyGate(scorer(inputs, network.heads, samples), options.max_drop),
            frames_of(inputs, images.train, CALIBRATION_IMAGES),
            options.backend,
            progress,
            options.keep_undecided,
        )
    return write_compact(
        output,
        compact,
        network.inputs,
        network.heads,
        frames_of(inputs, images.held_out, PARITY_IMAGES),
        network.name,
        network.licence,
        PRODUCER,
        precisions,
        options.dynamic_batch,
        options.camera_size,
        options.self_test,
        each_frame(inputs, images.held_out, REFERENCE_IMAGES),
    )


def drawn_images(network: ExternalNetwork) -> NetworkImages:
    """Return drawn streets, on which a bundle is compared where no images are given."""
    streets = Streets(PARITY_IMAGES, network.size, HELD_OUT, ())
    return NetworkImages(streets, streets)
