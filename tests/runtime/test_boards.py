"""Boards seen in part, mirrored, heated, wrong or always alike; and boards to print."""

from __future__ import annotations

import re
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import boards
import cv2
import numpy as np
import pytest
from boards import Array, registration_error_px, true_rig, views

from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.rig import Rig
from edgemtl_runtime.rig.calibrate import calibrate
from edgemtl_runtime.rig.calibration_board import Board
from edgemtl_runtime.rig.find import find_board
from edgemtl_runtime.rig.paper import draw

CHARUCO = Board.parse("charuco:8x6:0.05:0.038")
CHECKERS = Board.parse("checkerboard:9x6:0.05")
Views = list[tuple[Array, Array]]


@pytest.fixture(scope="module")
def charuco_views() -> Views:
    return views(true_rig(), CHARUCO, 10)


@pytest.fixture(scope="module")
def checker_views() -> Views:
    return views(true_rig(), CHECKERS, 10)


def rejected(shown: Views, board: Board | str, expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected) as error:
        calibrate(shown, board, 3.0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "heat"),
    [("charuco:8x6:0.05:0.038", True), ("charuco:7x5:0.05:0.038", True), ("charuco:7x5:0.05:0.038", False)],
)
def test_a_charuco_board_registers_the_cameras(text: str, heat: bool) -> None:
    """Heated, the board's black is bright in 16 bits; else both cameras see it alike."""
    truth, board = true_rig(), Board.parse(text)
    rig, report = calibrate(views(truth, board, 10, heat=heat), text, 3.0)
    assert report.stereo_rms_px < 0.2 and not report.warnings and rig.views >= 8
    assert registration_error_px(rig, truth, 3.0) <= 0.6
    assert registration_error_px(rig.at(1.5), truth, 1.5) <= 0.5


