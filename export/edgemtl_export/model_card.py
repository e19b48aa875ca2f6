"""The card: a bundle in words, for the person who gets one."""

from __future__ import annotations

from edgemtl_runtime.bundle import MODELS, Manifest

CARD = "card.md"


def card(manifest: Manifest) -> str:
    """Return the card of a bundle as Markdown: what it is, takes and gives, how good it is, its limits and licence."""
    lines = [
        f"# {manifest.name}",
        "",
        f"Written by {manifest.producer}. `manifest.json` has the same for programs.",
        "",
    ]
    lines += ["## What it takes", ""]
    for spec in manifest.inputs:
        absent = "; may be absent" if spec.may_be_absent else ""
        lines.append(f"- `{spec.name}`: {spec.height}×{spec.width}×{spec.channels} bytes, {spec.modality}{absent}")
    lines += ["", "## What it gives", ""]
    for head in manifest.heads:
        classes = f": {', '.join(head.classes)}" if head.classes else ""
        units = f", in {head.units}" if head.units else ""
        lines.append(f"- `{head.name}` ({head.task}{units}){classes}")
    lines += ["", "## How good it is", "", *_figures(manifest)]
    lines += ["", "## Limits", ""]
    lines.append(
        "- It knows the classes above and the cameras and places of its training data; nothing else was judged."
    )
    lines += [f"- {name} is not here. {why}" for name, why in manifest.refused.items()]
    return "\n".join([*lines, "", "## Licence", "", manifest.licence, ""])


def _figures(manifest: Manifest) -> list[str]:
    removed, parity = manifest.removed, manifest.parity
    lines = []
    if {"parameters_before", "parameters_after"} <= removed.keys():
        before, after = removed["parameters_before"], removed["parameters_after"]
        lines += [f"{before:,} parameters in training, {after:,} here: channels that were zero are gone.", ""]
    scores = [f"{head} {metric}" for head, metric in _metrics(manifest)]
    lines += [f"| {' | '.join(['precision', 'file', 'kB', *scores])} |"]
    lines += ["| --- " * (3 + len(scores)) + "|"]
    for name, told in manifest.precisions.items():
        values = [f"{told.get('scores', {}).get(h, {}).get(m, float('nan')):.4f}" for h, m in _metrics(manifest)]
        cells = [name, f"`{MODELS[name]}`", f"{told['bytes'] / 1000:,.0f}", *values]
        lines.append(f"| {' | '.join(cells)} |")
    if "frames" in parity:
        lines += ["", f"Compared with the run it comes from on {parity['frames']} frames before it was written."]
    return lines


def _metrics(manifest: Manifest) -> list[tuple[str, str]]:
    scores = manifest.precisions.get("fp32", {}).get("scores", {})
    return [(head, metric) for head, figures in scores.items() for metric in figures]
