"""Links between files of the repository, as they are on the site."""

from __future__ import annotations

import os
import re
from pathlib import Path

PAGES = {
    "export/README.md": "removal.md",
    "runtime/README.md": "embedding.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the site that lie outside of docs/."""

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def with_links_of_the_site(text: str, source: Path, root: Path) -> str:
    """Return a page whose links lead to pages of the site; what is no page of it is named, and not linked.

    ``source`` is the file that the page is, or would be, in the repository.
    """
    here = _page_of(source, root) or ""

    def link(match: re.Match[str]) -> str:
        words, path, anchor = match[1], match[2], match[3] or ""
        if "://" in path or path.startswith(("mailto:", "/")):
            return match[0]
        target = Path(os.path.normpath(source.parent / path))
        page = _page_of(target, root)
        if page is None:
            return words
        return f"[{words}]({os.path.relpath(page, Path(here).parent)}{anchor})"

    parts = FENCE.split(text)
    return "".join(part if index % 2 else LINK.sub(link, part) for index, part in enumerate(parts))


def _page_of(file: Path, root: Path) -> str | None:
    """Return the page of the site that a file of the repository is."""
    if not file.is_relative_to(root):
        return None
    name = file.relative_to(root).as_posix()
    return PAGES.get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else None)
