"""Time from Enter to the error for mistakes of users, each as a command; into results/mistakes.json.

    make bench-mistakes        # or: python benchmarks/mistakes.py --times 5

Every mistake has to end with exit code 2 and one line on standard error that holds the expected words. Reported are the
wall time and the processor time (user and system) of the whole process, the median of some times, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from edgemtl.tables import as_text

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "version-0.1"
RESULTS = Path(__file__).parent / "results" / "mistakes.json"
ROBOT = "edgemtl-runtime"
PROGRAMS = {"edgemtl": "edgemtl", ROBOT: "edgemtl_runtime"}
MISTAKES = {
    "edgemtl trian mine.yaml": "there is no command 'trian'; did you mean 'train'?",
    "edgemtl train nowhere.yaml": "nowhere.yaml: cannot be read",
    "edgemtl train mine.yaml --epochs 4": "write epochs=4",
    "edgemtl train mine.yaml imgsz=640": "here it is input_size=[640,640]",
    "edgemtl train mine.yaml epoch=3": "did you mean 'epochs'",
    "edgemtl train mine.yaml epochs=four": "epochs=four is no number",
    "edgemtl train mine.yaml lr=20": "lr=20 is not between",
    "edgemtl train wrong.yaml": "wrong.yaml:3: unknown key 'sparsity.targt'",
    "edgemtl train mine.yaml tasks=[boxs]": "tasks: 'boxs' is not one of",
    "edgemtl train mine.yaml tasks=[depth] data.source=images": "the data have labels for boxes of tasks=['depth']",
    "edgemtl train mine.yaml data.source=nowhere": "nowhere: there is no such folder",
    "edgemtl train mine.yaml data.source=images modalities=[ir]": "the network needs ir images, the data have rgb",
    "edgemtl train mine.yaml init_from=bundle": "no run here (it is a bundle)",
    "edgemtl train mine.yaml init_from=yolo.pt": "whose layers rgbir-n lacks; take network=rgbir-yolo11n",
    "edgemtl train mine.yaml freeze=[trunk] sparsity.target=0.5": "a frozen part cannot lose channels",
    "edgemtl train mine.yaml --out taken": "exists and holds something else",
    "edgemtl train mine.yaml --out /proc/run": "cannot be written",
    "edgemtl eval bundle": "a bundle does not know its data",
    "edgemtl eval run --split vals": "did you mean 'val'",
    "edgemtl predict run nowhere --out seen": "nowhere: there is no such folder",
    "edgemtl export bundle --out b": "it is a bundle",
    "edgemtl export run --out b --heads boxs": "the run has no head 'boxs'; did you mean 'boxes'",
    "edgemtl export run --out b --precisions fp8": "fp8: is not one of",
    "edgemtl export run --out taken": "exists and holds something else",
    "edgemtl shrink mine.onnx": "there is no such file",
    "edgemtl data check nowhere": "nowhere: there is no such folder",
    "edgemtl-runtime run run --rgb 0 --ir 1": "it is a run); make one with `edgemtl export run --out BUNDLE`",
    "edgemtl-runtime run bundle --rgb pattern: --camera depth=pattern:": "depth",
    "edgemtl-runtime run bundle --rgb nowhere --ir pattern:": "nowhere",
    "edgemtl-runtime run bundle --source 0": "--rgb SRC and --ir SRC name the cameras",
    "edgemtl-runtime run bundle --rgb pattern: --ir pattern: --backend cuda": "there is no back end 'cuda'",
    "edgemtl-runtime record --rgb pattern: --out set --split-mb 10": "are of MCAP files",
    "edgemtl-runtime calibrate --rgb 0 --ir 1 --out rig.yaml": "either --board or --points",
}
"""Commands, and what the line about each holds."""


@dataclass(frozen=True)
class Row:
    """A mistake: seconds to its end, of the clock and of the processor, and whether it ended as it has to."""

    command: str
    wall_s: float
    cpu_s: float
    line: str
    right: bool


def write_files(folder: Path) -> None:
    """Write what the commands name: a run, a bundle, configurations, images with boxes, another tool's weights."""
    for name in ("run", "bundle"):
        shutil.copytree(FIXTURES / name, folder / name)
    (folder / "mine.yaml").write_text("epochs: 2\nlr: 1e-3\n")
    (folder / "wrong.yaml").write_text("epochs: 2\nsparsity:\n  targt: 0.5\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("mine")
    write_images(folder / "images")
    write_pickle(folder / "yolo.pt")


def write_images(folder: Path) -> None:
    """Write a small dataset of colour images with boxes, as YOLO's tools lay it out."""
    import cv2
    import numpy as np

    for split in ("train", "val"):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for index in range(2):
            cv2.imwrite(str(folder / "images" / split / f"{index}.png"), np.full((64, 96, 3), 99, np.uint8))
            (folder / "labels" / split / f"{index}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [car]\n")


def write_pickle(file: Path) -> None:
    """Write a file of torch.save that holds a whole network, as ultralytics' do."""
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("yolo/data.pkl", b"\x80\x02cultralytics.nn.tasks\nDetectionModel\nq\x00.")


def make(command: str, folder: Path, environment: dict[str, str]) -> Row:
    """Run a command to its end in a folder."""
    program, *words = shlex.split(command)
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", PROGRAMS[program], *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    right = (
        done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout and MISTAKES[command] in done.stderr
    )
    return Row(command, wall, cpu, done.stderr.strip(), right)


def measure(times: int) -> list[Row]:
    """Make every mistake some times, in turns, and return the medians."""
    path = os.pathsep.join([str(ROOT / part) for part in (".", "runtime", "export", "models")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])}
    rows: dict[str, list[Row]] = {command: [] for command in MISTAKES}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        before = sorted(folder.rglob("*"))
        make(next(iter(MISTAKES)), folder, environment)  # compiles what is imported, and fills the disk's cache
        for _ in range(times):
            for command, answers in rows.items():
                answers.append(make(command, folder, environment))
        if sorted(folder.rglob("*")) != before:
            raise SystemExit(f"a mistake left something in {folder}")
    return [
        Row(
            command,
            median(row.wall_s for row in answers),
            median(row.cpu_s for row in answers),
            answers[-1].line,
            all(row.right for row in answers),
        )
        for command, answers in rows.items()
    ]


def main() -> int:
    """Measure, print a table, and write the rows."""
    parser = argparse.ArgumentParser("mistakes.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="how often each mistake is made (%(default)s)")
    rows = measure(parser.parse_args().times)
    table = [["command", "s", "CPU s", "right"]]
    table += [[row.command, f"{row.wall_s:.2f}", f"{row.cpu_s:.2f}", "yes" if row.right else row.line] for row in rows]
    print(as_text(table, numeric=2))
    summary = {
        "mistakes": len(rows),
        "median_s": round(median(row.wall_s for row in rows), 3),
        "max_s": round(max(row.wall_s for row in rows), 3),
        "median_cpu_s": round(median(row.cpu_s for row in rows), 3),
        "max_cpu_s": round(max(row.cpu_s for row in rows), 3),
        "right": sum(row.right for row in rows),
    }
    print(json.dumps(summary))
    RESULTS.write_text(json.dumps({"summary": summary, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