def truth_of(board: Board, turn: Array, move: Array, camera: Any) -> Array:
    points = board.points_m.astype(np.float64)
    return cv2.projectPoints(points, cv2.Rodrigues(turn)[0], move, camera.camera_matrix, camera.distortion)[0].reshape(
        -1, 2
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["new", "legacy"])
@pytest.mark.parametrize(
    ("side", "shift"),
    [("left", (-0.24, 0.0)), ("right", (0.24, 0.0)), ("top", (0.0, -0.18)), ("bottom", (0.0, 0.18))],
)
def test_a_board_cut_by_a_border_gives_the_corners_that_are_left(
    side: str, shift: tuple[float, float], legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = boards.charuco_texture(CHARUCO, legacy)
    monkeypatch.setattr(boards, "charuco_texture", lambda board: whole)
    eye, camera = boards.rgb_eye(), true_rig().rgb
    turn = cv2.Rodrigues(np.array([0.2, -0.15, 0.1]))[0]
    move = np.array([*shift, 0.4]) - turn @ (CHARUCO.points_m.max(0) / 2)
    image = eye.look(CHARUCO, turn, move, np.random.default_rng(0))
    corners = find_board(image, CHARUCO)
    assert corners is not None and 8 <= len(corners) < len(CHARUCO.points_m)
    off = np.linalg.norm(corners.xy - truth_of(CHARUCO, turn, move, camera)[corners.ids], axis=1)
    assert np.sqrt((off**2).mean()) < 0.25, side


def hidden(image: Array, seed: int) -> Array:
    """Return a picture with a hand before a part of the board."""
    image, rng = image.copy(), np.random.default_rng(seed)
    height, width = image.shape[:2]
    middle = (round(rng.uniform(0.35, 0.65) * width), round(rng.uniform(0.35, 0.65) * height))
    cv2.ellipse(image, middle, (width // 8, height // 12), 30, 0, 360, (90,) * 3 if image.ndim == 3 else 30_500, -1)
    return image


def test_cut_and_hidden_boards_register_by_what_both_cameras_see() -> None:
    truth = true_rig()
    shown = views(truth, CHARUCO, 16, seed=8, spread=1.7, near=1.4)
    shown = [
        (hidden(rgb, k) if k % 3 == 0 else rgb, hidden(ir, 50 + k) if k % 3 == 1 else ir)
        for k, (rgb, ir) in enumerate(shown)
    ]
    rig, report = calibrate(shown, CHARUCO, 3.0)
    partly = [v for v in report.views if v.stereo_px is not None and min(v.corners.values()) < len(CHARUCO.points_m)]
    assert len(partly) >= 8 and report.stereo_rms_px < 0.25
    assert registration_error_px(rig, truth, 3.0) <= 0.5
    assert report.reach["rgb"] > 0.4


def test_noise_and_a_weak_contrast_leave_a_charuco_board_usable(charuco_views: Views) -> None:
    truth, rng = true_rig(), np.random.default_rng(1)
    noisy = [
        (
            (rgb * 0.5 + 40 + rng.normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8),
            (30_000 + 0.1 * (ir.astype(float) - 30_000) + rng.normal(0, 3, ir.shape)).astype(np.uint16),
        )
        for rgb, ir in charuco_views
    ]
    rig, report = calibrate(noisy, CHARUCO, 3.0)
    assert report.stereo_rms_px < 0.35 and registration_error_px(rig, truth, 3.0) <= 1.0


def test_a_view_that_shows_too_little_is_named_and_left_out(charuco_views: Views) -> None:
    shown = [*charuco_views]
    corners = find_board(shown[2][1], CHARUCO)
    assert corners is not None
    right = round(np.sort(corners.xy[:, 0])[6])  # six or so corners are left, in a column
    shown[2] = (shown[2][0], np.where(np.arange(320) < right, shown[2][1], 30_450).astype(np.uint16))
    rig, report = calibrate(shown, CHARUCO, 3.0)
    assert re.search(r"only \d corners in ir|almost on a line|not found in ir", report.views[2].note)
    assert registration_error_px(rig, true_rig(), 3.0) <= 0.6


def flip(image: Array) -> Array:
    return np.ascontiguousarray(image[:, ::-1])


@pytest.mark.parametrize("which", ["rgb", "ir", "both"])
def test_a_mirrored_camera_is_told_by_the_markers(which: str, charuco_views: Views) -> None:
    shown = [(flip(a) if which != "ir" else a, flip(b) if which != "rgb" else b) for a, b in charuco_views]
    rejected(shown, CHARUCO, f"the {'ir' if which == 'ir' else 'rgb'} images are mirrored")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("checkerboard:9x6:0.05", "rgb"),
        ("checkerboard:9x7:0.05", "ir"),
        ("checkerboard:9x6:0.05", "upside down"),
        ("circles:8x5:0.05", "ir"),
        ("acircles:4x11:0.04", "rgb"),
        ("acircles:4x11:0.04", "upside down"),
    ],
)
def test_a_mirrored_camera_is_told_by_how_the_views_agree(text: str, how: str) -> None:
    shown = views(true_rig(), Board.parse(text), 8, upside=how == "ir")
    turned = {
        "rgb": [(flip(a), b) for a, b in shown],
        "ir": [(a, flip(b)) for a, b in shown],
        "upside down": [(a, np.ascontiguousarray(b[::-1])) for a, b in shown],
    }
    rejected(turned[how], text, "one camera mirrors its images")


def test_a_camera_mounted_upside_down_is_none_that_mirrors(checker_views: Views) -> None:
    truth = true_rig()
    shown = [(a, np.ascontiguousarray(b[::-1, ::-1])) for a, b in checker_views]
    rig, report = calibrate(shown, CHECKERS, 3.0)
    straight, _ = calibrate(checker_views, CHECKERS, 3.0)
    turn = np.diag([-1.0, -1.0, 1.0])
    assert report.stereo_rms_px < 0.2 and np.allclose(
        turn @ rig.rotation_rgb_to_ir, straight.rotation_rgb_to_ir, atol=1e-2
    )
    assert registration_error_px(straight, truth, 3.0) <= 0.5


@pytest.mark.parametrize(
    ("board", "expected"),
    [
        ("charuco:7x6:0.05:0.038", "other positions; check COLUMNSxROWS"),
        ("charuco:6x8:0.05:0.038", "other positions; check COLUMNSxROWS"),
        ("charuco:8x6:0.05:0.038:DICT_5X5_100", "markers of DICT_4X4_50, not DICT_5X5_100"),
        ("charuco:8x6:0.05:0.02", r"markers look 0\.03\d m wide where squares are 0\.05 m"),
    ],
)
def test_another_board_than_was_named_is_told(board: str, expected: str, charuco_views: Views) -> None:
    rejected(charuco_views[:6], board, expected)


def test_markers_that_the_thermal_camera_does_not_see_are_told_with_what_to_take(charuco_views: Views) -> None:
    cold = [(rgb, np.full_like(ir, 30_000)) for rgb, ir in charuco_views]
    rejected(cold, CHARUCO, "ir camera does not see its markers.*checkerboard:7x5:0.05 or circles")


def test_a_thermal_camera_too_coarse_for_the_markers_is_told_so_too() -> None:
    shown = views(true_rig((120, 160)), CHARUCO, 6)
    rejected(shown, CHARUCO, "of 6 views show the board to both cameras .*ir camera does not see its markers")


@pytest.mark.parametrize("board", [CHECKERS, CHARUCO], ids=["checkerboard", "charuco"])
def test_the_same_view_twenty_times_is_one_view(board: Board, checker_views: Views, charuco_views: Views) -> None:
    rgb, ir = (checker_views if board is CHECKERS else charuco_views)[0]
    rng = np.random.default_rng(0)
    shown = [
        (
            (rgb + rng.normal(0, 2, rgb.shape)).clip(0, 255).astype(np.uint8),
            (ir + rng.normal(0, 10, ir.shape)).astype(np.uint16),
        )
        for _ in range(20)
    ]
    rejected(shown, board, "only 1 of 20 common views differ to the rgb camera; tilt the board")


@pytest.mark.parametrize("board", [CHECKERS, CHARUCO], ids=["checkerboard", "charuco"])
def test_a_board_that_is_never_tilted_tells_no_lens(board: Board) -> None:
    rejected(views(true_rig(), board, 8, tilt=0.0), board, "from one side only|do not determine the lens")


def test_pictures_that_were_not_taken_together_make_no_rig(checker_views: Views) -> None:
    late = [(checker_views[k][0], checker_views[(k + 1) % 10][1]) for k in range(10)]
    rejected(late, CHECKERS, "same time")


def test_views_that_fit_nothing_are_refused_by_their_errors_not_by_each_other(checker_views: Views) -> None:
    """All thermal pictures bent alike: every view is as bad as the others."""
    y, x = np.mgrid[:240, :320].astype(np.float32)
    bent = [(a, cv2.remap(b, x + 9 * np.sin(y / 9), y + 9 * np.cos(x / 7), cv2.INTER_LINEAR)) for a, b in checker_views]
    rejected(bent, CHECKERS, "px from where|show the board|views agree|do not determine")


def test_a_poor_rig_is_warned_of(checker_views: Views) -> None:
    rng = np.random.default_rng(3)
    x, y = np.mgrid[:240, :320][::-1].astype(np.float32)
    shown = []
    for rgb, ir in checker_views:
        bend = 0.8 * cv2.resize(rng.normal(size=(6, 8)).astype(np.float32), (320, 240), interpolation=cv2.INTER_CUBIC)
        shown.append((rgb, cv2.remap(ir, x + bend, y - bend, cv2.INTER_LINEAR)))
    _, report = calibrate(shown, CHECKERS, 3.0)
    assert any("ir: the corners lie" in warning and "flat board" in warning for warning in report.warnings)


def test_a_board_that_stays_in_the_middle_is_warned_of() -> None:
    _, report = calibrate(views(true_rig(), CHECKERS, 8, spread=0.3, near=0.6), CHECKERS, 3.0)
    assert any("hold it to the edges" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("charuco:7x5:0.04", "give kind, counts and metres"),
        ("charuco:3x3:0.04:0.03", "too few corners"),
        ("charuco:7x5:0.03:0.04", "a marker is smaller than its square"),
        ("charuco:7x5:0.04:0.03:DICT_4X4_51", "did you mean 'DICT_4X4_50'"),
        ("charuco:12x9:0.04:0.03", "has 54 markers and DICT_4X4_50 50; name the dictionary"),
        ("charuco:7x5:0.04:0.03:4X4_50:x", "give kind, counts and metres"),
        ("charuco", "give kind, counts and metres"),
        ("charuco:7x5:0.04:0.05", "--board charuco:7x5:0.04:0.05: a marker is smaller"),
        ("charuco:7x5:nan:0.03", "sides are in metres"),
        ("checkerboard:9x6:0.03:0.02", "give kind, counts and metres"),
    ],
)
def test_a_charuco_board_that_is_none_is_refused(text: str, expected: str) -> None:
    with pytest.raises(EdgemtlError, match=expected):
        Board.parse(text)


