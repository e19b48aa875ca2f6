"""Two of robot.py's cases: how much of a core a pair takes, and a bundle that is exchanged while it runs.

python benchmarks/robot_run.py BUNDLE RGB IR SECONDS READ      # a process of its own; prints one JSON object
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgemtl_runtime import Bundle, FramePair, Pipeline, Result
from edgemtl_runtime.bundle import MODEL
from edgemtl_runtime.bundle_link import BundleLink, Opened
from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.engine.config import EngineConfig, open_engine
from edgemtl_runtime.self_test import check_self_test
from edgemtl_runtime.signature import sign
from edgemtl_runtime.sink.jsonl import JsonLines

RATE, SIZE = 30, (640, 512)
PATTERN = f"pattern:?fps={RATE}&width={SIZE[0]}&height={SIZE[1]}"
ROUNDS = 6
"""Exchanges of each kind."""
PAUSE_S = 5.0
"""Between two exchanges; a bundle is proven after 100 pairs."""


def write_street(folder: Path) -> Path:
    """Train the demo's network for a few steps, and return its bundle."""
    import msgspec

    from edgemtl.demo import demo_config
    from edgemtl.export import export
    from edgemtl.train import train

    run = train(msgspec.structs.replace(demo_config(10, 1, 0.5), steps=60), folder / "run")
    return export(run, folder / "street")[0].path


def write_videos(folder: Path) -> tuple[str, str]:
    """Write two H.264 videos of a minute, a moving scene in colour and in grey, and return their URIs."""
    import av
    import cv2

    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (SIZE[1], 3 * SIZE[0], 3), np.uint8), (0, 0), 5)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    for name in ("rgb", "ir"):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "g": str(RATE)})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for index in range(60 * RATE):
                left = index * 2 * SIZE[0] // (60 * RATE)
                image = scene[:, left : left + SIZE[0]]
                image = np.repeat(image[:, :, :1], 3, 2) if name == "ir" else np.ascontiguousarray(image)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(stream.encode())
    return f"{folder}/rgb.mp4?fps={RATE}", f"{folder}/ir.mp4?fps={RATE}"


def processor(seconds: float) -> Iterator[dict[str, Any]]:
    """Yield rows of the share of a core by kind of camera, with results written as JSON lines, and with maps read."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_street(Path(folder))
        for transport, uris in (("pattern", (PATTERN, PATTERN)), ("h264", write_videos(Path(folder)))):
            for reads in ("", "maps"):
                words = [sys.executable, __file__, str(bundle), *uris, str(seconds), reads]
                answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
                yield {"case": "processor", "transport": transport, "delay_ms": 0, "read": reads, **json.loads(answer)}
        yield {"case": "scaling", "transport": "h264", "delay_ms": 0, **scaling(Path(folder) / "rgb.mp4")}
        yield {"case": "scaling", "transport": "jpeg", "delay_ms": 0, **reduced(Path(folder) / "rgb.mp4")}


def scaling(video: Path) -> dict[str, Any]:
    """Return what it would save to let FFmpeg convert and scale at once, and by how much its images differ."""
    import av
    import cv2
    from av.video.reformatter import Interpolation

    width, height = 160, 128
    with av.open(str(video)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(60), strict=False)]
    images, times_ms = [], []
    for scaled in (False, True):
        begun = time.thread_time()
        if scaled:
            how = {"width": width, "height": height, "interpolation": Interpolation.AREA}
            images.append([frame.to_ndarray(format="rgb24", threads=1, **how) for frame in frames])
        else:
            whole = (frame.to_ndarray(format="rgb24", threads=1) for frame in frames)
            images.append([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in whole])
        times_ms.append(1e3 * (time.thread_time() - begun) / len(frames))
    return difference(images, times_ms)


def reduced(video: Path) -> dict[str, Any]:
    """Return what ``?reduce=2`` saves of decoding JPEGs of 1280x1024 and of their scaling, and the difference."""
    import av
    import cv2

    from edgemtl_runtime.camera.mjpeg import decoded

    with av.open(str(video)) as container:
        frames = [
            frame.to_ndarray(format="bgr24") for frame, _ in zip(container.decode(video=0), range(30), strict=False)
        ]
    jpegs = [cv2.imencode(".jpg", cv2.resize(frame, (1280, 1024)))[1].tobytes() for frame in frames]
    images, times_ms = [], []
    for reduce in (1, 2):
        begun = time.thread_time()
        whole = (decoded(data, reduce) for data in jpegs)
        images.append([cv2.resize(image, (320, 256), interpolation=cv2.INTER_AREA) for image in whole])  # type: ignore[call-overload]
        times_ms.append(1e3 * (time.thread_time() - begun) / len(jpegs))
    return difference(images, times_ms)


def difference(images: list[Any], times_ms: list[float]) -> dict[str, Any]:
    """Return the times of whole and of scaled decoding, and by how much their images differ."""
    levels = np.abs(np.array(images[0], np.int16) - np.array(images[1], np.int16))
    return {
        "whole_ms": round(times_ms[0], 3),
        "scaled_ms": round(times_ms[1], 3),
        "difference_mean": round(float(levels.mean()), 2),
        "difference_max": int(levels.max()),
    }


class MapReader:
    """A sink that reads every map in the camera's pixels, as one does that shows them."""

    name, on_main_thread = "maps", False

    def write(self, pair: FramePair, result: Result) -> None:
        """Read the maps."""
        result.heads["semantic"].labels  # type: ignore[union-attr]  # noqa: B018

    def close(self) -> None:
        """Nothing to close."""


