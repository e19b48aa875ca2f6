"""Two cameras calibrated, registered and watched: rigs of known truth, rendered boards, and real pairs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from boards import LENS_IR, Array, grid, registration_error_px, true_ir_pixels, true_rig, views
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemtl_runtime.errors import CameraError, EdgemtlError
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.rig import CameraModel, Rig
from edgemtl_runtime.rig.calibrate import calibrate
from edgemtl_runtime.rig.calibration_board import Board
from edgemtl_runtime.rig.distortion import distort, fold_radius, undistort
from edgemtl_runtime.rig.find import find_board
from edgemtl_runtime.rig.misalignment import Misalignment
from edgemtl_runtime.rig.points import from_points, read_points
from edgemtl_runtime.rig.projection import rgb_pixels_to_ir
from edgemtl_runtime.rig.register import Registration, captioned, preview

lenses = st.tuples(
    st.floats(-0.4, 0.3), st.floats(-0.1, 0.15), st.floats(-2e-3, 2e-3), st.floats(-2e-3, 2e-3), st.floats(-0.02, 0.02)
).map(np.array)


@settings(max_examples=60, deadline=None)
@given(lenses, st.lists(st.tuples(st.floats(-0.7, 0.7), st.floats(-0.55, 0.55)), min_size=1, max_size=20))
def test_undistorting_takes_back_what_distorting_does(lens: Array, rays: list[tuple[float, float]]) -> None:
    inside = np.array([ray for ray in rays if np.hypot(*ray) < 0.9 * fold_radius(lens)]).reshape(-1, 2)
    assert np.allclose(undistort(distort(inside, lens), lens), inside, atol=1e-8)


def test_what_a_lens_cannot_show_is_nan_not_a_wrong_pixel() -> None:
    lens = np.array([-0.4, 0.0, 0, 0, 0])
    radius = fold_radius(lens)
    assert radius == pytest.approx(np.sqrt(1 / 1.2))
    assert np.isnan(distort(np.array([[radius + 0.01, 0.0]]), lens)).all()
    assert np.isnan(undistort(np.array([[0.9, 0.0]]), lens)).all()  # the lens shows nothing beyond 2/3 of the radius
    assert fold_radius(np.zeros(5)) == np.inf


@settings(max_examples=25, deadline=None)
@given(
    lenses,
    st.tuples(*[st.floats(-0.1, 0.1)] * 3),
    st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    st.floats(0.8, 40.0),
)
def test_the_ir_pixel_is_the_one_opencv_projects_to(
    lens: Array, turn: tuple[float, ...], move: tuple[float, ...], distance_m: float
) -> None:
    rig = true_rig()
    cameras = {**rig.cameras, "ir": replace(rig.ir, distortion=lens)}
    rotation = cv2.Rodrigues(np.array(turn))[0]
    rig = Rig(cameras, rotation, np.array(move), distance_m)
    xy = grid(rig, 40)
    got, want = rgb_pixels_to_ir(rig, xy), true_ir_pixels(rig, xy, distance_m)
    known = np.isfinite(got).all(1)
    assert known.mean() > 0.3 and np.allclose(got[known], want[known], atol=1e-5)
    further = rgb_pixels_to_ir(rig, xy, 2 * distance_m)
    assert np.array_equal(further, rgb_pixels_to_ir(rig.at(2 * distance_m), xy), equal_nan=True)


def test_the_homography_is_the_plane_seen_without_lenses() -> None:
    rig = true_rig()
    bare = replace(rig, cameras={n: replace(c, distortion=np.zeros(5)) for n, c in rig.cameras.items()})
    xy = grid(rig)
    out = np.c_[xy, np.ones(len(xy))] @ bare.homography_rgb_to_ir.T
    assert np.allclose(out[:, :2] / out[:, 2:], true_ir_pixels(bare, xy, 3.0), atol=1e-6)


finite = st.floats(-10, 10, allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(lenses, st.tuples(*[finite] * 3), st.floats(1e-3, 1e4), st.floats(1e-6, 50), st.floats(-30, 30))
def test_a_rig_file_reads_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory,
    lens: Array,
    move: tuple[float, ...],
    distance_m: float,
    error: float,
    offset: float,
) -> None:
    file = tmp_path_factory.mktemp("rig") / "rig.yaml"
    cameras = {**true_rig().cameras, "ir": replace(true_rig().ir, distortion=lens)}
    rotation = true_rig().rotation_rgb_to_ir
    rig = Rig(cameras, rotation, np.array(move), distance_m, rms_px={"rgb": error}, offset_ms={"ir": offset}, views=9)
    rig.save(file)
    assert Rig.open(file).to_dict() == rig.to_dict()


def test_each_cameras_file_is_what_ros_reads(tmp_path: Path) -> None:
    true_rig().save(tmp_path / "rig.yaml")
    mapping = yaml.safe_load((tmp_path / "rig.ir.yaml").read_text())
    shapes = {"camera_matrix": (3, 3), "distortion_coefficients": (1, 5), "rectification_matrix": (3, 3)}
    for key, (rows, cols) in {**shapes, "projection_matrix": (3, 4)}.items():
        assert (mapping[key]["rows"], mapping[key]["cols"], len(mapping[key]["data"])) == (rows, cols, rows * cols)
    assert (mapping["image_width"], mapping["image_height"], mapping["camera_name"]) == (320, 240, "ir")
    assert mapping["distortion_model"] == "plumb_bob" and mapping["distortion_coefficients"]["data"] == LENS_IR.tolist()
    assert (tmp_path / "rig.rgb.yaml").is_file()
    written_by_ros = (tmp_path / "rig.ir.yaml").read_text().replace("0.0009", "9e-04")  # YAML 1.1 reads this as text
    assert np.array_equal(CameraModel.from_dict(yaml.safe_load(written_by_ros), "x").distortion, LENS_IR)


def without_rotation(mapping: dict[str, Any]) -> None:
    mapping["reference_to_other"].pop("rotation")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update(colour=1), "unknown field `colour`"),
        (lambda t: t["cameras"]["ir"].update(binning=2), r"cameras.ir: .*unknown field `binning`"),
        (lambda t: t["cameras"]["ir"]["camera_matrix"].update(rows=2), "cameras.ir: camera_matrix is 2x3 of 9 numbers"),
        (lambda t: t["cameras"]["ir"]["camera_matrix"]["data"].pop(), "camera_matrix is 3x3 of 8 numbers"),
        (lambda t: t["cameras"]["rgb"]["camera_matrix"]["data"].__setitem__(0, float("nan")), "cameras.rgb: .*finite"),
        (lambda t: t["cameras"]["rgb"]["camera_matrix"]["data"].__setitem__(0, -5.0), "camera_matrix is not"),
        (lambda t: t["cameras"]["rgb"].update(distortion_model="equidistant"), "'equidistant', only plumb_bob"),
        (lambda t: t["cameras"]["rgb"].update(image_width=0), "image_width"),
        (lambda t: t["cameras"]["rgb"].update(camera_name="../../x"), "letters, digits"),
        (lambda t: t["cameras"].pop("ir"), "cameras are rgb; give 'rgb' and one other"),
        (lambda t: t["reference_to_other"]["rotation"]["data"].__setitem__(0, 0.5), "rotation is none"),
        (lambda t: t["reference_to_other"].update(distance_m=float("inf")), "distance_m is inf"),
        (lambda t: t["reference_to_other"].update(distance_m=9.0), "homography is not that of distance_m"),
        (lambda t: t["reference_to_other"].update(translation_m=[1.0, 2.0]), r"translation_rgb_to_ir_m is \(2,\)"),
        (without_rotation, "go with a rotation"),
        (lambda t: t["errors"].update(stereo_rms_px=-1.0), "stereo_rms_px is -1"),
        (lambda t: t.update(offset_ms={"thermal": 3.0}), "offset_ms is .*one finite number a camera"),
        (lambda t: t.update(edgemtl_rig=2), "edgemtl_rig is 2, not 1"),
        (lambda t: t.pop("edgemtl_rig"), "edgemtl_rig is missing, not 1; is it a rig file, as `edgemtl-runtime cal"),
    ],
)
def test_a_rig_file_that_is_none_is_refused_by_file_and_field(change: Any, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    mapping = true_rig().to_dict()
    change(mapping)
    file.write_text(yaml.safe_dump(mapping))
    with pytest.raises(EdgemtlError, match=expected) as error:
        Rig.open(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{a: [", "!!python/object/apply:os.getcwd []", "\x00", "d: 2026-99-99"])
def test_a_file_that_is_no_yaml_mapping_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text(text)
    with pytest.raises(EdgemtlError, match=r"rig\.yaml"):
        Rig.open(tmp_path / "rig.yaml")
    with pytest.raises(EdgemtlError, match="cannot be read"):
        Rig.open(tmp_path / "none.yaml")


def test_what_is_missing_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_rig().save(tmp_path / "rig.yaml")
    for module, extra in (("yaml", "rig"), ("cv2", "opencv")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EdgemtlError, match=rf"pip install 'edgemtl-runtime\[{extra}\]'"):
            Rig.open(tmp_path / "rig.yaml") if module == "yaml" else Misalignment((64, 64))


def test_resized_frames_are_registered_as_the_calibrated_ones_are() -> None:
    rig = true_rig()
    half = rig.resized((240, 320), (120, 160))
    xy = grid(rig, 32)
    want = (rgb_pixels_to_ir(rig, xy) + 0.5) / 2 - 0.5
    assert np.allclose(rgb_pixels_to_ir(half, (xy + 0.5) / 2 - 0.5), want, atol=1e-6)
    with pytest.raises(CameraError, match="--rgb has 640x360 images, the rig was calibrated with 640x480"):
        rig.resized((360, 640), (240, 320))


@pytest.mark.parametrize(
    ("ir_size", "fit_size"), [((240, 320), (256, 320)), ((120, 160), (512, 640)), ((480, 640), (96, 128))]
)
def test_one_look_up_is_lens_registration_and_letterbox(ir_size: tuple[int, int], fit_size: tuple[int, int]) -> None:
    rig = true_rig(ir_size)
    fit = Letterbox.plan((480, 640), fit_size)
    plan = Registration(rig, (480, 640), ir_size, fit)
    # a picture that says where it is: its brightness is a plane over x, then over y
    y, x = np.mgrid[: ir_size[0], : ir_size[1]]
    far = np.stack([x * 255 / ir_size[1], y * 255 / ir_size[0]], 2)
    got = [plan.image((channel + 0.5).astype(np.uint8), blank=7)[:, :, 0] for channel in far.transpose(2, 0, 1)]
    rows, columns = np.mgrid[: fit.scaled_height, : fit.scaled_width]
    camera = (np.stack([columns, rows], 2).reshape(-1, 2) + 0.5) / fit.scale - 0.5
    want = true_ir_pixels(rig, camera, 3.0).reshape(*rows.shape, 2)
    limit = np.array(ir_size[::-1])
    inside = ((want > 2) & (want < limit - 3)).all(2)
    assert inside.mean() > 0.5
    scale = 255 / limit
    for axis in (0, 1):
        off = got[axis][: rows.shape[0], : rows.shape[1]][inside] - (want[inside] * scale)[:, axis]
        assert np.abs(off).mean() < 0.6 and np.abs(off).max() < 2.0  # grey levels; rounding alone is 0.5
        assert (got[axis][fit.scaled_height :] == 7).all() and (got[axis][~plan.valid_mask] == 7).all()
    assert plan.valid_mask[: rows.shape[0], : rows.shape[1]][inside].all() and plan.warning() is None
    assert plan.registered(far[:, :, 0].astype(np.uint16)).shape == (480, 640)
    assert plan.image(np.zeros((*ir_size, 3), np.uint8), channels=1).shape == (*fit_size, 1)
    with pytest.raises(ValueError, match="planned for"):
        plan.image(np.zeros((10, 10), np.uint8))


def test_fine_stripes_are_averaged_not_aliased() -> None:
    rig = true_rig((480, 640))
    plan = Registration(rig, (480, 640), (480, 640), Letterbox.plan((480, 640), (96, 128)))
    stripes = np.tile(np.array([0, 0, 255, 255], np.uint8), (480, 160))
    out = plan.image(stripes)[:, :, 0][plan.valid_mask].astype(float)
    assert abs(out.mean() - 127.5) < 3 and out.std() < 40
    plain = cv2.remap(stripes, np.float32(np.mgrid[:96, :128][1] * 5), np.float32(np.mgrid[:96, :128][0] * 5), 1)
    assert plain.std() > 100


def test_a_camera_that_sees_little_of_the_other_is_told() -> None:
    rig = true_rig()
    away = cv2.Rodrigues(np.array([0, 0.45, 0]))[0]
    plan = Registration(replace(rig, rotation_rgb_to_ir=away, homography_rgb_to_ir=None), (480, 640), (240, 320))
    assert 0 < plan.coverage < 0.5 and "--ir sees" in (plan.warning() or "")
    assert plan.coverage == pytest.approx(plan.valid_mask.mean())


@pytest.mark.parametrize(
    ("board", "ir_size", "upside"),
    [
        ("checkerboard:9x6:0.05", (240, 320), False),
        ("checkerboard:9x7:0.05", (240, 320), True),
        ("checkerboard:7x5:0.05", (120, 160), False),
        ("acircles:4x11:0.04", (240, 320), False),
        ("circles:8x5:0.05", (240, 320), True),
    ],
)
def test_a_board_seen_by_both_cameras_registers_them(board: str, ir_size: tuple[int, int], upside: bool) -> None:
    truth = true_rig(ir_size)
    rig, report = calibrate(views(truth, Board.parse(board), 10, upside=upside), board, 3.0)
    limit_px = 0.5 if ir_size == (240, 320) else 0.8  # an ir pixel of the small one is 3.25 rgb pixels
    assert report.stereo_rms_px < 0.3 and not report.warnings and rig.views >= 7
    assert registration_error_px(rig, truth, 3.0) <= limit_px
    assert registration_error_px(rig.at(1.5), truth, 1.5) <= limit_px
    mapping = json.loads(json.dumps(report.to_dict()))
    assert len(mapping["views"]) == 10 and mapping["rms_px"] == report.rms_px
    assert len(report.table().splitlines()) == 10 + 3


def test_a_view_that_is_wrong_is_left_out_and_named() -> None:
    truth = true_rig()
    board = Board.parse("checkerboard:9x6:0.05")
    shown = views(truth, board, 10)
    bent = np.float32(np.mgrid[:480, :640][::-1])
    bent[0] += 12 * np.sin(bent[1] / 25)  # the board was bent, or moved while it was exposed
    shown[4] = (cv2.remap(shown[4][0], bent[0], bent[1], cv2.INTER_LINEAR), shown[4][1])
    shown[7] = (shown[7][0], shown[6][1])  # the cameras were not triggered together
    shown[8] = (np.zeros_like(shown[8][0]), shown[8][1])
    rig, report = calibrate(shown, board, 3.0)
    notes = {view.index: view.note for view in report.views if view.note}
    assert notes.keys() == {4, 7, 8} and notes[8] == "not found in rgb" and notes[7] == "left out of both together"
    assert registration_error_px(rig, truth, 3.0) <= 0.5


def test_too_few_views_say_how_many_each_camera_has() -> None:
    shown = views(true_rig(), Board.parse("checkerboard:9x6:0.05"), 6)
    shown = [(rgb, ir if index < 4 else np.zeros_like(ir)) for index, (rgb, ir) in enumerate(shown)]
    with pytest.raises(EdgemtlError, match=r"only 4 of 6 views .*\(rgb 6, ir 4\)"):
        calibrate(shown, "checkerboard:9x6:0.05", 3.0)
    with pytest.raises(EdgemtlError, match="different sizes"):
        calibrate([*shown[:3], *((rgb[::2], ir) for rgb, ir in shown[3:])], "checkerboard:9x6:0.05", 3.0)
    assert find_board(np.full((120, 160), 77, np.uint8), Board.parse("circles:8x5:0.05")) is None


@pytest.mark.parametrize(
    "text", ["chess:9x6:0.03", "checkerboard:9x6", "circles:6x6:0.1", "circles:2x6:0.1", "circles:5x6:-1"]
)
def test_a_board_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EdgemtlError, match="--board"):
        Board.parse(text)


def matched(count: int, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    truth = np.array([[0.48, 0.02, 11.0], [-0.015, 0.5, -6.0], [2e-5, -1e-5, 1.0]])
    rgb_xy = rng.uniform((20, 20), (620, 460), (count, 2))
    out = np.c_[rgb_xy, np.ones(count)] @ truth.T
    return truth, rgb_xy, out[:, :2] / out[:, 2:]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_matched_points_register_within_half_a_pixel_though_one_is_wrong(seed: int) -> None:
    truth, rgb_xy, ir_xy = matched(16, seed)
    ir_xy = ir_xy + np.random.default_rng(seed + 1).normal(0, 0.2, ir_xy.shape)
    ir_xy[3] += (25, -30)
    rig, errors = from_points(rgb_xy, ir_xy, (480, 640), (240, 320))
    assert errors.argmax() == 3 and errors[3] > 20 and np.delete(errors, 3).max() < 3 and rig.rms_px["ir"] < 0.6
    inner = np.array([[x, y] for x in (160, 320, 480) for y in (120, 240, 360)], float)
    want = np.c_[inner, np.ones(9)] @ truth.T
    assert np.linalg.norm(rgb_pixels_to_ir(rig, inner) - want[:, :2] / want[:, 2:], axis=1).mean() <= 0.5
    with pytest.raises(EdgemtlError, match="calibrate with a board"):
        rig.at(4.0)


def test_a_points_only_rig_is_kept_and_resized(tmp_path: Path) -> None:
    truth, rgb_xy, ir_xy = matched(8, 1)
    rig, errors = from_points(rgb_xy, ir_xy, (480, 640), (240, 320))
    assert errors.max() < 1e-3 and np.allclose(
        rig.homography_rgb_to_ir / rig.homography_rgb_to_ir[2, 2], truth, atol=1e-4
    )
    rig.save(tmp_path / "rig.yaml")
    again = Rig.open(tmp_path / "rig.yaml")
    assert again.to_dict() == rig.to_dict() and not again.calibrated and again.distance_m is None
    half = again.resized((240, 320), (240, 320))
    assert np.allclose(rgb_pixels_to_ir(half, (rgb_xy + 0.5) / 2 - 0.5), ir_xy, atol=1e-3)


def test_points_that_do_not_pin_the_picture_down_are_refused() -> None:
    _, rgb_xy, ir_xy = matched(8, 2)
    line = np.stack([np.linspace(10, 600, 8), np.linspace(20, 300, 8)], 1)
    almost = line.copy()
    almost[5] += (0, 90)
    for bad in (line, almost, np.tile(rgb_xy[:1], (8, 1))):
        with pytest.raises(EdgemtlError, match="no three on a line"):
            from_points(bad, bad / 2, (480, 640), (240, 320))
    with pytest.raises(EdgemtlError, match="3 rgb and 3 ir points"):
        from_points(rgb_xy[:3], ir_xy[:3], (480, 640), (240, 320))


def test_points_of_a_mirrored_camera_are_refused() -> None:
    _, rgb_xy, ir_xy = matched(12, 4)
    for mirrored in ((319, 0) + ir_xy * (-1, 1), (0, 239) + ir_xy * (1, -1), ir_xy[:, ::-1]):
        with pytest.raises(EdgemtlError, match="one camera mirrors its images"):
            from_points(rgb_xy, mirrored, (480, 640), (240, 320))
    turned = (319, 239) - ir_xy
    assert from_points(rgb_xy, turned, (480, 640), (240, 320))[1].max() < 1e-3


def test_a_csv_of_points_is_read_and_its_bad_line_named(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("x_rgb,y_rgb,x_ir,y_ir\n1,2,3,4\n5.5,6,7,8\n\n")
    rgb_xy, ir_xy = read_points(file)
    assert rgb_xy.tolist() == [[1, 2], [5.5, 6]] and ir_xy.tolist() == [[3, 4], [7, 8]]
    for text, expected in (
        ("1,2,3,4\n", "begin it with"),
        ("x_rgb,y_rgb,x_ir,y_ir\n1,2,nan,4\n", "point 1 is '1,2,nan,4'"),
    ):
        file.write_text(text)
        with pytest.raises(EdgemtlError, match=expected):
            read_points(file)


def test_the_picture_to_judge_by_shows_both(tmp_path: Path) -> None:
    truth = true_rig()
    rgb, ir = views(truth, Board.parse("checkerboard:9x6:0.05"), 1)[0]
    shown = preview(truth, rgb, ir, tmp_path / "look.png")
    assert shown.shape == (480, 1280, 3)
    assert np.array_equal(cv2.imread(str(tmp_path / "look.png"))[:, :, ::-1], shown)
    assert np.array_equal(shown[:32, :32], rgb[:32, :32]) and ((shown[:, 640:] == (60, 255, 60)).all(2)).sum() > 500


@pytest.mark.fault("C4")
@pytest.mark.parametrize("size", [(120, 160), (480, 640)])
def test_a_written_preview_has_what_to_look_for_below_each_half(size: tuple[int, int]) -> None:
    shown = np.zeros((size[0], 2 * size[1], 3), np.uint8)
    image = captioned(shown)
    factor = image.shape[1] // shown.shape[1]
    assert image.shape[1] >= 800 and image.shape[0] > factor * size[0]
    below = image[factor * size[0] :]
    assert all((half == 255).any() for half in np.split(below, 2, 1))


def real_pairs(root: Path, count: int) -> list[tuple[Array, Array]]:
    files = sorted((root / "rgb").glob("*/*.jpg"))
    chosen = np.random.default_rng(5).permutation(len(files))[:count]
    pairs = []
    for index in chosen:
        rgb = files[index]
        colour = cv2.imread(str(rgb))[:, :, ::-1]
        pairs.append((colour, cv2.imread(str(root / "ir" / rgb.parent.name / rgb.name), cv2.IMREAD_GRAYSCALE)))
    return pairs


def test_real_thermal_pictures_come_back_from_a_known_homography(rgbir: Path) -> None:
    away = np.array([[0.94, 0.03, 9.0], [-0.02, 0.95, 7.0], [3e-5, -2e-5, 1.0]])
    cameras = {name: CameraModel(name, 320, 240) for name in ("rgb", "ir")}
    rig = Rig(cameras, homography_rgb_to_ir=away)
    plan = Registration(rig, (240, 320), (240, 320))
    xy = grid(rig, 1).astype(np.float32)
    fixed = (
        plan.lookup.xy.reshape(-1, 2)
        + np.stack([plan.lookup.fraction % 32, plan.lookup.fraction // 32], 2).reshape(-1, 2) / 32
    )
    want = cv2.perspectiveTransform(xy[None].astype(np.float64), away)[0]
    assert (
        np.linalg.norm(fixed - want, axis=1)[plan.valid_mask.ravel()].max() <= 0.5
    )  # clamped at the outermost half pixel
    for _, ir in real_pairs(rgbir, 8):
        moved = cv2.warpPerspective(ir, away, (320, 240), flags=cv2.INTER_CUBIC)
        back = plan.image(moved)[8:-8, 8:-8, 0].astype(float)
        valid_mask = plan.valid_mask[8:-8, 8:-8]
        images = back, moved[8:-8, 8:-8].astype(float)
        still, far = (np.abs(image - ir[8:-8, 8:-8])[valid_mask].mean() for image in images)
        assert still < 2.0 and still < far / 3


def watched(pairs: list[tuple[Array, Array]], shift: tuple[int, int]) -> Misalignment:
    watch = Misalignment((240, 320), every=1, window=20)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    for rgb, ir in pairs:
        watch.feed(rgb, cv2.warpAffine(ir, move, (320, 240)))
    return watch


@pytest.mark.parametrize("shift", [(8, 0), (6, -5)])
def test_real_pairs_out_of_line_are_measured_and_told(rgbir: Path, shift: tuple[int, int]) -> None:
    pairs = real_pairs(rgbir, 40)
    aligned, moved = watched(pairs, (0, 0)), watched(pairs, shift)
    assert aligned.shift_px is not None and moved.shift_px is not None
    assert np.hypot(*aligned.shift_px) < 2 and aligned.warning() is None
    # the pairs themselves are about a pixel apart, which is not what is asked here
    assert np.hypot(*(np.array(moved.shift_px) - aligned.shift_px - shift)) < 1
    mapping = moved.warning()
    assert mapping is not None and "right" in mapping and "calibrate again, or give --distance" in mapping


def test_real_pictures_of_different_places_are_unsure_not_wrong(rgbir: Path) -> None:
    pairs = real_pairs(rgbir, 80)
    mixed = [(pairs[index][0], pairs[(index + 7) % 80][1]) for index in range(80)]
    for start in range(0, 80, 40):
        watch = watched(mixed[start : start + 40], (0, 0))
        assert watch.shift_px is None and watch.warning() is None and watch.z_score < 8


def textured(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Return a picture of blobs and edges, (H, W) uint8."""
    noise = sum(cv2.resize(rng.normal(size=(s, s)), size[::-1], interpolation=cv2.INTER_CUBIC) for s in (12, 25, 50))
    return (128 + 40 * noise).clip(0, 255).astype(np.uint8)


