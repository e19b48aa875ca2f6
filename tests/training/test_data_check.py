"""Every problem of a custom dataset is one line with its file, line and reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import SIZE, write_image

from edgemtl.cli import main
from edgemtl.data.check import check


def first(root: Path, folder: str, split: str = "train") -> Path:
    return sorted((root / folder / split).iterdir())[0]


def write_label(text: str) -> Callable[[Path], Path]:
    def apply(root: Path) -> Path:
        file = first(root, "labels")
        file.write_text(text)
        return file

    return apply


def lose_ir(root: Path) -> Path:
    first(root, "ir").unlink()
    return first(root, "rgb")


def lose_rgb(root: Path) -> Path:
    first(root, "rgb").unlink()
    return first(root, "ir")


def resize_ir(root: Path) -> Path:
    file = first(root, "ir")
    cv2.imwrite(str(file), np.zeros((10, 10), np.uint8))
    return file


def spoil(root: Path) -> Path:
    file = first(root, "rgb")
    file.write_bytes(file.read_bytes()[:50])
    return file


def empty(root: Path) -> Path:
    for folder in ("rgb", "ir"):
        shutil.rmtree(root / folder / "val")
        (root / folder / "val").mkdir()
    return root / "rgb" / "val"


def lose_folder(root: Path) -> Path:
    shutil.rmtree(root / "ir" / "val")
    return root / "ir" / "val"


def wrong_semantic(root: Path) -> Path:
    file = first(root, "semantic")
    cv2.imwrite(str(file), np.full((96, 128), 77, np.uint8))
    return file


def lose_label(root: Path) -> Path:
    file = first(root, "labels")
    file.unlink()
    return file


def lose_description(root: Path) -> Path:
    (root / "data.yaml").unlink()
    return root / "data.yaml"


def no_names(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("names:", "titles:"))
    return file


def typo(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text() + "atributes: [has_car]\n")
    return file


def lost_path(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("path: .", "path: $NOWHERE_AT_ALL/x"))
    return file


def lost_images(root: Path) -> Path:
    (root / "data.yaml").write_text("path: labels\n")
    return root / "data.yaml"


def uneven(root: Path) -> Path:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("val_ir: ir/val\n", ""))
    shutil.rmtree(root / "ir" / "val")
    return root / "rgb" / "val"


def twin(root: Path) -> Path:
    file = first(root, "rgb").with_suffix(".bmp")
    cv2.imwrite(str(file), np.zeros((96, 128, 3), np.uint8))
    return sorted([file, file.with_suffix(".png")])[1]


def stray(root: Path) -> Path:
    file = first(root, "rgb").with_name("notes.txt")
    file.write_text("x")
    return file


def orphan(root: Path) -> Path:
    file = first(root, "labels").with_name("nobody.txt")
    file.write_text("")
    return file


def float_ir(root: Path) -> Path:
    old = first(root, "ir")
    old.unlink()
    file = old.with_suffix(".tiff")
    cv2.imwrite(str(file), np.full((96, 128), 36.6, np.float32))
    return file


def half_semantic(root: Path) -> Path:
    shutil.rmtree(root / "semantic" / "val")
    return root / "semantic" / "val"


def overwrite(root: Path, task: str, image: np.ndarray) -> Path:
    file = first(root, task)
    cv2.imwrite(str(file), image)
    return file


def shallow(root: Path) -> Path:
    return overwrite(root, "depth", np.ones((96, 128), np.uint8))


def small_edges(root: Path) -> Path:
    return overwrite(root, "edges", np.zeros((10, 10), np.uint8))


def grey_normals(root: Path) -> Path:
    return overwrite(root, "normals", np.full((96, 128, 3), 140, np.uint8))


def grey_edges(root: Path) -> Path:
    return overwrite(root, "edges", np.full((96, 128), 7, np.uint8))


def orphan_map(root: Path) -> Path:
    file = first(root, "depth").with_name("nobody.png")
    cv2.imwrite(str(file), np.ones((96, 128), np.uint16))
    return file


def odd_attribute(root: Path) -> Path:
    file = root / "attributes.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].rpartition(",")[0] + ",maybe", *lines[2:]]))
    return file


def lost_attribute(root: Path) -> Path:
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("attributes: [", "attributes: [has_wings, "))
    return root / "attributes.csv"


def latin_days(root: Path) -> Path:
    description = root / "data.yaml"
    description.write_text(description.read_text().replace("attributes: [", "unread: ["))
    (root / "attributes.csv").write_bytes(b"stem,is_day\n\xe9,1\n")
    return root / "attributes.csv"


PROBLEMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "unequal sizes": (resize_ir, "ir is 10x10, its rgb image 128x96"),
    "unreadable": (spoil, "is an incomplete PNG file"),
    "outside": (write_label("0 0.5 0.5 0.1 0.1\n1 1.2 0.5 0.1 0.1\n"), ":2: box outside [0, 1]"),
    "negative": (write_label("0 0.5 0.5 -0.1 0.1\n"), ":1: box outside [0, 1]"),
    "unknown class": (write_label("\n7 0.5 0.5 0.1 0.1\n"), ":2: unknown class 7; data.yaml names 0 to 2"),
    "half a class": (write_label("0.5 0.5 0.5 0.1 0.1\n"), ":1: unknown class 0.5"),
    "words": (write_label("person 0.5 0.5 0.1 0.1\n"), ":1: expected 'class cx cy w h'"),
    "too few": (write_label("0 0.5 0.5\n"), ":1: expected 'class cx cy w h'"),
    "not a number": (write_label("0 nan 0.5 0.1 0.1\n"), ":1: expected 'class cx cy w h'"),
    "no label file": (lose_label, "missing or unreadable label file"),
    "empty split": (empty, "split 'val' is empty"),
    "missing folder": (lose_folder, "does not exist"),
    "unknown label pixel": (wrong_semantic, "unknown class ids [77]"),
    "two of a stem": (twin, "has the same stem as"),
    "float thermal": (
        float_ir,
        "1 channel of 32 floating-point bits, values from 36.6 to 36.6; thermal has whole numbers",
    ),
    "depth in 8 bits": (shallow, "one channel of 16 bits, in millimetres, not 1 channel of 8 bits"),
    "map of another size": (small_edges, "edges is 10x10, its image 128x96"),
    "normals that are none": (grey_normals, "holds no unit vectors"),
    "grey edges": (grey_edges, "an edge map holds 0 (none), 255 (edge) and 128 (unknown)"),
    "an attribute that is neither": (odd_attribute, ":2: has_car is 0, 1 or empty, not 'maybe'"),
    "an attribute without a column": (lost_attribute, "has no column has_wings"),
    "attributes in latin-1": (latin_days, "is not UTF-8 text"),
    "no description": (lose_description, "cannot be read as a data description"),
    "no names": (no_names, "is missing 'names'"),
    "a misspelt key": (typo, "unknown key 'atributes'; did you mean 'attributes'?"),
    "an unset variable": (lost_path, "the variable is not set"),
    "no pictures at all": (lost_images, "names no folder of images"),
}

SKIPPED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "colour without thermal": (lose_ir, "skipped 1 rgb images without an ir image of the same name"),
    "thermal without colour": (lose_rgb, "skipped 1 ir images without an rgb image of the same name"),
    "no area": (write_label("0 0.5 0.5 0 0.1\n"), "skipped 1 boxes without area inside the image"),
    "no image": (stray, "skipped 1 files that are no images"),
    "orphan label": (orphan, "skipped 1 label files without an image"),
    "orphan map": (orphan_map, "skipped 1 label files without an image"),
    "half a segmentation": (half_semantic, "skipped 6 labels of semantic, as split 'val' has none"),
    "a split without thermal": (uneven, "skipped 6 ir images, as split 'val' has none"),
}


def _problems(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return lines[next(i for i, line in enumerate(lines) if "problem" in line) :]


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_problem_is_reported_with_its_file_and_line(
    pairs: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, expected = PROBLEMS[case]
    file = damage(pairs)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert "1 problem;" in lines[0] and "edgemtl data check" in lines[0]
    assert str(file) in lines[1] and expected in lines[1]


@pytest.mark.fault("D4")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_skipped_is_counted_and_the_rest_is_read(
    pairs: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, expected = SKIPPED[case]
    file = damage(pairs)
    assert main(["data", "check", str(pairs), "--json"]) == 0
    (skipped,) = json.loads(capsys.readouterr().out)["skipped"]
    index, _ = check(pairs)
    (line,) = map(str, index.problems.skipped)
    assert line.startswith(expected) and str(skipped["count"]) in line and skipped["first"] in line
    assert str(file.parent.parent) in line or case == "a split without thermal"


def test_all_problems_in_one_pass_the_first_twenty_printed(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first(pairs, "labels").write_text("9 9 9 9 9\n" * 30)
    spoil(pairs)
    lose_label(pairs)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert len(lines) == 1 + len(check(pairs)[0].problems) == 3
    first(pairs, "labels").write_text("9 9 9 9 9\n" * 30)
    assert main(["data", "check", str(pairs)]) == 2
    lines = _problems(capsys)
    assert "32 problems" in lines[0] and len(lines) == 22 and lines[-1] == "and 12 more"


def test_training_rejects_bad_data_before_it_starts(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(pairs)
    write_label("7 0.5 0.5 0.1 0.1")(pairs)
    assert main(["train", f"data.source={pairs}", "--out", str(tmp_path / "run")]) == 2
    assert "unknown class 7" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_counts(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(pairs), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    train = report["splits"]["train"]
    assert train["pictures"] == 6 == train["day"] + train["night"] and train["labelled"] == {
        t: 6 for t in ("boxes", "semantic", "depth", "normals", "edges", "attributes")
    }
    assert report["problems"] == [] and train["sizes"] == ["128x96"] and train["bits"] == {"rgb": [8], "ir": [8]}
    assert sum(train["semantic"].values()) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(
    ("task", "name", "expected"),
    [
        ("depth", "{}.npy", "depth/train: holds none for these images: it has .npy, and .png, .tif, .tiff are wanted"),
        ("edges", "{}_edges.png", "_edges.png, and 0000000.png is wanted"),
        ("semantic", "{}_mask.png", "_mask.png, and 0000000.png is wanted"),
    ],
)
def test_labels_of_no_image_are_a_problem(pairs: Path, task: str, name: str, expected: str) -> None:
    for split in ("train", "val"):
        for file in sorted((pairs / task / split).iterdir()):
            file.rename(file.with_name(name.format(file.stem)))
    (problem,) = check(pairs)[0].problems
    assert expected in str(problem)


def test_an_archive_is_to_be_unpacked(pairs: Path) -> None:
    archive = Path(shutil.make_archive(str(pairs.parent / "packed"), "zip", pairs))
    (problem,) = check(archive)[0].problems
    assert str(problem).endswith("it is an archive; unpack it and give the folder")


@pytest.mark.parametrize(("train", "count"), [("rgb", 1), ("[rgb/train, rgb/val]", 1), ("rgb/train", 0)])
def test_images_to_evaluate_on_that_are_trained_on_are_counted(pairs: Path, train: str, count: int) -> None:
    description = pairs / "data.yaml"
    description.write_text(description.read_text().replace("train: rgb/train", f"train: {train}"))
    reasons = [str(skipped) for skipped in check(pairs)[0].problems.skipped]
    assert sum("images of 'val' that 'train' has too" in reason for reason in reasons) == count


@pytest.mark.parametrize("suffix", [".jfif", ".pgm"])
def test_an_image_of_another_type_is_a_problem(pairs: Path, suffix: str) -> None:
    file = first(pairs, "rgb")
    file.rename(file.with_suffix(suffix))
    assert any("is not an image of a known type; convert it" in str(problem) for problem in check(pairs)[0].problems)


@pytest.mark.parametrize(("value", "val"), [(255, 255), (1, 1), (1, 255)])
def test_masks_of_0_and_255_are_no_two_classes(
    value: int, val: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one split has the second class, the other's 255 is what is unknown."""
    for split, number in (("train", value), ("val", val)):
        write_image(tmp_path / "rgb" / split / f"{split}.png")
        (tmp_path / "semantic" / split).mkdir(parents=True)
        mask = np.zeros(SIZE, np.uint8)
        mask[10:30, 10:40] = number
        assert cv2.imwrite(str(tmp_path / "semantic" / split / f"{split}.png"), mask)
    (tmp_path / "data.yaml").write_text("semantic: [floor, person]\n")
    assert main(["data", "check", str(tmp_path)]) == (2 if value == 255 else 0)
    error = capsys.readouterr().err
    assert ("no pixel is 'person'" in error and "write 1 where 'person' is" in error) is (value == 255)
