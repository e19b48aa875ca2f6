"""Names and docstrings are in the field's words: those of a private dialect do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("edgemtl", "models/edgemtl_models", "export/edgemtl_export", "runtime/edgemtl_runtime", "benchmarks")
FIELD = {
    "report, summary, event, message": "told tell tells say says said",
    "evaluate, evaluation": "judge judges judged judging judgement judgements",
    "image": "picture pictures",
    "sample, time": "moment moments",
    "train, trained, loss": "learn learns learned lesson lessons",
    "pruned, zero": "gone dead zeroed",
    "importance, cost reduction, regularisation ratio": "worth saves pull",
    "missing, corruption, misalignment": "absent fault faults",
    "head taps": "exits",
    "unimodal": "solo",
    "rejected, skipped": "refused refuse refuses",
    "backend configuration, selection": "way ways choice choices remembered",
    "what the thing is": "mine theirs",
}
"""Parts of names that are not used, by the field's word for them."""
PARTS = {part: word for word, parts in FIELD.items() for part in parts.split()}
PROTOCOLS = {"runtime/edgemtl_runtime/sink/partial_file.py": {"tell"}}
"""Names that a protocol of Python's asks for: a file's."""
WHOLE = frozenset(["here", "there", "each", "own", "seen", "made", "place", "found"])
"""Names that say nothing of what they name; as parts of longer names they may."""
PHRASES = re.compile(
    r"\b(told|tells?|says?|judge[sd]?|judgements?|pictures?|moments?|learns?|learned|gone|zeroed|worth|absent|solo|anew"
    r"|of one's own|beside|behind|put down|refused?)\b",
    re.IGNORECASE,
)
MODULES = """
    edgemtl: lesson processes start loop curves board show delta page report run_report robustness adapt costs
    edgemtl/commands: judge ship
    edgemtl/data: index files open labels layouts maps table yolo_text voc_xml pixels faults
    edgemtl/methods: balance sparse blocks single lomt
    models/edgemtl_models: stages exits streams
    export/edgemtl_export: removal channels ops live spread layout literals movement fold norms proof gate variants
        precision card
    runtime/edgemtl_runtime: aside fit fitting track tracking intake health
    runtime/edgemtl_runtime/camera: adjust reopen recorded
    runtime/edgemtl_runtime/rig: board watch
    runtime/edgemtl_runtime/engine: ways choose chosen ort trt plan measure device
    benchmarks: made late page
"""
"""Files whose contents stand under other names now."""


def modules() -> list[Path]:
    """Return the files that ship, and the benchmarks."""
    return sorted(file for folder in SHIPPED for file in (ROOT / folder).rglob("*.py"))


def defined(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of everything that a module names itself."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def parts(name: str) -> list[str]:
    """Return the words that a name is made of, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_names_and_docstrings_are_in_the_fields_words(file: Path) -> None:
    tree = ast.parse(file.read_text())
    wrong = []
    given = PROTOCOLS.get(str(file.relative_to(ROOT)), set())
    for line, name in defined(tree):
        if name in given:
            continue
        words = sorted({PARTS[part] for part in parts(name) if part in PARTS})
        if words or name in WHOLE:
            wrong.append(f"{file.name}:{line}: {name}: {'; '.join(words) or 'say what it is'}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node)):
            first = doc.split("\n")[0]
            if found := PHRASES.search(re.sub(r"`[^`]*`", "", first)):
                wrong.append(f"{file.name}:{getattr(node, 'lineno', 1)}: docstring with '{found[0]}': {first}")
    assert not wrong, "\n".join(wrong)


def test_files_have_the_fields_names() -> None:
    back = []
    for line in MODULES.replace("\n        ", " ").split("\n"):
        folder, _, names = line.strip().partition(":")
        for name in names.split():
            back += [str(p) for p in (ROOT / folder / f"{name}.py", ROOT / folder / name / "__init__.py") if p.exists()]
    assert not back


def test_the_test_sees_a_word_that_comes_back() -> None:
    tree = ast.parse("def toldOnce(picture, here):\n    self.pull_ratio = 1\n    learning_rate = 2")
    names = [name for _, name in defined(tree)]
    assert [name for name in names if set(parts(name)) & PARTS.keys() or name in WHOLE] == [
        "toldOnce",
        "picture",
        "here",
        "pull_ratio",
    ]
