"""`edgemtl shrink`: a run or anybody's exported program in, a smaller program with the same outputs out."""

from __future__ import annotations

import json
from pathlib import Path

import hostile
import pytest
import torch
from conftest import TINY
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgemtl.cli import main
from edgemtl.config_file import load
from edgemtl.run import Run, write_weights
from edgemtl.train import train
from edgemtl_export.inputs import example_inputs

IMAGE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class TwoHeads(nn.Module):
    """A trunk with two heads by name."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.boxes, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.trunk(x).relu()
        return {"boxes": self.boxes(x), "depth": self.depth(x).log() * 0 if self.nan else self.depth(x)}

    nan = False


class NotFinite(TwoHeads):
    """One whose depth is not a number wherever it is below 0."""

    nan = True


def write_program(file: Path, net: nn.Module, examples: bool = True) -> nn.Module:
    """Export a network as anybody would, write it and return it."""
    exported = torch.export.export(net.eval(), (IMAGE,))
    if not examples:
        exported.example_inputs = None
    torch.export.save(exported, file)
    return net


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A file with a program of which 6 filters are zero: 5 of 12 and, with a bias above 0, 1 of 8."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3))
    net[0].weight.data[:5], net[0].bias.data[:5] = 0, 0
    net[2].weight.data[3], net[2].bias.data[3] = 0, 0.5
    write_program(tmp_path / "net.pt2", net)
    return tmp_path / "net.pt2"


@pytest.fixture
def two_heads(tmp_path: Path) -> Path:
    """A file with a program of two heads, each of which alone reads some filters of the trunk."""
    torch.manual_seed(0)
    net = TwoHeads()
    net.boxes.weight.data[:, :3] = 0
    net.depth.weight.data[:, 3:] = 0
    write_program(tmp_path / "two.pt2", net)
    return tmp_path / "two.pt2"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained for one step, in whose trunk 40 filters are then zero."""
    words = (
        *TINY,
        "input_size=[64,96]",
        "data.synthetic.num_train=8",
        "data.synthetic.num_val=4",
        "steps=1",
        "sparsity.target=0",
        "augment.mosaic=0",
    )
    run = train(load(None, words), tmp_path_factory.mktemp("run") / "short", evaluate=False)
    for name, tensor in run.network.state_dict().items():
        if name in ("trunk.down16.conv.weight", "trunk.down16.bn.weight", "trunk.down16.bn.bias"):
            tensor[:40] = 0
    write_weights(run.path, run.config, run.network, run.interface)
    return Run.open(run.path)


