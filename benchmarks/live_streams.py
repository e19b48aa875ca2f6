"""edgemtl-runtime and its peers on one stream: rate and latency in the steady state, and recovery from an outage.

Called by live.py. The server and each peer are processes of their own, one peer at a time; live_peers.py has their
loops. Latency is from when the server sent an image to when the peer's program had the result; a result of an image
that was sent before, or of one that no server sent, is stale.
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
    """A peer in a subprocess; its results, the events that it reports and its log, each with its time."""

    def __init__(self, words: list[str]) -> None:
        self.begun_ns = time.monotonic_ns()
        self.results: list[tuple[int, int]] = []
        self.events: list[tuple[int, str]] = []
        self.log: list[tuple[int, str]] = []
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
            if match := re.search(r"@result (\d+) (-?\d+)", line):
                self.results.append((int(match[1]), int(match[2])))
            elif match := re.search(r"@event (\d+) (.*)", line):
                self.events.append((int(match[1]), match[2]))
            elif line.strip():
                self.log.append((time.monotonic_ns(), line.strip()))
        self.ended_ns = time.monotonic_ns()

    def until(self, since_ns: int, seconds: float) -> int:
        """Return the time of the first result of an image sent after ``since_ns``; 0 where none is in time."""
        end_s, index = time.monotonic() + seconds, 0
        while time.monotonic() < end_s and (not self.ended_ns or index < len(self.results)):
            while index < len(self.results):
                now_ns, ticks = self.results[index]
                if ticks >= 0 and age_ms(ticks, since_ns) <= 0:
                    return now_ns
                index += 1
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
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.thread.join(5)


def peers(names: list[str], bundle: Bundle, folder: Path, other: Path, fps: float, seconds: float) -> list[Any]:
    """Return a row for each peer on a folder's images as a camera; ``other`` is the Python that has roboflow's."""
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
    """Return a peer's figures in the steady state, and after its server is killed."""
    server.start()
    peer = Peer(words)
    row: dict[str, Any] = {}
    try:
        first_ns = peer.until(peer.begun_ns, LIMIT_S)
        if not first_ns:
            return row | {"failed": _clean(" | ".join(text for _, text in peer.log[-3:]))}
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
    """Return rate and latency between two times without an outage."""
    seconds = (end_ns - begin_ns) / 1e9
    results = [(now_ns, ticks) for now_ns, ticks in peer.results if begin_ns <= now_ns < end_ns]
    firsts: dict[int, int] = {}
    for now_ns, ticks in results:
        firsts.setdefault(ticks, now_ns)
    ages = [age_ms(ticks, now_ns) for ticks, now_ns in firsts.items() if ticks >= 0]
    return {
        "sent_per_second": fps,
        "results_per_second": len(ages) / seconds,
        "repeated_or_empty": len(results) - len(ages),
        "skipped_share": max(0.0, 1 - len(ages) / (fps * seconds)),
        "latency_ms": {f"p{q}": float(np.percentile(ages, q)) for q in (50, 90, 99)} if ages else {},
    }


def outage(peer: Peer, killed_ns: int, back_ns: int, first_ns: int) -> dict[str, Any]:
    """Return the events and stale results of a peer during an outage of its server, and its recovery."""
    if first_ns:
        time.sleep(AFTER_S)
    known = {ticks for now_ns, ticks in peer.results if now_ns < killed_ns}
    stale = {"black": 0, "repeated": 0}
    for now_ns, ticks in peer.results:
        if killed_ns <= now_ns < (first_ns or 1 << 63):
            form = "black" if ticks < 0 else "repeated" if ticks in known else ""
            known.add(ticks)
            if form:
                stale[form] += 1
    ended = peer.process.poll() is not None
    # A loop that ends reports the outage by that.
    events = peer.events + ([(peer.ended_ns, f"ends with status {peer.process.poll()}")] if ended else [])
    events, log = ([(t, text) for t, text in lines if t >= killed_ns] for lines in (events, peer.log))
    tail = sum(now_ns >= first_ns for now_ns, _ in peer.results) if first_ns else 0
    return {
        "down_s": (back_ns - killed_ns) / 1e9,
        "event_after_s": (events[0][0] - killed_ns) / 1e9 if events else None,
        "event": _clean(events[0][1]) if events else None,
        "log_after_s": (log[0][0] - killed_ns) / 1e9 if log else None,
        "log": _clean(log[0][1]) if log else None,
        "stale_results": stale,
        "back_after_s": (first_ns - back_ns) / 1e9 if first_ns else None,
        "then_results_per_second": tail / AFTER_S if first_ns else 0.0,
        "end": "goes on" if first_ns and not ended else "ends" if ended else "hangs",
        "ended_after_s": (peer.ended_ns - killed_ns) / 1e9 if ended else None,
    }


def _clean(text: str) -> str:
    """Return a text without this machine's folders and colours, at most 200 characters."""
    text = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e]", "", text)
    return re.sub(r"/[\w./-]*/([\w.-]+)", r"\1", re.sub(r"http://[\w.:/]+", "URL", text))[:200]
