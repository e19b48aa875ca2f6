"""Untrusted exported programs: an ordinary one opens, and no code of any is run."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import hostile
import pytest
import torch
from hostile import CONSTANTS, PROGRAM, SAMPLES, WEIGHTS, Parts, edited, packed, saved, touching
from torch import nn
from torch.export import ExportedProgram

from edgemtl_export.pt2 import NoProgramError, UntrustedError, load_program
from edgemtl_export.pt2.expressions import SYMBOL, check_guard, check_size


@pytest.fixture(scope="module")
def ordinary() -> Parts:
    return hostile.program()


def opened(tmp_path: Path, parts: Parts | bytes, trust: bool = False) -> ExportedProgram:
    """Write a file, load it, and use the program in every way that makes torch evaluate its content."""
    file = tmp_path / "net.pt2"
    file.write_bytes(parts if isinstance(parts, bytes) else packed(parts))
    program = load_program(file, trust)
    assert program.example_inputs is not None
    program.module()(*program.example_inputs[0], **program.example_inputs[1])
    return program


def check_harmless(tmp_path: Path, parts: Parts | bytes, why: str, runs: bool = True) -> None:
    """Check that a file is rejected for a reason, and that torch by itself would have run what it says."""
    touched = tmp_path / "made"
    with pytest.raises((UntrustedError, NoProgramError), match=why) as raised:
        opened(tmp_path, parts)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    assert not touched.exists()
    if runs:
        with contextlib.suppress(Exception):  # after its work, what was run gives torch nothing to go on with
            opened(tmp_path, parts, trust=True)
        assert touched.exists()


class Several(nn.Module):
    """Inputs by name, in lists, shared weights, autocast and no gradients, in half precision too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(4, dtype=torch.bfloat16))

    def forward(self, x: list[torch.Tensor], *, by_name: dict[str, torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.first(x[0])
        with torch.no_grad():
            z = self.second(x[1]) + self.shift
        return OrderedDict(y=y, z=z * by_name["scale"])


def test_an_ordinary_program_opens_and_gives_the_same(tmp_path: Path, ordinary: Parts) -> None:
    program = opened(tmp_path, ordinary)
    given = program.example_inputs[0][0]
    trusted = opened(tmp_path, ordinary, trust=True)
    assert torch.equal(program.module()(given)["y"], trusted.module()(given)["y"])
    with pytest.raises(AssertionError, match="Guard"):  # what it says of its inputs still holds
        program.module()(torch.zeros(2, 3, 8, 8))


def test_inputs_in_containers_and_shared_weights_open(tmp_path: Path) -> None:
    inputs = ([torch.rand(2, 4), torch.rand(2, 4)],), {"by_name": {"scale": torch.rand(4)}}
    exported = torch.export.export(Several().eval(), *inputs)
    torch.export.save(exported, tmp_path / "several.pt2")
    program = load_program(tmp_path / "several.pt2")
    wanted, outputs = (p.module()(*inputs[0], **inputs[1]) for p in (exported, program))
    assert list(wanted) == list(outputs) and all(torch.equal(wanted[name], outputs[name]) for name in wanted)
    weights = program.state_dict["first.weight"], program.state_dict["second.weight"]
    assert weights[0].data_ptr() == weights[1].data_ptr()


@pytest.mark.parametrize("odd", list(touching(Path("x"))))
@pytest.mark.parametrize("location", ["samples", "weight", "constant", "old weights"])
def test_a_pickle_runs_nothing(tmp_path: Path, ordinary: Parts, odd: str, location: str) -> None:
    pickled = saved(touching(tmp_path / "made")[odd])

    def as_pickle(tree: dict[str, dict[str, dict[str, object]]]) -> None:
        next(iter(tree["config"].values()))["use_pickle"] = True

    parts = {
        "samples": lambda: {**ordinary, SAMPLES: pickled},
        "weight": lambda: {**edited(ordinary, as_pickle, WEIGHTS), "data/weights/weight_0": pickled},
        "constant": lambda: {**edited(ordinary, as_pickle, CONSTANTS), "data/constants/tensor_0": pickled},
        "old weights": lambda: {**ordinary, "data/weights/model.pt": pickled},
    }[location]()
    runs = odd not in ("two texts that are a name", "a module of a good name")  # of other versions of torch
    check_harmless(tmp_path, parts, "names|is a pickle with", runs)


@pytest.mark.parametrize("kind", ["opaque", "custom"])
def test_objects_of_a_class_are_not_made(tmp_path: Path, ordinary: Parts, kind: str) -> None:
    name = {"opaque": "opaque_obj_0", "custom": "custom_obj_0"}[kind]

    def change(tree: dict[str, dict[str, dict[str, object]]]) -> None:
        tree["config"]["more"] = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}

    data = pickle.dumps(hostile.Touch(tmp_path / "made"))
    parts = {**edited(ordinary, change, CONSTANTS), f"data/constants/{name}": data}
    check_harmless(tmp_path, parts, f"holds data/constants/{name}", runs=kind == "opaque")


def test_torchs_old_files_and_archives_in_archives_are_not_read(tmp_path: Path, ordinary: Parts) -> None:
    buffer = io.BytesIO()
    torch.save(((hostile.Touch(tmp_path / "made"),), {}), buffer, _use_new_zipfile_serialization=False)
    check_harmless(tmp_path, {**ordinary, SAMPLES: buffer.getvalue()}, "is no zip archive")
    nested = saved(b"\x80\x02N.", **{"data/0": packed(ordinary)})
    with pytest.raises(NoProgramError):
        opened(tmp_path, packed({"data.pkl": nested}))


def change_size(tree: dict, text: str) -> None:
    meta = tree["graph_module"]["graph"]["tensor_values"]["x"]
    next(size for size in meta["sizes"] if "as_expr" in size)["as_expr"]["expr_str"] = text


def rename(tree: dict, text: str) -> None:
    changed = json.dumps(tree).replace('{"name": "x"}', json.dumps({"name": text}))
    tree.update(json.loads(changed.replace('"x": {', f"{json.dumps(text)}: {{")))


def change_container(tree: dict, kind: str, context: object) -> None:
    signature = tree["graph_module"]["module_call_graph"][0]["signature"]
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = [1, {"type": kind, "context": context, "children_spec": [leaf, leaf]}]
    signature["out_spec"] = json.dumps(spec)


def change_target(tree: dict, target: str) -> None:
    tree["graph_module"]["graph"]["nodes"][0]["target"] = target


def evaluated(file: Path) -> dict[str, tuple]:
    """Return changes to a program by what torch would evaluate, import or execute: the change, its reason, whether
    this version of torch makes the file."""
    python = f"open({str(file)!r}, 'w').close()"
    text = f"__import__('pathlib').Path({str(file)!r}).touch()"
    enum = json.dumps({"__enum__": True, "fqn": "hostile_module:A", "name": "B"})
    factory = {"default_factory_module": "hostile_module", "default_factory_name": "A", "dict_context": ["y", "rows"]}
    return {
        "a size": (lambda t: change_size(t, text), "has a size", True),
        "a size of words": (lambda t: change_size(t, f"Symbol({python})"), "has a size", True),
        "powers": (lambda t: change_size(t, "Pow(Integer(9), Pow(Integer(9), Integer(9)))"), "a size", False),
        "a guard": (lambda t: t["guards_code"].append(text), "has a guard", True),
        "a guard with a quote": (
            lambda t: t["guards_code"].append(f"L['x\"+str({text})+\"']==1"), "has a guard", False,
        ),
        "a name": (lambda t: rename(t, f"x={text}"), "has a name", True),
        "an argument's name": (
            lambda t: t["graph_module"]["module_call_graph"][0]["signature"].update(forward_arg_names=[f"x={text}"]),
            "has a name", False,
        ),
        "a weight's place": (
            lambda t: t["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
                parameter_name=f'conv"),{text},("'
            ), "has a path", False,
        ),
        "a module to import": (
            lambda t: change_container(t, "collections.defaultdict", json.dumps(factory)), "of the type", False,
        ),
        "an enumeration": (lambda t: change_container(t, "builtins.list", enum), "container with the key", True),
        "an operator that reads files": (
            lambda t: change_target(t, "torch.ops.aten.from_file.default"), "calls 'torch.ops.aten.from_file", False,
        ),
        "a script's operator": (lambda t: change_target(t, "torch.ops.aten.save.default"), "calls", False),
        "a function of torch": (lambda t: change_target(t, "torch.hub.load"), "calls 'torch.hub.load'", False),
        "a function of Python": (lambda t: change_target(t, "_operator.attrgetter"), "calls", False),
        "a method of an operator": (lambda t: change_target(t, "torch.ops.aten.add.__init__"), "calls", False),
    }  # fmt: skip


@pytest.mark.parametrize("what", list(evaluated(Path("x"))))
def test_strings_that_torch_evaluates_are_validated(
    tmp_path: Path, ordinary: Parts, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_module.py").write_text(f"open({str(tmp_path / 'made')!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    change, why, runs = evaluated(tmp_path / "made")[what]
    check_harmless(tmp_path, edited(ordinary, change), why, runs)


def test_keys_of_the_sample_inputs_end_in_no_source(tmp_path: Path, ordinary: Parts) -> None:
    key = '"]);print("'
    pickled = b"\x80\x02)}X" + struct.pack("<I", len(key)) + key.encode() + b"Ns\x86."
    check_harmless(tmp_path, {**ordinary, SAMPLES: saved(pickled)}, "has a path", runs=False)


@pytest.mark.parametrize(
    "part", ["data/aotinductor/model/a.so", "data/aotinductor/model/a.cpp", "data/xl_model_weights/a"]
)
def test_compiled_code_and_unknown_files_are_rejected(tmp_path: Path, ordinary: Parts, part: str) -> None:
    check_harmless(tmp_path, {**ordinary, part: b"\x7fELF"}, f"holds {part}", runs=False)


def test_extra_files_are_dropped(tmp_path: Path, ordinary: Parts) -> None:
    opened(tmp_path, {**ordinary, "extra/notes.txt": b"hello"})


def packed_twice(parts: Parts) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name, data in [*parts.items(), (SAMPLES, saved(b"\x80\x02N."))]:
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def bomb(parts: Parts) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**parts, "data/weights/weight_9": bytes(100 << 20)}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


ARCHIVES = {
    "twice": (packed_twice, "two files of one name"),
    "bomb": (bomb, "like a bomb"),
    "up": (lambda parts: packed({**parts, "../../up": b""}), "odd name"),
    "absolute": (lambda parts: packed({**parts, "/etc/x": b""}, root=""), "odd name"),
    "many": (lambda parts: packed({str(n): b"" for n in range(70_000)}), "holds 70000 files"),
    "text": (lambda parts: b"no archive", "is no zip archive"),
    "empty": (lambda parts: packed({}), "holds no models/model.json"),
    "cut": (lambda parts: packed(parts)[:-30], "is no zip archive|holds no"),
}


@pytest.mark.parametrize("kind", list(ARCHIVES))
def test_archives_have_bounds(tmp_path: Path, ordinary: Parts, kind: str) -> None:
    make, why = ARCHIVES[kind]
    start = time.process_time()
    check_harmless(tmp_path, make(ordinary), why, runs=False)
    assert time.process_time() - start < 5


def storage(count: int, kind: str = "FloatStorage") -> bytes:
    return (
        f"(X\x07\0\0\0storagectorch\n{kind}\nX\x01\0\0\x000X\x03\0\0\0cpuJ".encode() + struct.pack("<i", count) + b"tQ"
    )


def tensor(count: int, offset: int, size: int, stride: int) -> bytes:
    numbers = b"J" + struct.pack("<i", offset) + b"J" + struct.pack("<i", size) + b"\x85J" + struct.pack("<i", stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count) + numbers + b"\x85\x89NtR"


def laughs(levels: int) -> bytes:
    """Return a list of two lists of two lists ... that are one each."""
    steps = b"]q\x00" + b"".join(
        b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(levels)
    )
    return steps


PICKLES = {
    "more numbers than there are": (tensor(1 << 20, 0, 4, 1), "not there, or not as long"),
    "beyond its numbers": (tensor(4, 0, 5, 1), "reaches beyond"),
    "before its numbers": (tensor(4, -1, 4, 1), "not encoded as torch does"),
    "a stride without end": (tensor(4, 0, 4, 1 << 30), "reaches beyond"),
    "one number over and over": (tensor(4, 0, 1 << 30, 0), "repeats its elements"),
    "laughs": (laughs(30), "nested without end"),
    "itself": (b"]q\x00h\x00a", "nested without end"),
    "memory": (b"Nr\xff\xff\xff\x7f", "asks for memory"),
    "a long number": (b"\x8a\xff" + bytes(254) + b"\x01", "bits"),
    "a state": (storage(4) + b"}b", "where none belongs"),
}


@pytest.mark.parametrize("kind", list(PICKLES))
def test_pickles_have_bounds(tmp_path: Path, ordinary: Parts, kind: str) -> None:
    steps, why = PICKLES[kind]
    parts = {**ordinary, SAMPLES: saved(b"\x80\x02" + steps + b"\x85}\x86.", **{"data/0": bytes(16)})}
    check_harmless(tmp_path, parts, why, runs=False)


@pytest.mark.parametrize("field, number", [("as_int", 1 << 62), ("as_int", 10**30), ("as_int", -5), ("as_int", "3")])
def test_sizes_have_bounds(tmp_path: Path, ordinary: Parts, field: str, number: object) -> None:
    def change(tree: dict) -> None:
        tree["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = {field: number}

    check_harmless(tmp_path, edited(ordinary, change), "of the size|is not as torch.export writes", runs=False)


@pytest.mark.parametrize("size", [1 << 33, 100_000_000])
@pytest.mark.parametrize("data", [b"", bytes(400)])
def test_weights_that_are_not_in_the_file_are_not_made(tmp_path: Path, ordinary: Parts, size: int, data: bytes) -> None:
    def change(tree: dict) -> None:
        meta = tree["config"]["conv.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": size}], [{"as_int": 0}]

    parts = {**edited(ordinary, change, WEIGHTS), "data/weights/weight_0": data}
    check_harmless(tmp_path, parts, r"has conv.weight of \d+ numbers in a file of", runs=False)


def test_text_nested_without_end_is_rejected(tmp_path: Path, ordinary: Parts) -> None:
    check_harmless(tmp_path, {**ordinary, PROGRAM: b"[" * 100_000}, "is not as torch.export", runs=False)


def test_sizes_and_guards_that_torch_writes_are_allowed() -> None:
    for text in ("Mul(Integer(24), Max(Integer(1), Add(Symbol('s53', positive=True, integer=True), Integer(-2))))",
                 "s0*s1 + 2*s0**2", "FloorDiv(s77, 2)", "Float('2.0', precision=53)", "True", "-s0 >= 3"):  # fmt: skip
        check_size(text)
    for text in ("L['x'].size()[2] >= 3", "((-2) + L['x'].size()[2]) != 1", "Mod(L['args'][0].size()[0], 8) == 0"):
        check_guard(text)


def test_no_symbol_is_a_function_of_python() -> None:
    assert [name for name in dir(builtins) if SYMBOL.fullmatch(name)] == []
