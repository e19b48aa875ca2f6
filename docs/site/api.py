"""The reference of the Python packages: a page each, of their public names, from the docstrings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
PACKAGES = {
    "edgemtl_runtime": "Run bundles on live cameras, without torch. [How to embed it](../embedding.md).",
    "edgemtl_export": "Make any PyTorch network sparse, remove, export. [How to use it](../removal.md).",
    "edgemtl_models": "Multi-task networks for one or two cameras.",
}
OWN = "Training; its public names are those that code of your own registers. [How to extend it](../extending.md)."
IMPORT = re.compile(r"^from (edgemtl(?:\.[\w.]+)?) import (.+)$", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return the text of every page by its path in the site."""
    texts = {}
    for package, about in PACKAGES.items():
        names = [f"{package}.{name}" for name in sorted(importlib.import_module(package).__all__)]
        texts[package] = _page(package, about, names)
    texts["edgemtl"] = _page("edgemtl", OWN, sorted(extension_names()))
    return {f"reference/{package}.md": text for package, text in texts.items()}


def extension_names() -> set[str]:
    """Return the names of our packages that the page on extending uses."""
    return {
        f"{module}.{name.strip()}"
        for module, names in IMPORT.findall((DOCS / "extending.md").read_text())
        for name in names.split(",")
    }


def _page(package: str, about: str, names: list[str]) -> str:
    return f"# {package}\n\n{about}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"
