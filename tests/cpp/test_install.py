"""The library as someone else uses it: its own tests, installed, found by CMake and pkg-config, and its example."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from every_head import write_every_head
from native import onnxruntime_library

PROGRAM = """
#include <edgemtl/edgemtl.hpp>
#include <iostream>
int main() {
    try {
        edgemtl::Network network("nowhere");
    } catch (const edgemtl::Error &error) {
        std::cout << edgemtl_version() << " " << error.status << " " << error.what();
    }
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.22)
project(robot CXX)
find_package(edgemtl 0.1 REQUIRED)
add_executable(robot robot.cpp)
target_link_libraries(robot PRIVATE edgemtl::edgemtl)
"""
SAYS = "0.1.0 2 nowhere: no bundle here (there is no such folder); make one with `edgemtl export`"


def run(*words: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", built, "--prefix", folder)
    return folder


def test_its_own_tests_pass(built: Path) -> None:
    assert "100% tests passed" in run("ctest", "--test-dir", built, "--output-on-failure")


def test_a_robot_finds_it_by_cmake(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    (tmp_path / "robot.cpp").write_text(PROGRAM)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "built", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path / "built")
    assert run(tmp_path / "built" / "robot") == SAYS


def test_a_robot_finds_it_by_pkg_config(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "robot.cpp").write_text(PROGRAM)
    text = next(installed.rglob("edgemtl.pc")).read_text()
    library = next(installed.rglob("libedgemtl.so")).parent
    assert f"prefix={installed}" in text or "prefix=" in text
    run(
        "g++",
        "-std=c++17",
        tmp_path / "robot.cpp",
        f"-I{installed}/include",
        f"-L{library}",
        "-ledgemtl",
        "-o",
        tmp_path / "robot",
    )
    assert run(tmp_path / "robot", LD_LIBRARY_PATH=str(library)) == SAYS


def test_only_the_c_functions_are_exported(installed: Path) -> None:
    symbols = run("nm", "-D", "--defined-only", next(installed.rglob("libedgemtl.so"))).splitlines()
    names = {line.split()[-1] for line in symbols if line.split()[1] == "T"}
    header = (installed / "include" / "edgemtl" / "edgemtl.h").read_text()
    assert len(names) > 15 and all(name.startswith("edgemtl_") and name in header for name in names)


def test_the_example_prints_two_images_results(built: Path, tmp_path: Path) -> None:
    bundle = write_every_head(tmp_path / "bundle")
    cv2.imwrite(str(tmp_path / "colour.ppm"), np.full((96, 128, 3), (10, 20, 200), np.uint8))
    cv2.imwrite(str(tmp_path / "thermal.pgm"), np.full((96, 128), 30_000, np.uint16))
    library = str(onnxruntime_library())
    words = (built / "examples" / "edgemtl-images", bundle, f"rgb={tmp_path}/colour.ppm", f"ir={tmp_path}/thermal.pgm")
    answer = json.loads(run(*words, EDGEMTL_ONNXRUNTIME=library))
    assert answer["camera"] == "rgb" and answer["heads"]["semantic"] == {"dark": 0.0, "bright": 1.0}
    assert [box["class"] for box in answer["heads"]["boxes"]["boxes"]] == ["person", "person", "bicycle", "car"]


@pytest.mark.parametrize(
    ("library", "said"),
    [("/nowhere/libonnxruntime.so", "no ONNX Runtime here"), ("libc.so.6", "libc.so.6: is not ONNX Runtime")],
)
def test_a_missing_onnx_runtime_is_told(built: Path, tmp_path: Path, library: str, said: str) -> None:
    bundle = write_every_head(tmp_path / "bundle")
    environment = os.environ | {"EDGEMTL_ONNXRUNTIME": library}
    words = [built / "tests" / "edgemtl-open"]
    done = subprocess.run(words, input=f"{bundle}\n", capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("3\t") and said in done.stdout


def test_the_component_pairs_images_and_publishes_every_head(built: Path, tmp_path: Path) -> None:
    """Against stand-ins of ROS 2 (`runtime/cpp/tests/stand_ins/ros2`): none is here."""
    bundle = write_every_head(tmp_path / "bundle")
    run(built / "tests" / "edgemtl-ros2", bundle, EDGEMTL_ONNXRUNTIME=str(onnxruntime_library()))


def test_the_header_offers_all_that_it_says(built: Path, tmp_path: Path) -> None:
    """A program that was compiled with every warning as an error."""
    bundle = write_every_head(tmp_path / "bundle")
    run(built / "tests" / "edgemtl-header-in-cpp", bundle, EDGEMTL_ONNXRUNTIME=str(onnxruntime_library()))
