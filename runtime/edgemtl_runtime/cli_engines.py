"""``edgemtl-runtime build``, ``inspect``, ``bench``, ``doctor``: a bundle's content and this machine's backends."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .atomic import AtomicFile
from .bundle import MODELS, Bundle, Input
from .cli_parser import add_examples
from .errors import EdgemtlError
from .renamed_names import with_old_keys
from .signals import DefaultSignals, with_default_signals

if TYPE_CHECKING:
    from .engine import Arrays

PARTS = {
    "onnxruntime": ("onnxruntime", "pip install 'edgemtl-runtime[onnxruntime]'"),
    "tensorrt": ("tensorrt", "with an NVIDIA GPU pip install tensorrt; on a Jetson use JetPack's"),
    "tensorrt-rtx": ("tensorrt_rtx", "pip install 'edgemtl-runtime[rtx]'"),
    "cuda-bindings": ("cuda.bindings", "pip install 'edgemtl-runtime[cuda]'"),
    "opencv": ("cv2", "pip install 'edgemtl-runtime[opencv]'"),
}
"""Optional dependencies of the runtime: the module, and how to install it."""


def add_engines(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a command line's parser."""
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
    build.add_argument(
        "--seconds", type=float, default=5.0, help="of timing, all configurations together (%(default)s)"
    )
    build.add_argument(
        "--frames", type=Path, metavar="FOLDER", help="compare on these: a folder of images for each camera"
    )
    build.add_argument("--capability", default="", metavar="8.6", help="build for this GPU instead (tensorrt-rtx)")
    build.add_argument("--workspace-mb", type=int, default=0, help="limit of working memory (default: TensorRT's)")
    build.add_argument("--engine-out", type=Path, metavar="FILE", help="copy the plain plan here as well")
    build.add_argument("--overwrite", action="store_true", help="replace the file of --engine-out, if it exists")
    build.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(build, "street", "street --backend tensorrt --precision fp16")
    build.set_defaults(command=command_build)
    inspect = commands.add_parser("inspect", help="print what a bundle holds, and which engines are built of it")
    inspect.add_argument("bundle", type=Path)
    inspect.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(inspect, "street")
    inspect.set_defaults(command=command_inspect)
    bench = commands.add_parser(
        "bench",
        help="time every network of a bundle on this machine",
        description="Times are measured, never estimated.",
    )
    bench.add_argument("bundle", type=Path)
    bench.add_argument("--backend", metavar="NAME", default="", help="this one only (default: all that work here)")
    bench.add_argument("--seconds", type=float, default=10.0, help="of timing, all networks together (%(default)s)")
    bench.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(bench, "street --seconds 20", "street --json")
    bench.set_defaults(command=command_bench)
    doctor = commands.add_parser("doctor", help="print what this machine can run, and what to install")
    doctor.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(doctor, "")
    doctor.set_defaults(command=command_doctor)


def command_build(args: argparse.Namespace) -> int:
    """Select the fastest backend configuration, or build one backend's engine."""
    if args.workspace_mb < 0:
        raise EdgemtlError(f"--workspace-mb {args.workspace_mb}: is a size, 0 for TensorRT's default")
    if not 0 < args.seconds <= 86400:
        raise EdgemtlError(f"--seconds {args.seconds:g}: is a time, up to a day")
    if not args.backend and (args.capability or args.engine_out or args.workspace_mb):
        raise EdgemtlError("--capability, --workspace-mb and --engine-out are of one engine: give --backend too")
    bundle = Bundle.open(args.bundle)
    frames = read_frames(args.frames, bundle.manifest.inputs) if args.frames else []
    if not args.backend:
        return _autotune(args, bundle, frames)
    with AtomicFile(args.engine_out, args.overwrite) if args.engine_out else nullcontext() as plain:
        return _build_one(args, bundle, frames, plain)


def _autotune(args: argparse.Namespace, bundle: Bundle, frames: list[Arrays]) -> int:
    with DefaultSignals():
        from .engine.autotune import autotune
        from .engine.config import engine_configs

    quiet = args.json or not sys.stderr.isatty()
    selection, rejected = autotune(
        bundle,
        engine_configs(bundle, precision=args.precision or ""),
        args.seconds,
        frames,
        lambda text: None if quiet else print(text, file=sys.stderr),
    )
    if args.json:
        report = {
            "config": msgspec.to_builtins(selection.config),
            "device": selection.device,
            "p50_ms": selection.p50_ms,
            "rejected": {str(config): reason for config, reason in rejected.items()},
        }
        print(json.dumps(with_old_keys(report, way="config", refused="rejected")))
        return 0
    for label, median in sorted(selection.p50_ms.items(), key=lambda item: item[1]):
        print(f"{label:36} {median:8.2f} ms{'   <- chosen' if label == str(selection.config) else ''}")
    for reason in rejected.values():
        print(f"rejected: {reason}")
    print(f"on {selection.device}; `edgemtl-runtime run` takes it from now on")
    return 0


