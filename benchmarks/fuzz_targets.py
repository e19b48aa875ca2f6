"""Fuzz targets that open mutated copies of files: ``python fuzz_targets.py TYPE ORIGINALS FIRST COUNT``.

The contract: each is either used or rejected with an `EdgemtlError` of one line, within five seconds and bounded
memory, and no code in a file is run. Writes the number of each mutation before it is tried, so that a crash names it,
and prints a JSON object with the violations.
"""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgemtl_runtime.errors import EdgemtlError

MORE_MEMORY = 3 << 30
"""Bytes of address space that opening files may take beyond what the process has when it begins."""
LONGEST_S, HANGS_S = 5.0, 20
LONGEST_LINE = 1500
NOT_A_NUMBER = float("nan")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**18, -(10**30), 10**400, 0.5, 1e308, -1e308, NOT_A_NUMBER, float("inf"), "",
    "..", "../../x", "/etc/passwd", "a\x00b", "x" * 5000, "\x1b[2J", "1" * 5000, [], {}, [[]], {"a": {}}, "𝄞",
    [1, 2, 3], "model.onnx/", "__import__('os').system('touch made')", [0] * 5000,
)  # fmt: skip


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with a few of them changed, cut, repeated or put in."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        start, length = int(rng.integers(len(out))), int(rng.integers(1, 33))
        operation = int(rng.integers(7))
        if operation == 0:
            out[start] ^= 1 << int(rng.integers(8))
        elif operation == 1:
            out[start : start + length] = rng.bytes(length)
        elif operation == 2:
            del out[start:]
        elif operation == 3:
            del out[start : start + length]
        elif operation == 4:
            out[start:start] = out[start : start + length] * int(rng.integers(1, 5))
        elif operation == 5:  # a large block twice
            out[start:start] = out[start : start + int(rng.integers(1, 5000))]
        else:
            out[start] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
    return bytes(out)


def mutated_tree(tree: Any, rng: np.random.Generator) -> Any:
    """Return a tree with one value somewhere in it replaced, taken away, repeated, or put where it does not belong."""
    tree = copy.deepcopy(tree)
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return tree
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.75:
            node = node[key]
            continue
        _change(node, key, tree, rng)
        return tree


def _change(node: Any, key: Any, tree: Any, rng: np.random.Generator) -> None:
    operation, odd = int(rng.integers(6)), ODD[int(rng.integers(len(ODD)))]
    if operation == 0:
        del node[key]
    elif operation == 1 and isinstance(node, dict):
        node[str(odd)[:100]] = node.pop(key)
    elif operation == 2 and isinstance(node, list):
        node.extend([node[key]] * int(rng.integers(1, 200)))
    elif operation == 3 and isinstance(node[key], (int, float)):
        node[key] *= float(rng.choice([-1, 0, 1e3, 1e9, 1e-9]))
    elif operation == 4:
        node[key] = copy.deepcopy(tree)
    else:
        node[key] = odd


