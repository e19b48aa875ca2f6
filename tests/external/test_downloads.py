"""Weights that are fetched: from a server on loopback, in the forms of the libraries' own, and from none at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from edgemtl.cli import main

NETWORK = "test_resnet"
"""The smallest of timm with weights, and the repository that it names."""


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server of files by path, with the headers of the hub that timm fetches from."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
            else:
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()
    server.server_close()


def edgemtl(*words: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process with caches of its own."""
    variables = {"XDG_CACHE_HOME": str(home / "cache"), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": endpoint}
    cleared = {k: v for k, v in os.environ.items() if k not in ("EDGEMTL_WEIGHTS", "HF_HUB_OFFLINE")}
    return subprocess.run(
        [sys.executable, "-m", "edgemtl", *words], capture_output=True, text=True, env=cleared | variables, cwd=home
    )


@pytest.mark.slow
def test_timm_s_weights_are_fetched_once_listed_and_found(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    import timm

    endpoint, files = hub
    torch.manual_seed(0)
    state = timm.create_model(NETWORK).state_dict()
    repository = timm.get_pretrained_cfg(NETWORK).hf_hub_id
    files[f"/{repository}/resolve/main/model.safetensors"] = save(state, {"format": "pt"})
    done = edgemtl("weights", "get", f"timm:{NETWORK}", home=tmp_path, endpoint=endpoint)
    file = tmp_path / "cache" / "edgemtl" / "weights" / f"timm-{NETWORK}.safetensors"
    assert done.returncode == 0, done.stderr
    tensors = load_file(file)
    assert tensors.keys() == state.keys() and all(torch.equal(tensors[name], t) for name, t in state.items())
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["license"] == "apache-2.0" and opened.metadata()["origin"] == repository
    files.clear()
    again = edgemtl("weights", "get", f"timm:{NETWORK}", home=tmp_path, endpoint=endpoint)
    assert again.returncode == 0 and "fetched before" in again.stdout
    listed = edgemtl("weights", "list", "--json", home=tmp_path, endpoint=endpoint)
    entry = next(e for e in json.loads(listed.stdout) if e["file"] == str(file))
    assert (entry["network"], entry["licence"]) == (f"timm:{NETWORK}", "apache-2.0")
    words = ("shrink", f"timm:{NETWORK}", "--input-size", "64", "64", "--out", "small.pt2")
    assert "removed" in (shrunk := edgemtl(*words, home=tmp_path, endpoint=endpoint)).stdout, shrunk.stderr


@pytest.mark.slow
def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(
    hub: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    endpoint, _files = hub
    nobody = "http://127.0.0.1:9"
    for at in (nobody, endpoint):
        begun = time.monotonic()
        done = edgemtl("weights", "get", f"timm:{NETWORK}", home=tmp_path, endpoint=at)
        assert done.returncode == 2 and "cannot be fetched; is this machine online?" in done.stderr
        assert done.stderr.count("\n") == 1 and time.monotonic() - begun < 60
    assert not list((tmp_path / "cache").rglob("*.safetensors*"))


def test_torchvision_s_weights_are_fetched_with_the_hash_of_their_name(
    hub: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    endpoint, files = hub
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.manual_seed(0)
    network = models.squeezenet1_1()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    name = f"s-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    files[f"/{name}"], files["/s-00000000.pth"] = content, content
    best = models.get_model_weights("squeezenet1_1").DEFAULT
    out = tmp_path / "out.safetensors"
    for url, code in ((f"{endpoint}/s-00000000.pth", 2), (f"{endpoint}/{name}", 0)):
        monkeypatch.setattr(best.value, "url", url)
        assert main(["weights", "get", "torchvision:squeezenet1_1", "--out", str(out)]) == code
        assert out.exists() == (code == 0)
    assert all(torch.equal(load_file(out)[key], t) for key, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("timm:resnet19", "timm has no network of this name; did you mean resnet18"),
        ("torchvision:resnet19", "torchvision has no network of this name; did you mean"),
        ("timm:coatnet_0_224", "timm has no weights of it; of its kin it has coatnet_0_rw_224"),
        ("torchvision:", "torchvision: names no network"),
        ("yolo11n", "write timm:NAME or torchvision:NAME; packages: efficientnet-lite0"),
        ("timm:resnet18 --out w.pth", "end the name in .safetensors"),
    ],
)
def test_a_name_that_has_no_weights_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "get", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_the_index_has_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    assert "efficientnet-lite0" in capsys.readouterr().out
