"""Public datasets with something wrong in them: every format goes through the same checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import SIZE, WRITERS, cityscapes, kaist, voc, write, write_image
from PIL import Image

from edgemtl.cli import main
from edgemtl.data.check import check
from edgemtl.data.formats import index

HEIGHT, WIDTH = SIZE
PERSON = ("person", 4, 8, 20, 40)
Change = Callable[[Path], object]
VIEWS = (("visible", 3), ("infrared", 1))


def first(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


def replace(pattern: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        file = first(root, pattern)
        file.write_text(file.read_text().replace(old, new))

    return change


def larger(pattern: str, channels: int = 3) -> Change:
    return lambda root: write_image(first(root, pattern), channels, (96, 128))


def array(pattern: str, value: np.ndarray) -> Change:
    return lambda root: np.save(first(root, pattern), value)


def pixels(pattern: str, value: np.ndarray) -> Change:
    return lambda root: cv2.imwrite(str(first(root, pattern)), value)


def flat(value: float, dtype: type, *shape: int) -> np.ndarray:
    return np.full(shape or SIZE, value, dtype)


WRONG: dict[str, tuple[str, Change, str]] = {
    "LLVIP of another size": (
        "llvip",
        lambda root: [write_image(first(root, f"{view}/train/*.jpg"), n, (96, 128)) for view, n in VIEWS],
        "is 128x96, its labels were made for 64x48",
    ),
    "LLVIP without a box file": ("llvip", lambda root: first(root, "*.xml").unlink(), "xml: does not exist (an image"),
    "LLVIP of another class": ("llvip", replace("*.xml", "person", "dog"), "unknown class 'dog'; known: person"),
    "FLIR of another size": (
        "flir",
        lambda root: [larger("*_RGB.jpg")(root), larger("*_PreviewData.jpeg", 1)(root)],
        "is 128x96, its labels were made for 64x48",
    ),
    "FLIR with a list in latin-1": (
        "flir",
        lambda root: (root / "align_train.txt").write_bytes(b"\xe9\n"),
        "align_train.txt: cannot be read as a list of images",
    ),
    "M3FD of another size": (
        "m3fd",
        lambda root: [larger("Vis/*.png")(root), larger("Ir/*.png", 1)(root)],
        "is 128x96, its labels were made for 64x48",
    ),
    "KAIST without a file of boxes": (
        "kaist",
        lambda root: first(root, "annotations/**/*.txt").unlink(),
        "cannot be read as text",
    ),
    "KAIST in another encoding": (
        "kaist",
        lambda root: first(root, "annotations/**/*.txt").write_bytes(b"person \xff"),
        "cannot be read as text",
    ),
    "Cityscapes' ids for training": (
        "cityscapes",
        pixels("*_labelIds.png", flat(200, np.uint8)),
        "the label ids [200]",
    ),
    "Cityscapes' ids of 16 bits": (
        "cityscapes",
        pixels("*_labelIds.png", flat(4000, np.uint16)),
        "has the label ids [4000]; labelIds are 0 to 33, and 255",
    ),
    "Cityscapes' colours": (
        "cityscapes",
        pixels("*_labelIds.png", np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(*SIZE, 3).astype(np.uint8)),
        "colours; labels have one channel, or a palette",
    ),
    "Cityscapes' ids of another size": (
        "cityscapes",
        pixels("*_labelIds.png", flat(7, np.uint8, 24, 32)),
        "is 32x24, its image 64x48",
    ),
    "Cityscapes' disparity of another size": (
        "cityscapes",
        pixels("*_disparity.png", flat(7, np.uint16, 24, 32)),
        "is 32x24, its image 64x48",
    ),
    "Cityscapes without cameras": ("cityscapes", lambda root: first(root, "*_camera.json").unlink(), "does not exist"),
    "Cityscapes' camera without a lens": (
        "cityscapes",
        replace("*_camera.json", '"fx"', '"fy"'),
        "'fx' is missing; extrinsic.baseline, in metres, and intrinsic.fx, in pixels, are wanted",
    ),
    "Cityscapes' camera without a baseline": (
        "cityscapes",
        replace("*_camera.json", "0.2", "0"),
        "baseline times fx is 0",
    ),
    "NYUD's unknown class": (
        "nyud",
        pixels("segmentation/*.png", flat(41, np.uint8)),
        "has the class ids [41]; 0 to 40",
    ),
    "NYUD's depth in millimetres": (
        "nyud",
        array("depth/*.npy", flat(2500, np.float32)),
        "has depths up to 2500; NYU's are metres",
    ),
    "NYUD's depth of another size": (
        "nyud",
        array("depth/*.npy", flat(2, np.float32, 24, 32)),
        "is 32x24, its image 64x48",
    ),
    "NYUD's depth in a row": (
        "nyud",
        array("depth/*.npy", flat(2, np.float32, 9)),
        "is an array (9,) of float32; depth has",
    ),
    "NYUD's depth of words": ("nyud", array("depth/*.npy", np.full(SIZE, "x")), "depth has height, width and 1 value"),
    "NYUD's normals, channels first": (
        "nyud",
        array("normals/*.npy", flat(0, np.float32, 3, *SIZE)),
        "normals has height, width and 3 values a pixel",
    ),
    "CelebA without masks": (
        "celeba",
        lambda root: list(map(Path.unlink, root.rglob("00003_*.png"))),
        "has no mask 00003_skin.png",
    ),
    "CelebA's masks of another shape": (
        "celeba",
        pixels("00000_skin.png", flat(255, np.uint8, 32, 32)),
        "is 32x32, its image 64x48: a mask is of the same shape, of any size",
    ),
    "CelebA's attributes of other values": (
        "celeba",
        replace("CelebAMask-HQ-attribute-anno.txt", "0.jpg  -1", "0.jpg  0"),
        ":3: expected N.jpg and 2 of 1 and -1",
    ),
    "CelebA's attributes without a number": (
        "celeba",
        replace("CelebAMask-HQ-attribute-anno.txt", "\n0.jpg", "\nface.jpg"),
        ":3: expected N.jpg and 2 of 1 and -1, found 'face.jpg",
    ),
    "CelebA's attributes in latin-1": (
        "celeba",
        lambda root: (root / "CelebAMask-HQ-attribute-anno.txt").write_bytes(b"1\n\xe9\n"),
        "cannot be read as text",
    ),
    "CelebA's split, cut off": ("celeba", lambda root: celeba_split(root, "3.jpg 3"), ":5: expected three fields"),
    "COCO of another size": ("coco", larger("train2017/*.jpg"), "is 128x96, its labels were made for 64x48"),
}


def celeba_split(root: Path, line: str) -> None:
    rows = ["idx orig_idx orig_file", *(f"{n} {n} {n:06d}.jpg" for n in range(20))]
    rows[4] = line
    write(root / "CelebA-HQ-to-CelebA-mapping.txt", "\n".join(rows))
    write(root / "list_eval_partition.txt", "".join(f"{n:06d}.jpg {n % 3}\n" for n in range(20)))


@pytest.mark.fault("D1")
@pytest.mark.fault("D5")
@pytest.mark.fault("D8")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_stops_with_its_file(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, expected = WRONG[case]
    WRITERS[name](tmp_path)
    change(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 2
    stderr = capsys.readouterr().err
    assert expected in stderr and "Traceback" not in stderr and "Error" not in stderr


SKIPPED: dict[str, tuple[str, Change, str]] = {
    "LLVIP's box of no height": ("llvip", replace("*.xml", "<ymax>40<", "<ymax>8<"), "1 boxes without area"),
    "FLIR's difficult": (
        "flir",
        replace("*.xml", "<name>car</name>", "<name>car</name><difficult>1</difficult>"),
        "1 objects marked ignore or difficult",
    ),
    "FLIR's dogs": ("flir", lambda root: None, "3 objects of kinds that are no class of this dataset"),
    "FLIR's list with a line twice": (
        "flir",
        replace("align_train.txt", "FLIR_00005", "FLIR_00002"),
        "1 repeated lines of lists of images; the first:",
    ),
    "M3FD's exchanged corners": ("m3fd", replace("*.xml", "<xmin>4<", "<xmin>40<"), "1 boxes without area"),
    "KAIST's box outside": (
        "kaist",
        replace("annotations/**/*.txt", "person 4", "person 500"),
        "1 boxes outside their",
    ),
    "KAIST's groups": ("kaist", lambda root: None, "4 objects of kinds that are no class of this dataset"),
    "CelebA's thumbnails": (
        "celeba",
        lambda root: write(root / "CelebA-HQ-img" / "Thumbs.db", "x"),
        "1 files that are no",
    ),
    "COCO's crowds": ("coco", lambda root: None, "4 crowds (iscrowd)"),
}


@pytest.mark.fault("D6")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_skipped_is_counted(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, expected = SKIPPED[case]
    WRITERS[name](tmp_path)
    change(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert f"skipped {expected}" in capsys.readouterr().out


@pytest.mark.fault("D8")
@pytest.mark.parametrize("name", ["flir", "kaist", "nyud"])
def test_lists_of_any_editor_are_read(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    lists = [*tmp_path.glob("align_*.txt"), *tmp_path.glob("imageSets/*.txt"), *tmp_path.glob("gt_sets/*.txt")]
    for file in lists:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b" \r\n") + b"\r\n")
    assert lists and not check(tmp_path)[0].problems


@pytest.mark.fault("D8")
@pytest.mark.parametrize("bits", [8, 4])
def test_class_ids_in_a_palette(tmp_path: Path, bits: int) -> None:
    """Cityscapes' tools write label ids as indices; the colours are for viewers."""
    cityscapes(tmp_path)
    file = first(tmp_path, "*_labelIds.png")
    ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert ids is not None
    palette = Image.fromarray(np.minimum(ids, 2**bits - 1)).convert("P")
    palette.putdata(np.minimum(ids, 2**bits - 1).ravel().tolist())
    palette.putpalette([value % 256 for value in range(7, 775)])
    palette.save(file, bits=bits)
    (entry,) = index(tmp_path).splits["train"]
    problems = index(tmp_path).problems
    sample = entry.read(problems)
    assert sample is not None and not problems and sample.labels["semantic"][0, 0] == 0, "7 is road"


