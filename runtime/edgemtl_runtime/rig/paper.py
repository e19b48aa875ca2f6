"""Calibration boards to print in true size: a PNG with its resolution, or a PDF page of the board's size."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..atomic import write_file
from ..errors import EdgemtlError
from .calibration_board import Board, charuco, opencv

INCH_M = 0.0254
MARGIN = 1.0
"""White margin around the board, in spacings."""
CIRCLE = 0.3
"""Radius of a circle as a share of the spacing; of asymmetric ones, of their gap."""
MAX_PX = 20_000
POINTS_PER_M = 72 / INCH_M


def draw(board: Board, dpi: float) -> tuple[NDArray[np.uint8], float]:
    """Return the board on white paper, (H, W) uint8, and its pixels per metre."""
    side = round(board.spacing_m / INCH_M * dpi)
    columns, rows = (int(c) for c in np.rint(board.points_m.max(0)[:2] / board.spacing_m))
    edge = 1.0 if board.pattern in ("checkerboard", "charuco") else CIRCLE * (1 + (board.pattern == "acircles"))
    border = round((edge + MARGIN) * side)
    width, height = columns * side + 2 * border, rows * side + 2 * border
    if side < 8 or max(width, height) > MAX_PX:
        raise EdgemtlError(
            f"--board {board}, --dpi {dpi:g}: is {width}x{height} pixels, {side} a spacing; give other dots an "
            f"inch, so that a spacing is 8 or more and the image at most {MAX_PX} wide"
        )
    paper = np.full((height, width), 255, np.uint8)
    if board.pattern == "charuco":
        size = board.columns * side, board.rows * side
        paper[border - side : height - border + side, border - side : width - border + side] = charuco(
            board
        ).generateImage(size, marginSize=0)
    elif board.pattern == "checkerboard":
        y, x = np.mgrid[-1 : rows + 1, -1 : columns + 1]
        squares = np.kron((x + y) % 2 == 0, np.ones((side, side), bool))
        paper[border - side : height - border + side, border - side : width - border + side][squares] = 0
    else:
        radius = CIRCLE * side * (1 + (board.pattern == "acircles"))
        for x, y in (board.points_m[:, :2] / board.spacing_m * side + border).tolist():
            # centres lie between pixels, as the squares' corners do
            centre = round((x - 0.5) * 16), round((y - 0.5) * 16)
            opencv().circle(paper, centre, round(radius * 16), 0, -1, opencv().LINE_AA, 4)
    words = f"--board {board}   {columns * board.spacing_m * 1000:g} mm from the first to the last   print at 100 %"
    (wide, tall), _ = opencv().getTextSize(words, 0, 1.0, 1)
    scale = min((width - side) / wide, 0.5 * MARGIN * side / tall)
    ink = (
        232 if board.pattern.endswith("circles") else 128
    )  # dark letters have round parts, which are detected as circles
    opencv().putText(paper, words, (side // 2, height - side // 4), 0, scale, ink, 1, opencv().LINE_AA)
    return paper, side / board.spacing_m


def write_board(board: Board, file: Path, dpi: float) -> tuple[float, float]:
    """Write the board as ``.png`` or ``.pdf`` and return the paper's width and height in metres."""
    encoders: dict[str, Callable[[NDArray[np.uint8], float], bytes]] = {".png": _png, ".pdf": _pdf}
    if file.suffix.lower() not in encoders:
        raise EdgemtlError(f"--out {file}: give a file named .png or .pdf")
    paper, pixels_per_m = draw(board, dpi)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, encoders[file.suffix.lower()](paper, pixels_per_m))
    except OSError as error:
        raise EdgemtlError(f"{file}: cannot be written ({error.strerror})") from error
    return paper.shape[1] / pixels_per_m, paper.shape[0] / pixels_per_m


def _png(paper: NDArray[np.uint8], pixels_per_m: float) -> bytes:
    """Return a PNG file whose pHYs chunk holds the resolution (PNG specification 1.2, 4.2.4.2)."""
    encoded, data = opencv().imencode(".png", paper)
    assert encoded, "OpenCV writes every grey image as PNG"
    raw = data.tobytes()
    after_header = 8 + 25
    body = b"pHYs" + struct.pack(">IIB", round(pixels_per_m), round(pixels_per_m), 1)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return bytes(raw[:after_header] + chunk + raw[after_header:])


def _pdf(paper: NDArray[np.uint8], pixels_per_m: float) -> bytes:
    """Return a PDF file of one page, the image in its size (ISO 32000-1, 7.5 and 8.9)."""
    height, width = paper.shape
    page = f"{width / pixels_per_m * POINTS_PER_M:.3f} 0 0 {height / pixels_per_m * POINTS_PER_M:.3f}"
    pixels, content_stream = zlib.compress(paper.tobytes(), 9), f"q {page} 0 0 cm /Board Do Q".encode()
    box = page.split()
    image = f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {box[0]} {box[3]}] /Contents 4 0 R "
        "/Resources << /XObject << /Board 5 0 R >> >> >>".encode(),
        _stream("", content_stream),
        _stream(f"{image} /BitsPerComponent 8 /Filter /FlateDecode ", pixels),
    ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    begin = len(out)
    rows = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    count = len(objects) + 1
    out += f"xref\n0 {count}\n0000000000 65535 f \n{rows}trailer\n<< /Size {count} /Root 1 0 R >>\n".encode()
    return bytes(out + f"startxref\n{begin}\n%%EOF\n".encode())


def _stream(words: str, data: bytes) -> bytes:
    return f"<< {words}/Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"
