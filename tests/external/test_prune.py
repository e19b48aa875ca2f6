"""Pruning of networks from elsewhere through the command line: what is written, and what is wrong in one line."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from foreign_networks import checkpoint, grid_onnx, images, python_file
from torch import nn

from edgemtl.cli import main
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import parse
from edgemtl.external.ultralytics import file_metadata
from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.cli import main as runtime

FEW = ("--metric", "flops", "--steps", "12", "--batch-size", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with unlabelled images in images/, networks in nets.py, and a detector net.onnx."""
    root = tmp_path_factory.mktemp("external")
    images(root / "images")
    python_file(root)
    grid_onnx(root / "net.onnx", 8, True)
    (root / "net.pt").write_bytes(b"PK")
    return root


def pruned(folder: Path, out: Path, network: str, *words: str) -> dict[str, object]:
    """Prune, and return what is printed as JSON."""
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        words = (network, "--images", str(folder / "images"), "--out", str(out), *FEW, *words, "--json")
        assert main(["prune", *words]) == 0
    answer: dict[str, object] = json.loads(printed.getvalue())
    return answer


def test_a_function_of_a_file_is_pruned_and_every_file_agrees(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    answer = pruned(folder, out, f"{folder / 'nets.py'}:small", "--input-size", "48", "64", "--target", "0.4")
    before, after = answer["parameters"]  # type: ignore[misc]
    assert after < 0.8 * before and answer["flops"][1] < 0.65 * answer["flops"][0]  # type: ignore[index]
    assert json.loads((out / "figures.json").read_text())["parameters"] == [before, after]
    program = torch.export.load(out / "network.pt2").module()
    session = onnxruntime.InferenceSession(out / "network.onnx")
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        expected = program(image).numpy()
    (given,) = session.run(None, {"rgb": image.numpy()})
    np.testing.assert_allclose(given, expected, atol=1e-5)
    bundle = Bundle.open(out / "bundle")
    assert bundle.manifest.heads[0].decoder == "tensor" and bundle.manifest.removed["parameters_after"] == after
    page = (out / "report.html").read_text()
    assert "without a decoder" in page and page.count("<img") == 14  # six pairs, channels, curves
    assert main(["prune", f"{folder / 'nets.py'}:small", "--images", str(folder / "images"), "--out", str(out)]) == 2


def test_a_detector_is_pruned_and_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small"
    answer = pruned(folder, out, str(folder / "net.onnx"), "--target", "0.3")
    assert answer["warnings"] == [] and answer["latency_to_dense"]
    words = ["run", str(out / "bundle"), "--rgb", str(folder / "images"), "--jsonl", str(tmp_path / "out.jsonl")]
    assert runtime(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 12 and "boxes" in lines[0]["heads"]
    capsys.readouterr()


def test_a_program_and_a_library_s_network_are_pruned(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 4, 1)
    )
    torch.export.save(torch.export.export(network.eval(), (torch.rand(1, 3, 48, 64),)), tmp_path / "net.pt2")
    answer = pruned(folder, tmp_path / "one", str(tmp_path / "net.pt2"), "--target", "0.4")
    assert answer["flops"][1] < 0.65 * answer["flops"][0]  # type: ignore[index]


WRONG = {
    "no file": ("none.pt", [], "none.pt: there is no such file"),
    "no images": ("net.onnx", ["--images", "nowhere"], "nowhere: there is no such folder"),
    "nothing to see": ("net.onnx", [], "give --images FOLDER"),
    "both": ("net.onnx", ["--images", "images", "--data", "images"], "not allowed with argument"),
    "no function": ("nets.py", ["--images", "images"], r"nets.py: which function makes the network\? write nets.py:"),
    "another function": ("nets.py:smal", ["--images", "images"], r"has no function 'smal'; it has Small, small"),
    "fails": ("nets.py:fails", ["--images", "images"], r"nets.py:fails: failed \(no such thing\)"),
    "no module": ("nets.py:number", ["--images", "images"], "returned a int; a torch.nn.Module is wanted"),
    "small": ("net.onnx", ["--images", "images", "--input-size", "8", "8"], "sides are 32 to 16384"),
    "target": ("net.onnx", ["--images", "images", "--target", "1.5"], "is the share that goes"),
    "unreachable": ("nets.py:small", ["--images", "images", "--target", "0.99", *FEW], r"at most 0\.\d\d of the flops"),
    "metric": ("net.onnx", ["--images", "images", "--metric", "flops", "--engine", "x"], "are of --metric latency"),
    "train": ("net.onnx", ["--images", "images", "--train", "epochs=2"], "arguments of ultralytics' training"),
    "batches": ("net.pt", ["--data", "images", "--batch-size", "4"], r"--batch-size: .* --train batch=VALUE"),
    "no batch": ("net.pt", ["--data", "images", "--train", "batch=0"], "--train batch=0: is a number above 0"),
    "weights": (
        "timm:resnet18",
        ["--images", "images"],
        "timm:resnet18: comes without weights; fetch them by `edgemtl weights get timm:resnet18`",
    ),
    "library": ("timm:resnet19", ["--images", "images"], "did you mean resnet18"),
    "detection": ("torchvision:ssd300_vgg16", ["--images", "images", "--random"], "this is another"),
    "run": ("images", ["--images", "images"], "images: no network here; give an ultralytics checkpoint"),
    "finetune": ("net.onnx", ["--images", "images", "--finetune"], "--finetune: is of a run of ours"),
    "costs": ("net.onnx", ["--images", "images", "--costs", "c.json"], "--costs c.json: there is no such file"),
    "few": ("net.onnx", ["--images", "images/000.png"], "1 images are too few to train on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, words, message = WRONG[name]
    monkeypatch.chdir(folder)
    try:
        code = main(["prune", network, *words, "--out", str(tmp_path / "small")])
    except SystemExit as ended:
        code = int(ended.code or 0)
    printed = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and not (tmp_path / "small").exists()
    assert re.search(message, printed[-1]), printed


def two_outputs(file: Path, names: list[str]) -> nn.Module:
    """Write a network of two outputs by these names, and a third of whole numbers."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 4, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inner = torch.relu(self.a(x))
            return inner, self.b(inner), self.b(inner).argmax(1)

    torch.manual_seed(0)
    network = Two().eval()
    program = torch.onnx.export(network, (torch.zeros(1, 3, 48, 64),), dynamo=True, output_names=names, verbose=False)
    assert program is not None
    program.save(str(file))
    return network


def test_no_output_is_lost_whatever_it_is_called(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = two_outputs(tmp_path / "net.onnx", ["feats", "rgb", "ids"])
    words = ["export", str(tmp_path / "net.onnx"), "--images", str(folder / "images"), "--out", str(tmp_path / "b")]
    assert main(words) == 0
    assert "no real numbers are left out: ids" in capsys.readouterr().err
    bundle = Bundle.open(tmp_path / "b")
    assert [head.name for head in bundle.manifest.heads] == ["feats", "rgb_1"]  # rgb is the camera
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 64, 3), np.uint8)
    given = onnxruntime.InferenceSession(bundle.model).run(None, {"rgb": image})
    with torch.no_grad():
        wanted = network(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
    for a, b in zip(given, wanted[:2], strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


def test_batches_of_any_size_and_of_one_fixed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    batch = torch.export.Dim("batch", max=64)
    images = torch.rand(2, 3, 48, 64)
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=({0: batch},)), tmp_path / "any.pt2")
    torch.export.save(torch.export.export(network, (images,)), tmp_path / "two.pt2")
    words = ["--images", str(folder / "images"), "--out", str(tmp_path / "b")]
    assert main(["export", str(tmp_path / "two.pt2"), *words]) == 2
    assert "takes 2 images at once" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "any.pt2"), *words]) == 0
    words = ["--images", str(folder / "images"), "--dynamic-batch", "--out", str(tmp_path / "c")]
    assert main(["export", f"{folder / 'nets.py'}:small", "--input-size", "48", "64", *words]) == 0
    three = np.zeros((3, 48, 64, 3), np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "c" / "model.onnx")
    assert session.run(None, {"rgb": three})[0].shape[0] == 3


def test_options_without_a_meaning_are_answered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = str(folder / "net.onnx")
    for words, message in (
        ([net, "--random"], "--random: is of networks that were trained elsewhere (timm or torchvision), not of"),
        ([net, "--weights", "x"], "--weights: is of networks"),
        (["timm:resnet18", "--random", "--weights", "x"], "give one of them"),
        (["run", "--bgr"], "--bgr: is of networks that were trained elsewhere (.pt2 or .onnx"),
    ):
        assert main(["predict", *words, str(folder / "images"), "--out", "nowhere"]) == 2
        assert message in capsys.readouterr().err


def test_what_looks_like_a_detector_can_be_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    words = ["export", str(folder / "net.onnx"), "--raw-outputs", "--out", str(tmp_path / "b")]
    assert main(words) == 0
    assert Bundle.open(tmp_path / "b").manifest.heads[0].decoder == "tensor"


def test_an_operator_that_cannot_be_read_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = onnx.load(folder / "net.onnx")
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, tmp_path / "odd.onnx")
    words = ["prune", str(tmp_path / "odd.onnx"), "--images", str(folder / "images"), "--out", str(tmp_path / "small")]
    assert main(words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Unheard" in line and "odd.onnx" in line


def test_other_commands_take_it_too(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, pictures = str(folder / "net.onnx"), str(folder / "images")
    assert main(["export", net, "--images", pictures, "--out", str(tmp_path / "bundle")]) == 0
    assert Bundle.open(tmp_path / "bundle").manifest.heads[0].decoder == "nms_boxes"
    assert main(["predict", net, pictures, "--out", str(tmp_path / "seen")]) == 0
    assert len(list((tmp_path / "seen" / "pictures").iterdir())) == 12
    assert main(["shrink", net, "--out", str(tmp_path / "small.pt2")]) == 0
    assert torch.export.load(tmp_path / "small.pt2").module()(torch.rand(1, 3, 64, 96)).shape[2] == 8
    capsys.readouterr()
    assert main(["eval", net]) == 2 and "does not know its data" in capsys.readouterr().err


def test_what_ultralytics_reads_of_a_checkpoint_stands_in_the_file(tmp_path: Path) -> None:
    file = checkpoint("yolo11n", tmp_path / "net.pt", ("person", "car"))
    source = parse(str(file))
    assert source is not None
    metadata = file_metadata(open_network(source, OpenOptions(input_size=(64, 96))))
    assert ast.literal_eval(metadata["names"]) == {0: "person", 1: "car"} and metadata["imgsz"] == "[64, 96]"
    assert (metadata["task"], metadata["stride"], metadata["end2end"]) == ("detect", "32", "False")
