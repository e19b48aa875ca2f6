"""Fixtures: a small labelled folder, a tiny trained run and its bundle, and a toy bundle that needs no training."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")  # the same examples every time; a busy machine makes none of them wrong
os.environ.setdefault("OMP_NUM_THREADS", "1")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell starts what it runs in the background, and its children
    signal.signal(signal.SIGINT, signal.default_int_handler)


FOLDERS = ("journeys", "external", "training", "export", "cpp", "models", "runtime")
"""The order of the folders where several workers share the tests: what takes longest begins first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU; with several workers, begin with what takes longest."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)  # stable: within a file as it is written


def _turn(item: pytest.Item) -> tuple[bool, int]:
    """Return what tests are sorted by: those that watch the clock first, as they follow one another on one worker."""
    folder = item.path.parent.name
    return not watches_the_clock(item.path), FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


@cache
def watches_the_clock(file: Path) -> bool:
    """Whether a file's tests are marked "realtime"."""
    return "pytestmark = pytest.mark.realtime" in file.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file's tests to one worker, and those that watch the clock to one, where they follow one another.

    So no two of them run at once. (xdist's own groups have no effect with pytest 9.)
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "realtime" if watches_the_clock(config.rootpath / file) else file

    return Scheduling(config, log)


def folder_of(variable: str, name: str) -> Path:
    """Return a folder or file of the research data, or skip with the reason."""
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} is not set")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def rgbir() -> Path:
    """The real RGB-IR pairs."""
    return folder_of("EDGEMTL_DATA", "rgbir")


