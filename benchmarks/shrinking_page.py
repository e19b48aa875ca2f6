"""docs/shrinking.md, written from the results of the benchmarks of exact removal.

python benchmarks/shrinking_page.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zeros import MODES

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "shrinking.md"
COMPLETE = 0.005
OWN_ROUNDING = 2e-5
"""Largest float32 rounding of a network, as a share of the signal, with which its weights are not drawn again."""
ENDS = ("complete", "partial", "wrong", "crash")
Case = dict[str, Any]


def verdict(case: Case) -> str:
    """Return how a case ended: complete, partial, wrong or crash."""
    if "error" in case:
        return "crash"
    if not case["ok"]:
        return "wrong"
    removed = case["params_before"] - case["params_after"]
    return "complete" if removed >= case["params_removable"] - COMPLETE * case["params_before"] else "partial"


def rows(head: Iterable[str], body: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *body]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def of_tool(cases: list[Case], tool: str) -> list[Case]:
    """Return the cases of one tool."""
    return [c for c in cases if c["tool"] == tool]


def totals(cases: list[Case]) -> list[str]:
    """Return how the cases of every tool ended, by pattern of zeros."""
    body = []
    for mode in MODES:
        for tool in dict.fromkeys(c["tool"] for c in cases):
            ended = [verdict(c) for c in of_tool(cases, tool) if c["mode"] == mode]
            body.append([mode, tool, *(str(ended.count(v)) for v in ENDS)])
    return rows(["zeros", "tool", *ENDS], body)


def networks(cases: list[Case]) -> list[str]:
    """Return one row a network and pattern of zeros: the share of the parameters that each tool removed."""
    tools = list(dict.fromkeys(c["tool"] for c in cases))
    by_case = {(c["model"], c["mode"], c["tool"]): c for c in cases}

    def cell(case: Case) -> str:
        ended = verdict(case)
        if ended == "crash":
            return ended
        removed = f"{1 - case['params_after'] / case['params_before']:.1%}"
        return removed if ended != "wrong" else f"{removed} wrong"

    body = [
        [name, mode, *(cell(by_case[name, mode, tool]) for tool in tools)]
        for name in dict.fromkeys(c["model"] for c in cases)
        for mode in MODES
    ]
    return rows(["network", "zeros", *tools], body)


def _against_simplify(cases: list[Case]) -> list[str]:
    """Return how removal with branches cut compares with torch-simplify, which cuts them too, where that is right."""
    cut = {(c["model"], c["mode"]): c for c in of_tool(cases, "edgemtl --branches cut")}
    right = [c for c in of_tool(cases, "torch-simplify") if verdict(c) in ("complete", "partial")]
    if not right:
        return []
    more = {
        f"{c['model']} {c['mode']}": (cut[c["model"], c["mode"]]["weights_after"] - c["weights_after"])
        / c["params_before"]
        for c in right
    }
    less = {name: share for name, share in more.items() if share > 0}
    sentence = f'- With `branches="cut"` at least as much as torch-simplify in {len(more) - len(less)} of the '
    sentence += (
        f"{len(more)} cases in which that gives a right network (weights of convolutions and linear layers: it also "
    )
    sentence += "fuses batch normalisations, which removes none)"
    listed = ", ".join(f"{n} {s:.2%}" for n, s in sorted(less.items(), key=lambda x: -x[1]))
    return [sentence + (f"; less, in shares of all parameters, in {listed}." if less else ".")]


def errors(cases: list[Case]) -> list[str]:
    """Return the errors of the proof and of the comparisons, and the time, in sentences."""
    ours = of_tool(cases, "edgemtl")
    whole = [c for c in ours if "error" not in c]

    def worst(key: str) -> str:
        case = max((c for c in whole if key in c), key=lambda c: c[key])
        return f"{case[key]:.1e} ({case['model']}, {case['mode']})"

    least = [c for c in whole if c["params_before"] - c["params_after"] < c["params_removable"]]
    lines = [
        f"- {len(whole)} of {len(ours)} cases shrunk; in {len(whole) - len(least)} of them at least all that a removal "
        "by position can remove with constants folded (by our own analysis; `tests/export/test_laws.py` checks it by "
        "brute force on small graphs).",
        *_against_simplify(cases),
        f"- Largest differences over the signal: float64 {worst('float64_error')} and float32 {worst('float32_error')} "
        f"on the proof's inputs, float32 {worst('relative_error')} on random images.",
    ]
    for case in (c for c in whole if "own_rounding" in c and verdict(c) == "wrong"):
        lines.append(
            f"- {case['model']}, {case['mode']}: {case['relative_error']:.1e} in float32; the given network's own "
            f"float32 is {case['own_rounding']:.1e} from its float64."
        )
    loose = [c for c in whole if c.get("own_rounding", 0) > OWN_ROUNDING]
    if loose:
        most = max(c["own_rounding"] for c in loose)
        lines.append(
            f"- In {len(loose)} cases no draw was within {OWN_ROUNDING:.0e} of its own float64; "
            f"the last stands (at most {most:.1e})."
        )
    lines += [
        f"- {c['model']}, {c['mode']}, {c['tool']}: {c['relative_error']:.1e} in float32, where the given network's "
        f"own float32 is {c['own_rounding']:.1e} from its float64; judged in float64: {c['float64_error']:.1e}."
        for c in cases
        if "judged_in" in c
    ]
    if any("onnx_error" in c for c in whole):
        lines.append(f"- ONNX Runtime on the shrunk program's ONNX: {worst('onnx_error')}.")
    timed = [c for c in whole if "seconds" in c]
    ratios = {f"{c['model']} {c['mode']}": c["seconds"] / c["export_seconds"] for c in timed}
    above = {n: r for n, r in ratios.items() if r > 1.5}
    spent, export = sum(c["seconds"] for c in timed), sum(c["export_seconds"] for c in timed)
    lines.append(
        f"- `shrink(program, verify=False)` took {spent / export:.2f} of the time of `torch.export.export` in sum, "
        f"{statistics.median(ratios.values()):.2f} in the median, more than 1.5 in {len(above)} of {len(ratios)} cases"
        + (": " + ", ".join(f"{n} {r:.1f}" for n, r in sorted(above.items(), key=lambda x: -x[1])) if above else "")
        + "."
    )
    return [*lines, ""]


def latency(results: dict[str, list[Case]]) -> list[str]:
    """Return the latencies of shrunk networks: against those built narrow, and by alignment."""
    lines = ["Pruned to the widths of a network that is built narrow, shrunk; ratios of latencies.", ""]
    body = [
        [
            c["model"],
            f"{c['share']:.0%}",
            str(c["pixels"]),
            *(f"{c[k]:.2f}" for k in ("shrunk_to_narrow", "shrunk_to_dense")),
        ]
        for c in results["narrow"]
    ]
    lines += rows(["network", "width", "pixels", "shrunk / built narrow", "shrunk / dense"], body)
    lines += ["Shrunk with `align=`; latencies over that of `align=1`.", ""]
    keys = ["align_1_to_dense", "align_8_to_1", "align_16_to_1", "align_auto_to_1"]
    body = [
        [
            c["model"],
            f"{c['pruned'] if 'pruned' in c else c['zeroed']:.0%}",
            str(c["pixels"]),
            *(f"{c[k]:.2f}" for k in keys),
        ]
        for c in results["align"]
    ]
    return lines + rows(["network", "pruned", "pixels", "1 / dense", "8", "16", "auto"], body)


INTRO = """# Exact removal, measured

