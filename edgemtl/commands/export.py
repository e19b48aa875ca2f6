"""The command ``edgemtl export``: from a trained network to what a robot runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemtl_runtime.atomic import AtomicFile
from edgemtl_runtime.bundle import BUNDLE, MOST_PIXELS, MOST_SIDE
from edgemtl_runtime.cli_parser import add_examples, answer_words
from edgemtl_runtime.renamed_options import renamed

from ..external.source import FORMS
from ..other_tools import option_hint
from .network_options import check_images, external_source, network_options, open_external
from .outputs import comma_separated, json_option, overwrite_option
from .plugin_options import load_plugins, plugin_options

if TYPE_CHECKING:
    from edgemtl_export import Shrunk
    from edgemtl_export.cost_model.deployment import Progress
    from edgemtl_runtime.bundle import Bundle

    from ..export import BuiltEngine, Options
    from ..external.source import NetworkSource
    from .outputs import Commands

PROBE = "probe"
"""The kind of a probe's folder."""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    export = commands.add_parser("export", help="shrink a run's network, or any other, and write it as a bundle")
    export.add_argument("run", metavar="RUN|NETWORK", type=Path, help=f"a run, or {FORMS}")
    written = export.add_mutually_exclusive_group(required=True)
    written.add_argument("--out", metavar="BUNDLE", type=Path)
    written.add_argument(
        "--probe",
        metavar="DIR",
        type=Path,
        help="write no bundle but a probe of the network, which edgemtl-runtime profile measures on the robot; "
        "what it writes is for sparsity.costs",
    )
    overwrite_option(export)
    export.add_argument(
        "--align", type=int, help="round channels up to this multiple (default: 8; 32 for int8 in TensorRT)"
    )
    export.add_argument("--heads", metavar="NAME,NAME", help="export these heads, and what they read (default: all)")
    export.add_argument(
        "--precisions",
        metavar="fp16,int8",
        help="add these; each is kept if its accuracy passes (default: none, with --tensorrt fp16)",
    )
    export.add_argument(
        "--backend",
        choices=("onnxruntime", "tensorrt"),
        help="what int8 is laid out for (default: onnxruntime); with tensorrt the rest of it computes in fp16",
    )
    renamed(export, "--for", "--backend")
    export.add_argument(
        "--max-drop", type=float, default=0.01, help="largest share of a head's metric to lose (%(default)s)"
    )
    export.add_argument(
        "--keep-undecided", action="store_true", help="write int8 even where too few labels are held out to judge it"
    )
    export.add_argument(
        "--dynamic-batch", action="store_true", help="leave the batch size open (Triton gathers requests)"
    )
    export.add_argument(
        "--no-self-test", action="store_true", help="put no held-out image, with its outputs, into the bundle"
    )
    export.add_argument(
        "--resize-in-graph",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="take images of this size, the camera's: the graph resizes them, and results are in their pixels",
    )
    export.add_argument(
        "--triton", metavar="REPO", type=Path, help="add it to a Triton model repository too, by the name of --out"
    )
    export.add_argument(
        "--tensorrt", action="store_true", help="build, check and time engines on this machine's GPU, in its cache"
    )
    export.add_argument(
        "--engine-out", metavar="FILE", type=Path, help="with --tensorrt: copy the fastest plain plan here"
    )
    export.add_argument("--verbose", action="store_true", help="list the layers that lost channels, and the proof")
    images = export.add_mutually_exclusive_group()
    images.add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="of a NETWORK: images that the bundle is compared on (default: drawn streets)",
    )
    images.add_argument(
        "--data", metavar="DATA", help="of a NETWORK: a labelled dataset, by which precisions are judged"
    )
    network_options(export)
    plugin_options(export, ", and open a NETWORK that may run custom code while it is loaded")
    json_option(export)
    add_examples(
        export,
        "runs/pruned --out street",
        "runs/pruned --out street --precisions fp16,int8 --max-drop 0.02",
        "runs/pruned --out street --heads boxes --tensorrt",
        "runs/dense --probe probe --precisions fp16",
        "runs/pruned --out street --resize-in-graph 480 640",
        "yolo11n.pt --images PICTURES --input-size 320 320 --out detector",
        "yolo11n.pt --data DATASET --precisions fp16,int8 --out detector",
    )
    answer_words(export, option_hint)
    export.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from ..run_files import check_run
    from .checks import check_heads, check_out, tensorrt_backend

    for name in comma_separated(args.precisions):
        if name not in ("fp16", "int8"):
            raise EdgemtlError(f"--precisions {name}: is not one of fp16, int8; fp32 is always there")
    if not 0 <= args.max_drop < 1:
        raise EdgemtlError(f"--max-drop {args.max_drop:g}: is a share, from 0 to below 1")
    if args.align is not None and not 1 <= args.align <= 256:
        raise EdgemtlError("--align lies between 1 (keep nothing) and 256")
    check_camera_size(args.resize_in_graph)
    if args.engine_out and not args.tensorrt:
        raise EdgemtlError("--engine-out is of an engine: give --tensorrt too")
    source = external_source(str(args.run), args)
    if source is None:
        check_run(args.run)
        check_heads(args.run, comma_separated(args.heads))
        if args.images or args.data:
            raise EdgemtlError("--images and --data are of networks that were trained elsewhere: a run has its data")
    else:
        check_images(args.images or ())
    if source is not None and args.heads:
        raise EdgemtlError(f"--heads {args.heads}: of a run; {source} is exported with all its outputs")
    check_out(args.probe or args.out, PROBE if args.probe else BUNDLE, overwrite=args.overwrite)
    load_plugins(args, [args.run])
    if args.probe:
        return _write_probe(args, source)
    return _export_and_report(args, source, tensorrt_backend() if args.tensorrt else "")


