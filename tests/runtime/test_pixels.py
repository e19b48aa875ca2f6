"""One file, one image: training, folders, messages, predictions and recordings see the same pixels, or none does."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from test_mcap import HEAD, CompressedImage, frames, write_raw
from test_mcap import Image as Message

from edgemtl.data.annotations import Entry
from edgemtl.data.problems import Problems
from edgemtl.data.readers.label_image import read_label_channel
from edgemtl.errors import EdgemtlError
from edgemtl_runtime.bundle import Input
from edgemtl_runtime.camera import open_camera
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.image_file import ImageFileError, inspect
from edgemtl_runtime.letterbox import Letterbox, to_uint8
from edgemtl_runtime.pixels import as_modality, decode, describe, is_thermal, luma, read_image
from edgemtl_runtime.preprocess import Preprocessor
from edgemtl_runtime.sink.image_folder import ImageFolder

Array = NDArray[Any]
Y, X = np.mgrid[:24, :40]
GREY = ((X * 5 + Y * 3) % 256).astype(np.uint8)
COUNTS = (7000 + X * 60 + Y * 30).astype(np.uint16)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], 2)
DEEP_COLOUR = COLOUR.astype(np.uint16) * 257
PALETTE = Image.fromarray(COLOUR).quantize(16)
Truth = Array | str
"""The image that is right, or what its rejection says."""


def stacked(image: Array) -> Array:
    return np.repeat(image[:, :, None], 3, 2)


def by_opencv(suffix: str, image: Array) -> bytes:
    return bytes(cv2.imencode(suffix, image if image.ndim == 2 else image[:, :, ::-1])[1])


def by_pillow(kind: str, image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


RAW, TINTED, BEYOND = "colour has 8 bits", "no temperatures", "whole numbers from 0 to 65535"
SHOWN = np.asarray(PALETTE.convert("RGB"))
FORMS: dict[str, tuple[bytes, Truth, Truth]] = {
    "grey.png": (by_opencv(".png", GREY), stacked(GREY), GREY),
    "grey.bmp": (by_opencv(".bmp", GREY), stacked(GREY), GREY),
    "grey.tif": (by_opencv(".tif", GREY), stacked(GREY), GREY),
    "colour.png": (by_opencv(".png", COLOUR), COLOUR, TINTED),
    "colour.bmp": (by_opencv(".bmp", COLOUR), COLOUR, TINTED),
    "colour.tif": (by_opencv(".tif", COLOUR), COLOUR, TINTED),
    "lzw.tif": (by_pillow("TIFF", Image.fromarray(COLOUR), compression="tiff_lzw"), COLOUR, TINTED),
    "three-equal.png": (by_opencv(".png", stacked(GREY)), stacked(GREY), GREY),
    "alpha.png": (by_pillow("PNG", Image.fromarray(np.dstack([COLOUR, GREY]))), COLOUR, TINTED),
    "grey-alpha.png": (by_pillow("PNG", Image.fromarray(np.dstack([GREY, GREY]))), stacked(GREY), GREY),
    "palette.png": (by_pillow("PNG", PALETTE), SHOWN, TINTED),
    "palette.bmp": (by_pillow("BMP", PALETTE), SHOWN, TINTED),
    "counts.png": (by_opencv(".png", COUNTS), RAW, COUNTS),
    "counts.tif": (by_pillow("TIFF", Image.fromarray(COUNTS)), RAW, COUNTS),
    "big-endian.tif": (by_pillow("TIFF", Image.fromarray(COUNTS.astype(">u2"))), RAW, COUNTS),
    "three-counts.png": (by_opencv(".png", stacked(COUNTS)), RAW, COUNTS),
    "three-counts.tif": (by_opencv(".tif", stacked(COUNTS)), RAW, COUNTS),
    "signed.tif": (by_opencv(".tif", COUNTS.astype(np.int16)), RAW, COUNTS),
    "below-zero.tif": (by_opencv(".tif", COUNTS.astype(np.int16) - 9000), BEYOND, BEYOND),
    "long.tif": (by_pillow("TIFF", Image.fromarray(COUNTS.astype(np.int32))), RAW, COUNTS),
    "whole-floats.tif": (by_opencv(".tif", COUNTS.astype(np.float32)), RAW, COUNTS),
    "celsius.tif": (by_opencv(".tif", COUNTS.astype(np.float32) / 256), BEYOND, BEYOND),
    "deep-colour.png": (by_opencv(".png", DEEP_COLOUR), COLOUR, TINTED),
    "deep-colour.tif": (by_opencv(".tif", DEEP_COLOUR), COLOUR, TINTED),
    "cut.png": (by_opencv(".png", COLOUR)[:-30], "incomplete PNG", "incomplete PNG"),
    "cut.jpg": (by_opencv(".jpg", COLOUR)[:-30], "incomplete JPEG", "incomplete JPEG"),
    "cut.tif": (by_pillow("TIFF", Image.fromarray(COUNTS))[:-30], "incomplete TIFF", "incomplete TIFF"),
    "cut.bmp": (by_opencv(".bmp", COLOUR)[:-30], "incomplete BMP", "incomplete BMP"),
    "zeros.jpg": (bytes(5000), "zero bytes", "zero bytes"),
    "empty.png": (b"", "is empty", "is empty"),
    "words.png": (b"<html>404 Not Found</html>", "cannot be read as an image", "cannot be read as an image"),
}
"""By file name: the bytes, and what they are as colour and as thermal."""


def of_training(file: Path, modality: str, folder: Path) -> Array:
    problems = Problems()
    sample = Entry(file.stem, {modality: file}, {}).read(problems)
    if sample is None:
        raise EdgemtlError(str(problems[0]))
    return sample.images[modality]


def of_folder(file: Path, modality: str, folder: Path) -> Array:
    return as_modality(next(iter(open_camera(str(file.parent), modality).frames())).image, modality)


def of_file(file: Path, modality: str, folder: Path) -> Array:
    return as_modality(next(iter(open_camera(str(file), modality).frames())).image, modality)


def of_message(file: Path, modality: str, folder: Path) -> Array:
    message = CompressedImage(HEAD, "png", np.frombuffer(file.read_bytes(), np.uint8))
    bag = write_raw(folder / "a.mcap", [("/eye", message, 1)])
    return as_modality(next(frames(bag))[1], modality)


def of_recording(file: Path, modality: str, folder: Path) -> Array:
    frame = next(iter(open_camera(str(file), modality).frames()))
    ImageFolder(folder / "set").write(FramePair({modality: frame}))
    (written,) = (folder / "set" / modality / "train").iterdir()
    return of_training(written, modality, folder)


DOORS: list[Callable[[Path, str, Path], Array]] = [of_training, of_folder, of_file, of_message, of_recording]


def check_doors(file: Path, modality: str, truth: Truth, folder: Path) -> None:
    for door in DOORS:
        (folder / door.__name__).mkdir()
        if isinstance(truth, str):
            with pytest.raises(EdgemtlError, match=truth) as caught:
                door(file, modality, folder / door.__name__)
            assert "\n" not in str(caught.value), door.__name__
        else:
            image = door(file, modality, folder / door.__name__)
            assert image.dtype == truth.dtype and np.array_equal(image, truth), door.__name__


@pytest.mark.fault("D2")
@pytest.mark.fault("D3")
@pytest.mark.fault("D6")
@pytest.mark.parametrize("name", FORMS)
def test_every_door_gives_the_same_image(name: str, tmp_path: Path) -> None:
    data, *truths = FORMS[name]
    for modality, truth in zip(("rgb", "ir"), truths, strict=True):
        folder = tmp_path / modality
        (folder / "images").mkdir(parents=True)
        (folder / "images" / name).write_bytes(data)
        check_doors(folder / "images" / name, modality, truth, folder)


TURNED = {
    "colour.jpg": ("JPEG", COLOUR),
    "grey.jpg": ("JPEG", GREY),
    "colour.png": ("PNG", COLOUR),
    "counts.png": ("PNG", COUNTS),
    "colour.tif": ("TIFF", COLOUR),
    "counts.tif": ("TIFF", COUNTS),
}


@pytest.mark.fault("D2")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_every_door_turns_alike(name: str, orientation: int, tmp_path: Path) -> None:
    kind, image = TURNED[name]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = by_pillow(kind, Image.fromarray(image), exif=exif)
    truth = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    if kind == "JPEG":  # decoders differ by a level or two
        shown = decode(data).upright()
        assert shown.shape == truth.shape and np.abs(shown.astype(int) - truth).max() <= 4
        truth = shown
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(data)
    modality = "rgb" if image.ndim == 3 else "ir"
    check_doors(tmp_path / "images" / name, modality, truth.astype(image.dtype), tmp_path)


@pytest.mark.fault("D2")
@pytest.mark.parametrize("name", ["colour.png", "grey.png", "three-counts.png", "deep-colour.png", "three-equal.png"])
def test_the_network_s_input_is_that_of_training(name: str, tmp_path: Path) -> None:
    data, as_colour, _ = FORMS[name]
    modality, channels = ("ir", 1) if isinstance(as_colour, str) else ("rgb", 3)
    (tmp_path / name).write_bytes(data)
    spec = Input("eye", 32, 48, channels, (0.0,) * channels, (1.0,) * channels, modality)
    frame = next(iter(open_camera(str(tmp_path), "eye").frames()))
    trained = to_uint8(of_training(tmp_path / name, modality, tmp_path), spec.thermal_range)
    expected = Letterbox.plan(trained.shape[:2], (32, 48)).image(trained, channels, spec.blank)
    assert np.array_equal(Preprocessor([spec]).network_input(frame), expected)


COMPLETE = {
    "jpg": by_opencv(".jpg", COLOUR),
    "progressive.jpg": by_pillow("JPEG", Image.fromarray(COLOUR), progressive=True),
    "restarts.jpg": bytes(cv2.imencode(".jpg", COLOUR, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]),
    "png": by_opencv(".png", COUNTS),
    "tif": by_opencv(".tif", COUNTS),
    "strips.tif": by_pillow("TIFF", Image.fromarray(COUNTS)),
    "bmp": by_opencv(".bmp", COLOUR),
}


@pytest.mark.fault("D6")
@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(COMPLETE)), share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_rejected_or_whole(name: str, share: float) -> None:
    """What is cut from the end may be a note; never is a part of the image missing."""
    data = COMPLETE[name]
    try:
        found = decode(data[: int(share * len(data))])
    except ImageFileError as error:
        assert "\n" not in str(error)
    else:
        assert np.array_equal(found.pixels, decode(data).pixels)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(COMPLETE)),
    spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_bytes_are_an_image_or_one_error(name: str, spots: list[tuple[float, int]]) -> None:
    data = bytearray(COMPLETE[name])
    for share, value in spots:
        data[int(share * min(len(data), 400))] = value
    with contextlib.suppress(ImageFileError):
        as_modality(decode(bytes(data)), "rgb")


@pytest.mark.fault("D6")
def test_what_follows_or_lies_in_a_whole_jpeg_is_no_damage() -> None:
    data = COMPLETE["jpg"]
    thumbnail = b"\xff\xe2" + (len(data) + 2).to_bytes(2, "big") + data
    for whole in (
        data + b"\0" * 100,
        data + data[:300],
        data[:2] + thumbnail + data[2:],
        data[:2] + b"\xff" + data[2:],
    ):
        assert np.array_equal(decode(whole).pixels, decode(data).pixels)
    middle = len(data) * 3 // 4
    with pytest.raises(ImageFileError, match="its image breaks off at byte"):
        decode(data[:middle] + data)  # the next image of a stream in the middle of this one
    with pytest.raises(ImageFileError, match="incomplete JPEG"):
        decode(data[:2] + thumbnail + data[2:middle])


@pytest.mark.fault("D3")
def test_thermal_is_what_has_counts_in_one_channel() -> None:
    for image in (COUNTS, stacked(COUNTS), COUNTS.astype(np.int16), COUNTS.astype(np.float32) / 256):
        assert is_thermal(image)
    for image in (GREY, COLOUR, stacked(GREY), DEEP_COLOUR):
        assert not is_thermal(image)
    assert describe(stacked(COUNTS)) == "3 channels of 16 bits"
    assert describe(COUNTS.astype(np.float32)) == "1 channel of 32 floating-point bits"


@pytest.mark.fault("D6")
def test_false_colour_is_no_thermal_image_but_a_logo_on_grey_is() -> None:
    iron = cv2.applyColorMap(GREY, cv2.COLORMAP_INFERNO)[:, :, ::-1]
    with pytest.raises(ImageFileError, match="colours of a palette are no temperatures, so export counts"):
        as_modality(iron, "ir")
    marked = stacked(GREY)
    marked[:4, :8] = (255, 0, 0)
    assert np.array_equal(as_modality(marked, "ir")[8:], GREY[8:])
    data = by_opencv(".jpg", iron)
    flir = data[:2] + b"\xff\xe1\x00\x10FLIR\0" + b"\x01\0\0\0\0\0\0\0\0" + data[2:]
    assert inspect(flir).has_counts
    with pytest.raises(ImageFileError, match="extract them"):
        as_modality(decode(flir), "ir")


@pytest.mark.fault("D2")
def test_three_equal_channels_of_a_video_are_counts(tmp_path: Path) -> None:
    import av

    from edgemtl_runtime.camera.clock import Epoch
    from edgemtl_runtime.camera.opencv import VideoCamera

    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "gbrp16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stacked(COUNTS), format="rgb48le")))
        container.mux(stream.encode())
    frame = next(iter(open_camera(str(tmp_path / "v.mkv"), "ir").frames()))
    assert np.array_equal(frame.image, COUNTS)
    with pytest.raises(EdgemtlError, match="more than 8 bits a value, and OpenCV would keep 8"):
        VideoCamera("ir", tmp_path / "v.mkv", Epoch(), {})


def raw(pixels: Array, encoding: str) -> Message:
    """Return an image message of little-endian pixels."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    return Message(HEAD, pixels.shape[0], pixels.shape[1], encoding, 0, rows.shape[1], rows.reshape(-1))


