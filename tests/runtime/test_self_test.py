"""The self-test of a bundle: it knows its network, and what is none of it is one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_toy_bundle
from test_exchange import with_self_test

from edgemtl_runtime import Bundle
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import BundleError
from edgemtl_runtime.self_test import SELF_TEST, check_self_test


def test_a_self_test_knows_its_network(tmp_path: Path) -> None:
    toy = write_toy_bundle(tmp_path / "toy")
    same = Bundle.open(with_self_test(toy, tmp_path / "same"))
    with OrtEngine(same.model) as engine:
        assert check_self_test(same, engine, "fp32") == {"boxes": 1.0, "semantic": 1.0}
        assert check_self_test(Bundle.open(toy), engine, "fp32") == {}
        with pytest.raises(BundleError, match="is no self-test of this bundle"):
            check_self_test(same, engine, "int8")  # that the bundle has not


def npy(header: str, data: bytes = b"") -> bytes:
    """Return an array as NumPy writes it, with a header of one's own."""
    return b"\x93NUMPY\x01\x00v\x00" + header.encode().ljust(118) + data


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        {"input.rgb.npy": b"no array"},
        {"input.rgb.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\x80")},
        {"input.rgb.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999,)}")},
        {"input.rgb.npy": b"0" * (65 << 20)},
    ],
    ids=["no archive", "no array", "pickled objects", "a huge shape", "a huge member"],
)
def test_a_hostile_self_test_is_one_line(content: bytes | dict[str, bytes], tmp_path: Path) -> None:
    bundle = Bundle.open(with_self_test(write_toy_bundle(tmp_path / "toy"), tmp_path / "same"))
    file = bundle.path / SELF_TEST
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with OrtEngine(bundle.model) as engine, pytest.raises(BundleError, match="is no self-test of this bundle") as error:
        check_self_test(bundle, engine, "fp32")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 1, 96), np.uint8),  # of one row, which would be compared with all
        np.zeros((1, 5, 96), np.uint8),
        np.zeros((2, 64, 96), np.uint8),
        np.full((1, 64, 96), b"a", "S1"),
        np.zeros((1, 64, 96), bool),
        np.zeros((1, 64, 96), "M8[s]"),
    ],
    ids=["one row", "five rows", "two images", "text", "truth", "times"],
)
def test_a_self_test_of_another_shape_or_type_is_one_line(array: np.ndarray, tmp_path: Path) -> None:
    bundle = Bundle.open(with_self_test(write_toy_bundle(tmp_path / "toy"), tmp_path / "same"))
    with np.load(bundle.path / SELF_TEST) as kept:
        arrays = {**kept, "fp32.semantic": array}
    np.savez_compressed(bundle.path / SELF_TEST, **arrays)
    with (
        OrtEngine(bundle.model) as engine,
        pytest.raises(BundleError, match=r"its semantic is|is no self-test") as error,
    ):
        check_self_test(bundle, engine, "fp32")
    assert "\n" not in str(error.value)


def test_a_self_test_whose_compressed_bytes_are_damaged_is_one_line(tmp_path: Path) -> None:
    bundle = Bundle.open(with_self_test(write_toy_bundle(tmp_path / "toy"), tmp_path / "same"))
    data = bytearray((bundle.path / SELF_TEST).read_bytes())
    start = data.index(b"input.rgb.npy") + 33
    data[start : start + 6] = bytes(value ^ 255 for value in data[start : start + 6])
    (bundle.path / SELF_TEST).write_bytes(data)
    with OrtEngine(bundle.model) as engine, pytest.raises(BundleError, match="is no self-test of this bundle"):
        check_self_test(bundle, engine, "fp32")
