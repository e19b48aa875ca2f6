"""``edgemtl-runtime build``, ``inspect``, ``bench``, ``doctor``: what a bundle holds and what this machine can do."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from .atomic import AtomicFile
from .bundle import MODELS, Bundle, Input
from .errors import EdgemtlError
from .signals import Abrupt, abruptly

PARTS = {
    "onnxruntime": ("onnxruntime", "pip install 'edgemtl-runtime[onnxruntime]'"),
    "tensorrt": ("tensorrt", "with an NVIDIA GPU pip install tensorrt; on a Jetson use JetPack's"),
    "tensorrt-rtx": ("tensorrt_rtx", "pip install 'edgemtl-runtime[rtx]'"),
    "cuda-bindings": ("cuda.bindings", "pip install 'edgemtl-runtime[cuda]'"),
    "opencv": ("cv2", "pip install 'edgemtl-runtime[opencv]'"),
}
"""What the runtime can use: the module, and what to do where it is not there."""


def add_engines(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a command line."""
    build = commands.add_parser(
        "build",
        help="find the fastest way to run a bundle on this machine, and build what it needs",
        description="Every back end that works here is compared with ONNX Runtime and timed, in every precision of the "
        "bundle; the fastest is what `run` takes from then on. With --backend, that one's engine is built.",
    )
    build.add_argument("bundle", type=Path)
    build.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), help="build and check this one's engine only")
    build.add_argument(
        "--precision", choices=list(MODELS), help="this one only (default: all; with --backend the smallest)"
    )
    build.add_argument("--seconds", type=float, default=5.0, help="of timing, all ways together (%(default)s)")
    build.add_argument(
        "--frames", type=Path, metavar="FOLDER", help="compare on these: a folder of pictures for each camera"
    )
    build.add_argument("--capability", default="", metavar="8.6", help="build for this GPU instead (tensorrt-rtx)")
    build.add_argument("--workspace-mb", type=int, default=0, help="limit of working memory (default: TensorRT's)")
    build.add_argument("--engine-out", type=Path, metavar="FILE", help="copy the plain plan here as well")
    build.add_argument("--overwrite", action="store_true", help="replace the file of --engine-out, if it is there")
    build.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    build.set_defaults(command=command_build)
    inspect = commands.add_parser("inspect", help="tell what a bundle holds, and which engines are built of it")
    inspect.add_argument("bundle", type=Path)
    inspect.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    inspect.set_defaults(command=command_inspect)
    bench = commands.add_parser(
        "bench", help="time every network of a bundle on this machine", description="Times are told, never guessed."
    )
    bench.add_argument("bundle", type=Path)
    bench.add_argument("--backend", metavar="NAME", default="", help="this one only (default: all that work here)")
    bench.add_argument("--seconds", type=float, default=10.0, help="of timing, all networks together (%(default)s)")
    bench.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    bench.set_defaults(command=command_bench)
    doctor = commands.add_parser("doctor", help="tell what this machine can run, and what to install")
    doctor.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    doctor.set_defaults(command=command_doctor)


def command_build(args: argparse.Namespace) -> int:
    """Find the fastest way, or build an engine, or find the one that is there."""
    if args.workspace_mb < 0:
        raise EdgemtlError(f"--workspace-mb {args.workspace_mb}: is a size, 0 for TensorRT's own choice")
    if not 0 < args.seconds <= 86400:
        raise EdgemtlError(f"--seconds {args.seconds:g}: is a time, up to a day")
    if not args.backend and (args.capability or args.engine_out or args.workspace_mb):
        raise EdgemtlError("--capability, --workspace-mb and --engine-out are of one engine: give --backend too")
    bundle = Bundle.open(args.bundle)
    frames = read_frames(args.frames, bundle.manifest.inputs) if args.frames else []
    if not args.backend:
        return _choose(args, bundle, frames)
    with AtomicFile(args.engine_out, args.overwrite) if args.engine_out else nullcontext() as plain:
        return _build_one(args, bundle, frames, plain)


def _choose(args: argparse.Namespace, bundle: Bundle, frames: list[dict[str, Any]]) -> int:
    with Abrupt():
        from .engine.autotune import choose
        from .engine.config import ways

    quiet = args.json or not sys.stderr.isatty()
    choice, refused = choose(
        bundle,
        ways(bundle, precision=args.precision or ""),
        args.seconds,
        frames,
        lambda text: None if quiet else print(text, file=sys.stderr),
    )
    if args.json:
        told = {"way": msgspec.to_builtins(choice.way), "device": choice.device, "p50_ms": choice.p50_ms}
        print(json.dumps(told | {"refused": {str(way): why for way, why in refused.items()}}))
        return 0
    for way, median in sorted(choice.p50_ms.items(), key=lambda item: item[1]):
        print(f"{way:36} {median:8.2f} ms{'   <- chosen' if way == str(choice.way) else ''}")
    for why in refused.values():
        print(f"left out: {why}")
    print(f"on {choice.device}; `edgemtl-runtime run` takes it from now on")
    return 0


