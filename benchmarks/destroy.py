"""Crash safety of every command that writes: SIGKILL at random times, a full disk, two at once, files of others.

    make bench-destroy                                      # all, 20 kills each; about half an hour on two cores
    python benchmarks/destroy.py --kills 3 --commands export shrink

Real processes and real SIGKILLs; a full disk is a small tmpfs where we are root, else a limit on the size of files.
After each of them nothing of the user's may have changed, what stood at the output must be whole (the old one or the
new one, never a mixture), and the same command must work again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edgemtl.console import print_table
from edgemtl_runtime.atomic import read_inventory
from edgemtl_runtime.atomic.inventory import untracked

RESULTS = Path(__file__).parent / "results" / "destroy.json"
SMALL = [
    "input_size=[32,64]",
    "tasks=[semantic,depth]",
    "data.synthetic.num_train=8",
    "data.synthetic.num_val=2",
    "batch_size=4",
    "steps=12",
    "precision=fp32",
]
WITHIN_S = 600.0
PAGE = 4096


@dataclass
class Row:
    """The outcomes of a command in one scenario, repeated ``times``."""

    command: str
    scenario: str
    times: int = 0
    changed: int = 0
    """Times after which something of the user's was not as before."""
    not_whole: int = 0
    """Times after which the output was neither the old nor a new one."""
    not_again: int = 0
    """Times after which the same command did not work."""
    tracebacks: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """How often each exit code came; a minus is a signal."""
    message: str = ""
    """The last line on standard error."""

    def ended(self, code: int) -> None:
        """Count an exit code."""
        self.codes[str(code)] = self.codes.get(str(code), 0) + 1


@dataclass(frozen=True)
class Command:
    """A command line without its output, the output's name and whether it is a folder."""

    words: list[str]
    out: str
    listed: bool = True
    """Whether the output is a folder with an inventory of ours."""
    adds: bool = False
    """Whether it appends to the output and has no --overwrite."""

    def line(self, folder: Path, overwrite: bool) -> list[str]:
        """Return the whole command for an output in a folder."""
        more = ["--overwrite"] if overwrite and not self.adds else []
        return [sys.executable, "-m", "edgemtl", *self.words, "--out", str(folder / self.out), *more]


def commands(room: Path) -> dict[str, Command]:
    """Return the commands under test, on the inputs of `prepare`."""
    run, views = str(room / "run"), str(room / "views")
    cameras = ["--rgb", f"{views}/rgb", "--ir", f"{views}/ir"]
    return {
        "train": Command(["train", *SMALL, "checkpoint_interval_s=0"], "run"),
        "single": Command(["train", *SMALL, "checkpoint_interval_s=0", "steps=3", "method=single"], "single"),
        "export": Command(["export", run], "bundle"),
        "predict": Command(["predict", run, views], "seen"),
        "shrink": Command(["shrink", run, "--no-verify"], "small.pt2", listed=False),
        "calibrate": Command(["calibrate", *cameras, "--points", str(room / "points.csv")], "rig.yaml", listed=False),
        "record": Command(["record", *cameras], "recorded", listed=False, adds=True),
        "demo": Command(["demo", "--steps", "4"], "demo"),
    }


