"""Build the documentation's site: `python docs/site` writes it to out/site, and fails on a broken link.

Zensical builds it from pages that are laid out in out/site-pages: those of docs/, the READMEs of the packages, and the
reference, which is written from what the code says of itself (`reference`). Neither the build nor a reader
fetches anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import reference
import tomllib
from links import PAGES, with_links_of_the_site

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out"
CONFIG = Path(__file__).with_name("zensical.toml")
WORKER = Path(__file__).with_name("search_worker.js")
FOREIGN_SCRIPT = re.compile(r'<script src="https?://[^"]*"[^>]*>')
"""Zensical's pages fetch what lets them be searched without a server."""


def lay_out(folder: Path) -> None:
    """Write every page and picture of the site to a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in sorted((ROOT / "docs").rglob("*")):
        if file.suffix in (".md", ".png", ".jpg", ".service"):
            page = folder / file.relative_to(ROOT / "docs")
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, page)
    shutil.copyfile(Path(__file__).with_name("site.css"), folder / "site.css")
    for file, page_name in PAGES.items():
        shutil.copyfile(ROOT / file, folder / page_name)
    for name, text in reference.pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    sources = {page_name: file for file, page_name in PAGES.items()}
    for page in folder.rglob("*.md"):
        name = page.relative_to(folder).as_posix()
        source = ROOT / sources.get(name, f"docs/{name}")
        page.write_text(with_links_of_the_site(page.read_text(), source, ROOT))
    unlisted = {p.relative_to(folder).as_posix() for p in folder.rglob("*.md")} - set(listed())
    if unlisted:
        sys.exit(f"{CONFIG.name}: nav has no {', '.join(sorted(unlisted))}")


def listed() -> list[str]:
    """Return the pages that the navigation lists."""

    def walk(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []
        return [page for child in children for page in walk(child)]

    return walk(tomllib.loads(CONFIG.read_text())["project"]["nav"])


def search_offline(site: Path) -> None:
    """Let every page of a site be searched without a server and without the network."""
    shutil.copyfile(WORKER, site / WORKER.name)
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        page.write_text(FOREIGN_SCRIPT.sub(f'<script src="{up}{WORKER.name}">', page.read_text()))


def main() -> int:
    """Lay the pages out, build the site, and return zensical's exit code."""
    lay_out(OUT / "site-pages")
    shutil.copyfile(CONFIG, OUT / CONFIG.name)
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run([zensical, "build", "--clean", "--strict"], cwd=OUT, check=False)
    if done.returncode == 0:
        search_offline(OUT / "site")
        print(f"open {OUT / 'site' / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