def test_a_border_that_both_pictures_share_is_no_sign_of_being_in_line() -> None:
    rng = np.random.default_rng(0)
    size, valid_mask = (256, 320), np.zeros((256, 320), bool)
    valid_mask[20:220, 30:290] = True
    watch = Misalignment(size, valid_mask, every=1, window=4)
    for _ in range(8):
        scene = textured(rng, (300, 360))
        rgb, ir = scene[20:276, 20:340].copy(), 255 - scene[26:282, 13:333]  # 7 px right, 6 px up, contrast inverted
        rgb[~valid_mask], ir[~valid_mask] = 0, 0
        watch.feed(rgb, ir)
    assert watch.shift_px == pytest.approx((7, -6), abs=0.7)
    assert watch.warning() is not None and "7 px right and 6 px above" in watch.warning()


def test_only_every_tenth_pair_is_looked_at_and_two_windows_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    watch = Misalignment((128, 160), window=3)
    scene = textured(rng, (128, 176))
    for index in range(60):
        watch.feed(scene[:, 16:], scene[:, :160])
        assert watch.num_added == (index // 10 + 1) % 3 or index % 10
        assert (watch.warning() is not None) == (index >= 50)
    for _ in range(30):
        watch.feed(scene[:, :160], scene[:, :160])
    assert watch.shift_px == pytest.approx((0, 0), abs=0.1) and watch.warning() is None
    for _ in range(30):
        watch.feed(np.zeros((128, 160, 3), np.uint8), scene[:, :160])
    assert watch.shift_px is None
