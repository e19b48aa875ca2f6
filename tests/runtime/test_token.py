"""The page's token: read from where no list of processes shows it, and written to no journal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.web.token import read_token


def test_a_token_has_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("of the file\n")
    file.chmod(0o600)
    monkeypatch.delenv("EDGEMTL_TOKEN", raising=False)
    assert read_token("", None) == "" and read_token("word", None) == "word"
    monkeypatch.setenv("EDGEMTL_TOKEN", "of the environment")
    assert read_token("", None) == "of the environment" and read_token("", file) == "of the file"
    with pytest.raises(EdgemtlError, match="--token and --token-file: give one"):
        read_token("word", file)
    file.write_text("")
    with pytest.raises(EdgemtlError, match="holds no line of text"):
        read_token("", file)


def served(bundle: Path, words: list[str], environment: dict[str, str], terminal: bool = False) -> tuple[str, str]:
    """Run the command until it serves; return what it wrote to standard error, and its command line."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "edgemtl_runtime.cli", "run", str(bundle), "--rgb", "pattern:?fps=20"]
    command += ["--ir", "pattern:?fps=20", "--serve", "0.0.0.0:0", *words]
    process = subprocess.Popen(
        command, stderr=writer, stdout=subprocess.DEVNULL, env=os.environ | environment, close_fds=True
    )
    os.close(writer)
    try:
        output = ""
        end = time.monotonic() + 30
        while "serving" not in output or not output.endswith("\n"):
            assert time.monotonic() < end, output
            output += os.read(reader, 4096).decode()
        return output, Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        os.close(reader)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_generated_token_is_in_a_file_of_this_user_alone(toy_bundle: Path, tmp_path: Path) -> None:
    output, _ = served(toy_bundle, [], {"XDG_RUNTIME_DIR": str(tmp_path), "RUNTIME_DIRECTORY": "", "EDGEMTL_TOKEN": ""})
    match = re.search(r"serving http://\S+:(\d+)/; its token is in (\S+)", output)
    assert match
    file = Path(match[2])
    token = file.read_text().strip()
    assert file == tmp_path / "edgemtl" / f"token-{match[1]}" and len(token) > 15 and token not in output
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_terminal_is_shown_the_link(toy_bundle: Path, tmp_path: Path) -> None:
    output, _ = served(toy_bundle, [], {"XDG_RUNTIME_DIR": str(tmp_path), "EDGEMTL_TOKEN": ""}, terminal=True)
    assert re.search(r"serving http://\S+/\?token=\S{20,}", output) and not (tmp_path / "edgemtl").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_given_token_is_written_nowhere(toy_bundle: Path, tmp_path: Path, source: str) -> None:
    file = tmp_path / "token"
    file.write_text("Zq7secret\n")
    file.chmod(0o600)
    words = ["--token-file", str(file)] if source == "file" else []
    output, arguments = served(toy_bundle, words, {"EDGEMTL_TOKEN": "Zq7secret" if source == "environment" else ""})
    assert "with the token that was given" in output and "Zq7" not in output + arguments


def test_a_camera_s_password_is_read_from_the_environment(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAM_PW", "Zq7secret")
    words = ["run", str(toy_bundle), "--rgb", "rtsp://me:${CAM_PW}@127.0.0.1:9/x", "--ir", "pattern:?frames=3"]
    assert main(words) == 2
    output = capsys.readouterr().err
    assert "rtsp://127.0.0.1:9/x: cannot be opened" in output and "Zq7" not in output


def test_the_help_names_what_ps_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert "see it in `ps`" in output and "--token-file" in output and "${NAME}" in output
