"""The documentation's site: every page is listed, what is written from the code is right, questions have answers."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
sys.path.append(str(SITE))

import api  # noqa: E402
import configuration  # noqa: E402
import messages  # noqa: E402
from links import with_links_of_the_site  # noqa: E402

PACKAGES = ("edgemtl_runtime", "edgemtl_export", "edgemtl_models")
QUESTIONS = {
    "How must my images lie?": ("data.md", "One folder holds the images"),
    "Can it read my YOLO dataset?": ("data.md", "YOLO datasets"),
    "How do I start from ImageNet?": ("training.md", "ImageNet"),
    "Which network shall I take?": ("reference/networks.md", "rgbir-lite0"),
    "What does this key of the configuration do?": ("reference/configuration.md", "weight_decay"),
    "How do I go on with an interrupted training?": ("training.md", "--resume"),
    "Which method for several tasks?": ("methods.md", "task_weighting"),
    "How do I make my YOLO smaller?": ("tutorials/yolo.md", "edgemtl prune best.pt"),
    "Without labels?": ("pruning.md", "Without labels"),
    "Is it safe to open a foreign .pt?": ("pruning.md", "What a file may do"),
    "How much accuracy does it cost?": ("pruning-measured.md", "Mean difference to the twin"),
    "Milliseconds of my Jetson, not of this machine?": ("methods.md", "edgemtl-runtime profile"),
    "How do I remove zero channels in my own training?": ("removal.md", "shrink"),
    "How do I calibrate two cameras?": ("tutorials/two-cameras.md", "edgemtl-runtime calibrate"),
    "Which sources of images are there?": ("live.md", "rtsp://"),
    "What happens when a camera fails?": ("live.md", "opened again"),
    "fp16, int8, TensorRT?": ("deploying.md", "--tensorrt"),
    "As a service that starts by itself?": ("jetson.md", "systemctl"),
    "From my own program?": ("tutorials/embedding.md", "from edgemtl_runtime import"),
    "How do I add a task?": ("tutorials/new-task.md", "register_task"),
    "What does this error mean?": ("troubleshooting.md", "check that it is there and not in use"),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page, laid out as the site's builder does; it ends with a line where one is not in the navigation."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    code = f"import sys; sys.path.insert(0, {str(SITE)!r}); import runpy; from pathlib import Path\n"
    code += f"runpy.run_path({str(SITE / '__main__.py')!r})['lay_out'](Path({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_its_page(question: str, pages: Path) -> None:
    """Every page is in the navigation: its tab, then its line, are two clicks."""
    page, words = QUESTIONS[question]
    assert words in (pages / page).read_text()


def test_links_lead_to_pages_or_are_no_links(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for path in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)", text):
            assert "://" in path or (page.parent / path).is_file(), (page.name, path)


def test_a_link_to_what_is_no_page_is_only_named() -> None:
    text = "[a](../LICENSE) [b](../runtime/README.md) [c](live.md#time) [d](https://x.org)\n```\n[e](../LICENSE)\n```\n"
    wanted = "a [b](embedding.md) [c](live.md#time) [d](https://x.org)\n```\n[e](../LICENSE)\n```\n"
    assert with_links_of_the_site(text, ROOT / "docs" / "data.md", ROOT) == wanted


def test_pages_fetch_no_script_and_search_without_a_server(tmp_path: Path) -> None:
    search_offline = runpy.run_path(str(SITE / "__main__.py"))["search_offline"]
    (tmp_path / "reference").mkdir()
    for name in ("index.html", "reference/api.html"):
        (tmp_path / name).write_text(
            '<script src="https://host/iframe-worker/shim" type="a"></script><script src="b.js">'
        )
    search_offline(tmp_path)
    kept = '"></script><script src="b.js">'
    assert (tmp_path / "index.html").read_text() == '<script src="search_worker.js' + kept
    assert (tmp_path / "reference/api.html").read_text() == '<script src="../search_worker.js' + kept
    assert "window.Worker" in (tmp_path / "search_worker.js").read_text()


def test_every_key_of_the_configuration_is_told() -> None:
    rows = [line.split(" | ") for line in configuration.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row[0] for row in rows if not row[-1].strip("| ") and "thermal_range" not in row[0]] == []


def test_messages_are_those_that_the_code_raises() -> None:
    text = messages.page()
    assert "- *path*: is a folder; name a file in it" in text and text.count("\n- ") > 500
    assert {"DataError", "UsageError", "BundleError", "UnsupportedError"} <= messages.ERRORS


def test_troubleshooting_quotes_what_is_printed() -> None:
    quoted = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    printed = "\n".join(
        node.value
        for package in messages.PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert len(quoted) >= 20 and [words for words in quoted if words not in printed] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_without_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for member, function in vars(value).items():
                if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                    assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_the_reference_has_every_public_name() -> None:
    texts = api.pages()
    for package in PACKAGES:
        listed = set(re.findall(rf"^::: {package}\.(\w+)$", texts[f"reference/{package}.md"], re.MULTILINE))
        assert listed == set(importlib.import_module(package).__all__)