def test_dictionaries_are_named_as_people_write_them() -> None:
    for word in ("DICT_APRILTAG_36h11", "apriltag_36H11", "dict_apriltag_36h11"):
        assert Board.parse(f"charuco:7x5:0.04:0.03:{word}").dictionary.upper() == "DICT_APRILTAG_36H11"
    assert str(Board.parse("charuco:7x5:0.04:0.03")) == "charuco:7x5:0.04:0.03:DICT_4X4_50"


def test_an_opencv_without_charuco_boards_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(__version__="4.6.0", aruco=types.SimpleNamespace()))
    with pytest.raises(EdgemtlError, match=r"need OpenCV 4\.7 or newer .* this is 4\.6\.0: pip install"):
        Board.parse("charuco:7x5:0.04:0.03")


TO_PRINT = [
    "checkerboard:9x6:0.02",
    "charuco:7x5:0.03:0.022",
    "charuco:8x6:0.03:0.022:5X5_100",
    "circles:7x5:0.02",
    "acircles:4x11:0.012",
]


@pytest.mark.parametrize("text", TO_PRINT)
def test_a_board_to_print_is_found_where_it_is_drawn(text: str) -> None:
    board = Board.parse(text)
    paper, pixels_per_m = draw(board, 150)
    corners = find_board(paper, board)
    assert corners is not None and len(corners) == len(board.points_m)
    gaps = corners.xy - corners.xy[0]
    want = board.points_m[:, :2] * pixels_per_m
    if board.num_orientations == 2 and gaps[-1].sum() < 0:
        gaps = gaps[0] - gaps
    off = np.linalg.norm(np.abs(gaps) - want, axis=1)
    assert off.max() < 0.6