def text_of(tree: Any, rng: np.random.Generator) -> bytes:
    """Return a tree as JSON; at times with a key twice."""
    text = json.dumps(tree)
    if rng.random() < 0.1 and '": ' in text:
        start = text.index('{"')
        text = f'{text[: start + 1]}"{rng.choice(["name", "inputs", "way", "cameras"])}": {{}}, {text[start + 1 :]}'
    return text.encode(errors="surrogatepass")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a JSON file that was changed as bytes or as a tree."""
    return mutated_bytes(data, rng) if rng.random() < 0.35 else text_of(mutated_tree(json.loads(data), rng), rng)


def write_bundle(originals: Path, work: Path, rng: np.random.Generator, network: bool) -> None:
    """Write a bundle with another manifest or another network into a folder."""
    manifest, model = (originals / "toy/manifest.json").read_bytes(), (originals / "toy/model.onnx").read_bytes()
    if network:
        model = mutated_network(model, rng) if rng.random() < 0.6 else mutated_bytes(model, rng)
        tree = json.loads(manifest)
        tree["files"]["model.onnx"] = hashlib.sha256(model).hexdigest()
        manifest = json.dumps(tree).encode()
    else:
        manifest = mutated(manifest, rng)
    work.mkdir(exist_ok=True)
    (work / "manifest.json").write_bytes(manifest)
    (work / "model.onnx").write_bytes(model)


def bundle(originals: Path, work: Path, rng: np.random.Generator, network: bool) -> None:
    """Open and run a bundle with another manifest or another network."""
    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.decode import decode
    from edgemtl_runtime.engine.onnxruntime import open_ort_engine
    from edgemtl_runtime.letterbox import Letterbox

    write_bundle(originals, work, rng, network)
    opened = Bundle.open(work)
    engine = open_ort_engine(opened, 1)
    specs = opened.manifest.inputs
    if sum(spec.height * spec.width for spec in specs) < 10**7:
        given = {s.name: np.zeros((1, s.height, s.width, s.channels), np.uint8) for s in specs}
        outputs = {name: output[0] for name, output in engine.run(given).items()}
        size = (specs[0].height, specs[0].width)
        for result in decode(outputs, opened.manifest.heads, Letterbox.plan(size, size)).values():
            result.to_dict()


def mutated_network(data: bytes, rng: np.random.Generator) -> bytes:
    """Return an ONNX file with one field of one message changed, by the rules of protobuf."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    message: Any = model
    while True:
        known = [(field, value) for field, value in message.ListFields() if field.type == field.TYPE_MESSAGE]
        if not known or rng.random() < 0.2:
            break
        field, value = known[int(rng.integers(len(known)))]
        message = value[int(rng.integers(len(value)))] if field.is_repeated else value
    fields = list(message.DESCRIPTOR.fields)
    field = fields[int(rng.integers(len(fields)))]
    odd: dict[int, list[Any]] = {
        field.CPPTYPE_INT32: [-1, 0, 1, 7, 2**31 - 1],
        field.CPPTYPE_INT64: [-1, 0, 1, 2**40, 2**63 - 1],
        field.CPPTYPE_UINT64: [0, 2**64 - 1],
        field.CPPTYPE_FLOAT: [0.0, 1e38, NOT_A_NUMBER],
        field.CPPTYPE_DOUBLE: [0.0, 1e308],
        field.CPPTYPE_STRING: ["", "x" * 3000, "../x", "rgb", "com.microsoft"],
        field.CPPTYPE_ENUM: [0, 1, 2],
    }
    try:
        if field.type == field.TYPE_MESSAGE:
            part = getattr(message, field.name)
            part.add() if field.is_repeated else part.SetInParent()
        elif rng.random() < 0.3:
            message.ClearField(field.name)
        else:
            values = odd[field.cpp_type]
            value = values[int(rng.integers(len(values)))]
            value = value.encode() if field.type == field.TYPE_BYTES else value
            getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
    except (TypeError, ValueError):
        pass
    return bytes(model.SerializeToString())


def rig(originals: Path, work: Path, rng: np.random.Generator) -> None:
    """Open a rig and bring some pixels from one camera to the other."""
    from edgemtl_runtime.rig import Rig
    from edgemtl_runtime.rig.projection import rgb_pixels_to_ir

    data = (originals / "rig.yaml").read_bytes()
    if rng.random() < 0.6:
        import yaml

        data = text_of(mutated_tree(yaml.safe_load(data), rng), rng)
    else:
        data = mutated_bytes(data, rng)
    (work / "rig.yaml").write_bytes(data)
    opened = Rig.open(work / "rig.yaml")
    with np.errstate(all="ignore"):
        rgb_pixels_to_ir(opened, np.array([[0.0, 0.0], [opened.rgb.width, opened.rgb.height]]))


def selection(originals: Path, work: Path, rng: np.random.Generator) -> None:
    """Read the cached engine selection of a bundle."""
    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.engine.cache import Cache
    from edgemtl_runtime.engine.selection import selected_config

    opened, cache = Bundle.open(originals / "toy"), Cache(work / "cache")
    file = cache.selection(opened.manifest.files)
    file.write_bytes(mutated((originals / "selection").read_bytes(), rng))
    file.chmod(0o600)
    selected_config(opened, cache)


