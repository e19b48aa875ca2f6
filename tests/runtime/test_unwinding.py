"""Errors of native libraries are lines, not crashes, whichever libraries a camera has loaded before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEBIAN = "/usr/lib/python3/dist-packages"
"""Where python3-gi is, which an environment of pip does not see."""
PROGRAM = """
import sys
sys.path.append(sys.argv[2])
from pathlib import Path
from edgemtl_runtime.camera import gstreamer
from edgemtl_runtime.engine.onnxruntime import OrtEngine
from edgemtl_runtime.errors import EdgemtlError

Gst = gstreamer.load()
Gst.parse_launch("videotestsrc num-buffers=2 ! fakesink").set_state(Gst.State.NULL)
try:
    OrtEngine(Path(sys.argv[1]))
except EdgemtlError as error:
    print(error)
"""


def test_a_file_that_is_no_network_is_told_with_gstreamer_loaded(tmp_path: Path) -> None:
    probe = f"import sys; sys.path.append('{DEBIAN}'); import gi; gi.require_version('Gst', '1.0')"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode:
        pytest.skip("python3-gi is not installed for this Python")
    (tmp_path / "model.onnx").write_bytes(b"no network")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model.onnx"), DEBIAN],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "") and "cannot load it" in done.stdout
