"""Tables as plain text, Markdown and HTML: rows of cells, the header first."""

from __future__ import annotations

import html
from collections.abc import Sequence

Table = list[list[str]]
"""Rows of cells, the header first."""


def as_text(table: Sequence[Sequence[str]], title: str = "", numeric: int | None = None) -> str:
    """Return aligned columns: the first one to the left, the next ``numeric`` (default: all) to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    last = len(widths) if numeric is None else numeric

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(c.rjust(w) if 0 < i <= last else c.ljust(w) for i, (c, w) in enumerate(cells)).rstrip()

    return "\n".join([*([title] if title else []), *map(line, table)])


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    header, *rows = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([header, f"| {' | '.join(['---'] * len(table[0]))} |", *rows])


def as_html(table: Sequence[Sequence[str]]) -> str:
    """Return an HTML table."""
    header, *rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
