"""Parts of documents that benchmarks write, between two comments that name them."""

from __future__ import annotations

import re
from pathlib import Path


def with_section(text: str, name: str, section: str) -> str:
    """Return a document whose section of a name is replaced; raises ValueError where it has none."""
    begin, end = f"<!-- {name}: written by its benchmark -->", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"there are not one '{begin}' and one '{end}'")
    return pattern.sub(lambda _: f"{begin}\n\n{section.strip()}\n\n{end}", text)


def write_section(page: Path, name: str, section: str) -> None:
    """Replace the section of a name in a document."""
    page.write_text(with_section(page.read_text(), name, section))


def table(rows: list[list[str]]) -> str:
    """Return a table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])
