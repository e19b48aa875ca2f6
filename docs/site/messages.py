"""Errors that a user may meet, by their text: found in the code, so that a search finds what stands on the screen."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime/edgemtl_runtime", "export/edgemtl_export", "models/edgemtl_models", "edgemtl")
SHORTEST = 25
"""Characters of a text that says something of its own."""
NO_WORDS = ("", "self", "str", "len", "sorted", "join", "map", "repr", "int", "tuple", "list")
"""Names in an expression that say nothing of what it gives."""
TITLES = {
    "runtime/edgemtl_runtime": "Running: cameras, bundles, engines, sinks",
    "export/edgemtl_export": "Removal and export",
    "models/edgemtl_models": "Networks",
    "edgemtl": "Training, data, the command line",
}
HEAD = """\
# Messages

Every error that ends a command with one line and exit code 2, as the code has it; *italics* stand for what was found.
Search for the words on your screen. A message says what was found, where, and what to do; where that is not enough,
[troubleshooting](../troubleshooting.md) says more of those that are met most.
"""


def page() -> str:
    """Return the page: the messages of each package, by module."""
    parts = [HEAD]
    for package in PACKAGES:
        parts.append(f"## {TITLES[package]}")
        for module, texts in sorted(_messages(ROOT / package).items()):
            parts += [f"### `{module}`", *(f"- {text}" for text in texts)]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def _messages(folder: Path) -> dict[str, list[str]]:
    """Return the texts of errors by module."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        module = file.relative_to(folder.parent).with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in ERRORS and node.args:
                text = _text(node.args[0])
                if len(text) >= SHORTEST and text not in found[module]:
                    found[module].append(text)
    return {module: texts for module, texts in found.items() if texts}


def _error_names() -> set[str]:
    """Return the names of the errors that end a command with a line."""
    bases: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {_name(base) for base in node.bases}
    names, more = {"EdgemtlError", "UnsupportedError"}, {""}
    while more:
        more = {name for name, of in bases.items() if of & names} - names
        names |= more
    return names


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _text(value: ast.expr) -> str:
    """Return a text in Markdown, what is filled in in italics."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return " ".join(_escaped(value.value).split())
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return f"{_text(value.left)} {_text(value.right)}".strip()
    if not isinstance(value, ast.JoinedStr):
        return ""
    pieces = [
        _escaped(part.value) if isinstance(part, ast.Constant) else f"*{_filled_in(part)}*" for part in value.values
    ]
    return " ".join("".join(map(str, pieces)).split())


def _filled_in(part: ast.expr) -> str:
    """Return a word for what is filled in: the last name in its expression."""
    assert isinstance(part, ast.FormattedValue)
    names = [
        n.attr if isinstance(n, ast.Attribute) else n.id
        for n in ast.walk(part)
        if isinstance(n, ast.Name | ast.Attribute)
    ]
    word = next((name for name in names if name not in ("self", "str", "len", "sorted", "join", "map", "repr")), "…")
    return word.strip("_").replace("_", " ") or "…"


def _escaped(text: object) -> str:
    escaped = str(text)
    for sign in "\\`*_<>[]{}|$#":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


ERRORS = _error_names()