def measure(bundle: Path, rgb: str, ir: str, seconds: float, reads: str) -> dict[str, Any]:
    """Return the share of a core that a run takes, and what of it is inference, on one thread."""
    opened = Bundle.open(bundle)
    with tempfile.TemporaryDirectory() as folder, open_engine(opened, EngineConfig(threads=1)) as engine:
        pipe = Pipeline(opened, engine, open_cameras({"rgb": rgb, "ir": ir}))
        sinks: list[Any] = [JsonLines(Path(folder) / "results.jsonl")] + ([MapReader()] if reads else [])
        sinks.append(Ending(pipe, seconds))
        begun, used = time.perf_counter(), time.process_time()
        stats = pipe.run(sinks)
        took, used = time.perf_counter() - begun, time.process_time() - used
    infer_ms = stats.stages["infer"].percentiles_ms().p50
    return {
        "pairs": stats.pairs,
        "core_per_pair": round(used / took * RATE / (stats.pairs / took), 4),
        "core_inference": round(infer_ms * RATE / 1e3, 4),
    }


class Ending:
    """A sink that ends a run after some seconds."""

    name, on_main_thread = "ending", True

    def __init__(self, pipe: Pipeline, seconds: float) -> None:
        self.pipe, self.end_s = pipe, time.monotonic() + seconds

    def write(self, pair: FramePair, result: Result) -> None:
        """End when it is time."""
        if time.monotonic() > self.end_s:
            self.pipe.stop()

    def close(self) -> None:
        """Nothing to close."""


def exchange() -> Iterator[dict[str, Any]]:
    """Yield rows of exchanges under load: a good bundle, one whose network is another, one that is not signed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, public = new_keys(folder)
        first = write_street(folder)
        second, bad, forged = (Path(shutil.copytree(first, folder / word)) for word in ("second", "bad", "forged"))
        spoil(bad)
        for bundle in (first, second, bad):
            sign(bundle / "manifest.json", key)
        for kind, targets in (("good", (second, first)), ("another network", (bad,)), ("forged", (forged,))):
            yield {"case": "exchange", "transport": kind, "delay_ms": 0, **exchanged(folder, first, targets, public)}


def exchanged(folder: Path, first: Path, targets: tuple[Path, ...], public: Path) -> dict[str, Any]:
    """Return what happened to the pairs of a run while its link was changed again and again."""

    def opened(path: Path) -> Opened:
        bundle = Bundle.open(path, [public])
        engine = open_engine(bundle, EngineConfig(threads=1))
        check_self_test(bundle, engine, "fp32")
        return Opened(bundle, engine, {})

    link = folder / "current"
    link.unlink(missing_ok=True)
    link.symlink_to(first.name)
    begun = opened(first)
    pipe = Pipeline(begun.bundle, begun.engine, open_cameras({"rgb": PATTERN, "ir": PATTERN}))
    watching = BundleLink(link, pipe, opened)
    came, changed, answered = list[float](), list[float](), list[float]()
    for _ in pipe:
        now_s = time.monotonic()
        came.append(now_s)
        if len(answered) < len(changed):
            if pipe.warnings[len(answered) :] if len(targets) == 1 else pipe.loaded.bundle.path == targets[0]:
                answered.append(now_s - changed[-1])
                targets = targets[1:] + targets[:1]
        elif len(changed) == ROUNDS and now_s > changed[-1] + PAUSE_S:
            pipe.stop()
        elif now_s > (changed[-1] if changed else came[0]) + PAUSE_S:
            changed.append(now_s)
            link.unlink()
            link.symlink_to(targets[0].name)
    watching.close()
    gaps_ms = 1e3 * np.diff(came)
    near = np.array([any(-0.05 < end - begun < 1.0 for begun in changed) for end in came[1:]])
    lost = sum(count for cause, count in pipe.stats.drops.items() if "left at the end" not in cause)
    return {
        "exchanges": len(answered),
        "pairs": pipe.stats.pairs,
        "lost": lost,
        "answer_ms_max": round(1e3 * max(answered)),
        "gap_ms": round(float(gaps_ms[near].max()), 1),
        "gap_ms_else": round(float(gaps_ms[~near].max()), 1),
        "runs_on": pipe.loaded.bundle.path.name,
    }


def spoil(bundle: Path) -> None:
    """Replace a bundle's network by one with other weights, and its hash as well: only the self-test can know."""
    import onnx
    from onnx import numpy_helper

    from edgemtl_runtime.bundle import sha256

    network = onnx.load(str(bundle / MODEL))
    for part in network.graph.initializer:
        values = numpy_helper.to_array(part)
        if values.ndim == 4:
            part.CopyFrom(numpy_helper.from_array(values * np.float32(0.7), part.name))
    onnx.save(network, str(bundle / MODEL))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][MODEL] = sha256(bundle / MODEL)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def new_keys(folder: Path) -> tuple[Path, Path]:
    """Write a private and a public key, as OpenSSL does."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    private, public = folder / "fleet.key", folder / "fleet.pub"
    private.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, spki))
    return private, public


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5])))