def _build_one(args: argparse.Namespace, bundle: Bundle, frames: list[dict[str, Any]], plain: AtomicFile | None) -> int:
    with Abrupt():
        from .engine.autotune import check_engine
        from .engine.benchmark import noise
        from .engine.build import build_engine
        from .engine.config import Way
        from .engine.trt_build import Settings
        from .engine.trt_run import PlanEngine

    precision = args.precision or bundle.precisions[-1]

    def tell(phase: str, step: int, steps: int) -> bool:
        print(f"\r{phase[:60]:60} {step}/{steps}", end="", file=sys.stderr, flush=True)
        return True

    quiet = args.json or not sys.stderr.isatty()
    settings = Settings(workspace_mb=args.workspace_mb, capability=args.capability)
    built = build_engine(bundle, args.backend, precision, settings, progress=None if quiet else tell)
    if not quiet:
        print(file=sys.stderr)
    agreed = None
    if built.key.gpu:
        with PlanEngine(args.backend, built.data, bundle.manifest) as engine:
            agreed = check_engine(bundle, Way(args.backend, precision), engine, frames or [noise(bundle.manifest)])
    if plain:
        plain.write(built.data)
    if args.json:
        told = {"plan": str(built.plan), "bytes": len(built.data), "cached": built.there, "differs": built.differs}
        print(json.dumps(told | {"agreed": agreed, "key": msgspec.to_builtins(built.key)}))
        return 0
    if built.differs:
        print(f"an older engine does not fit: {'; '.join(built.differs)}")
    there = "was there already" if built.there else "built"
    print(f"{precision} with {args.backend} {built.key.version}: {there}, {len(built.data) / 1e6:.1f} MB\n{built.plan}")
    shares = ", ".join(f"{head} {share:.1%}" for head, share in (agreed or {}).items())
    print(f"agrees with ONNX Runtime: {shares}" if shares else "not run here: built for another GPU")
    return 0


def read_frames(folder: Path, inputs: tuple[Input, ...], most: int = 16) -> list[dict[str, Any]]:
    """Return pictures as a network takes them, from a folder with one of pictures for each of its cameras."""
    from .camera import open_camera
    from .letterbox import Fit, to_uint8

    streams = []
    for spec in inputs:
        if not (folder / spec.name).is_dir():
            raise EdgemtlError(f"--frames {folder}: has no folder '{spec.name}'; it needs one for each camera")
        streams.append(open_camera(str(folder / spec.name), spec.name).frames())
    found = []
    for frames in zip(*streams, strict=False):
        pictures = {}
        for spec, frame in zip(inputs, frames, strict=True):
            fit = Fit.plan(frame.size, (spec.height, spec.width))
            pictures[spec.name] = fit.image(to_uint8(frame.image, spec.thermal_range), spec.channels, spec.blank)[None]
        found.append(pictures)
        if len(found) == most:
            break
    return found


@abruptly
def command_inspect(args: argparse.Namespace) -> int:
    """Tell what a bundle holds."""
    from .engine.cache import Cache, default_folder

    bundle = Bundle.open(args.bundle)
    hashes = {digest: name for name, digest in bundle.manifest.files.items()}
    engines = [each for each in (Cache().told() if default_folder().is_dir() else []) if each.key.onnx_sha256 in hashes]
    if args.json:
        told: dict[str, Any] = {"manifest": msgspec.to_builtins(bundle.manifest)}
        print(json.dumps(told | {"engines": [msgspec.to_builtins(each) for each in engines]}))
        return 0
    manifest = bundle.manifest
    print(f"{manifest.name}, written by {manifest.producer}; schema version {manifest.schema_version}")
    print(f"  licence: {manifest.licence}")
    if {"parameters_before", "parameters_after"} <= manifest.removed.keys():
        before, after = manifest.removed["parameters_before"], manifest.removed["parameters_after"]
        print(f"  {after:,} parameters, of {before:,} that were trained")
    for name, share in manifest.parity.get("agreement", {}).items():
        told_share = "" if share is None else f"{share:.2%} of it"
        frames = manifest.parity.get("frames", 0)
        print(f"  {name}: {told_share or 'not known how much'} as the trained run answered, on {frames} pictures")
    for spec in manifest.inputs:
        absent = ", may be absent" if spec.may_be_missing else ""
        print(f"  takes {spec.name}: {spec.height}x{spec.width}x{spec.channels} {spec.dtype}, {spec.modality}{absent}")
    for head in manifest.heads:
        print(f"  gives {head.name} ({head.task}): {', '.join(head.classes) or head.units or 'values'}")
    for name in bundle.precisions:
        scores = manifest.precisions.get(name, {}).get("scores", {})
        figures = "".join(f", {h} {m} {v:.4f}" for h, each in scores.items() for m, v in each.items() if v is not None)
        print(f"  {name}: {bundle.model_in(name).stat().st_size / 1000:,.0f} kB{figures}")
    for name, why in manifest.rejected.items():
        print(f"  {name} rejected: {why}")
    for each in engines:
        key = each.key
        print(
            f"  engine: {key.precision}, {key.backend} {key.version}, {key.gpu or 'ahead of time'}"
            f" {key.compute_capability}, {each.plan_bytes / 1e6:.1f} MB"
        )
    return 0


