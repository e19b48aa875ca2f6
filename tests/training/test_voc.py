"""VOC's XML and Dollár's text: held against their image, skipped with a count, or wrong with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemtl.data.problems import Problems
from edgemtl.data.readers.bbgt_text import BbGtText
from edgemtl.data.readers.voc_xml import VocXml

SIZE = (48, 64)
CLASSES = ("person", "car")
ALIASES = {"people": "person", "dog": None}
BOX = "<bndbox><xmin>4</xmin><ymin>8</ymin><xmax>20</xmax><ymax>40</ymax></bndbox>"


def box(x0: object, y0: object, x1: object, y1: object, name: str = "person", more: str = "") -> str:
    corners = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def read(
    file: Path, text: str | bytes, reader: type[VocXml] | type[BbGtText] = VocXml
) -> tuple[list[list[float]], list[str], dict[str, int]]:
    """Return class and corners of every box, the problems, and what was skipped."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    problems = Problems()
    label = reader(file, CLASSES, ALIASES)(SIZE, problems)
    rows = []
    if label is not None:
        rows = [[class_id, *row] for class_id, row in zip(label.classes.tolist(), label.xyxy.tolist(), strict=True)]
    return rows, list(map(str, problems)), {skipped.reason: skipped.count for skipped in problems.skipped}


XML_READ = {
    "corners": (box(4, 8, 20, 40), [[0, 4, 8, 20, 40]]),
    "fractions of a pixel": (box("4.5", " 8.25\n", "2e1", 40), [[0, 4.5, 8.25, 20, 40]]),
    "extent": (
        "<object><name>car</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox></object>",
        [[1, 1, 2, 4, 6]],
    ),
    "blanks around a name": (box(4, 8, 20, 40, "\n car "), [[1, 4, 8, 20, 40]]),
    "another name": (box(4, 8, 20, 40, "people"), [[0, 4, 8, 20, 40]]),
    "over the edge": (box(-4, 8, 80, 48.0000001), [[0, 0, 8, 64, 48]]),
    "parts": (
        f"<object><name>person</name>{BOX}<part><name>head</name>{BOX}</part></object>",
        [[0, 4, 8, 20, 40]],
    ),
    "nothing": ("", []),
}


@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", XML_READ)
@pytest.mark.parametrize("start", ["", "\ufeff", '<?xml version="1.0" encoding="UTF-8"?>\r\n'])
def test_boxes_of_xml(tmp_path: Path, case: str, start: str) -> None:
    objects, expected = XML_READ[case]
    assert read(tmp_path / "a.xml", f"{start}<annotation>{objects}</annotation>") == (expected, [], {})


SKIPPED = {
    "no height": (box(4, 8, 20, 8), "boxes without area"),
    "exchanged corners": (box(20, 8, 4, 40), "boxes without area"),
    "outside": (box(100, 8, 120, 40), "boxes outside their image"),
    "before the first pixel": (box(-9, -9, 0, 0), "boxes outside their image"),
    "difficult": (box(4, 8, 20, 40, more="<difficult>1</difficult>"), "objects marked ignore or difficult"),
    "no class": (box(4, 8, 20, 40, "dog"), "objects of kinds that are no class of this dataset"),
}


@pytest.mark.fault("D6")
@pytest.mark.fault("D9")
@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_no_object_is_skipped_with_a_count(tmp_path: Path, case: str) -> None:
    objects, reason = SKIPPED[case]
    both = f"<annotation>{objects * 2}{box(4, 8, 20, 40)}</annotation>"
    assert read(tmp_path / "a.xml", both) == ([[0, 4, 8, 20, 40]], [], {reason: 2})


WRONG = {
    "no name": (f"<object>{BOX}</object>", "object 1 has no <name>"),
    "another class": (
        box(1, 2, 3, 4) + box(1, 2, 3, 4, "Car"),
        "object 2 has the unknown class 'Car'; known: person, car",
    ),
    "no box": ("<object><name>car</name></object>", "object 1 (car) has no <bndbox>"),
    "half a box": ("<object><name>car</name><bndbox><xmin>3</xmin></bndbox></object>", "(car) has no <ymin>"),
    "a word": (box("left", 2, 3, 4), "object 1 (person) has the <xmin> 'left'; a number of pixels is wanted"),
    "not a number": (box("nan", 2, 3, 4), "has the <xmin> 'nan'"),
    "endless": (box(1, 2, "inf", 4), "has the <xmax> 'inf'"),
}


