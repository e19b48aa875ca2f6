"""What training loads: neither the exporter's libraries nor an inference engine, nor ultralytics, an extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = """
import importlib, pkgutil, sys
import edgemtl.train, edgemtl.data, edgemtl.methods, edgemtl.tasks
for package in (edgemtl.data, edgemtl.methods, edgemtl.tasks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(*({"onnx", "onnxscript", "onnxruntime", "ultralytics"} & sys.modules.keys()))
"""


@pytest.mark.slow
def test_training_loads_neither_onnx_nor_onnxruntime_nor_ultralytics() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