def prepare(room: Path) -> None:
    """Write a run, images of two cameras and matched points."""
    rng = np.random.default_rng(0)
    for name, shape in (("rgb", (32, 64, 3)), ("ir", (32, 64))):
        (room / "views" / name).mkdir(parents=True)
        for index in range(6):
            cv2.imwrite(str(room / "views" / name / f"{index}.png"), rng.integers(0, 255, shape, np.uint8))
    with (room / "points.csv").open("w", newline="") as stream:
        rows = [[x, y, x + 1, y + 2] for x in (4, 20, 40, 60) for y in (3, 12, 28)]
        csv.writer(stream).writerows([["x_rgb", "y_rgb", "x_ir", "y_ir"], *rows])
    line = [sys.executable, "-m", "edgemtl", "train", *SMALL, "--out", str(room / "run")]
    subprocess.run(line, check=True, capture_output=True)


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Return the entries of a folder, recursively: a file's bytes, a link's target, None for a folder."""
    entries: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            entries[str(path.relative_to(folder))] = str(path.readlink())
        else:
            entries[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return entries


class Trial:
    """A folder that holds files of the user's, in which a command writes."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder, self.out = command, folder, folder / command.out
        self.users_folder = folder / "mine"
        self.users_folder.mkdir(parents=True)
        (self.users_folder / "thesis.txt").write_text("years")
        (self.users_folder / "config.yaml").write_text("mine")
        (folder / f".{command.out}.theirs").write_text("mine")
        (folder / f"{command.out}.bak").write_text("mine")
        self.before = self.users()
        self.old: dict[str, bytes | str | None] | bytes | None = None

    def users(self) -> dict[str, bytes | str | None]:
        """Return the user's files."""
        return {
            n: data
            for n, data in contents(self.folder).items()
            if n.startswith("mine") or n.endswith((".theirs", ".bak"))
        }

    def run(self, overwrite: bool, row: Row, limit_bytes: int = 0) -> int:
        """Run to the end; return the exit code."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        line = self.command.line(self.folder, overwrite)
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=WITHIN_S, preexec_fn=limit if limit_bytes else None
        )
        row.ended(done.returncode)
        row.tracebacks += "Traceback" in done.stderr
        lines = done.stderr.strip().splitlines()
        row.message = (lines[-1] if lines else "").replace(str(self.folder), "…")
        return done.returncode

    def held(self) -> dict[str, bytes | str | None] | bytes | None:
        """Return the contents of the output, None where it does not exist."""
        if not os.path.lexists(self.out):
            return None
        return contents(self.out) if self.out.is_dir() else self.out.read_bytes()

    def whole(self) -> bool:
        """Whether the output is the old one, none where there was none, or a whole new one."""
        held = self.held()
        if held == self.old or self.command.adds:
            return True
        if held is None or isinstance(held, bytes):
            return bool(held) and (not self.command.out.endswith(".pt2") or held[:2] == b"PK")  # type: ignore[index]
        inventory = read_inventory(self.out)
        files = {name for name, data in held.items() if data is not None}
        return (
            inventory is not None
            and inventory.finished
            and not untracked(self.out, inventory)
            and set(inventory.files) < files
        )

    def check(self, row: Row) -> None:
        """Count what is wrong after a trial."""
        row.times += 1
        row.changed += self.users() != self.before
        row.not_whole += not self.whole()

    def again(self, row: Row) -> None:
        """Run to the end again; no temporary file may be left."""
        code = self.run(True, Row("", ""))
        left = [p.name for p in self.folder.iterdir() if p.name.startswith(".") and not p.name.endswith(".theirs")]
        row.not_again += code != 0 or bool(left) or not self.whole()


def killed(name: str, command: Command, room: Path, kills: int, seed: int) -> Row:
    """SIGKILL at random times while an older output exists."""
    row, rng = Row(name, "killed at random"), random.Random(seed)
    trial = Trial(command, room / f"{name}-killed")
    started = time.monotonic()
    if trial.run(False, Row("", "")):
        raise SystemExit(f"{name}: does not run here")
    takes = time.monotonic() - started
    for number in range(kills):
        trial.old = trial.held()
        line = command.line(trial.folder, True)
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(takes * rng.uniform(0.2, 0.95))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        row.ended(process.wait())
        trial.check(row)
        if number % 5 == 4 or number == kills - 1:
            trial.again(row)
    return row


def second(name: str, command: Command, room: Path, *_: int) -> Row:
    """Run twice into the same output."""
    row, trial = Row(name, "a second time"), Trial(command, room / f"{name}-second")
    trial.run(False, Row("", ""))
    trial.old = trial.held()
    code = trial.run(False, row)
    trial.check(row)
    row.not_whole += not command.adds and (code != 2 or trial.held() != trial.old)
    return row


def together(name: str, command: Command, room: Path, *_: int) -> Row:
    """Run two processes at once into the same output."""
    row, trial = Row(name, "two at once"), Trial(command, room / f"{name}-together")
    line = command.line(trial.folder, True)
    both = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        lines = process.communicate(timeout=WITHIN_S)[1].strip().splitlines()
        row.ended(process.returncode)
        row.message = lines[-1].replace(str(trial.folder), "…") if process.returncode == 2 else row.message
    trial.check(row)
    row.not_whole += trial.held() is None
    return row


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of so many bytes at a folder; yield whether that is allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full(name: str, command: Command, room: Path, *_: int) -> Row:
    """Run where the disk is too small for the output, without and with an older one."""
    row = Row(name, "disk full")
    whole = Trial(command, room / f"{name}-size")
    whole.run(False, Row("", ""))
    held = sizes(whole)
    size = sum(-(-count // PAGE) * PAGE for count in held.values())
    for share in (0.4, 1.5):
        location = room / f"{name}-full-{share}"
        with small_disk(location, 4 * PAGE + round(size * share)) as mounted:  # a page for each file of the user's
            trial = Trial(command, location / "in")
            if share > 1:  # there is room for the old one, not for a second
                (shutil.copytree if whole.out.is_dir() else shutil.copyfile)(whole.out, trial.out)
                trial.old = trial.held()
            code = trial.run(True, row, 0 if mounted else 4096)
            trial.check(row)
            row.not_whole += code == 0 and not command.adds and sizes(trial).keys() != held.keys()
            row.not_whole += code == 0 and any(not count for count in sizes(trial).values())
            row.not_again += any(p.name.endswith((".part", ".old", ".lock")) for p in trial.folder.iterdir())
    return row


def sizes(trial: Trial) -> dict[str, int]:
    """Return the bytes of every file of an output, by its name in it."""
    held = trial.held()
    files = held if isinstance(held, dict) else {"": held}
    return {name: len(data) for name, data in files.items() if isinstance(data, bytes)}


def before_others(name: str, command: Command, room: Path, *_: int) -> Row:
    """Run where the output is a folder, file or link of the user's."""
    row = Row(name, "others' files")
    for number, obstacle in enumerate(("folder", "link", "file", "working folder")):
        for overwrite in (False, True):
            trial = Trial(command, room / f"{name}-others-{number}-{overwrite}")
            if obstacle == "folder":
                shutil.copytree(trial.users_folder, trial.out)
            elif obstacle == "link":
                trial.out.symlink_to("mine" if command.listed else "mine/thesis.txt")
            elif obstacle == "file" and (command.listed or not overwrite):
                trial.out.write_text("mine")
            else:
                continue
            trial.old = trial.held()
            trial.run(overwrite, row)
            row.times += 1
            row.changed += trial.users() != trial.before
            row.not_whole += trial.held() != trial.old and not command.adds
    return row


SCENARIOS: tuple[Callable[..., Row], ...] = (killed, second, together, full, before_others)


def main() -> int:
    """Run the scenarios that the command line names, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command (%(default)s)")
    parser.add_argument("--commands", nargs="+", help="these only")
    parser.add_argument(
        "--scenarios", nargs="+", choices=[scenario.__name__ for scenario in SCENARIOS], help="these only"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgemtl-destroy-") as folder:
        room = Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(room / "cache")
        os.chdir(room)
        prepare(room)
        rows = []
        for name, command in commands(room).items():
            for scenario in SCENARIOS:
                if name not in (given.commands or [name]):
                    continue
                if scenario.__name__ not in (given.scenarios or [scenario.__name__]):
                    continue
                rows.append(scenario(name, command, room, given.kills, given.seed))
                print(rows[-1], file=sys.stderr, flush=True)
                given.results.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    keys = ("command", "scenario", "times", "changed", "not_whole", "not_again", "tracebacks")
    print_table([list(keys), *([str(vars(row)[key]) for key in keys] for row in rows)], "crash safety")
    return int(any(row.changed or row.not_whole or row.not_again or row.tracebacks for row in rows))


if __name__ == "__main__":
    sys.exit(main())
