"""Inputs that are not called rgb and ir: given by --camera, told by it, recorded, calibrated and registered."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames

from edgemtl_runtime.bundle import MANIFEST, Bundle, Head, Input, Manifest, sha256
from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError, flag
from edgemtl_runtime.rig import CameraModel, Rig

PATTERN = "pattern:?fps=0&frames=4&width=96&height=64"


def named_bundle(folder: Path, names: tuple[str, ...] = ("colour", "thermal.left")) -> Path:
    """Write a bundle whose inputs have names of their own: its network gives one box."""
    import msgspec
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    channels = (3, 1, 1)
    rows = np.array([[[8, 8, 40, 40, 0.9, 0]]], np.float32)
    nodes = [helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT) for name in names]
    nodes += [helper.make_node("ReduceMax", [f"{name}_float"], [f"{name}_top"], keepdims=0) for name in names]
    nodes += [helper.make_node("Sum", [f"{name}_top" for name in names], ["top"])]
    nodes += [
        helper.make_node("Mul", ["top", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["boxes"]),
    ]
    pairs = list(zip(names, channels, strict=False))
    graph = helper.make_graph(
        nodes,
        "named",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 64, 96, count]) for name, count in pairs],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 6])],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(folder / "model.onnx")
    )
    inputs = tuple(
        Input(n, 64, 96, c, (0.0,) * c, (1.0,) * c, "rgb" if c == 3 else "ir", may_be_missing=True) for n, c in pairs
    )
    head = Head("boxes", "boxes", "topk_boxes", ("person",))
    files = {"model.onnx": sha256(folder / "model.onnx")}
    (folder / MANIFEST).write_bytes(msgspec.json.encode(Manifest("named", inputs, (head,), files, "CC0-1.0")))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return named_bundle(tmp_path / "named")


def test_inputs_of_any_name_are_run(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = write_frames(tmp_path / "a=b", 4, channels=1)  # a path may hold what parts name and path
    for cameras in (
        ["--camera", f"colour={PATTERN}", "--camera", f"thermal.left={frames}"],
        [f"--camera=colour={PATTERN}", f"--camera=thermal.left={frames}?fps=0"],
        ["--camera", f"thermal.left={frames}"],
    ):
        assert main(["run", str(bundle), *cameras, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["pairs"] == 4 and set(told["frames"]) <= {"colour", "thermal.left"}


def test_short_forms_and_long_ones_mix(toy_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cameras in (["--camera", f"rgb={PATTERN}", "--ir", PATTERN], ["--rgb", PATTERN, "--camera", f"ir={PATTERN}"]):
        assert main(["run", str(toy_bundle), *cameras, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["pairs"] == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "the bundle needs --camera colour=... and --camera thermal.left=...; it takes colour and thermal.left"),
        (["--rgb", PATTERN], "has no input rgb; it takes colour and thermal.left: leave out --rgb"),
        (
            ["--camera", f"depth={PATTERN}"],
            "has no input depth; it takes colour and thermal.left: leave out --camera depth",
        ),
        (["--camera", PATTERN.replace("pattern:", "")], "give NAME=SRC, as in --camera depth=2"),
        (["--camera", "colour"], "--camera colour: give NAME=SRC"),
        (["--camera", "colour="], "--camera colour=: give NAME=SRC"),
        (["--camera", f"={PATTERN}"], "give NAME=SRC"),
        (["--camera", "colour=0", "--camera", "colour=1"], "--camera colour=... is given twice"),
        (["--camera", "colour=nowhere"], "--camera colour=nowhere: no such folder or file"),
        (["--camera", "colour=mcap:no.mcap#/x"], "--camera colour=mcap:no.mcap#/x: there is no such file"),
        (["--camera", "colour=csi://x"], "--camera colour=csi://x: is not csi://"),
    ],
)
def test_what_is_wrong_is_told_with_the_words_that_would_be_right(
    bundle: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "csi" in expected:
        pytest.importorskip("gi")
    assert main(["run", str(bundle), *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_one_camera_twice_and_passwords(toy_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(toy_bundle), "--rgb", PATTERN, "--camera", f"rgb={PATTERN}", "--ir", PATTERN]) == 2
    assert "--rgb is given twice" in capsys.readouterr().err
    assert main(["run", str(toy_bundle), "--camera", "rtsp://me:hush@10.0.0.1/x"]) == 2
    assert "hush" not in capsys.readouterr().err


def test_three_cameras_of_any_names_are_run_and_nine_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = named_bundle(tmp_path / "three", ("a", "b", "c"))
    words = [word for name in "abcdefghi" for word in ("--camera", f"{name}={PATTERN}")]
    assert main(["run", str(three), *words[:6], "--json"]) == 0
    assert main(["record", *words, "--out", str(tmp_path / "x")]) == 2
    assert "9 cameras are given; give one, or up to 8 that are paired" in capsys.readouterr().err
    assert main(["run", str(three), *words[:4], "--json"]) == 0  # two of three, since either may be absent


@pytest.mark.parametrize("out", ["data", "drive.mcap"])
def test_cameras_of_any_name_are_recorded(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--camera", f"left={PATTERN}", "--camera", f"right={PATTERN}", "--out", str(tmp_path / out), "--json"]
    assert main(["record", *words]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == {"left": 4, "right": 4}
    if out == "data":
        assert sorted(folder.name for folder in (tmp_path / out).iterdir() if folder.is_dir()) == ["left", "right"]


def rig_of(names: tuple[str, str]) -> Rig:
    """Return a rig of two cameras that see the same, the other one shifted."""
    cameras = {name: CameraModel(name, 96, 64, np.zeros((3, 3)), np.zeros(5)) for name in names}
    return Rig(cameras, homography_rgb_to_ir=np.array([[1, 0, 6], [0, 1, 0], [0, 0, 1.0]]), reference=names[0])


@pytest.mark.parametrize("names", [("colour", "thermal.left"), ("rgb", "thermal.left")])
def test_a_rig_has_the_names_it_was_calibrated_with(
    names: tuple[str, str], bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "points.csv").write_text(
        "x_rgb,y_rgb,x_ir,y_ir\n" + "".join(f"{x},{y},{x + 6},{y}\n" for x in (9, 40, 80) for y in (9, 30, 55))
    )
    flags = {"rgb": ["--rgb"], "colour": ["--camera"], "thermal.left": ["--camera"]}
    words = []
    for name in names:
        words += [*flags[name], PATTERN if flags[name] == ["--rgb"] else f"{name}={PATTERN}"]
    rig = tmp_path / "rig.yaml"
    assert main(["calibrate", *words, "--points", str(tmp_path / "points.csv"), "--out", str(rig)]) == 0
    found = Rig.open(rig)
    assert (found.rgb.name, found.ir.name) == names
    cameras = ["--camera", f"colour={PATTERN}", "--camera", f"thermal.left={PATTERN}"]
    code = main(["run", str(bundle), *cameras, "--rig", str(rig), "--json"])
    told = capsys.readouterr()
    if names[0] == "colour":
        assert code == 0 and json.loads(told.out.splitlines()[-1])["pairs"] == 4
    else:  # its pictures would stay as they are, without a word
        assert (
            code == 2 and "the rig is of the cameras rgb and thermal.left, not of colour and thermal.left" in told.err
        )


def test_a_rig_of_other_names_is_refused_by_record_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig_of(("rgb", "ir")).save(tmp_path / "rig.yaml")
    words = ["--camera", f"left={PATTERN}", "--ir", PATTERN, "--rig", str(tmp_path / "rig.yaml")]
    assert main(["record", *words, "--out", str(tmp_path / "data")]) == 2
    assert "the rig is of the cameras rgb and ir, not of ir and left" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_what_is_recorded_with_a_rig_of_other_names_is_registered(order: tuple[str, str], tmp_path: Path) -> None:
    rig_of(("left", "right")).save(tmp_path / "rig.yaml")
    image = np.zeros((64, 96), np.uint8)
    image[:, 48:] = 200
    for name, scale in (("left", 1), ("right", 2)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), np.kron(image, np.ones((scale, scale), np.uint8)))
    words = [word for name in order for word in ("--camera", f"{name}={tmp_path / name}")]
    words += ["--rig", str(tmp_path / "rig.yaml"), "--out", str(tmp_path / "data")]
    assert main(["record", *words]) == 0
    (file,) = (tmp_path / "data" / "right" / "train").iterdir()
    found = cv2.imread(str(file), -1)
    assert found.shape == (64, 96)  # of the reference, whichever was given first
    assert found[30, 45] == 200 and found[30, 40] == 0  # moved by six pixels


def test_a_bundle_without_the_rig_s_reference_is_told(tmp_path: Path) -> None:
    from edgemtl_runtime import Pipeline
    from edgemtl_runtime.camera import open_cameras
    from edgemtl_runtime.engine.onnxruntime import OrtEngine

    opened = Bundle.open(named_bundle(tmp_path / "one", ("ir",)))
    with pytest.raises(EdgemtlError, match="the rig's reference is rgb, which the bundle does not take"):
        Pipeline(opened, OrtEngine(opened.model), open_cameras({"ir": PATTERN}), rig=rig_of(("rgb", "ir")))


def test_flags_are_named_in_one_place() -> None:
    """No message writes a camera's flag by itself: of other names it would be one that there is not."""
    assert flag("ir") == "--ir" and flag("ir", "x") == "--ir x"
    assert flag("depth") == "--camera depth=..." and flag("depth", "x") == "--camera depth=x"
    package = Path(main.__code__.co_filename).parent
    written = [
        f"{file.name}: {line.strip()}"
        for file in package.rglob("*.py")
        for line in file.read_text().splitlines()
        if 'f"--{' in line and file.name != "errors.py" and "sink" not in file.parts  # those have flags of their own
    ]
    assert not written
