"""Fuzzing of manifests, networks, rigs, engine selections, recordings and programs; into results/fuzz.json.

    python benchmarks/fuzz.py                    # 10,000 of each
    python benchmarks/fuzz.py 300 rig selection  # so many, of these types; fewer than 10,000 are not kept

Each is tried by `fuzz_targets`, in processes with bounded memory; exits with 1 where the contract was broken.
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
RENAMED = {"choice": "selection", "refused": "rejected"}
"""Targets and outcomes in rows of version 0.1, and today's names."""
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "runtime")]


def write_originals(folder: Path) -> Path:
    """Write one valid file of every type."""
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
    (folder / "selection").write_bytes(
        msgspec.json.encode(Selection(files, device(), EngineConfig(threads=1), {"a": 1.0}))
    )
    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras = {name: CameraModel(name, 640, 480, matrix, np.array([-0.1, 0.01, 0, 0, 0])) for name in ("rgb", "ir")}
    Rig(cameras, np.eye(3), np.array([0.05, 0, 0]), 10.0).save(folder / "rig.yaml")
    record(folder / "a.mcap")
    (folder / "net.pt2").write_bytes(hostile.packed(hostile.program()))
    return folder


def tried(target: str, originals: Path, first: int, count: int) -> dict[str, Any]:
    """Try mutations in a subprocess and return its report; a crash is reported as a violation."""
    words = [sys.executable, str(HERE / "fuzz_targets.py"), target, str(originals), str(first), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return report
        number = (Path(folder) / "trying").read_text()
    return {"outcomes": {}, "strange": [f"{number}: ended by {done.returncode}, {done.stderr[-300:]}"]}


def read_rows(file: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a results file by target, those of version 0.1 with today's names."""
    rows = json.loads(file.read_text())
    return {RENAMED.get(target, target): {RENAMED.get(k, k): v for k, v in row.items()} for target, row in rows.items()}


def main() -> int:
    """Try all mutations, print and write the outcomes."""
    from fuzz_targets import TARGETS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        originals = write_originals(Path(folder))
        for target in [RENAMED.get(name, name) for name in sys.argv[2:]] or TARGETS:
            outcomes: Counter[str] = Counter()
            row: dict[str, Any] = {"mutations": count, "strange": [], "slowest_s": 0.0, "memory_mb": 0}
            for first in range(0, count, EACH):
                result = tried(target, originals, first, min(EACH, count - first))
                outcomes.update(result["outcomes"])
                row["strange"] += result["strange"]
                for key in ("slowest_s", "memory_mb"):
                    row[key] = max(row[key], result.get(key, 0))
            report[target] = row | dict(outcomes)
            print(target, json.dumps(report[target] | {"strange": row["strange"][:10]}), flush=True)
    if count >= COUNT:
        before = read_rows(RESULTS) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps(before | report, indent=1) + "\n")
    return int(any(row["strange"] for row in report.values()))


if __name__ == "__main__":
    sys.exit(main())
