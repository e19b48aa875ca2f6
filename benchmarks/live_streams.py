"""What edgemtl-runtime and its peers do on one stream, in its steady state and when its server is gone for a while.

Called by live.py. The server and each peer are processes of their own, one peer at a time; live_peers.py says what is
run. Latency is from when the server sent a picture to when the peer's program had the result; a result of a picture
that was there before, or of one that no server sent, is passed off as new.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_peers import facts, for_ultralytics
from live_server import age_ms

from edgemtl_runtime.bundle import Bundle

HERE = Path(__file__).parent
LIMIT_S = 120.0
"""A peer without a result by then has failed; they take up to 40 s to start."""
WARM_S, DOWN_S, BACK_S, AFTER_S = 3.0, 5.0, 15.0, 2.0
"""Not counted at first; without a server; the most that is waited for a result of the new one; watched beyond that."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """live_server.py in a process."""

    def __init__(self, folder: Path, fps: float) -> None:
        self.port, self.url = free_port(), ""
        self.words = [str(HERE / "live_server.py"), str(folder), "--port", str(self.port), "--fps", str(fps)]
        self.url = f"http://127.0.0.1:{self.port}/stream"

    def start(self) -> None:
        """Start, and return when it listens."""
        self.process = subprocess.Popen([sys.executable, *self.words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("benchmarks/live_server.py did not start")

    def kill(self) -> None:
        """Kill it, as a camera that loses its power."""
        self.process.kill()
        self.process.wait()


class Peer:
    """A peer in a process; its results, what it tells its program and what it writes, each with its time."""

    def __init__(self, words: list[str]) -> None:
        self.begun_ns = time.monotonic_ns()
        self.results: list[tuple[int, int]] = []
        self.told: list[tuple[int, str]] = []
        self.wrote: list[tuple[int, str]] = []
        self.ended_ns = 0
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"TELEMETRY_OPT_OUT": "True"},  # roboflow's
        )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"@result (\d+) (-?\d+)", line):
                self.results.append((int(found[1]), int(found[2])))
            elif found := re.search(r"@told (\d+) (.*)", line):
                self.told.append((int(found[1]), found[2]))
            elif line.strip():
                self.wrote.append((time.monotonic_ns(), line.strip()))
        self.ended_ns = time.monotonic_ns()

    def until(self, since_ns: int, seconds: float) -> int:
        """Return when the first result of a picture sent since a moment was there; 0 where none is in time."""
        end_s, seen = time.monotonic() + seconds, 0
        while time.monotonic() < end_s and (not self.ended_ns or seen < len(self.results)):
            while seen < len(self.results):
                now_ns, ticks = self.results[seen]
                if ticks >= 0 and age_ms(ticks, since_ns) <= 0:
                    return now_ns
                seen += 1
            time.sleep(0.02)
        return 0

    def used(self) -> tuple[float, float]:
        """Return the seconds of processor time so far and the resident memory in MB; zeros of one that has ended."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0, 0.0
        held = re.search(r"VmRSS:\s+(\d+)", status)
        return (int(fields[11]) + int(fields[12])) / 100, int(held[1]) / 1024 if held else 0.0

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.thread.join(5)


def peers(names: list[str], bundle: Bundle, folder: Path, other: Path, fps: float, seconds: float) -> list[Any]:
    """Return a row for each peer on a folder's pictures as a camera; ``other`` is the Python that has roboflow's."""
    rows = []
    with tempfile.TemporaryDirectory() as room:
        floats = for_ultralytics(bundle.model, Path(room) / "model-floats.onnx")
        for name in names:
            python, model = other if name == "roboflow" else Path(sys.executable), bundle.model
            if name == "ultralytics":
                model = floats
            row: dict[str, Any] = {"peer": name, "file": model.name, "bytes": model.stat().st_size}
            if python.is_file():
                server = Server(folder, fps)
                words = [str(python), "-W", "ignore", str(HERE / "live_peers.py"), name, server.url]
                row |= {"versions": facts(python, name)}
                row |= watch([*words, str(bundle.path if name == "edgemtl" else model)], server, fps, seconds)
            else:
                row["failed"] = "its environment is not here; `make bench-live` makes it"
            rows.append(row)
            print(json.dumps(row, indent=1), flush=True)
    return rows


