"""The measured part of docs/cpp.md, written from the results of `cpp.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_section import table, write_section

PAGE = Path(__file__).parents[1] / "docs" / "cpp.md"
SECTION = "cpp"
Rows = Sequence[dict[str, Any]]


def write(runs: Rows) -> None:
    """Write the section again."""
    write_section(PAGE, SECTION, section(runs))


def section(runs: Rows) -> str:
    """Return the section: equality, then costs, then damaged bundles, then how much there is."""
    return "\n\n".join(part for part in (_parity(runs), _cost(runs), _fuzz(runs), _size(runs)) if part)


def _of(runs: Rows, case: str) -> list[dict[str, Any]]:
    return [row for row in runs if row["case"] == case]


def _parity(runs: Rows) -> str:
    rows = _of(runs, "parity")
    bundles = dict.fromkeys(row["bundle"] for row in rows)
    body = [["bundle", "heads", "largest difference, images of the network's size", "images of 960×540, resized"]]
    for bundle in bundles:
        of_bundle = [row for row in rows if row["bundle"] == bundle]
        heads = ", ".join(dict.fromkeys(row["head"] for row in of_bundle))
        same, resized = (
            max((r["max_difference"] for r in of_bundle if (r["images"] == "camera") == is_resized), default=None)
            for is_resized in (False, True)
        )
        body.append([bundle, heads, _number(same), _number(resized)])
    intro = (
        "The same images through Python and C++ (`make bench-cpp`), with thermal counts of 16 bits and missing\n"
        "cameras where the bundle takes them; the largest difference of any value of any head, boxes in pixels,\n"
        "classes of pixels as the share that differs:"
    )
    return f"{intro}\n\n{table(body)}" if bundles else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _cost(runs: Rows) -> str:
    rows = _of(runs, "cost")
    body = [["bundle", "", "start to the first result, s", "peak memory, MB", "a later image, ms"]]
    for row in rows:
        name = {"cpp": "C++", "python": "Python"}[row["language"]]
        body.append(
            [row["bundle"], name, f"{row['start_s']:.3f}", f"{row['memory_mb']:.0f}", f"{row['latency_ms']:.2f}"]
        )
    machines = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    intro = f"Images of 640×480, one thread, the two in turns ({machines}); what ONNX Runtime takes is in both:"
    return f"{intro}\n\n{table(body)}" if rows else ""


def _fuzz(runs: Rows) -> str:
    lines = [
        f"- {row['count']:,} mutated {'manifests' if row['bundle'] == 'manifest' else 'networks'}: "
        f"{row['rejected']:,} rejected, {row['otherwise_than_python']} otherwise than by Python, "
        f"{100 * row['same_line']:.1f} % in the same line."
        for row in _of(runs, "fuzz")
    ]
    intro = "Opened with address and undefined-behaviour sanitizers, which found nothing:"
    return "\n\n".join((intro, "\n".join(lines))) if lines else ""


def _size(runs: Rows) -> str:
    rows = _of(runs, "size")
    if not rows:
        return ""
    megabytes, lines, public = (rows[-1][name] for name in ("library_mb", "lines", "lines_of_headers"))
    return f"The library is {megabytes:.2f} MB, of {lines:,} lines, {public:,} of them in the two public headers."
