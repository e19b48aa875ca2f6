"""Opens and runs mutated copies of a bundle, in a process of its own: ``python fuzz.py BUNDLE FIRST COUNT``.

Writes the number of each before it is tried, so that a crash names its mutation; prints what was neither a clear error
nor a result.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgemtl_runtime.bundle import Bundle
from edgemtl_runtime.engine.ort import open_engine
from edgemtl_runtime.errors import EdgemtlError

MEMORY = 4 << 30
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**18, -(10**30), 1e308, "", "..", "../../x", "/etc/passwd", "a\x00b", "x" * 5000, [], {}, [[]],
    {"a": {}}, "model.onnx/", "𝄞", [1, 2, 3],
)  # fmt: skip


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with a few of them changed, cut, repeated or put in."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        place, length = int(rng.integers(len(out))), int(rng.integers(1, 33))
        kind = int(rng.integers(6))
        if kind == 0:
            out[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[place : place + length] = rng.bytes(length)
        elif kind == 2:
            del out[place:]
        elif kind == 3:
            del out[place : place + length]
        elif kind == 4:
            out[place:place] = out[place : place + length] * int(rng.integers(1, 5))
        else:
            out[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
    return bytes(out)


def mutated_tree(tree: Any, rng: np.random.Generator) -> Any:
    """Return JSON with one value somewhere in it replaced, taken away, or put where it does not belong."""
    tree = json.loads(json.dumps(tree))
    here = tree
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return tree
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(here[key], (dict, list)) and here[key] and rng.random() < 0.75:
            here = here[key]
            continue
        kind = int(rng.integers(4))
        if kind == 0:
            del here[key]
        elif kind == 1 and isinstance(here, dict):
            here[str(ODD[int(rng.integers(len(ODD)))])] = here.pop(key)
        else:
            here[key] = ODD[int(rng.integers(len(ODD)))]
        return tree


def main() -> None:
    """Try the mutations and print a JSON object."""
    given, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    manifest, model = (given / "manifest.json").read_bytes(), (given / "model.onnx").read_bytes()
    work = Path("work") / "bundle"
    outcomes: Counter[str] = Counter()
    strange: list[str] = []
    for number in range(first, first + count):
        Path("trying").write_text(str(number))
        rng = np.random.default_rng(number)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        kind, told, network = number % 3, manifest, model
        if kind == 0:
            told = mutated_bytes(manifest, rng)
        elif kind == 1:
            told = json.dumps(mutated_tree(json.loads(manifest), rng)).encode()
        else:
            network = mutated_bytes(model, rng)
            tree = json.loads(manifest)
            tree["files"]["model.onnx"] = hashlib.sha256(network).hexdigest()
            told = json.dumps(tree).encode()
        (work / "manifest.json").write_bytes(told)
        (work / "model.onnx").write_bytes(network)
        try:
            bundle = Bundle.open(work)
            engine = open_engine(bundle, 1)
            size = sum(spec.height * spec.width for spec in bundle.manifest.inputs)
            if size < 10**7:
                engine.run(
                    {s.name: np.zeros((1, s.height, s.width, s.channels), np.uint8) for s in bundle.manifest.inputs}
                )
            outcomes["ran"] += 1
        except EdgemtlError as error:
            outcomes["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 1500:
                strange.append(f"{number}: {str(error)[:200]!r}")
        except BaseException as error:
            strange.append(f"{number}: {type(error).__name__} {str(error)[:200]!r}")
    print(json.dumps({"outcomes": outcomes, "strange": strange}))


if __name__ == "__main__":
    main()