def write_pairs(root: Path, train: int = 6, val: int = 4, size: tuple[int, int] = (96, 128)) -> Path:
    """Write drawn streets in the folder layout of real pairs, with the labels of every task."""
    from edgemtl.data.readers.maps import READERS, write_map
    from edgemtl.synthetic import CLASSES, SEMANTIC_CLASSES
    from edgemtl.synthetic.streets import Streets, street

    height, width = size
    stems: list[str] = [",".join(["stem", "is_day", *Streets.classes["attributes"][1:]])]
    for split, first, count in (("train", 0, train), ("val", 900_000, val)):
        for folder in ("rgb", "ir", "labels", "labels_rgb", "labels_ir", *READERS):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            sample = street(seed, size)
            cv2.imwrite(str(root / "rgb" / split / f"{sample.name}.png"), sample.images["rgb"][:, :, ::-1])
            cv2.imwrite(str(root / "ir" / split / f"{sample.name}.png"), sample.images["ir"])
            for task in READERS:
                write_map(task, root / task / split / f"{sample.name}.png", sample.labels[task])
            boxes = sample.labels["boxes"]
            x0, y0, x1, y1 = (boxes.xyxy / np.array([width, height] * 2)).T
            rows = zip(boxes.classes, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, strict=True)
            text = "".join(f"{c} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n" for c, cx, cy, w, h in rows)
            for folder in ("labels", "labels_rgb", "labels_ir"):
                (root / folder / split / f"{sample.name}.txt").write_text(text)
            stems.append(",".join([sample.name, *(str(int(v)) for v in sample.labels["attributes"])]))
    (root / "attributes.csv").write_text("\n".join(stems) + "\n")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    semantic = "".join(f"  {i}: {name}\n" for i, name in enumerate(SEMANTIC_CLASSES))
    (root / "data.yaml").write_text(
        "path: .\ntrain: rgb/train\nval: rgb/val\ntrain_ir: ir/train\nval_ir: ir/val\n"
        f"names:\n{names}semantic:\n{semantic}attributes: [{', '.join(Streets.classes['attributes'][1:])}]\n"
    )
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A small folder of pairs, free to be damaged."""
    return write_pairs(tmp_path / "pairs")


TINY = (
    "input_size=[96,128]",
    "data.synthetic.num_train=240",
    "data.synthetic.num_val=24",
    "steps=90",
    "batch_size=8",
    "sparsity.target=0.6",
    "augment.mosaic=0.3",
    "precision=fp32",
)
"""A training of seconds: its network is poor but its outputs are no longer ties."""


def shared_folder(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one worker of a test session fills and every worker reads; who comes second waits for the first.

    ``make`` gets an empty folder. One that was left unfinished by an error is made again by the next who asks.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of the session; each worker's own is within
    folder, finished = root / f"shared-{name}", root / f"shared-{name}.finished"
    with (root / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                finished.touch()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # not by closing alone: a child that was forked meanwhile holds it too
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A run with half of its parameters zeroed; trained once a session, so its folder is only read."""
    from edgemtl.config_file import load
    from edgemtl.run import Run
    from edgemtl.train import train

    return Run.open(shared_folder(tmp_path_factory, "run", lambda out: train(load(None, TINY), out / "tiny")) / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The bundle of `tiny_run`, and what shrinking did; made once a session, so its folder is only read."""
    import torch

    from edgemtl.export import export
    from edgemtl_export import Shrunk
    from edgemtl_runtime.bundle import Bundle

    def make(out: Path) -> None:
        _, shrunk = export(tiny_run, out / "tiny")
        torch.export.save(shrunk.program, out / "shrunk.pt2")
        (out / "shrunk.pickle").write_bytes(pickle.dumps((shrunk.keep, shrunk.report)))

    folder = shared_folder(tmp_path_factory, "bundle", make)
    keep, report = pickle.loads((folder / "shrunk.pickle").read_bytes())
    return Bundle.open(folder / "tiny"), Shrunk(torch.export.load(folder / "shrunk.pt2"), keep, report)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the C library, its tests and its examples are built in (`tests/cpp`)."""
    import native

    if reason := native.why_not():
        pytest.skip(reason)
    pytest.importorskip("onnxruntime")
    return shared_folder(tmp_path_factory, "cpp", lambda out: native.build(out / "built")) / "built"


@pytest.fixture(scope="session")
def library(built: Path):  # type: ignore[no-untyped-def]
    """The C library."""
    import native

    return native.Library(built)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are files with next to nothing in them: they take half of the time of trainings of a few steps."""
    from matplotlib.figure import Figure

    def savefig(self: Figure, file: Path | BinaryIO, **_: object) -> None:
        if isinstance(file, Path):
            file.write_bytes(b"undrawn")
        else:
            file.write(b"undrawn")

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def toy_bundle(tmp_path: Path) -> Path:
    """A bundle of a hand-made network: it answers with one box around the middle and labels by brightness."""
    return write_toy_bundle(tmp_path / "toy")


def write_toy_bundle(
    folder: Path,
    height: int = 64,
    width: int = 96,
    classes: tuple[str, str] = ("person", "car"),
    warmest: int = 255,
    third: str = "",
) -> Path:
    """Write a bundle whose network needs no training: ``boxes`` (1, 2, 6) fixed, ``semantic`` = rgb's red > 127.

    It fails on thermal images with a value above ``warmest``; ``third`` is an input that changes nothing.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from edgemtl_runtime.atomic import AtomicFolder
    from edgemtl_runtime.bundle import BUNDLE, MODEL, Head, Input, Manifest, write_bundle

    rows = np.array([[[24, 16, 72, 48, 0.9, 0], [0, 0, 10, 10, 0.1, 1]]], np.float32)
    nodes = [
        helper.make_node("Cast", ["ir"], ["ir_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["ir_float"], ["warmest"], keepdims=0),
        helper.make_node("Cast", ["warmest"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["zero"]),
        helper.make_node("Mul", ["warmest", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["boxes"]),
        helper.make_node("Cast", ["rgb"], ["rgb_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["rgb_float", "first"], ["red"], axis=3),
        helper.make_node("Greater", ["red", "half"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["semantic"], to=TensorProto.UINT8),
    ]
    constants = {
        "rows": rows,
        "table": np.zeros(warmest + 1, np.float32),
        "half": np.float32(127),
        "first": np.int64(0),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("rgb", TensorProto.UINT8, [1, height, width, 3]),
            helper.make_tensor_value_info("ir", TensorProto.UINT8, [1, height, width, 1]),
            *([helper.make_tensor_value_info(third, TensorProto.UINT8, [1, height, width, 1])] if third else []),
        ],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 6]),
            helper.make_tensor_value_info("semantic", TensorProto.UINT8, [1, height, width]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    manifest = Manifest(
        name="toy",
        inputs=(
            Input("rgb", height, width, 3, (0.0,) * 3, (1.0,) * 3, "rgb"),
            Input("ir", height, width, 1, (0.0,), (1.0,), "ir"),
            *([Input(third, height, width, 1, (0.0,), (1.0,), third)] if third else []),
        ),
        heads=(
            Head("boxes", "boxes", "topk_boxes", classes),
            Head("semantic", "semantic", "label_map", ("dark", "bright")),
        ),
        files={},
        licence="CC0-1.0",
    )
    with AtomicFolder(folder, BUNDLE) as output:
        onnx.save(model, str(output.folder / MODEL))
        write_bundle(output, manifest)
    return folder


def write_frames(folder: Path, count: int, size: tuple[int, int] = (64, 96), channels: int = 3, depth: int = 8) -> Path:
    """Write ``count`` plain pictures of rising brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    top = 255 if depth == 8 else 60_000
    for index in range(count):
        value = round(top * (index + 1) / count)
        image = np.full((*size, channels) if channels > 1 else size, value, np.uint8 if depth == 8 else np.uint16)
        cv2.imwrite(str(folder / f"{index:04d}.png"), image)
    return folder
