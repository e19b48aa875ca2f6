"""The documents name files, tests, types and configuration keys that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgemtl.config import Config

ROOT = Path(__file__).parents[1]
TREE = re.compile(r"^    (?P<indent> *)(?P<paths>\S+/|\S+\.(?:py|yaml)(?: \S+\.(?:py|yaml))*)(?:  |$)")
INLINE = re.compile(r"`((?:docs|edgemtl|export|models|runtime|tests|benchmarks|\.ci)/[^`\s]*)`")
TYPE = re.compile(r"`([A-Z]\w+)` in `([^`]+\.py)`")


def tree_paths(text: str) -> list[str]:
    """Return the paths of the indented trees: folders end with a slash, files of the deepest open one follow them."""
    folders: list[tuple[int, str]] = []
    paths = []
    for line in text.splitlines():
        match = TREE.match(line)
        if not match:
            continue
        depth = len(match["indent"])
        folders = [(at, name) for at, name in folders if at < depth]
        parent = "".join(name for _, name in folders)
        names = match["paths"].split()
        paths += [parent + name for name in names]
        if names[0].endswith("/"):
            folders.append((depth, names[0]))
    return paths


DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", ["README.md", "export/README.md", "runtime/README.md", *DOCUMENTS])
def test_every_path_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    paths = INLINE.findall(text) + [f"tests/**/{name}" for name in re.findall(r"`(test_\w+\.py)`", text)]
    if document == "docs/architecture.md":
        paths += tree_paths(text)
        assert len(paths) >= 150
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing, missing


def test_every_type_of_the_seams_stands_in_its_file() -> None:
    types = TYPE.findall((ROOT / "docs" / "architecture.md").read_text())
    missing = [
        f"{name} in {path}"
        for name, path in types
        if not (ROOT / path).exists() or not re.search(rf"^(class )?{name}\b", (ROOT / path).read_text(), re.M)
    ]
    assert len(types) >= 8 and not missing, missing


def config_keys(section: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        yield prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from config_keys(field.type, f"{prefix}{field.name}.")


@pytest.mark.parametrize("document", ["README.md", *DOCUMENTS])
def test_every_configuration_key_of_a_section_that_a_document_names_exists(document: str) -> None:
    keys = set(config_keys(Config))
    sections = "|".join({key.split(".")[0] for key in keys if "." in key})
    text = (ROOT / document).read_text().replace("data.yaml", "")
    named = set(re.findall(rf"(?<![\w./])((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)(?=[=`])", text))
    assert named <= keys, named - keys


def test_the_glossary_is_at_most_twenty_lines() -> None:
    assert len((ROOT / "docs" / "glossary.md").read_text().splitlines()) <= 20
