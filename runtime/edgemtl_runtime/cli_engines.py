"""``edgemtl-runtime build``, ``inspect``, ``bench``, ``doctor``: what a bundle holds and what this machine can do."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from .bundle import Bundle
from .errors import EdgemtlError

PARTS = {
    "onnxruntime": ("onnxruntime", "pip install 'edgemtl-runtime[onnxruntime]'"),
    "tensorrt": ("tensorrt", "with an NVIDIA GPU pip install tensorrt; on a Jetson use JetPack's"),
    "tensorrt-rtx": ("tensorrt_rtx", "pip install 'edgemtl-runtime[rtx]'"),
    "opencv": ("cv2", "pip install 'edgemtl-runtime[opencv]'"),
}
"""What the runtime can use: the module, and what to do where it is not there."""


def add_engines(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a command line."""
    build = commands.add_parser(
        "build",
        help="build an engine of a bundle into this machine's cache",
        description="Build an engine with TensorRT or TensorRT-RTX; one that is there and fits is not built again.",
    )
    build.add_argument("bundle", type=Path)
    build.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt", help="(%(default)s)")
    build.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="(default: the smallest in the bundle)")
    build.add_argument("--capability", default="", metavar="8.6", help="build for this GPU instead (tensorrt-rtx)")
    build.add_argument("--workspace-mb", type=int, default=0, help="limit of working memory (default: TensorRT's)")
    build.add_argument("--engine-out", type=Path, metavar="FILE", help="copy the plain plan here as well")
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
    bench.add_argument("--seconds", type=float, default=10.0, help="of timing, all networks together (%(default)s)")
    bench.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    bench.set_defaults(command=command_bench)
    doctor = commands.add_parser("doctor", help="tell what this machine can run, and what to install")
    doctor.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    doctor.set_defaults(command=command_doctor)


def command_build(args: argparse.Namespace) -> int:
    """Build an engine, or find the one that is there."""
    from .engine.build import build_engine
    from .engine.trt import Settings

    if args.workspace_mb < 0:
        raise EdgemtlError(f"--workspace-mb {args.workspace_mb}: is a size, 0 for TensorRT's own choice")
    bundle = Bundle.open(args.bundle)
    precision = args.precision or bundle.precisions[-1]

    def tell(phase: str, step: int, steps: int) -> bool:
        print(f"\r{phase[:60]:60} {step}/{steps}", end="", file=sys.stderr, flush=True)
        return True

    quiet = args.json or not sys.stderr.isatty()
    settings = Settings(workspace_mb=args.workspace_mb, capability=args.capability)
    built = build_engine(bundle, args.backend, precision, settings, progress=None if quiet else tell)
    if not quiet:
        print(file=sys.stderr)
    if args.engine_out:
        part = args.engine_out.with_name(f".{args.engine_out.name}.part")
        part.write_bytes(built.data)
        part.replace(args.engine_out)
    if args.json:
        told = {"plan": str(built.plan), "bytes": len(built.data), "cached": built.there, "differs": built.differs}
        print(json.dumps(told | {"key": msgspec.to_builtins(built.key)}))
        return 0
    if built.differs:
        print(f"an older engine does not fit: {'; '.join(built.differs)}")
    there = "was there already" if built.there else "built"
    print(f"{precision} with {args.backend} {built.key.version}: {there}, {len(built.data) / 1e6:.1f} MB\n{built.plan}")
    return 0


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
    for spec in manifest.inputs:
        absent = ", may be absent" if spec.may_be_absent else ""
        print(f"  takes {spec.name}: {spec.height}x{spec.width}x{spec.channels} {spec.dtype}, {spec.modality}{absent}")
    for head in manifest.heads:
        print(f"  gives {head.name} ({head.task}): {', '.join(head.classes) or head.units or 'values'}")
    for name in bundle.precisions:
        scores = manifest.precisions.get(name, {}).get("scores", {})
        figures = "".join(f", {h} {m} {v:.4f}" for h, each in scores.items() for m, v in each.items())
        print(f"  {name}: {bundle.model_in(name).stat().st_size / 1000:,.0f} kB{figures}")
    for name, why in manifest.refused.items():
        print(f"  {name} refused: {why}")
    for each in engines:
        key = each.key
        print(
            f"  engine: {key.precision}, {key.backend} {key.version}, {key.gpu or 'ahead of time'}"
            f" {key.compute_capability}, {each.plan_bytes / 1e6:.1f} MB"
        )
    return 0


def command_bench(args: argparse.Namespace) -> int:
    """Time what a bundle holds on every back end that runs here."""
    from .engine.measure import measure, table

    if not 0 < args.seconds <= 86400:
        raise EdgemtlError(f"--seconds {args.seconds:g}: is a time, up to a day")
    quiet = args.json or not sys.stderr.isatty()
    timings = measure(
        Bundle.open(args.bundle), args.seconds, lambda text: None if quiet else print(text, file=sys.stderr)
    )
    print(json.dumps({"timings": [msgspec.to_builtins(each) for each in timings]}) if args.json else table(timings))
    return 0


def command_doctor(args: argparse.Namespace) -> int:
    """Tell what is here, with a reason and a remedy for what is not."""
    from .engine.device import Gpu, find_gpu

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
    if args.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found))
        print("\n".join(f"{name:{width}}  {told}" for name, told in found.items()))
    return 0


def _version(module: str) -> str:
    """Return the version of a module that is installed, nothing where it is not."""
    if importlib.util.find_spec(module) is None:
        return ""
    names = importlib.metadata.packages_distributions().get(module, [])
    return importlib.metadata.version(names[0]) if names else "installed"
