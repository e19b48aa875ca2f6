"""What edgemtl-runtime and its peers do on one stream, in its steady state and when its server is gone for a while.

Called by live.py. The server and each peer are processes of their own, one peer at a time; live_peers.py says what is
run. Latency is from when the server sent a picture to when the peer's program had the result; a result of a picture
that was there before, or of one that no server sent, is passed off as new.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_server import age_ms

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
    """A peer in a process, its results and what it tells, each with its time."""

    def __init__(self, words: list[str]) -> None:
        self.begun_ns = time.monotonic_ns()
        self.results: list[tuple[int, int]] = []
        self.told: list[tuple[int, str]] = []
        self.ended_ns = 0
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
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
                self.told.append((time.monotonic_ns(), line.strip()))
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


def watch(name: str, words: list[str], server: Server, fps: float, seconds: float) -> dict[str, Any]:
    """Return what a peer does in its steady state, and from the moment its server is killed."""
    server.start()
    peer = Peer(words)
    row: dict[str, Any] = {"peer": name}
    try:
        first_ns = peer.until(0, LIMIT_S)
        if not first_ns:
            return row | {"failed": _clean(" | ".join(text for _, text in peer.told[-3:]))}
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
    heard = [(now_ns, text) for now_ns, text in peer.told if now_ns >= killed_ns]
    tail = sum(now_ns >= first_ns for now_ns, _ in peer.results) if first_ns else 0
    ended = peer.process.poll() is not None
    return {
        "down_s": (back_ns - killed_ns) / 1e9,
        "told_after_s": (heard[0][0] - killed_ns) / 1e9 if heard else None,
        "told": _clean(heard[0][1]) if heard else None,
        "lines_told": len(heard),
        "results_of_no_new_picture": made,
        "back_after_s": (first_ns - back_ns) / 1e9 if first_ns else None,
        "then_results_per_second": tail / AFTER_S if first_ns else 0.0,
        "end": "goes on" if first_ns and not ended else "ends" if ended else "hangs",
        "ended_after_s": (peer.ended_ns - killed_ns) / 1e9 if ended and peer.ended_ns else None,
        "exit_status": peer.process.poll(),
    }


def _clean(text: str) -> str:
    """Return what was told without this machine's folders and colours, short."""
    text = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e]", "", text)
    return re.sub(r"/[\w./-]*/([\w.-]+)", r"\1", re.sub(r"http://[\w.:/]+", "URL", text))[:200]


def for_ultralytics(model: Path, file: Path) -> Path:
    """Write a bundle's network, of one colour camera and with boxes, as ultralytics' predict takes it: floats, NCHW."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    whole = onnx.load(model)
    graph = whole.graph
    (given,) = graph.input
    height, width = (d.dim_value for d in given.type.tensor_type.shape.dim[1:3])
    graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "to_bytes"))
    before = [
        helper.make_node("Mul", ["images", "to_bytes"], ["images_scaled"]),
        helper.make_node("Round", ["images_scaled"], ["images_whole"]),
        helper.make_node("Cast", ["images_whole"], ["images_bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["images_bytes"], [given.name], perm=[0, 2, 3, 1]),
    ]
    nodes = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend(before + nodes)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width]))
    facts = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [height, width], "end2end": True, "channels": 3}
    facts["names"] = {0: "person", 1: "bicycle", 2: "car"}
    del whole.metadata_props[:]
    helper.set_model_props(whole, {key: str(value) for key, value in facts.items()})
    onnx.checker.check_model(whole)
    onnx.save(whole, file)
    return file
