"""RGB-IR detectors with aligned streams, against their baselines, on real pairs; into results/rgbir.json.

    make bench-rgbir                              # needs EDGEMTL_DATA
    python benchmarks/rgbir.py --seeds 0 --variants mid aligned
    python benchmarks/rgbir.py --choose aligned alignment.target=0.4 alignment.target=0.8   # on a fifth of train

All train on the same images with the same budget, augmentation (missing modalities and misalignment too) and seeds.
What stands in the results file is not measured again, and a finished training in out/bench/rgbir is used again, so that
a stopped benchmark goes on and several can run at once. Parameters and latency are those of the shrunk network; metrics
are of the network before it was shrunk, which computes the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from common import save_row, shrunk, trained
from late_fusion import LateFusion
from rgbir_page import write_page
from torch.nn import Conv2d

from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.console import print_message, print_table, progress_bar
from edgemtl.corruptions import misalignments, missing_modalities
from edgemtl.data.datasets import open_datasets
from edgemtl.evaluate import Predictor, evaluate, of_run
from edgemtl.methods.alignment import tied
from edgemtl.metric_report import flat
from edgemtl.run import Run
from edgemtl_export.latency import compare
from edgemtl_models.aligned import AlignedTrunk

HERE = Path(__file__).parent
OUT = Path("out/bench/rgbir")
RESULTS = HERE / "results" / "rgbir.json"
ALIGNED = ("fusion.kind=aligned", "fusion.fuse_at=[p3,p4,p5]", "unimodal_aux_loss=true")
SPARSE = ("sparsity.target=0.35",)
VARIANTS: dict[str, tuple[str, ...]] = {
    "rgb": ("modalities=[rgb]",),
    "ir": ("modalities=[ir]",),
    "early": ("fusion.kind=early",),
    "mid": ("fusion.kind=concat",),
    "mid_p3": ("fusion.kind=mid", "fusion.level=p3"),
    "late": (),
    "shared": (*ALIGNED, "alignment.strength=1"),
    "aligned": (*ALIGNED, "alignment.target=0.8"),
    "aligned_sparse": (*ALIGNED, "alignment.target=0.8", *SPARSE, "fusion.registration_radius=2"),
    "mid_sparse": ("fusion.kind=concat", *SPARSE),
    "aligned, fused alone": (*ALIGNED, "alignment.target=0.8", "unimodal_aux_loss=false"),
    "aligned_sparse, unregistered": (*ALIGNED, "alignment.target=0.8", *SPARSE),
    "aligned nowhere": ALIGNED,
    "aligned below": (*ALIGNED, "fusion.align=[stage2,stage3]", "alignment.strength=1"),
    "aligned everywhere": (*ALIGNED, "fusion.align=[stage2,neck]", "alignment.strength=1"),
}
"""What a variant changes in `rgbir.yaml`. "late" merges the boxes of rgb and ir. In "fused alone" the streams have
no auxiliary unimodal loss. aligned_sparse also brings infrared into line with colour, by its features. The
"aligned …" below that tie all of what they name, as "shared" does of the higher layers."""


def configured(variant: str, seed: int, *words: str) -> Config:
    """Return the configuration of a training."""
    source = f"data.source={Path(os.environ['EDGEMTL_DATA']) / 'rgbir'}"
    return load(HERE / "rgbir.yaml", [source, f"seed={seed}", *VARIANTS[variant], *words])


def run_of(variant: str, seed: int) -> Run:
    """Return a variant's run, trained if that was not done yet."""
    return trained(configured(variant, seed), OUT / f"{variant.replace(',', '').replace(' ', '-')}-{seed}")


def tied_shares(run: Run) -> dict[str, float]:
    """Return the share of each convolution's channels that is tied between the streams, by its path from stage 2 on."""
    trunk = run.network.trunk
    if not isinstance(trunk, AlignedTrunk):
        return {}
    shares = {}
    for twins in trunk.twins():
        paths = [name.rpartition(".")[0] for name in twins]
        convs = [module for path in paths if isinstance(module := trunk.get_submodule(path), Conv2d)]
        if convs:
            shares[paths[0].split(".", 2)[2]] = float(tied(convs).float().mean())
    return shares | dict.fromkeys(trunk.shared, 1.0)