@pytest.mark.fault("D5")
@pytest.mark.fault("D8")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_has_its_object(tmp_path: Path, case: str) -> None:
    objects, expected = WRONG[case]
    rows, problems, _ = read(tmp_path / "a.xml", f"<annotation>{objects}</annotation>")
    assert not rows and len(problems) == 1 and expected in problems[0]


@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<annotations><image/></annotations>", "is XML of <annotations>; VOC's is of <annotation>"),
        ("", "cannot be read as XML: no element found"),
        ("<annotation><object>", "cannot be read as XML"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "cannot be read as XML"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str | bytes, expected: str) -> None:
    rows, problems, _ = read(tmp_path / "a.xml", text)
    assert not rows and len(problems) == 1 and expected in problems[0]


@pytest.mark.fault("D8")
def test_a_missing_file_is_no_image_without_objects(tmp_path: Path) -> None:
    problems = Problems()
    assert VocXml(tmp_path / "a.xml", CLASSES, {})(SIZE, problems) is None
    assert "does not exist (an image without objects has a file without <object>)" in str(problems[0])


@pytest.mark.fault("D1")
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("<width>64</width><height>48</height><depth>3</depth>", (48, 64)),
        ("<width> 64.0 </width><height>48</height>", (48, 64)),
        ("<width>0</width><height>0</height>", None),
        ("<width>64</width>", None),
        ("<width></width><height/>", None),
        ("<width>wide</width><height>48</height>", None),
    ],
)
def test_the_stated_size(tmp_path: Path, size: str, expected: tuple[int, int] | None) -> None:
    file = tmp_path / "a.xml"
    file.write_text(f"<annotation><size>{size}</size></annotation>")
    assert VocXml(file, CLASSES, {}).stated_size() == expected


HEADER = "% bbGt version=3\n"
TEXT_READ: dict[str, tuple[str, list[list[float]], dict[str, int]]] = {
    "all fields": ("person 4 8 16 32 0 0 0 0 0 0 0\n", [[0, 4, 8, 20, 40]], {}),
    "the box alone": ("car 4 8 16 32\r\n\r\n", [[1, 4, 8, 20, 40]], {}),
    "over the edge": ("person -4 8 99 32\n", [[0, 0, 8, 64, 40]], {}),
    "outside": ("person 500 8 16 32\n", [], {"boxes outside their image": 1}),
    "no height": ("person 4 8 16 0\n", [], {"boxes without area": 1}),
    "ignored": ("person 4 8 16 32 0 0 0 0 0 1 0\n", [], {"objects marked ignore or difficult": 1}),
    "no class": ("dog 4 8 16 32\n", [], {"objects of kinds that are no class of this dataset": 1}),
}


@pytest.mark.fault("D6")
@pytest.mark.parametrize("case", TEXT_READ)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_boxes_of_text(tmp_path: Path, case: str, start: str) -> None:
    text, expected, skipped = TEXT_READ[case]
    assert read(tmp_path / "a.txt", start + HEADER + text, BbGtText) == (expected, [], skipped)


@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    "line", ["person 4 8 16", "person 4 8 16 nan", "person a b c d", "bus 4 8 16 32", "0 0.5 0.5 0.1 0.1"]
)
def test_wrong_lines_of_text(tmp_path: Path, line: str) -> None:
    rows, problems, _ = read(tmp_path / "a.txt", f"{HEADER}car 4 8 16 32\n{line}\n", BbGtText)
    assert rows == [[1, 4, 8, 20, 40]]
    assert len(problems) == 1 and f"a.txt:3: expected 'person|car x y w h …', found '{line}'" in problems[0]


@pytest.mark.fault("D8")
@pytest.mark.parametrize("data", [b"person \xff\xfe", None])
def test_text_that_cannot_be_read(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "a.txt").write_bytes(data)
    problems = Problems()
    assert BbGtText(tmp_path / "a.txt", CLASSES, {})(SIZE, problems) is None
    assert len(problems) == 1 and "cannot be read as text" in str(problems[0])