@abruptly
def command_bench(args: argparse.Namespace) -> int:
    """Time what a bundle holds on every back end that runs here."""
    from .engine.benchmark import around, measure, table
    from .engine.config import BACKENDS, absent, open_way, ways

    if not 0 < args.seconds <= 86400:
        raise EdgemtlError(f"--seconds {args.seconds:g}: is a time, up to a day")
    quiet = args.json or not sys.stderr.isatty()
    bundle = Bundle.open(args.bundle)
    tell = (lambda _: None) if quiet else (lambda text: print(text, file=sys.stderr))
    timings, refused = measure(bundle, ways(bundle, args.backend), args.seconds, tell)
    with open_way(bundle, timings[0].way) as engine:
        stages = around(bundle, engine)
    missing = {name: why for name in BACKENDS if (why := absent(name))}
    if args.json:
        told = {"timings": [msgspec.to_builtins(each) for each in timings], "around_ms": stages, "absent": missing}
        print(json.dumps(told | {"refused": {str(way): why for way, why in refused.items()}}))
        return 0
    print(table(timings))
    around_it = ", ".join(f"{name} {ms:.2f} ms" for name, ms in stages.items())
    print(f"beside the network, for cameras of 640x480: {around_it}")
    for name, why in [*refused.items(), *missing.items()]:
        print(f"not timed: {name}: {why}")
    return 0


@abruptly
def command_doctor(args: argparse.Namespace) -> int:
    """Tell what is here, with a reason and a remedy for what is not."""
    from .engine.config import BACKENDS, absent
    from .engine.gpu import Gpu, find_gpu

    gpu = find_gpu()
    found = {
        "gpu": f"{gpu.name}, compute capability {gpu.compute_capability}, CUDA {gpu.driver}"
        if isinstance(gpu, Gpu)
        else f"absent: {gpu}"
    }
    for name, (module, remedy) in PARTS.items():
        found[name] = _version(module) or f"absent: {remedy}"
    if _version("onnxruntime"):
        import onnxruntime

        found["onnxruntime"] += f" ({', '.join(onnxruntime.get_available_providers())})"
    if _version("cv2"):
        import cv2

        streams = [cv2.videoio_registry.getBackendName(each) for each in cv2.videoio_registry.getStreamBackends()]
        found["opencv"] += f" (reads streams by {', '.join(streams)})"
    cameras = sorted(Path("/dev").glob("video*"))
    shut = [each.name for each in cameras if not os.access(each, os.R_OK | os.W_OK)]
    found["cameras"] = ", ".join(each.name for each in cameras) or "absent: no /dev/video*; plug one in"
    if shut:
        found["cameras"] += f" (not yours to open: {', '.join(shut)}; join the group video)"
    for name in BACKENDS:
        found[f"run by {name}"] = f"absent: {why}" if (why := absent(name)) else "works"
    if args.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found))
        print("\n".join(f"{name:{width}}  {told}" for name, told in found.items()))
    return 0


def _version(module: str) -> str:
    """Return the version of a module that is installed, nothing where it is not."""
    try:
        if importlib.util.find_spec(module) is None:
            return ""
    except ModuleNotFoundError:  # of the package it would be in
        return ""
    names = importlib.metadata.packages_distributions().get(module.split(".")[0], [])
    names = [name for name in names if module.split(".")[-1] in name] or names
    return importlib.metadata.version(names[0]) if names else "installed"