def _build_one(args: argparse.Namespace, bundle: Bundle, frames: list[Arrays], plain: AtomicFile | None) -> int:
    with DefaultSignals():
        from .engine.autotune import check_engine
        from .engine.benchmark import noise
        from .engine.build import build_engine
        from .engine.config import EngineConfig
        from .engine.trt_build import Settings
        from .engine.trt_run import TrtEngine

    precision = args.precision or bundle.precisions[-1]

    def show_progress(phase: str, step: int, steps: int) -> bool:
        print(f"\r{phase[:60]:60} {step}/{steps}", end="", file=sys.stderr, flush=True)
        return True

    quiet = args.json or not sys.stderr.isatty()
    settings = Settings(workspace_mb=args.workspace_mb, capability=args.capability)
    built = build_engine(bundle, args.backend, precision, settings, progress=None if quiet else show_progress)
    if not quiet:
        print(file=sys.stderr)
    agreed = None
    if built.key.gpu:
        with TrtEngine(args.backend, built.data, bundle.manifest) as engine:
            agreed = check_engine(
                bundle, EngineConfig(args.backend, precision), engine, frames or [noise(bundle.manifest)]
            )
    if plain:
        plain.write(built.data)
    if args.json:
        report = {"plan": str(built.plan), "bytes": len(built.data), "cached": built.cached, "differs": built.differs}
        print(json.dumps(report | {"agreed": agreed, "key": msgspec.to_builtins(built.key)}))
        return 0
    if built.differs:
        print(f"an older engine does not fit: {'; '.join(built.differs)}")
    origin = "was there already" if built.cached else "built"
    print(
        f"{precision} with {args.backend} {built.key.version}: {origin}, {len(built.data) / 1e6:.1f} MB\n{built.plan}"
    )
    shares = ", ".join(f"{head} {share:.1%}" for head, share in (agreed or {}).items())
    print(f"agrees with ONNX Runtime: {shares}" if shares else "not run here: built for another GPU")
    return 0


def read_frames(folder: Path, inputs: tuple[Input, ...], most: int = 16) -> list[Arrays]:
    """Return network inputs from a folder that holds a folder of images for each camera."""
    from .camera import open_camera
    from .letterbox import Letterbox, to_uint8

    streams = []
    for spec in inputs:
        if not (folder / spec.name).is_dir():
            raise EdgemtlError(f"--frames {folder}: has no folder '{spec.name}'; it needs one for each camera")
        streams.append(open_camera(str(folder / spec.name), spec.name).frames())
    samples: list[Arrays] = []
    for frames in zip(*streams, strict=False):
        sample: Arrays = {}
        for spec, frame in zip(inputs, frames, strict=True):
            letterbox = Letterbox.plan(frame.size, (spec.height, spec.width))
            image = to_uint8(frame.image, spec.thermal_range)
            sample[spec.name] = letterbox.image(image, spec.channels, spec.blank)[None]
        samples.append(sample)
        if len(samples) == most:
            break
    return samples


@with_default_signals
def command_inspect(args: argparse.Namespace) -> int:
    """Print what a bundle holds, and the engines built of it."""
    from .engine.cache import Cache, default_folder

    bundle = Bundle.open(args.bundle)
    hashes = {digest: name for name, digest in bundle.manifest.files.items()}
    cached = Cache().sidecars() if default_folder().is_dir() else []
    engines = [sidecar for sidecar in cached if sidecar.key.onnx_sha256 in hashes]
    if args.json:
        report: dict[str, Any] = {"manifest": msgspec.to_builtins(bundle.manifest)}
        print(json.dumps(report | {"engines": [msgspec.to_builtins(sidecar) for sidecar in engines]}))
        return 0
    manifest = bundle.manifest
    print(f"{manifest.name}, written by {manifest.producer}; schema version {manifest.schema_version}")
    print(f"  licence: {manifest.licence}")
    if {"parameters_before", "parameters_after"} <= manifest.removed.keys():
        before, after = manifest.removed["parameters_before"], manifest.removed["parameters_after"]
        print(f"  {after:,} parameters, of {before:,} that were trained")
    for name, share in manifest.parity.get("agreement", {}).items():
        agreed = "" if share is None else f"{share:.2%} of it"
        frames = manifest.parity.get("frames", 0)
        print(f"  {name}: {agreed or 'not known how much'} as the trained run answered, on {frames} images")
    for spec in manifest.inputs:
        optional = ", may be absent" if spec.may_be_missing else ""
        print(
            f"  takes {spec.name}: {spec.height}x{spec.width}x{spec.channels} {spec.dtype}, {spec.modality}{optional}"
        )
    for head in manifest.heads:
        print(f"  gives {head.name} ({head.task}): {', '.join(head.classes) or head.units or 'values'}")
    for name in bundle.precisions:
        scores = manifest.precisions.get(name, {}).get("scores", {})
        figures = "".join(
            f", {h} {m} {v:.4f}" for h, values in scores.items() for m, v in values.items() if v is not None
        )
        latency = manifest.precisions.get(name, {}).get("latency_ms")
        figures = (f", {latency:.2f} ms where it was exported" if latency is not None else "") + figures
        print(f"  {name}: {bundle.model_in(name).stat().st_size / 1000:,.0f} kB{figures}")
    for name, reason in manifest.rejected.items():
        print(f"  {name} rejected: {reason}")
    for sidecar in engines:
        key = sidecar.key
        print(
            f"  engine: {key.precision}, {key.backend} {key.version}, {key.gpu or 'ahead of time'}"
            f" {key.compute_capability}, {sidecar.plan_bytes / 1e6:.1f} MB"
        )
    return 0