@pytest.mark.fault("D2")
@pytest.mark.fault("D8")
def test_messages_of_every_kind_of_pixels() -> None:
    from edgemtl_runtime.messages.images import decompress, to_array

    colour = (200, 100, 40)
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        for bits in (8, 16):
            tile = np.array([colour["rgb".index(letter)] << (bits - 8) for letter in pattern]).reshape(2, 2)
            message = raw(np.tile(tile, (12, 20)).astype(f"u{bits // 8}"), f"bayer_{pattern}{bits}")
            image = to_array(message)
            assert image.dtype == np.uint8 and (image[2:-2, 2:-2] == colour).all(), message.encoding
    grey = np.full((24, 80), 128, np.uint8)
    for encoding, first in (("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)):
        grey[:, 1 - first :: 2], grey[:, first::2] = 128, 120
        image = to_array(dataclasses.replace(raw(grey, encoding), width=40))
        assert image.shape == (24, 40, 3) and np.ptp(image) == 0 and abs(int(image[0, 0, 0]) - 121) <= 1, encoding
    assert np.array_equal(to_array(raw(stacked(COUNTS), "16UC3")), COUNTS)
    depth = CompressedImage(
        HEAD, "16UC1; compressedDepth png", np.frombuffer(bytes(12) + FORMS["counts.png"][0], np.uint8)
    )
    assert np.array_equal(decompress(depth), COUNTS)
    inverse = CompressedImage(HEAD, "32FC1; compressedDepth png", depth.data)
    with pytest.raises(EdgemtlError, match="cannot read '32FC1; compressedDepth png'; of compressedDepth 16UC1"):
        decompress(inverse)


@pytest.mark.fault("D8")
def test_ids_of_labels_are_those_that_the_file_stores(tmp_path: Path) -> None:
    ids = (X // 8 % 3).astype(np.uint8)
    image = Image.fromarray(ids, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for name, options in (("8.png", {}), ("2.png", {"bits": 2}), ("a.bmp", {}), ("a.tif", {})):
        image.save(tmp_path / name, **options)
        assert np.array_equal(read_label_channel(tmp_path / name), ids), name
    Image.fromarray(ids == 1).save(tmp_path / "1.png")
    assert np.array_equal(read_label_channel(tmp_path / "1.png"), ids == 1)
    assert np.array_equal(read_label_channel(tmp_path / "1.png", as_shown=True), 255 * (ids == 1))
    (tmp_path / "colours.png").write_bytes(FORMS["colour.png"][0])
    with pytest.raises(ImageFileError, match="3 channels of 8 bits, colours; labels have one channel, or a palette"):
        read_label_channel(tmp_path / "colours.png")
    assert np.array_equal(read_image(tmp_path / "colours.png", "rgb"), COLOUR)


@pytest.mark.fault("D3")
def test_a_run_rejects_another_kind_of_image_in_one_line(
    toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgemtl_runtime.cli import main

    for name, image in (("colour", COLOUR), ("counts", COUNTS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(by_opencv(".png", image))
    for words, expected in (
        (("--rgb", "counts", "--ir", "counts"), "--rgb: frame 0 is 1 channel of 16 bits"),
        (("--rgb", "colour", "--ir", "colour"), "--ir: frame 0 is a colour image"),
    ):
        paths = [word if word.startswith("--") else str(tmp_path / word) for word in words]
        assert main(["run", str(toy_bundle), *paths, "--quiet"]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if expected in line]
        assert len(lines) == 1
    assert main(["run", str(toy_bundle), "--rgb", str(tmp_path / "colour"), "--ir", str(tmp_path / "counts")]) == 0


def test_luma_is_the_same_with_and_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 5, np.uint8)] * 3), -1).reshape(52, -1, 3)
    by_opencv = luma(colours)
    monkeypatch.setitem(sys.modules, "cv2", None)
    np.testing.assert_array_equal(luma(colours), by_opencv)
    exact = colours @ np.array([299, 587, 114]) / 1000
    assert (
        np.abs(by_opencv - exact).max() <= 0.51 and (luma(colours[:1, :, :1].repeat(3, 2)) == colours[:1, :, 0]).all()
    )
