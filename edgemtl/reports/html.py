"""The parts of an HTML report: a page that embeds its style and its images."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from ..tables import Table, as_html

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 68em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em } h3 { font-size: 1em; margin: 1.2em 0 .4em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .3em .9em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #999 }
figure { margin: 0 0 1em } figcaption { color: #555; font-size: .9em } img { max-width: 100% }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: .4em 1em }
.pair img { width: 100% } .scroll { overflow-x: auto } .facts td { text-align: left }
.side { display: flex; flex-wrap: wrap; gap: 0 4em; align-items: flex-start }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto }
"""


def page(title: str, heading: str, *parts: str) -> str:
    """Return a page; its parts are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{html.escape(heading)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def section(title: str, *parts: str) -> str:
    """Return a heading and its content, which is HTML."""
    return f"<h2>{html.escape(title)}</h2>" + "".join(parts)


def pair(title: str, *images: tuple[bytes, str]) -> str:
    """Return image files with captions next to each other where there is room, below a title."""
    return f"<h3>{html.escape(title)}</h3>" + f'<div class="pair">{"".join(image(*one) for one in images)}</div>'


def facts(rows: Mapping[str, str]) -> str:
    """Return a table of names and what they are."""
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows.items())
    return f'<table class="facts">{cells}</table>'


def table(rows: Table) -> str:
    """Return a table that scrolls by itself where the page is too narrow for it."""
    return f'<div class="scroll">{as_html(rows)}</div>'


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB or grey image as a PNG file."""
    _, data = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB image as a JPEG file, which keeps a page of many photographs small."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return data.tobytes()


def image(data: bytes, caption: str) -> str:
    """Return a PNG or JPEG file as an embedded image with a caption."""
    subtype = "png" if data.startswith(b"\x89PNG") else "jpeg"
    code = base64.b64encode(data).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/{subtype};base64,{code}"><figcaption>{text}</figcaption></figure>'
    )