def watch(words: list[str], server: Server, fps: float, seconds: float) -> dict[str, Any]:
    """Return what a peer does in its steady state, and from the moment its server is killed."""
    server.start()
    peer = Peer(words)
    row: dict[str, Any] = {}
    try:
        first_ns = peer.until(peer.begun_ns, LIMIT_S)
        if not first_ns:
            return row | {"failed": _clean(" | ".join(text for _, text in peer.wrote[-3:]))}
        row["first_result_s"] = (first_ns - peer.begun_ns) / 1e9
        time.sleep(WARM_S)
        begin_ns, (cpu_s, _) = time.monotonic_ns(), peer.used()
        time.sleep(seconds)
        end_ns, (cpu_end_s, held_mb) = time.monotonic_ns(), peer.used()
        row |= steady(peer, begin_ns, end_ns, fps) | {
            "memory_mb": held_mb,
            "cores": (cpu_end_s - cpu_s) / ((end_ns - begin_ns) / 1e9),
        }
        killed_ns = time.monotonic_ns()
        server.kill()
        time.sleep(DOWN_S)
        server.start()
        back_ns = time.monotonic_ns()
        row["outage"] = outage(peer, killed_ns, back_ns, peer.until(back_ns, BACK_S))
    finally:
        peer.kill()
        server.kill()
    return row


def steady(peer: Peer, begin_ns: int, end_ns: int, fps: float) -> dict[str, Any]:
    """Return rate and latency of a time in which nothing happens."""
    seconds = (end_ns - begin_ns) / 1e9
    found = [(now_ns, ticks) for now_ns, ticks in peer.results if begin_ns <= now_ns < end_ns]
    firsts: dict[int, int] = {}
    for now_ns, ticks in found:
        firsts.setdefault(ticks, now_ns)
    ages = [age_ms(ticks, now_ns) for ticks, now_ns in firsts.items() if ticks >= 0]
    return {
        "sent_per_second": fps,
        "results_per_second": len(ages) / seconds,
        "repeated_or_empty": len(found) - len(ages),
        "left_out_share": max(0.0, 1 - len(ages) / (fps * seconds)),
        "latency_ms": {f"p{q}": float(np.percentile(ages, q)) for q in (50, 90, 99)} if ages else {},
    }


def outage(peer: Peer, killed_ns: int, back_ns: int, first_ns: int) -> dict[str, Any]:
    """Return what a peer told and made while its server was gone, and when it was back."""
    if first_ns:
        time.sleep(AFTER_S)
    known = {ticks for now_ns, ticks in peer.results if now_ns < killed_ns}
    made = {"black": 0, "repeated": 0}
    for now_ns, ticks in peer.results:
        if killed_ns <= now_ns < (first_ns or 1 << 63):
            kind = "black" if ticks < 0 else "repeated" if ticks in known else ""
            known.add(ticks)
            if kind:
                made[kind] += 1
    ended = peer.process.poll() is not None
    # A loop that ends tells its program by that.
    told = peer.told + ([(peer.ended_ns, f"ends with status {peer.process.poll()}")] if ended else [])
    told, wrote = ([(t, text) for t, text in each if t >= killed_ns] for each in (told, peer.wrote))
    tail = sum(now_ns >= first_ns for now_ns, _ in peer.results) if first_ns else 0
    return {
        "down_s": (back_ns - killed_ns) / 1e9,
        "told_after_s": (told[0][0] - killed_ns) / 1e9 if told else None,
        "told": _clean(told[0][1]) if told else None,
        "wrote_after_s": (wrote[0][0] - killed_ns) / 1e9 if wrote else None,
        "wrote": _clean(wrote[0][1]) if wrote else None,
        "results_of_no_new_picture": made,
        "back_after_s": (first_ns - back_ns) / 1e9 if first_ns else None,
        "then_results_per_second": tail / AFTER_S if first_ns else 0.0,
        "end": "goes on" if first_ns and not ended else "ends" if ended else "hangs",
        "ended_after_s": (peer.ended_ns - killed_ns) / 1e9 if ended else None,
    }


def _clean(text: str) -> str:
    """Return what was told without this machine's folders and colours, short."""
    text = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e]", "", text)
    return re.sub(r"/[\w./-]*/([\w.-]+)", r"\1", re.sub(r"http://[\w.:/]+", "URL", text))[:200]
