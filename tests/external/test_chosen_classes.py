"""Some of a detector's classes: the same scores for them, what only others need is removed, wrong names are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foreign_networks import grid_onnx, images
from torch import nn

from edgemtl.cli import main
from edgemtl.errors import EdgemtlError
from edgemtl.external.chosen_classes import with_classes
from edgemtl.external.export import remove_zeros
from edgemtl.external.formats import DecodedYoloxBoxes, GridBoxes, PixelGridBoxes, YoloxBoxes
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import parse
from edgemtl_runtime.bundle import Bundle

SIZE = (64, 96)


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    grid_onnx(tmp_path / "net.onnx", 8, True)
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("kind", [GridBoxes, PixelGridBoxes, YoloxBoxes, DecodedYoloxBoxes])
def test_every_format_keeps_boxes_and_the_chosen_scores(kind: type[GridBoxes]) -> None:
    output_format, classes = kind(SIZE), 5
    cells = output_format.centres.shape[1]
    generator = torch.Generator().manual_seed(0)
    whole: object = {
        GridBoxes: {"boxes": torch.rand(2, 4, cells), "scores": torch.randn(2, classes, cells, generator=generator)},
        PixelGridBoxes: torch.rand(2, 4 + classes, cells, generator=generator),
    }.get(kind, torch.rand(2, cells, 5 + classes, generator=generator))
    index = torch.tensor([3, 0])
    some = output_format.of_classes(whole, index)
    assert torch.equal(output_format.heads(some)["boxes"][..., :4], output_format.heads(whole)["boxes"][..., :4])
    # A sigmoid of fewer numbers is rounded otherwise by a unit in the last place, where vectors end elsewhere.
    torch.testing.assert_close(
        output_format.heads(some)["boxes"][..., 4:], output_format.heads(whole)["boxes"][..., 4 + index]
    )
    assert torch.equal(output_format.raw(some)["scores"], output_format.raw(whole)["scores"][:, index])


def test_what_only_other_classes_need_is_removed(detector: Path) -> None:
    source = parse(str(detector))
    assert source is not None
    whole = open_network(source, OpenOptions(input_size=SIZE))
    names = whole.heads[0].classes
    some = open_network(source, OpenOptions(input_size=SIZE, classes=(names[2], names[0])))
    assert some.heads[0].classes == (names[2], names[0]) and "2 of its 3 classes" in some.notes[-1]
    image = torch.rand(1, 3, *SIZE)
    expected = whole.adapter(rgb=image)["boxes"][..., [0, 1, 2, 3, 6, 4]]
    compact, shrunk = remove_zeros(some, some.adapter, 1)
    assert isinstance(compact.small, nn.Module)
    for network in (some.adapter, compact.small):
        assert torch.allclose(network(rgb=image)["boxes"], expected, atol=1e-4)
    _, of_all = remove_zeros(whole, whole.adapter, 1)
    assert shrunk.report.parameters_after < of_all.report.parameters_after


def test_a_bundle_names_the_chosen_classes(detector: Path, tmp_path: Path) -> None:
    images(tmp_path / "images")
    words = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "bundle"), "--input-size", "64", "96"]
    assert main(["export", str(detector), "--classes", "class1, class0", *words]) == 0
    assert Bundle.open(tmp_path / "bundle").manifest.head("boxes").classes == ("class1", "class0")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [("class9", "has none; did you mean 'class"), ("class0,class0", "names a class twice")],
)
def test_wrong_names_are_told(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: str, expected: str
) -> None:
    words = ["--out", str(tmp_path / "b"), "--input-size", "64", "96", "--classes", classes]
    assert main(["export", str(detector), *words]) == 2
    assert expected in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_network_without_known_classes_has_none_to_choose(tmp_path: Path) -> None:
    from foreign_networks import python_file

    python_file(tmp_path)
    source = parse(f"{tmp_path / 'nets.py'}:small")
    assert source is not None
    network = open_network(source, OpenOptions(input_size=(48, 64)))
    with pytest.raises(EdgemtlError, match="is no detector of a known kind"):
        with_classes(network, ["person"])
