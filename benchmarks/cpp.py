"""The C++ library and Python's runtime: equal results, time to the first one, memory, and damaged bundles.

    make bench-cpp                                      # ten bundles, written here (cpp_bundles.py)
    python benchmarks/cpp.py --case parity street yolo  # bundles of your own
    python benchmarks/cpp.py --case fuzz --count 5000   # with address and undefined-behaviour sanitizers

parity: the same images through both, at the network's size and at the camera's; ``max_difference`` by head, boxes in
pixels, the share of differing pixels for classes. cost: in turns, one thread. size: lines and megabytes. Rows go to
results/cpp.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cpp_bundles
import cpp_page
import numpy as np
from common import save_row
from numpy.typing import NDArray

from edgemtl.console import print_message, progress_bar
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.cpu import cpu_name
from edgemtl_runtime.pixels import read_image

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cpp.json"
BUILD, SANITIZED = ROOT / "out" / "cpp", ROOT / "out" / "cpp-sanitized"
IDENTITY = ("case", "bundle", "head", "images", "language")
TIMES, FRAMES = 7, 200
CAMERA, RESIZED = (480, 640), (540, 960)
"""Heights and widths of the images that are timed, and of those that are compared after they were resized."""
PYTHON = """
import sys, time, numpy as np
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.decode import decode
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.preprocess import Preprocessor
bundle = Bundle.open(sys.argv[1]); size = int(sys.argv[2]), int(sys.argv[3]); specs = bundle.manifest.inputs
images = {s.name: np.full((*size, 3) if s.channels == 3 else size, 90, np.uint8) for s in specs}
pre = Preprocessor(specs); times = []
with open_ort_engine(bundle, 1) as engine:
    for i in range(int(sys.argv[4])):
        begun = time.perf_counter()
        frames = {n: Frame(image, i, n, i) for n, image in images.items()}
        outputs = engine.run({n: pre.network_input(f)[None] for n, f in frames.items()})
        decode({n: o[0] for n, o in outputs.items()}, bundle.manifest.heads, pre.reference(FramePair(frames))[1])
        times.append(1e3 * (time.perf_counter() - begun))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(sorted(times)[len(times) // 2], peak.split()[1])
"""


def images_of(bundle: Bundle) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """Yield images by camera: of the network's size, to be resized, and with a camera missing."""
    rng = np.random.default_rng(0)
    specs = bundle.manifest.inputs
    data = os.environ.get("EDGEMTL_DATA")
    for size_name, size in (("network", None), ("camera", RESIZED)):
        images: dict[str, NDArray[Any]] = {}
        for spec in specs:
            shape = size or (spec.height, spec.width)
            files = sorted(Path(data, "rgbir", "rgb" if spec.channels == 3 else "ir", "val").glob("*")) if data else []
            image = (
                read_image(files[0], spec.modality)
                if files
                else rng.integers(0, 256, (*shape, spec.channels), np.uint8)
            )
            rows, columns = (np.arange(n) * m // n for n, m in zip(shape, image.shape[:2], strict=True))
            images[spec.name] = np.ascontiguousarray(image[rows][:, columns].squeeze())
        yield size_name, images
        thermal = [spec.name for spec in specs if spec.modality != "rgb"]
        if thermal and size is None:
            counts = {name: 27_000 + 20 * images[name].astype(np.uint16) for name in thermal}
            yield "network, counts", images | counts
        for spec in specs:
            if spec.may_be_missing and len(specs) > 1 and size is None:
                yield f"network, without {spec.name}", {n: i for n, i in images.items() if n != spec.name}


def parity(bundle: Bundle, precision: str) -> Iterator[dict[str, Any]]:
    """Yield a row for every head and kind of images."""
    import native
    from parity import in_cpp, in_python

    library = native.Library(BUILD)
    for name, images in images_of(bundle):
        python, cpp = (
            in_python(bundle, images, precision=precision),
            in_cpp(library, bundle, images, precision=precision),
        )
        for head, expected in python.items():
            actual = cpp.heads[head]
            same = expected.shape == actual.shape
            is_classes = expected.dtype == np.uint8
            difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64)) if same else np.array([np.inf])
            worst = (difference > 0).mean() if is_classes else np.nanmax(difference, initial=0.0)
            label = bundle.manifest.name if precision == "fp32" else f"{bundle.manifest.name} {precision}"
            yield {
                "case": "parity",
                "bundle": f"{bundle.path.name} ({label})",
                "head": head,
                "images": name,
                "max_difference": float(worst),
                "rows": len(expected),
            }


def measured(words: list[str]) -> tuple[float, float, float]:
    """Run a program; return its seconds, its peak memory in MB and its median milliseconds, of which it prints two."""
    before = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    latency_ms, peak_kb = done.stdout.split()
    return time.perf_counter() - before, int(peak_kb) / 1e3, float(latency_ms)


def environment() -> Mapping[str, str]:
    import native

    return os.environ | {"EDGEMTL_ONNXRUNTIME": str(native.onnxruntime_library()), "OMP_NUM_THREADS": "1"}


def cost(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Yield a row for each language: start to the first result, peak memory then, and milliseconds of later frames."""
    tail = [str(bundle.path), *map(str, CAMERA)]
    programs = {"cpp": [str(BUILD / "tests" / "edgemtl-time"), *tail], "python": [sys.executable, "-c", PYTHON, *tail]}
    first: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
    later: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(TIMES):
        for name, words in programs.items():
            first[name].append(measured([*words, "1"]))
            later[name].append(measured([*words, str(FRAMES)])[2])
    for name in programs:
        yield {
            "case": "cost",
            "bundle": f"{bundle.path.name} ({bundle.manifest.name})",
            "language": name,
            "start_s": round(statistics.median(row[0] for row in first[name]), 4),
            "memory_mb": round(statistics.median(row[1] for row in first[name]), 1),
            "latency_ms": round(statistics.median(later[name]), 3),
            "camera": f"{CAMERA[1]}x{CAMERA[0]}",
            "machine": cpu_name(),
        }


def fuzz(count: int) -> Iterator[dict[str, Any]]:
    """Yield a row for mutated manifests and one for mutated networks, opened with sanitizers and by Python."""
    import native
    from conftest import write_toy_bundle
    from fuzz_targets import write_bundle
    from test_untrusted import comparable, in_cpp, outcome

    native.build(SANITIZED, "-DEDGEMTL_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    for kind in ("manifest", "network"):
        with tempfile.TemporaryDirectory() as root, progress_bar(kind, count) as bar:
            write_toy_bundle(Path(root) / "toy")
            python: dict[Path, str] = {}
            for number in range(count):
                folder = Path(root) / str(number)
                write_bundle(Path(root), folder, np.random.default_rng(number), kind == "network")
                python[folder] = outcome(folder)
                bar(number + 1, {})
            lines = in_cpp(SANITIZED / "tests" / "edgemtl-open", list(python))
        rejected = sum(map(bool, python.values()))
        pairs = list(zip(python.values(), lines, strict=True))
        yield {
            "case": "fuzz",
            "bundle": kind,
            "count": count,
            "rejected": rejected,
            "otherwise_than_python": sum(bool(a) != bool(b) for a, b in pairs),
            "same_line": sum(bool(a) and comparable(a) == comparable(b) for a, b in pairs) / rejected,
        }


def size() -> dict[str, Any]:
    """Return the row of how much there is: lines of the library and its headers, and its file, stripped."""
    files = [file for part in ("src", "include") for file in (ROOT / "runtime/cpp" / part).rglob("*.?pp")]
    headers = [*(ROOT / "runtime/cpp/include").rglob("*.h")]
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / "libedgemtl.so"
        subprocess.run(["strip", "-o", stripped, BUILD / "libedgemtl.so"], check=True)
        megabytes = stripped.stat().st_size / 1e6
    lines = {file: len(file.read_text().splitlines()) for file in (*files, *headers)}
    public = sum(count for file, count in lines.items() if "include" in file.parts)
    shares = {"lines": sum(lines.values()), "lines_of_headers": public}
    return {"case": "size", **shares, "library_mb": round(megabytes, 3)}


def main() -> None:
    """Build the library and write the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("parity", "cost", "fuzz", "size"))
    parser.add_argument("--count", type=int, default=5000, help="of mutated bundles, of each kind")
    parser.add_argument("bundles", nargs="*", type=Path, help="bundles of your own, for parity and cost")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cpp"), str(ROOT / "tests" / "external")]
    import native

    if reason := native.why_not():
        sys.exit(f"benchmarks/cpp.py: {reason}")
    native.build(BUILD)
    with tempfile.TemporaryDirectory() as folder:
        bundles = args.bundles
        if not bundles and args.case not in ("fuzz", "size"):
            bundles = list(cpp_bundles.write_bundles(Path(folder)))
        for case in [args.case] if args.case else ("parity", "cost", "fuzz", "size"):
            whole = {"fuzz": lambda: fuzz(args.count), "size": lambda: [size()]}
            for row in whole[case]() if case in whole else _of_bundles(case, bundles):
                print_message(str(row))
                save_row(RESULTS, "runs", row, *IDENTITY)
                cpp_page.write(json.loads(RESULTS.read_text())["runs"])


def _of_bundles(case: str, folders: list[Path]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        bundle = Bundle.open(folder)
        if case == "cost":
            yield from cost(bundle)
        else:
            for precision in bundle.precisions:
                yield from parity(bundle, precision)


if __name__ == "__main__":
    main()