def check_camera_size(size: list[int] | None) -> None:
    """Raise `EdgemtlError` for a height and width that no bundle's input may have."""
    from ..errors import EdgemtlError

    if size is None:
        return
    height, width = size
    if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE and height * width <= MOST_PIXELS):
        limits = f"sides lie between 1 and {MOST_SIDE}, and {MOST_PIXELS} pixels are the most"
        raise EdgemtlError(f"--resize-in-graph {height} {width}: is no size of a camera's image; {limits}")


def _write_probe(args: argparse.Namespace, source: NetworkSource | None) -> int:
    from ..console import progress_stages
    from ..probe import write_deployed_probe
    from ..run import Run

    precision = next(iter(comma_separated(args.precisions)), "fp32")
    deployed = open_external(source, args).deployed() if source else Run.open(args.run).deployed()
    with nullcontext(lambda *_: None) if args.json else progress_stages() as progress:
        description = write_deployed_probe(deployed, args.probe, precision, progress, args.overwrite)
    if args.json:
        print(json.dumps({"probe": str(args.probe), "models": len(description.models), "precision": precision}))
    else:
        print(f"wrote {args.probe}: {len(description.models)} models in {precision}; measure it on the robot with")
        print(f"  edgemtl-runtime profile {args.probe.name} --out costs.json")
    return 0


def _exported(
    args: argparse.Namespace, source: NetworkSource | None, options: Options, progress: Progress
) -> tuple[Bundle, Shrunk, Callable[[], list[Any]]]:
    """Write the bundle; return it, the removal, and what gives the images that engines are checked on."""
    if source is None:
        from ..export import export, parity_frames
        from ..run import Run

        run = Run.open(args.run)
        bundle, shrunk = export(run, args.out, None, options, progress, args.overwrite)
        return bundle, shrunk, lambda: parity_frames(run, bundle)
    from ..console import print_message
    from ..export import PARITY_IMAGES, frames_of
    from ..external.export import drawn_images, export_network
    from ..external.images import labelled, unlabelled

    network = open_external(source, args)
    images = labelled(network, args.data) if args.data else drawn_images(network)
    if args.images:
        images = unlabelled(network, args.images, least=1)
    for note in images.notes:
        print_message(note)
    bundle, shrunk = export_network(network, args.out, images, options, progress, args.overwrite)
    return bundle, shrunk, lambda: frames_of(bundle.manifest.inputs, images.held_out, PARITY_IMAGES)


def _export_and_report(args: argparse.Namespace, source: NetworkSource | None, backend: str) -> int:
    from ..console import print_message, progress_stages
    from ..export import build_engines

    with AtomicFile(args.engine_out, args.overwrite) if args.engine_out else nullcontext() as plan:
        with nullcontext(lambda *_: None) if args.json else progress_stages() as progress:
            bundle, shrunk, frames = _exported(args, source, _options(args, backend), progress)
        engine = None
        if backend:
            engine = build_engines(bundle, frames(), backend, (lambda _: None) if args.json else print_message)
            if plan:
                plan.write(engine.plan_bytes)
    version = None
    if args.triton:
        from edgemtl_export.triton import write_triton

        version = write_triton(bundle, args.triton, bundle.path.name)
    if args.json:
        print(json.dumps(_as_json(bundle, shrunk, engine, version)))
    else:
        from ..summary import export_summary

        written = [f"wrote {bundle.path}" + (f" and {version}" if version else "")]
        if engine:
            fastest = f"{engine.precision}, {engine.fastest_ms:.2f} ms; {engine.plan}"
            written.insert(0, f"fastest engine of {engine.backend}: {fastest}")
        print(export_summary(bundle, shrunk, args.run, written, args.verbose))
    return 0


def _options(args: argparse.Namespace, backend: str) -> Options:
    from ..export import Options

    precisions = comma_separated(args.precisions)
    return Options(
        heads=comma_separated(args.heads),
        precisions=precisions or (("fp16",) if backend else ()),  # type: ignore[arg-type]  # checked by _export
        backend=args.backend or ("tensorrt" if backend else "onnxruntime"),
        max_drop=args.max_drop,
        keep_undecided=args.keep_undecided,
        align=args.align or 0,
        dynamic_batch=args.dynamic_batch,
        self_test=not args.no_self_test,
        camera_size=tuple(args.resize_in_graph) if args.resize_in_graph else None,
    )


def _as_json(bundle: Bundle, shrunk: Shrunk, engine: BuiltEngine | None, version: Path | None) -> dict[str, Any]:
    built = engine and {"plan": str(engine.plan), "precision": engine.precision, "p50_ms": engine.p50_ms}
    rejected = bundle.manifest.rejected
    return {
        "triton": None if version is None else str(version),
        "engine": built,
        "bundle": str(bundle.path),
        "removed": shrunk.report.to_dict(),
        "parity": bundle.manifest.parity,
        "precisions": bundle.manifest.precisions,
        "rejected": rejected,
        "refused": rejected,  # for one version more
    }