@pytest.mark.parametrize("text", TO_PRINT)
def test_the_paper_tells_its_size(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = Board.parse(text)
    for name in ("board.png", "board.pdf"):
        assert main(["board", "--board", text, "--out", str(tmp_path / name), "--dpi", "200"]) == 0
    assert "print it at 100 %" in capsys.readouterr().out
    raw = (tmp_path / "board.png").read_bytes()
    at = raw.index(b"pHYs")
    across, down, unit = struct.unpack(">IIB", raw[at + 4 : at + 13])
    assert (
        unit == 1 and across == down and zlib.crc32(raw[at : at + 13]) == struct.unpack(">I", raw[at + 13 : at + 17])[0]
    )
    paper = cv2.imread(str(tmp_path / "board.png"), cv2.IMREAD_UNCHANGED)
    corners = find_board(paper, board)
    assert corners is not None
    width_m = np.ptp(board.points_m[:, 0])
    assert np.ptp(corners.xy, axis=0)[0] / across == pytest.approx(width_m, rel=2e-3)
    pdf = (tmp_path / "board.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)]", pdf)
    assert box is not None and float(box[1]) / 72 * 0.0254 == pytest.approx(paper.shape[1] / across, rel=1e-3)
    begin = int(re.search(rb"startxref\n(\d+)", pdf)[1])
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n", pdf[begin:]), 1):
        assert pdf[int(offset) :].startswith(b"%d 0 obj" % number)
    pixels = re.search(rb"/FlateDecode /Length (\d+) >>\nstream\n", pdf)
    assert pixels is not None
    shown = np.frombuffer(zlib.decompress(pdf[pixels.end() : pixels.end() + int(pixels[1])]), np.uint8)
    assert np.array_equal(shown.reshape(paper.shape), paper)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--board", "checkerboard:9x6:0.02", "--out", "b.svg"], "named .png or .pdf"),
        (["--board", "checkerboard:9x6:0.02", "--out", "b.png", "--dpi", "1"], "10 to 2400"),
        (["--board", "checkerboard:9x6:0.02", "--out", "b.png", "--dpi", "nan"], "10 to 2400"),
        (["--board", "checkerboard:9x6:2", "--out", "b.png"], "other dots an inch"),
        (["--board", "checkerboard:9x6:0.0001", "--out", "b.png"], "other dots an inch"),
    ],
)
def test_a_board_that_cannot_be_drawn_is_told(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["board", *words]) == 2
    assert expected in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_calibrating_with_a_charuco_board_from_folders(
    charuco_views: Views, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, (rgb, ir) in enumerate(charuco_views):
        for name, image in (("rgb", rgb[:, :, ::-1]), ("ir", ir)):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{index:04d}.png"), image)
    cameras = ["--rgb", str(tmp_path / "rgb"), "--ir", str(tmp_path / "ir")]
    words = ["--board", str(CHARUCO), "--distance", "3", "--out", str(tmp_path / "rig.yaml")]
    assert main(["calibrate", *cameras, *words]) == 0
    assert "stereo" in capsys.readouterr().out
    assert registration_error_px(Rig.open(tmp_path / "rig.yaml"), true_rig(), 3.0) <= 0.6
