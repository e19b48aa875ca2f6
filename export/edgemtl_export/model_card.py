"""Model card: a bundle described for people, as Markdown (after Mitchell et al. 2019, arXiv 1810.03993)."""

from __future__ import annotations

from edgemtl_runtime.bundle import MODELS, Manifest

MODEL_CARD = "card.md"


def model_card(manifest: Manifest, network_size: tuple[int, int] | None = None) -> str:
    """Return a bundle's model card: inputs, outputs, metrics, limits and licence.

    ``network_size`` (height, width) is what images are resized to in the graph, where they are.
    """
    lines = [
        f"# {manifest.name}",
        "",
        f"Written by {manifest.producer}. `manifest.json` has the same for programs.",
        "",
    ]
    lines += ["## Inputs", ""]
    for spec in manifest.inputs:
        missing = "; may be missing" if spec.may_be_missing else ""
        lines.append(f"- `{spec.name}`: {spec.height}×{spec.width}×{spec.channels} bytes, {spec.modality}{missing}")
    if network_size is not None:
        lines += ["", f"Images are resized to {network_size[0]}×{network_size[1]} in the graph; results are in theirs."]
    lines += ["", "## Outputs", ""]
    for head in manifest.heads:
        classes = f": {', '.join(head.classes)}" if head.classes else ""
        units = f", in {head.units}" if head.units else ""
        lines.append(f"- `{head.name}` ({head.task}{units}){classes}")
    lines += ["", "## Evaluation", "", *_evaluation(manifest)]
    lines += ["", "## Limits", ""]
    lines.append(
        "- It knows the classes above and the cameras and scenes of its training data; nothing else was evaluated."
    )
    lines += [f"- {name} was rejected. {why}" for name, why in manifest.rejected.items()]
    for name, figures in manifest.precisions.items():
        if few := figures.get("undecided"):
            lines.append(f"- {name} was judged on too few labels: {few}.")
    return "\n".join([*lines, "", "## Licence", "", manifest.licence, ""])


def _evaluation(manifest: Manifest) -> list[str]:
    removed, parity = manifest.removed, manifest.parity
    lines, figures = [], manifest.precisions.get("fp32", {})
    if {"latency_ms", "measured_on"} <= figures.keys():
        lines += [f"{figures['latency_ms']:.2f} ms an image in fp32: {figures['measured_on']}.", ""]
    if {"parameters_before", "parameters_after"} <= removed.keys():
        before, after = removed["parameters_before"], removed["parameters_after"]
        lines += [f"{before:,} parameters in training, {after:,} here: zero channels were removed.", ""]
    metrics = _metrics(manifest)
    names = [f"{head} {metric}" for head, metric in metrics]
    lines += [f"| {' | '.join(['precision', 'ms', 'file', 'kB', *names])} |"]
    lines += ["| --- " * (4 + len(names)) + "|"]
    for precision, figures in manifest.precisions.items():
        scores = figures.get("scores", {})
        values = [f"{scores.get(head, {}).get(metric, float('nan')):.4f}" for head, metric in metrics]
        latency = f"{figures['latency_ms']:.2f}" if "latency_ms" in figures else ""
        cells = [precision, latency, f"`{MODELS[precision]}`", f"{figures['bytes'] / 1000:,.0f}", *values]
        lines.append(f"| {' | '.join(cells)} |")
    if "frames" in parity:
        lines += ["", f"Compared with the run that it comes from on {parity['frames']} frames before it was written."]
    return lines


def _metrics(manifest: Manifest) -> list[tuple[str, str]]:
    scores = manifest.precisions.get("fp32", {}).get("scores", {})
    return [(head, metric) for head, figures in scores.items() for metric in figures]