def recording(originals: Path, work: Path, rng: np.random.Generator) -> None:
    """Read a recording to its end."""
    from edgemtl_runtime.camera import open_camera

    data = (originals / "a.mcap").read_bytes()
    if rng.random() < 0.5:  # most bytes are of images, and any length that is wrong ends the reading
        flipped = bytearray(data)
        for index in rng.integers(len(data), size=int(rng.integers(1, 4))):
            flipped[index] ^= 1 << int(rng.integers(8))
        data = bytes(flipped)
    else:
        data = mutated_bytes(data, rng)
    (work / "a.mcap").write_bytes(data)
    camera = open_camera(f"mcap:{work / 'a.mcap'}#/camera/ir/image", "ir")
    try:
        for _ in camera.frames():
            pass
    finally:
        camera.close()


def program(originals: Path, work: Path, rng: np.random.Generator) -> None:
    """Open a program of torch.export.save, in which a part was changed."""
    import io
    import zipfile

    from edgemtl.shrink import read_program

    with zipfile.ZipFile(originals / "net.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(parts)
    texts = [name for name in names if name.endswith(".json")]
    operation = int(rng.integers(4))
    if operation < 2:
        name = texts[int(rng.integers(len(texts)))]
        parts[name] = text_of(mutated_tree(json.loads(parts[name]), rng), rng)
    elif operation == 2:
        name = names[int(rng.integers(len(names)))]
        parts[name] = mutated_bytes(parts[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    data = mutated_bytes(buffer.getvalue(), rng) if operation == 3 else buffer.getvalue()
    (work / "net.pt2").write_bytes(data)
    read_program(work / "net.pt2").module()


TARGETS: dict[str, Callable[[Path, Path, np.random.Generator], None]] = {
    "manifest": partial(bundle, network=False),
    "network": partial(bundle, network=True),
    "rig": rig,
    "selection": selection,
    "recording": recording,
    "program": program,
}


def status_bytes(key: str) -> int:
    """Return a figure of this process: "VmSize" its address space, "VmHWM" the most memory that it held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])


def raise_timeout(*_: object) -> None:
    """Raise TimeoutError for a mutation that takes too long."""
    raise TimeoutError(f"more than {HANGS_S} s")


def attempt(target: str, originals: Path, number: int) -> tuple[str, str]:
    """Try one mutation; return "used" or "rejected", and the violation of the contract or an empty text."""
    work = Path("work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    begun = time.monotonic()
    signal.alarm(HANGS_S)
    outcome, strange = "used", ""
    try:
        TARGETS[target](originals, work, np.random.default_rng(number))
    except EdgemtlError as error:
        outcome = "rejected"
        if "\n" in str(error) or "\x1b" in str(error) or len(str(error)) > LONGEST_LINE:
            strange = f"{str(error)[:200]!r}"
    except BaseException as error:
        strange = f"{type(error).__name__} {str(error)[:200]!r}"
    signal.alarm(0)
    if (seconds := time.monotonic() - begun) > LONGEST_S:
        strange = f"{seconds:.1f} s {strange}"
    if Path("made").exists():
        strange = f"ran code of the file {strange}"
    return outcome, strange


def main() -> None:
    """Try the mutations and print a JSON object."""
    target, originals, first, count = sys.argv[1], Path(sys.argv[2]).absolute(), int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGALRM, raise_timeout)
    if target == "program":
        from edgemtl.shrink import read_program

        read_program(originals / "net.pt2")  # torch imports much of itself at the first one
    limit = status_bytes("VmSize") + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcomes: Counter[str] = Counter()
    strange: list[str] = []
    slowest_s = 0.0
    for number in range(first, first + count):
        Path("trying").write_text(str(number))
        begun = time.monotonic()
        outcome, broken = attempt(target, originals, number)
        slowest_s = max(slowest_s, time.monotonic() - begun)
        outcomes[outcome] += 1
        if broken:
            strange.append(f"{number}: {broken}")
    grown_mb = status_bytes("VmHWM") / 1e6
    report = {"outcomes": outcomes, "strange": strange, "slowest_s": round(slowest_s, 2), "memory_mb": round(grown_mb)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
