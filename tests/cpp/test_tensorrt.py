"""TensorRT itself from C++, against stand-ins of its headers and CUDA's: there is no GPU here.

They show what is asked of TensorRT and what becomes of its answers, not that TensorRT answers so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from every_head import write_every_head
from native import Library, NativeError

from edgemtl_runtime.bundle import Bundle

SIZES = {
    "boxes": "1 6 6", "several": "1 6 6", "depth": "1 48 64", "normals": "1 48 64 3", "edges": "1 48 64",
    "attributes": "1 2", "temperature": "1 48 64", "flow": "1 48 64 2", "feet": "1 5 4", "speed": "1 2",
    "embedding": "1 5 4",
}  # fmt: skip
PLAN = [
    "input ir uint8 1 48 64 1",
    "output unnamed float 1 3",
    "input rgb uint8 1 48 64 3",
    "output semantic uint8 1 48 64",
    *(f"output {name} float {sizes}" for name, sizes in SIZES.items()),
]
IMAGES = {"rgb": np.full((48, 64, 3), 7, np.uint8), "ir": np.full((48, 64), 1, np.uint8)}


@pytest.fixture(scope="module")
def tensorrt(built: Path) -> Library:
    return Library(built / "tests", "libedgemtl-tensorrt-stand-in.so")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_every_head(tmp_path_factory.mktemp("every") / "bundle"))


def plan(folder: Path, lines: list[str]) -> Path:
    (folder / "street.plan").write_text("\n".join(lines))
    return folder / "street.plan"


@pytest.mark.parametrize("batch", ["1", "-1"])
def test_a_plan_computes_what_the_bundle_describes(
    tensorrt: Library, every: Bundle, tmp_path: Path, batch: str
) -> None:
    lines = [line.replace(" 1 ", f" {batch} ", 1) for line in PLAN]
    network = tensorrt.open(every.path, plan=plan(tmp_path, lines))
    for _ in range(2):
        result = network.run(IMAGES, {"depth": 0, "semantic": 0, "speed": 0, "boxes": 0})
        assert (result.heads["depth"] == 1).all()  # of the thermal image, the first input of the plan
        assert result.heads["depth"].shape == (48, 64) and (result.heads["semantic"] == 1).all()
        assert result.heads["speed"].shape == (2,)
    network.close()


WRONG = {
    "another size": (
        [line.replace("48 64 3", "48 60 3") for line in PLAN],
        r"is no plan of this bundle: the network takes",
    ),
    "no head": ([line for line in PLAN if "depth" not in line], "has no output 'depth' that the manifest names"),
    "maps of another size": ([line.replace("edges float 1 48", "edges float 1 40") for line in PLAN], "edges is"),
    "another type": ([line.replace("speed float", "speed int32") for line in PLAN], "has a type that no bundle has"),
    "a size that is open": ([line.replace("1 6 6", "1 -1 6") for line in PLAN], "is not known before it is computed"),
    "no plan": (["PK"], "TensorRT cannot load it: Serialization assertion failed.*; write it here with"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_told_in_a_line(tensorrt: Library, every: Bundle, tmp_path: Path, case: str) -> None:
    lines, expected = WRONG[case]
    with pytest.raises(NativeError, match=expected) as caught:
        tensorrt.open(every.path, plan=plan(tmp_path, lines))
    assert caught.value.status == 3 and "\n" not in str(caught.value)


def test_a_plan_that_is_not_there(tensorrt: Library, every: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NativeError, match=r"street\.plan: cannot be opened; write it here with `edgemtl-runtime build"):
        tensorrt.open(every.path, plan=tmp_path / "street.plan")


def test_without_tensorrt_it_says_so(library: Library, every: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NativeError, match=r"street\.plan: this library was built without TensorRT; leave out the plan"):
        library.open(every.path, plan=plan(tmp_path, PLAN))


def test_onnx_runtime_computes_where_no_plan_is_given(tensorrt: Library, every: Bundle) -> None:
    network = tensorrt.open(every.path)
    images = IMAGES | {"ir": np.full((48, 64), 4, np.uint8)}
    assert (network.run(images, {"depth": 0}).heads["depth"] == 2).all()
    network.close()