@pytest.mark.fault("D1")
def test_kaist_in_xml_states_its_size(tmp_path: Path) -> None:
    kaist(tmp_path)
    for file in (tmp_path / "annotations").rglob("*.txt"):
        voc(tmp_path / "annotations-xml-15" / file.relative_to(tmp_path / "annotations").with_suffix(".xml"), PERSON)
    assert not check(tmp_path)[0].problems
    for view, channels in (("visible", 3), ("lwir", 1)):
        write_image(first(tmp_path, f"{view}/*.jpg"), channels, (96, 128))
    (problem,) = check(tmp_path)[0].problems
    assert "is 128x96, its labels were made for 64x48" in str(problem)


def test_depth_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    WRITERS["nyud"](tmp_path)
    depth = flat(2.5, np.float32, *SIZE, 1)
    depth[:9], depth[9:18], depth[18:20] = np.nan, np.inf, -1
    np.save(first(tmp_path, "depth/0001.npy"), depth)
    normals = flat(np.nan, np.float32, *SIZE, 3)
    np.save(first(tmp_path, "normals/0001.npy"), normals)
    dataset_index = index(tmp_path)
    sample = dataset_index.splits["train"][0].read(dataset_index.problems)
    assert sample is not None and not dataset_index.problems
    assert not sample.labels["depth"][:20].any() and (sample.labels["depth"][20:] == 2.5).all()
    assert not sample.labels["normals"].any()


def test_a_camera_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    for file in tmp_path.rglob("*_camera.json"):
        file.write_text(json.dumps(json.loads(file.read_text())), encoding="utf-8-sig")
    assert not check(tmp_path)[0].problems
