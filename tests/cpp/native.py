"""The C library in Python: built from runtime/cpp, called by ctypes, its results as arrays."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Mapping
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).parents[2] / "runtime" / "cpp"
RGB8, BGR8, GREY8, GREY16 = 1, 2, 3, 4
BOXES, POINTS = 1, 9
ELEMENTS = {1: np.float32, 2: np.uint8, 7: np.int64}


class Box(Structure):
    _fields_ = [(name, c_float) for name in ("x1", "y1", "x2", "y2", "score")] + [("class_index", c_int32)]


class Point(Structure):
    _fields_ = [(name, c_float) for name in ("x", "y", "score")] + [("class_index", c_int32)]


class Options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("precision", c_char_p),
        ("provider", c_char_p),
        ("library", c_char_p),
        ("threads", c_int),
        ("plan", c_char_p),
    ]


class Image(Structure):
    _fields_ = [
        ("camera", c_char_p),
        ("data", c_void_p),
        ("height", c_int),
        ("width", c_int),
        ("row_bytes", c_size_t),
        ("pixels", c_int),
        ("stamp_ns", c_int64),
    ]


class HeadResult(Structure):
    _fields_ = [
        ("kind", c_int),
        ("boxes", POINTER(Box)),
        ("points", POINTER(Point)),
        ("count", c_size_t),
        ("values", c_void_p),
        ("element", c_int),
        ("shape", POINTER(c_int64)),
        ("dimensions", c_size_t),
        ("thresholds", POINTER(c_float)),
    ]


class NativeError(Exception):
    """A status other than 0, with the line of the library."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass
class NativeResult:
    """Results of one run: boxes (N, 6) as x1 y1 x2 y2 score class, points (N, 4), anything else as its array."""

    camera: str
    stamp_ns: int
    skew_ns: int
    heads: dict[str, NDArray[Any]]
    thresholds: dict[str, list[float]]


def why_not() -> str:
    """Return why the library cannot be built here, "" where it can."""
    missing = [tool for tool in ("cmake", "g++", "make") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)}: Debian's build-essential and cmake"
    return "" if Path("/usr/include/nlohmann/json.hpp").is_file() else "needs Debian's nlohmann-json3-dev"


def build(folder: Path, *options: str) -> Path:
    """Build everything into a folder, and return it."""
    for words in (["cmake", "-S", str(SOURCE), "-B", str(folder), *options], ["cmake", "--build", str(folder), "-j2"]):
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder


def onnxruntime_library() -> Path:
    """Return the file of ONNX Runtime in its wheel."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so*"))


class Library:
    """The library's functions, with failures as `NativeError`."""

    def __init__(self, folder: Path, file: str = "libedgemtl.so") -> None:
        self.c = ctypes.CDLL(str(folder / file))
        self.c.edgemtl_last_error.restype = c_char_p
        self.c.edgemtl_result_camera.restype = c_char_p
        self.c.edgemtl_result_stamp_ns.restype = self.c.edgemtl_result_skew_ns.restype = c_int64
        self.c.edgemtl_default_options.restype = Options
        self.c.edgemtl_close.argtypes = self.c.edgemtl_free_result.argtypes = [c_void_p]
        self.c.edgemtl_result_camera.argtypes = [c_void_p]
        self.c.edgemtl_result_stamp_ns.argtypes = self.c.edgemtl_result_skew_ns.argtypes = [c_void_p]
        self.c.edgemtl_open.argtypes = [c_char_p, POINTER(Options), POINTER(c_void_p)]
        self.c.edgemtl_set_threshold.argtypes = [c_void_p, c_char_p, c_char_p, c_float]
        self.c.edgemtl_run.argtypes = [c_void_p, POINTER(Image), c_size_t, POINTER(c_void_p)]
        self.c.edgemtl_result_head.argtypes = [c_void_p, c_char_p, POINTER(HeadResult)]

    def check(self, status: int) -> None:
        """Raise `NativeError` for a status that is not 0."""
        if status:
            raise NativeError(status, self.c.edgemtl_last_error().decode())

    def open(self, bundle: Path, precision: str = "fp32", threads: int = 1, plan: Path | None = None) -> Network:
        """Open a bundle with the ONNX Runtime of Python's wheel, or with a plan of TensorRT."""
        options = self.c.edgemtl_default_options()
        options.precision, options.threads = precision.encode(), threads
        options.library = str(onnxruntime_library()).encode()
        options.plan = None if plan is None else str(plan).encode()
        handle = c_void_p()
        self.check(self.c.edgemtl_open(str(bundle).encode(), byref(options), byref(handle)))
        return Network(self, handle)


class Network:
    """An opened bundle."""

    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def set_threshold(self, head: str, value: float, class_name: str | None = None) -> None:
        """Set the threshold of a head or of one of its classes."""
        name = None if class_name is None else class_name.encode()
        self.library.check(self.library.c.edgemtl_set_threshold(self.handle, head.encode(), name, value))

    def run(
        self, images: Mapping[str, NDArray[Any]], heads: Mapping[str, int], stamps: Mapping[str, int] | None = None
    ) -> NativeResult:
        """Run on images in RGB or of one channel; ``heads`` are names of those whose results are returned."""
        c, result = self.library.c, c_void_p()
        kept = {name: np.ascontiguousarray(image) for name, image in images.items()}
        rows = [
            Image(
                name.encode(),
                image.ctypes.data,
                image.shape[0],
                image.shape[1],
                0,
                RGB8 if image.ndim == 3 else GREY16 if image.dtype == np.uint16 else GREY8,
                (stamps or {}).get(name, 0),
            )
            for name, image in kept.items()
        ]
        self.library.check(c.edgemtl_run(self.handle, (Image * len(rows))(*rows), len(rows), byref(result)))
        try:
            found = {name: self._head(result, name) for name in heads}
            return NativeResult(
                c.edgemtl_result_camera(result).decode(),
                c.edgemtl_result_stamp_ns(result),
                c.edgemtl_result_skew_ns(result),
                {name: values for name, (values, _) in found.items()},
                {name: thresholds for name, (_, thresholds) in found.items()},
            )
        finally:
            c.edgemtl_free_result(result)

    def _head(self, result: c_void_p, name: str) -> tuple[NDArray[Any], list[float]]:
        head = HeadResult()
        self.library.check(self.library.c.edgemtl_result_head(result, name.encode(), byref(head)))
        if head.kind in (BOXES, POINTS):
            rows, fields = (head.boxes, Box._fields_) if head.kind == BOXES else (head.points, Point._fields_)
            table = [[getattr(rows[i], field[0]) for field in fields] for i in range(head.count)]
            return np.array(table, np.float64).reshape(-1, len(fields)), []
        shape = [head.shape[i] for i in range(head.dimensions)]
        dtype = np.dtype(ELEMENTS[head.element])
        size = int(np.prod(shape)) * dtype.itemsize
        values = np.frombuffer(ctypes.string_at(head.values, size), dtype).reshape(shape)
        count = len(values) if len(shape) == 1 else 1
        return values, [head.thresholds[i] for i in range(count)] if head.thresholds else []

    def close(self) -> None:
        """Close the network; once."""
        self.library.c.edgemtl_close(self.handle)