@with_default_signals
def command_bench(args: argparse.Namespace) -> int:
    """Benchmark a bundle on every backend that is available on this machine."""
    from .engine.benchmark import benchmark, benchmark_stages, table
    from .engine.config import BACKENDS, engine_configs, open_engine, unavailable_reason

    if not 0 < args.seconds <= 86400:
        raise EdgemtlError(f"--seconds {args.seconds:g}: is a time, up to a day")
    quiet = args.json or not sys.stderr.isatty()
    bundle = Bundle.open(args.bundle)
    on_message = (lambda _: None) if quiet else (lambda text: print(text, file=sys.stderr))
    timings, rejected = benchmark(bundle, engine_configs(bundle, args.backend), args.seconds, on_message)
    with open_engine(bundle, timings[0].config) as engine:
        stages_ms = benchmark_stages(bundle, engine)
    unavailable = {name: reason for name in BACKENDS if (reason := unavailable_reason(name))}
    if args.json:
        report = {
            "timings": [with_old_keys(msgspec.to_builtins(timing), way="config") for timing in timings],
            "stages_ms": stages_ms,
            "around_ms": with_old_keys(stages_ms, fit="preprocess"),
            "unavailable": unavailable,
            "rejected": {str(config): reason for config, reason in rejected.items()},
        }
        print(json.dumps(with_old_keys(report, absent="unavailable", refused="rejected")))
        return 0
    print(table(timings))
    stages = ", ".join(f"{name} {ms:.2f} ms" for name, ms in stages_ms.items())
    print(f"next to the network, for cameras of 640x480: {stages}")
    for skipped, reason in [*rejected.items(), *unavailable.items()]:
        print(f"not timed: {skipped}: {reason}")
    return 0


@with_default_signals
def command_doctor(args: argparse.Namespace) -> int:
    """Print what is installed and available, with a reason and a remedy for what is not."""
    from .engine.config import BACKENDS, unavailable_reason
    from .engine.gpu import Gpu, find_gpu

    gpu = find_gpu()
    report = {
        "gpu": f"{gpu.name}, compute capability {gpu.compute_capability}, CUDA {gpu.driver}"
        if isinstance(gpu, Gpu)
        else f"absent: {gpu}"
    }
    for name, (module, remedy) in PARTS.items():
        report[name] = _version(module) or f"absent: {remedy}"
    if _version("onnxruntime"):
        import onnxruntime

        report["onnxruntime"] += f" ({', '.join(onnxruntime.get_available_providers())})"
    if _version("cv2"):
        import cv2

        streams = [cv2.videoio_registry.getBackendName(number) for number in cv2.videoio_registry.getStreamBackends()]
        report["opencv"] += f" (reads streams by {', '.join(streams)})"
    cameras = sorted(Path("/dev").glob("video*"))
    shut = [camera.name for camera in cameras if not os.access(camera, os.R_OK | os.W_OK)]
    report["cameras"] = ", ".join(camera.name for camera in cameras) or "absent: no /dev/video*; plug one in"
    if shut:
        report["cameras"] += f" (not yours to open: {', '.join(shut)}; join the group video)"
    for name in BACKENDS:
        report[f"run by {name}"] = f"absent: {reason}" if (reason := unavailable_reason(name)) else "works"
    if args.json:
        print(json.dumps(report))
    else:
        width = max(map(len, report))
        print("\n".join(f"{name:{width}}  {text}" for name, text in report.items()))
    return 0


def _version(module: str) -> str:
    """Return the version of an installed module; empty where it is not installed."""
    try:
        if importlib.util.find_spec(module) is None:
            return ""
    except ModuleNotFoundError:  # of the package it would be in
        return ""
    names = importlib.metadata.packages_distributions().get(module.split(".")[0], [])
    names = [name for name in names if module.split(".")[-1] in name] or names
    return importlib.metadata.version(names[0]) if names else "installed"