def evaluated(predictor: Predictor | LateFusion) -> dict[str, dict[str, float]]:
    """Return the metrics of a predictor, with missing modalities and misalignment where it has two inputs."""
    samples = open_datasets(configured("mid", 0))["val"]
    inputs = predictor.inputs
    corruptions = {**missing_modalities(inputs), **misalignments(inputs)} if len(inputs) > 1 else {}
    with progress_bar("evaluating", len(samples)) as bar:
        return flat(evaluate(predictor, samples, lambda n: bar(n, {}), corruptions))  # type: ignore[arg-type]


def row(variant: str, seed: int, runs: list[Run], metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return what the results file holds of a variant and seed: of several runs together the sum of their costs."""
    shrunk_runs = [shrunk(run) for run in runs]
    against = shrunk(run_of("mid", seed))[0]
    times = compare([*(file for file, _ in shrunk_runs), against])
    whole = metrics["all"]
    missing = {suite[0].missing: metrics.get(name, {}) for name, suite in missing_modalities(("rgb", "ir")).items()}
    shares = tied_shares(runs[0])
    return {
        "variant": variant,
        "seed": seed,
        "epochs": runs[0].config.epochs,
        "ap50": whole["ap50"],
        "ap50_interval": [whole["ap50_low"], whole["ap50_high"]],
        "ap": whole["ap"],
        "miss_rate": whole["miss_rate"],
        "ap50_day": metrics["day"]["ap50"],
        "ap50_night": metrics["night"]["ap50"],
        "ap50_rgb_missing": missing["rgb"].get("ap50"),
        "ap50_ir_missing": missing["ir"].get("ap50"),
        "ap50_shift8": metrics.get("shift 8 px", {}).get("ap50"),
        "tied_share": sum(shares.values()) / len(shares) if shares else 0.0,
        "tied": shares,
        "params": sum(sizes["params"] for _, sizes in shrunk_runs),
        "params_dense": sum(run.metrics["parameters"] for run in runs),
        "flops": sum(sizes["flops"] for _, sizes in shrunk_runs),
        "latency_ms": 1e3 * sum(times[:-1]),
        "latency_to_mid": sum(times[:-1]) / times[-1],
        "train_seconds": sum(run.metrics["seconds"] for run in runs),
        "figures": metrics,
    }


def measure(variant: str, seed: int) -> dict[str, Any]:
    """Return a variant's row, trained and evaluated."""
    if variant == "late":
        runs = [run_of(camera, seed) for camera in ("rgb", "ir")]
        merged = LateFusion({camera: of_run(run) for camera, run in zip(("rgb", "ir"), runs, strict=True)})
        return row(variant, seed, runs, evaluated(merged))
    run = run_of(variant, seed)
    return row(variant, seed, [run], evaluated(of_run(run)))


def choose(variant: str, words: list[str]) -> None:
    """Train a variant with each word in turn (semicolons join several) and evaluate on the last fifth of train."""
    table = [["", "ap50", "day", "night", "parameters"]]
    for word in words:
        config = configured(variant, 0, "data.val_fraction=0.2", *word.split(";"))
        run = trained(config, OUT / "choose" / variant / word)
        figures = [run.reports[part].flat()["ap50"] for part in ("all", "day", "night")]
        table.append([word, *(f"{value:.3f}" for value in figures), f"{run.metrics['parameters']:,}"])
    print_table(table, f"{variant}, held out of train")


def saved_rows() -> list[dict[str, Any]]:
    """Return the rows of the results file."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"] if RESULTS.is_file() else []
    return rows


def main() -> None:
    """Measure what the command line names and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument(
        "--choose", nargs="+", metavar=("VARIANT", "key=value"), help="evaluate settings on a part of train"
    )
    parser.add_argument("--page", action="store_true", help="only write the page again")
    given = parser.parse_args()
    if "EDGEMTL_DATA" not in os.environ and not given.page:
        sys.exit("benchmarks/rgbir.py: EDGEMTL_DATA is not set; it names the folder that holds rgbir/")
    if given.choose:
        choose(given.choose[0], given.choose[1:])
        return
    for seed in given.seeds if not given.page else []:
        for variant in given.variants:
            if not any((r["variant"], r["seed"]) == (variant, seed) for r in saved_rows()):
                print_message(f"{variant}, seed {seed}")
                save_row(RESULTS, "runs", measure(variant, seed), "variant", "seed")
    write_page(saved_rows(), list(VARIANTS))


if __name__ == "__main__":
    main()
