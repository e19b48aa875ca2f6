"""Load test of the web page in a separate process: ``python web_load.py HALF_OPEN VIEWERS SECONDS`` prints JSON.

Half-open connections are opened again as fast as they are cut, some send a byte now and then, viewers ask for every
result, each with another selection of heads; meanwhile /healthz is requested all the time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

PAGE = """
import sys, time, threading
sys.path[:0] = [{tests!r}]
from web_page import RunState, sample
from edgemtl_runtime.sink.web import Web
web = Web("127.0.0.1:0", "", RunState())
print(web.server.address[1], flush=True)
index = 0
while True:
    web.write(*sample(index, size=(480, 640)))
    index += 1
    time.sleep(0.1)
"""


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process, MB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Load:
    """Clients in threads, until ``stop`` is set."""

    def __init__(self, port: int) -> None:
        self.port, self.stop = port, threading.Event()
        self.answers, self.rejected = 0, 0

    def ask(self, path: str, timeout: float = 10.0) -> int:
        """Return the status code of a response, 0 where there was none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                reply.read()
                return reply.status
            except (OSError, http.client.HTTPException):
                return 0

    def viewer(self, number: int) -> None:
        """Request every new result, as the page does."""
        names = ("boxes", "semantic", "depth", "normals", "edges", "attributes")
        selected = ",".join([n for bit, n in enumerate(names) if number >> bit & 1] + [f"word{number}"])
        while not self.stop.is_set():
            if self.ask(f"/latest?after=0&panels=rgb,ir&heads={selected}") == 200:
                self.answers += 1
            else:
                self.rejected += 1
            self.stop.wait(0.5)

    def half_open(self, count: int) -> None:
        """Keep many connections open that ask nothing; every fifth sends a byte now and then."""
        lines: list[socket.socket] = []
        while not self.stop.is_set():
            with contextlib.suppress(OSError):
                lines.append(socket.create_connection(("127.0.0.1", self.port), timeout=1))
            if len(lines) > count:
                lines.pop(0).close()
                self.stop.wait(0.002)
            for line in lines[-5::5]:
                with contextlib.suppress(OSError):
                    line.sendall(b"G")


def probe(port: int, pid: int, seconds: float) -> None:
    """Request /healthz all the time and print how long it took; in a separate process."""
    load, spans, failed, most_mb = Load(port), [], 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        failed += load.ask("/healthz", timeout=5.0) != 200
        spans.append(time.monotonic() - begun)
        most_mb = max(most_mb, memory_mb(pid))
        time.sleep(0.05)
    millis = {str(q): round(1e3 * float(np.percentile(spans, q)), 1) for q in (50, 99, 100)}
    print(json.dumps({"asked": len(spans), "failed": failed, "healthz_ms": millis, "loaded_mb": round(most_mb, 1)}))


def main() -> None:
    """Load a page and print how it went."""
    half_open, viewers, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    code = PAGE.format(tests=str(Path(__file__).parent))
    page = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert page.stdout is not None
    port = int(page.stdout.readline())
    load = Load(port)
    threads = [threading.Thread(target=load.viewer, args=(63,), daemon=True)]
    threads[0].start()
    end = time.monotonic() + 60
    while load.answers < 4 and time.monotonic() < end:
        time.sleep(0.05)
    alone_mb = memory_mb(page.pid)
    threads += [threading.Thread(target=load.viewer, args=(n,), daemon=True) for n in range(1, viewers)]
    threads.append(threading.Thread(target=load.half_open, args=(half_open,), daemon=True))
    for thread in threads[1:]:
        thread.start()
    words = [sys.executable, __file__, "probe", str(port), str(page.pid), str(seconds)]
    report = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    load.stop.set()
    page.kill()
    page.wait()
    viewed = {"answered": load.answers, "rejected": load.rejected}
    print(json.dumps(report | {"one_viewer_mb": round(alone_mb, 1), "viewers": viewed}))


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        probe(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
