"""A table of RGB-IR detectors on LLVIP, FLIR-aligned or M3FD, for those who have one of them.

    python benchmarks/public.py FOLDER                              # from ImageNet (rgbir-lite0)
    python benchmarks/public.py FOLDER --start yolo11n.pt           # from COCO, with that network's layers
    python benchmarks/public.py FOLDER --variants ir concat --seeds 0 1 2

FOLDER is in the set's own layout (docs/data.md). Trains thermal alone, colour alone, both cameras fused at three
levels, aligned streams, and those pruned; evaluates on the set's held-out images; measures milliseconds of what is
left, in ONNX Runtime on one thread. Rows are kept as they come in OUT/rows.json, and not computed again; OUT/table.md
has them next to the field's figures. Finished trainings are used again, so a stopped one goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common import save_row, shrunk, trained
from public_page import write_table

from edgemtl.config import Config
from edgemtl.config_file import load
from edgemtl.console import print_message
from edgemtl.data.datasets import open_datasets
from edgemtl.data.formats import FORMATS
from edgemtl.errors import EdgemtlError
from edgemtl.run import Run
from edgemtl_export.latency import compare

HERE = Path(__file__).parent
SETS = ("llvip", "flir", "m3fd")
ALIGNED = ("fusion.kind=aligned", "fusion.fuse_at=[p3,p4,p5]", "unimodal_aux_loss=true", "alignment.target=0.8")
VARIANTS: dict[str, tuple[str, ...]] = {
    "ir": ("modalities=[ir]",),
    "rgb": ("modalities=[rgb]",),
    "concat": ("fusion.kind=concat",),
    "aligned": ALIGNED,
    "sparse": (*ALIGNED, "sparsity.target=0.35", "fusion.registration_radius=2"),
}
"""What a variant changes in public.yaml."""
IMAGENET = "imagenet"
WIDTH, STRIDE = 640, 32


def set_of(folder: Path) -> str:
    """Return which of the sets a folder holds; raises `EdgemtlError` where it is none."""
    if not folder.is_dir():
        raise EdgemtlError(f"{folder}: there is no such folder")
    for name in SETS:
        if FORMATS[name].matches(folder):
            return name
    raise EdgemtlError(f"{folder}: is in the layout of none of {', '.join(SETS)} (docs/data.md)")


def input_size(folder: Path) -> list[int]:
    """Return height and width that the images have at 640 pixels of width, in multiples of the network's stride."""
    sample = open_datasets(load(None, [f"data.source={folder}", "tasks=[boxes]"]))["val"][0]
    height, width = sample.images["ir"].shape[:2]
    return [-(-WIDTH * height // (width * STRIDE)) * STRIDE, WIDTH]


def configured(folder: Path, variant: str, seed: int, start: str, words: list[str]) -> Config:
    """Return the configuration of a training."""
    height, width = input_size(folder)
    common = [f"data.source={folder}", f"seed={seed}", f"input_size=[{height},{width}]", *VARIANTS[variant]]
    if start != IMAGENET:
        common += [f"network=rgbir-{Path(start).stem}", f"init_from={start}"]
    return load(HERE / "public.yaml", [*common, *words])


def row(run: Run, variant: str, seed: int, start: str) -> dict[str, Any]:
    """Return what is kept of a training."""
    figures = run.reports["all"].flat()
    file, sizes = shrunk(run)
    return {
        "set": set_of(Path(str(run.config.data.source))),
        "start": Path(start).stem,
        "variant": variant,
        "seed": seed,
        "network": run.config.network,
        "epochs": run.config.epochs,
        "steps": run.config.steps,
        "ap50": figures.get("ap50", 0.0),
        "ap": figures.get("ap", 0.0),
        "miss_rate": figures.get("miss_rate"),
        "latency_ms": 1e3 * compare([file])[0],
        "params": sizes["params"],
        "flops": sizes["flops"],
        "train_seconds": run.metrics["seconds"],
    }


def saved(out: Path) -> list[dict[str, Any]]:
    """Return the rows that were kept."""
    file = out / "rows.json"
    content: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if file.is_file() else []
    return content


def table_of(folder: Path, out: Path, start: str, variants: list[str], seeds: list[int], words: list[str]) -> str:
    """Compute the rows that are not there yet, and return the table."""
    name = set_of(folder)
    for seed in seeds:
        for variant in variants:
            identity = {"set": name, "start": Path(start).stem, "variant": variant, "seed": seed}
            if any(all(r[key] == value for key, value in identity.items()) for r in saved(out)):
                continue
            print_message(f"{name}, {variant} from {Path(start).stem}, seed {seed}")
            training = out / f"{name}-{Path(start).stem}-{variant}-{seed}"
            training.parent.mkdir(parents=True, exist_ok=True)
            run = trained(configured(folder, variant, seed, start, words), training)
            save_row(out / "rows.json", "runs", row(run, variant, seed, start), *identity)
    return write_table([r for r in saved(out) if r["set"] == name], name, out / "table.md")


def main() -> None:
    """Compute what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of LLVIP, FLIR-aligned or M3FD")
    parser.add_argument("--start", default=IMAGENET, help="imagenet, or a checkpoint: yolo11n.pt, yolo26s.pt …")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench/public"))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="other keys of the configuration")
    given = parser.parse_args()
    try:
        print(table_of(given.folder, given.out, given.start, given.variants, given.seeds, given.set))
    except EdgemtlError as error:
        parser.exit(2, f"public.py: {error}\n")


if __name__ == "__main__":
    main()
