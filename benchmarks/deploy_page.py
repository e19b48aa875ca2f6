"""The table of precisions in docs/deploying.md, written from the results of `deploy.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page_section import table, write_section

PAGE = Path(__file__).parents[1] / "docs" / "deploying.md"
SECTION = "precisions"


def write(bundles: Sequence[dict[str, Any]]) -> None:
    """Write the table of the bundles' rows."""
    write_section(PAGE, SECTION, section(bundles))


def section(bundles: Sequence[dict[str, Any]]) -> str:
    """Return the table: a precision of a run's bundle a line."""
    rows = [["run", "for", "precision", "kB", "metrics", "time"]]
    for bundle in bundles:
        times = times_ms(bundle)
        for name, figures in bundle["precisions"].items():
            scores = ((head, value) for head, metrics in figures["scores"].items() for value in metrics.values())
            ratio = f"{times[name] / times['fp32']:.2f}" if times else "no GPU here"
            metrics = ", ".join(f"{head} {value:.4g}" for head, value in scores)
            rows.append([bundle["network"], bundle["target"], name, f"{figures['bytes'] / 1000:,.0f}", metrics, ratio])
    return table(rows)


def times_ms(bundle: dict[str, Any]) -> dict[str, float]:
    """Return the median milliseconds of each precision on one thread, {} of a bundle that could not be timed here."""
    timings = [(timing.get("config") or timing["way"], timing["p50_ms"]) for timing in bundle.get("timings", ())]
    return {config["precision"]: p50_ms for config, p50_ms in timings if config["threads"] == 1 and config["arena"]}
