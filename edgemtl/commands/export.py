"""The commands ``edgemtl shrink`` and ``export``: from a trained network to what a robot runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemtl_runtime.atomic import AtomicFile, outermost_artefact
from edgemtl_runtime.bundle import BUNDLE
from edgemtl_runtime.cli_parser import add_examples, answer_words
from edgemtl_runtime.renamed_options import renamed

from ..external.source import FORMS
from ..other_tools import option_hint
from .network_options import check_images, external_source, network_options, open_external
from .outputs import check_suffix, comma_separated, json_option, output_file, overwrite_option
from .plugin_options import load_plugins, plugin_options

if TYPE_CHECKING:
    from edgemtl_export import Shrunk
    from edgemtl_export.cost_model.deployment import Progress
    from edgemtl_runtime.bundle import Bundle

    from ..export import BuiltEngine, Options
    from ..external.source import NetworkSource
    from .outputs import Commands

PROGRAM = ".pt2"
PROBE = "probe"
"""The kind of a probe's folder."""
SHRINK = {"align": ("1", "8", "16", "32", "auto"), "branches": ("keep", "cut", "auto"), "norms": ("keep", "rewrite")}
"""Values of the options of ``edgemtl shrink``, the default first."""


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_shrink(commands)
    _add_export(commands)


def _add_shrink(commands: Commands) -> None:
    shrink = commands.add_parser(
        "shrink",
        help="remove pruned channels from a run's network, or any other",
        description="Remove every channel that is zero, constant or unread, exactly, prove it, and write the program.",
    )
    shrink.add_argument("path", metavar="RUN|NETWORK", type=Path, help=f"a run, or {FORMS}")
    shrink.add_argument(
        "--out", metavar="FILE.pt2", type=Path, help="(default: RUN-shrunk.pt2 or PROGRAM.shrunk.pt2, next to it)"
    )
    overwrite_option(shrink)
    descriptions = {
        "align": "keep channels up to this multiple in every layer; auto: what is measured to be fastest",
        "branches": "cut: let the operands of a sum keep different channels; auto: where that is faster",
        "norms": "rewrite: write layer and group normalisation out, so that more channels may be removed",
    }
    for name, values in SHRINK.items():
        text = f"{descriptions[name]} (%(default)s)"
        shrink.add_argument(f"--{name}", metavar="|".join(values), default=values[0], help=text)
    shrink.add_argument("--outputs", metavar="NAME,NAME", help="keep these outputs only (default: all)")
    shrink.add_argument("--no-verify", action="store_true", help="skip the proof that the outputs are the same")
    network_options(shrink)
    plugin_options(shrink, ", and open a NETWORK that may run custom code while it is loaded")
    json_option(shrink)
    add_examples(
        shrink,
        "runs/pruned",
        "network.pt2 --align 8 --out small.pt2",
        "pruned.pt --input-size 320 320",
    )
    answer_words(shrink, option_hint)
    shrink.set_defaults(command=_shrink)


def _add_export(commands: Commands) -> None:
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
        "yolo11n.pt --images PICTURES --input-size 320 320 --out detector",
        "yolo11n.pt --data DATASET --precisions fp16,int8 --out detector",
    )
    answer_words(export, option_hint)
    export.set_defaults(command=_export)


def _shrink(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from .checks import check_run_or_program

    for name, values in SHRINK.items():
        value = vars(args)[name]
        if value not in values:
            raise EdgemtlError(f"--{name} {value}: is not one of {', '.join(values)}")
    outputs = None if args.outputs is None else list(comma_separated(args.outputs))
    if outputs is not None and not outputs:
        raise EdgemtlError("--outputs names no output; give one or more, with commas between them")
    if args.out is not None:
        check_suffix(args.out, (PROGRAM,))
    source = external_source(str(args.path), args)
    if source is None:
        check_run_or_program(args.path)
    load_plugins(args, [args.path])
    return _shrink_and_report(args, source, outputs)


def _shrink_and_report(args: argparse.Namespace, source: NetworkSource | None, outputs: list[str] | None) -> int:
    default = default_program(args.path) if source is None or source.kind == PROGRAM else source.program(PROGRAM)
    with output_file(args.out, default, args.overwrite) as out:
        from ..shrink import open_model, shrink
        from ..shrink_report import as_json, as_text

        if source is None or source.kind == PROGRAM:
            model, args_of, inputs = open_model(args.path, args.trust)
        else:
            network = open_external(source, args)
            model, args_of, inputs = network.adapter.core, network.args, {}
        shrunk = shrink(
            args.path,
            (model, args_of, inputs),
            out,
            outputs,
            align=int(args.align) if args.align.isdecimal() else args.align,
            branches=args.branches,
            norms=args.norms,
            verify=not args.no_verify,
        )
    if args.json:
        print(json.dumps({**as_json(shrunk.report), "out": str(out.given)}))
    else:
        if outputs:
            print(f"outputs kept: {', '.join(outputs)}; what only the others read is removed and not counted here\n")
        print(f"{as_text(shrunk.report)}\n\nwrote {out.given}")
    return 0


def default_program(path: Path) -> Path:
    """Return the file that is written where none is given: next to a program, or next to a run, never in it."""
    named = path if path.name not in ("", "..") else path.resolve()
    if not path.is_dir():
        return named.with_name(f"{named.name.removesuffix(PROGRAM)}.shrunk{PROGRAM}")
    name = f"{named.name}-shrunk{PROGRAM}"
    outer = outermost_artefact(named)  # a run may be a part of something larger that is ours
    return (named if outer is None else outer).with_name(name)


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
        return *export(run, args.out, None, options, progress, args.overwrite), lambda: parity_frames(run)
    from ..console import print_message
    from ..export import PARITY_IMAGES
    from ..external.export import drawn_images, export_network, frames_of
    from ..external.images import labelled, unlabelled

    network = open_external(source, args)
    images = labelled(network, args.data) if args.data else drawn_images(network)
    if args.images:
        images = unlabelled(network, args.images, least=1)
    for note in images.notes:
        print_message(note)
    written = export_network(network, args.out, images, options, progress, args.overwrite)
    return *written, lambda: frames_of(network, images.held_out, PARITY_IMAGES)


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
