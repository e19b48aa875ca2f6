"""Mutated manifests, networks, rigs, choices, recordings and programs; into results/fuzz.json.

    python benchmarks/fuzz.py                  # 10,000 of each
    python benchmarks/fuzz.py 300 rig choice   # so many, of these kinds; fewer than 10,000 are not kept

Each is tried by `fuzz_targets`, in processes with bounded memory; ends with 1 where the law was broken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "fuzz.json"
COUNT, EACH = 10_000, 1000
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "runtime")]


def write_originals(folder: Path) -> Path:
    """Write one good file of every kind."""
    import hostile
    import msgspec
    import numpy as np
    from conftest import write_toy_bundle
    from test_mcap import record

    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.engine.config import EngineConfig
    from edgemtl_runtime.engine.selection import Selection, device
    from edgemtl_runtime.rig import CameraModel, Rig

    write_toy_bundle(folder / "toy")
    files = Bundle.open(folder / "toy").manifest.files
    (folder / "choice").write_bytes(
        msgspec.json.encode(Selection(files, device(), EngineConfig(threads=1), {"a": 1.0}))
    )
    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras = {name: CameraModel(name, 640, 480, matrix, np.array([-0.1, 0.01, 0, 0, 0])) for name in ("rgb", "ir")}
    Rig(cameras, np.eye(3), np.array([0.05, 0, 0]), 10.0).save(folder / "rig.yaml")
    record(folder / "a.mcap")
    (folder / "net.pt2").write_bytes(hostile.packed(hostile.program()))
    return folder


def tried(kind: str, originals: Path, first: int, count: int) -> dict[str, Any]:
    """Try mutations in a process of its own, and return what it tells; a crash is told as what broke the law."""
    words = [sys.executable, str(HERE / "fuzz_targets.py"), kind, str(originals), str(first), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found
        number = (Path(folder) / "trying").read_text()
    return {"outcomes": {}, "strange": [f"{number}: ended by {done.returncode}, {done.stderr[-300:]}"]}


def main() -> int:
    """Try all, print and write how it went."""
    from fuzz_targets import KINDS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        originals = write_originals(Path(folder))
        for kind in sys.argv[2:] or KINDS:
            outcomes: Counter[str] = Counter()
            row: dict[str, Any] = {"mutations": count, "strange": [], "slowest_s": 0.0, "memory_mb": 0}
            for first in range(0, count, EACH):
                found = tried(kind, originals, first, min(EACH, count - first))
                outcomes.update(found["outcomes"])
                row["strange"] += found["strange"]
                for key in ("slowest_s", "memory_mb"):
                    row[key] = max(row[key], found.get(key, 0))
            told[kind] = row | dict(outcomes)
            print(kind, json.dumps(told[kind] | {"strange": row["strange"][:10]}), flush=True)
    if count >= COUNT:
        before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps(before | told, indent=1) + "\n")
    return int(any(row["strange"] for row in told.values()))


if __name__ == "__main__":
    sys.exit(main())
