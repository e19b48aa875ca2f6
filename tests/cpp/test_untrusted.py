"""Damaged and hostile bundles: C++ opens those that Python opens, and tells of the others in the same line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_toy_bundle
from native import onnxruntime_library

from edgemtl_runtime.bundle import MANIFEST, MODEL, Bundle
from edgemtl_runtime.engine.onnxruntime import open_ort_engine
from edgemtl_runtime.errors import EdgemtlError

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import fuzz_targets

ODD: tuple[Any, ...] = (None, True, -1, 0, 2, 10**9, 0.5, 1e300, "", "x y", "../x", "\x1b[2J", [], {}, [1], "ü" * 300)
MUTATIONS = 150
"""Of a manifest and of a network here; `benchmarks/cpp.py --case fuzz` tries 5,000 of each with sanitizers."""


def outcome(folder: Path) -> str:
    """Return Python's line about a bundle, "" of one that opens and fits its network."""
    try:
        open_ort_engine(Bundle.open(folder), 1).close()
    except EdgemtlError as error:
        return str(error)
    return ""


def in_cpp(program: Path, folders: list[Path]) -> list[str]:
    """Return the library's lines about bundles."""
    lines = "".join(f"{folder}\n" for folder in folders)
    environment = os.environ | {"EDGEMTL_ONNXRUNTIME": str(onnxruntime_library()), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([program], input=lines, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.partition("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(folders)
    return [line if status != "0" else "" for status, _, line in rows]


def entries(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a tree and each of its keys."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from entries(tree[key])


def changed(manifest: Path) -> Iterator[str]:
    """Yield the manifest with one value changed, left out or added, everywhere."""
    text = manifest.read_text()
    count = sum(1 for _ in entries(json.loads(text)))
    for number in range(count):
        for odd in (*ODD, "DELETE", "ADD"):
            tree = json.loads(text)
            container, key = list(entries(tree))[number]
            if odd == "DELETE":
                del container[key]
            elif odd == "ADD" and isinstance(container, dict):
                container["colour"] = 1
            else:
                container[key] = odd
            yield json.dumps(tree)


def compare(python: dict[Path, str], program: Path) -> float:
    """Check that C++ opens what Python opens; return the share of the others with the same line."""
    cpp = dict(zip(python, in_cpp(program, list(python)), strict=True))
    different = {f: (line, cpp[f]) for f, line in python.items() if bool(line) != bool(cpp[f])}
    assert different == {}
    rejected = [folder for folder, line in python.items() if line]
    assert len(rejected) > len(python) / 5
    return sum(comparable(python[folder]) == comparable(cpp[folder]) for folder in rejected) / len(rejected)


def comparable(line: str) -> str:
    """Return a line without what the two readers of JSON, or Python and C++ about an address in a file, say."""
    return re.sub(r"(not JSON|cannot be read) \(.*\)", r"\1", line)


def test_a_changed_manifest_is_told_in_python_s_words(built: Path, tmp_path: Path) -> None:
    original = write_toy_bundle(tmp_path / "toy")
    python = {}
    for number, text in enumerate(changed(original / MANIFEST)):
        if number % 3:
            continue  # a third of all, which is still every value
        folder = tmp_path / str(number)
        folder.mkdir()
        os.link(original / MODEL, folder / MODEL)
        (folder / MANIFEST).write_text(text)
        python[folder] = outcome(folder)
    assert compare(python, built / "tests" / "edgemtl-open") > 0.97


@pytest.mark.parametrize("of_network", [False, True], ids=["manifest", "network"])
def test_a_mutated_bundle_is_opened_or_rejected_as_in_python(built: Path, tmp_path: Path, of_network: bool) -> None:
    originals = tmp_path / "originals"
    write_toy_bundle(originals / "toy")
    python = {}
    for number in range(MUTATIONS):
        folder = tmp_path / str(number)
        fuzz_targets.write_bundle(originals, folder, np.random.default_rng(number), of_network)
        python[folder] = outcome(folder)
    assert compare(python, built / "tests" / "edgemtl-open") > 0.8


def flip_byte(folder: Path) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)


def link(folder: Path) -> None:
    (folder / MODEL).rename(folder.parent / "elsewhere.onnx")
    (folder / MODEL).symlink_to(folder.parent / "elsewhere.onnx")


DAMAGE = {
    "flipped byte": flip_byte,
    "missing network": lambda folder: (folder / MODEL).unlink(),
    "missing manifest": lambda folder: (folder / MANIFEST).unlink(),
    "network behind a link": link,
    "no folder": shutil.rmtree,
    "not UTF-8": lambda folder: (folder / MANIFEST).write_bytes(b'{"schema_version": 4, "name": "\xff"}'),
    "large": lambda folder: (folder / MANIFEST).write_bytes(b" " * (5 << 20)),
    "deep": lambda folder: (folder / MANIFEST).write_bytes(b"[" * 100_000),
    "a list": lambda folder: (folder / MANIFEST).write_text("[]"),
    "empty": lambda folder: (folder / MANIFEST).write_text(""),
}


def test_damage_is_told_in_the_same_line(built: Path, tmp_path: Path) -> None:
    python = {}
    for name, damage in DAMAGE.items():
        folder = write_toy_bundle(tmp_path / name.replace(" ", "-") / "toy")
        damage(folder)
        python[folder] = outcome(folder)
    cpp = in_cpp(built / "tests" / "edgemtl-open", list(python))
    for line, other in zip(python.values(), cpp, strict=True):
        assert line and comparable(line) == comparable(other)