Written by `python benchmarks/shrinking_page.py` from the files in `benchmarks/results`.

Random weights; a share of the channels set to zero in three patterns: *coupled*, 40 % of the channel groups in
everything that writes them; *independent*, 30 to 50 % of the filters of each convolution with the batch normalisation
after it; *constant*, as coupled, but the shifts of batch normalisation stay, so that a pruned channel is a constant.
The batch statistics are those of the pruned network, so that signal reaches the outputs. Weights are drawn again before
any tool runs, up to eight times, until the network's float32 is within 2e-5 of its float64, so that right can be
distinguished from wrong. *Complete* is within 1e-4 of the signal
(the largest change of an output between two inputs) in float32, and within half a percent of the parameters of all that
a removal by position can remove; *partial* removes less, *wrong* differs by more.
"""


def write_page() -> None:
    """Write the page from what results there are."""
    parts: list[tuple[str, str, Callable[[Any], list[str]]]] = [
        (
            "## Against other tools (`make bench-shrink`)",
            "shrink.json",
            lambda c: [*totals(c), *errors(c), *networks(c)],
        ),
        (
            "## Other families (`make bench-shrink-wide`)",
            "shrink-wide.json",
            lambda c: [*totals(c), *errors(c), *networks(c)],
        ),
        ("## Latency on ONNX Runtime, one thread (`make bench-latency`)", "latency.json", latency),
    ]
    lines = [INTRO]
    for title, name, written in parts:
        file = HERE / "results" / name
        if file.is_file():
            lines += [title, "", *written(json.loads(file.read_text()))]
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    write_page()