def same(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def loaded(file: Path) -> ExportedProgram:
    return torch.export.load(file)


def test_a_table_is_printed_and_the_file_answers_as_before(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", str(program)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert rows[0] == ["before", "after", "removed"] and rows[1][0] == "parameters"
    assert ["0.weight", "12", "7", "5"] in rows and ["2.weight", "8", "7", "1"] in rows
    assert {"noise", "control", "float64", "float32"} <= {row[0] for row in rows if row}
    out = program.with_name("net.shrunk.pt2")
    assert lines[-1] == f"wrote {out}" and max(map(len, lines)) < 200
    before, after = loaded(program), loaded(out)
    assert sum(p.numel() for p in after.parameters()) < 0.7 * sum(p.numel() for p in before.parameters())
    for scale in (0.1, 1.0, 10.0):
        assert same(before.module()(IMAGE * scale), after.module()(IMAGE * scale))


def test_json_is_one_object_and_nothing_else(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = program.parent / "new" / "small.pt2"
    assert main(["shrink", str(program), "--json", "--align", "8", "--no-verify", "--out", str(out)]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["out"] == str(out) and told["proof"] == {} and told["parameters_after"] < told["parameters_before"]
    assert [layer["after"] for layer in told["layers"]] == [8, 8, 4]
    assert [len(p) for p in loaded(out).parameters() if p.ndim == 4] == [8, 8, 4]
    assert not program.with_name("net.shrunk.pt2").exists() and [f.name for f in out.parent.iterdir()] == [out.name]


def test_auto_measures_and_prints_only_json(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", str(program), "--align", "auto", "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["parameters_after"] < json.loads(captured.out)["parameters_before"]
    assert captured.err == ""


def test_a_second_time_finds_nothing_more(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once, twice = program.with_name("net.shrunk.pt2"), program.with_name("net.shrunk.shrunk.pt2")
    assert main(["shrink", str(program)]) == 0 and main(["shrink", str(once)]) == 0
    assert "no channel is zero, constant or unread" in capsys.readouterr().out
    assert same(loaded(once).module()(IMAGE), loaded(twice).module()(IMAGE))


def test_a_program_can_be_replaced_by_its_own(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, content = loaded(program).module()(IMAGE), program.read_bytes()
    assert main(["shrink", str(program), "--out", str(program)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err and program.read_bytes() == content
    assert main(["shrink", str(program), "--out", str(program), "--overwrite"]) == 0
    assert same(before, loaded(program).module()(IMAGE)) and len(loaded(program).state_dict["0.weight"]) == 7
    assert [file.name for file in program.parent.iterdir()] == [program.name]


def test_other_outputs_are_dropped_with_all_that_only_they_read(
    two_heads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shrink", str(two_heads), "--outputs", " boxes,"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("outputs kept: boxes;")
    assert ["trunk.weight", "8", "5", "3"] in [line.split() for line in printed.splitlines()]
    small = loaded(two_heads.with_name("two.shrunk.pt2"))
    found = small.module()(IMAGE)
    assert list(found) == ["boxes"] and not [name for name, _ in small.named_parameters() if "depth" in name]
    assert same(found["boxes"], loaded(two_heads).module()(IMAGE)["boxes"])


def test_a_run_is_shrunk(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    for name in ("short-shrunk.pt2", "short-shrunk-2.pt2"):
        assert main(["shrink", str(run.path), "--json", "--no-verify"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["out"] == str(run.path.with_name(name))
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before
    assert {"name": "trunk.down16.conv.weight", "before": 64, "after": 24, "zero": 40} in [
        {key: layer[key] for key in ("name", "before", "after", "zero")} for layer in told["layers"]
    ]
    images = example_inputs(run.interface.inputs)
    found = loaded(run.path.with_name("short-shrunk.pt2")).module()(**images)
    with torch.no_grad():
        expected = run.network(**images)
    assert list(found) == list(expected) == ["boxes", "semantic"]
    assert all(same(found[name], expected[name]) for name in expected)


@pytest.mark.fault("S4")
def test_an_output_that_has_become_constant_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = TwoHeads()
    net.depth.weight.data[:] = 0
    write_program(tmp_path / "net.pt2", net)
    assert main(["shrink", str(tmp_path / "net.pt2")]) == 0
    assert "warning: outputs that do not depend on the input: depth\n" in capsys.readouterr().out
    assert main(["shrink", str(tmp_path / "net.pt2"), "--outputs", "depth", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["constant_outputs"], told["outputs"]) == (["depth"], 1)


BAD = {
    "there is no such file": ["nowhere.pt2"],
    "no run here (config.yaml is missing)": ["folder"],
    "is no zip archive; give what torch.export.save wrote": ["text.pt2"],
    "holds no models/model.json; give what torch.export.save wrote": ["weights.pt2"],
    "holds no example inputs": ["bare.pt2"],
    "names '__builtin__.getattr'; not opened, give --trust if you know who made it": ["made.pt2"],
    "no output dept: the program has boxes, depth": ["two.pt2", "--outputs", "boxes,dept"],
    "--outputs names no output": ["two.pt2", "--outputs", ","],
    "--align 7: is not one of 1, 8, 16, 32, auto": ["two.pt2", "--align", "7"],
    "--branches no: is not one of keep, cut, auto": ["two.pt2", "--branches", "no"],
    "--norms no: is not one of keep, rewrite": ["two.pt2", "--norms", "no"],
    "end the name in .pt2": ["two.pt2", "--out", "small.onnx"],
    "is a folder": ["two.pt2", "--out", "folder.pt2"],
    "is not finite": ["nan.pt2"],
}


@pytest.mark.parametrize("expected", BAD)
def test_bad_input_is_one_line_and_code_2(
    expected: str,
    two_heads: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder.pt2").mkdir()
    Path("text.pt2").write_text("not a program")
    torch.save(TwoHeads().state_dict(), "weights.pt2")
    write_program(Path("bare.pt2"), TwoHeads(), examples=False)
    write_program(Path("nan.pt2"), NotFinite())
    pickled = hostile.saved(hostile.touching(tmp_path / "made")["protocol 2"])
    Path("made.pt2").write_bytes(hostile.packed(hostile.program() | {hostile.SAMPLES: pickled}))
    Path("nan.shrunk.pt2").write_text("older")
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    assert main(["shrink", *BAD[expected]]) == 2
    captured = capfd.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1 and captured.err.startswith("edgemtl: ")
    assert captured.out == "" and sorted(tmp_path.rglob("*")) == before
    assert Path("nan.shrunk.pt2").read_text() == "older"
