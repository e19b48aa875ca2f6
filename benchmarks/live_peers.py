"""One live loop each of edgemtl-runtime and its peers on a stream, with every result reported on standard output.

    python benchmarks/live_peers.py edgemtl URL BUNDLE
    python benchmarks/live_peers.py ultralytics URL MODEL.onnx       # `YOLO(...).predict(source=URL, stream=True)`
    python benchmarks/live_peers.py roboflow URL MODEL.onnx          # `InferencePipeline.init_with_custom_logic`
    python benchmarks/live_peers.py supervision URL MODEL.onnx       # OpenCV's VideoCapture, detections by supervision

Each is as its documentation shows it, with one thread for ONNX Runtime; live_streams.py starts and watches them. A line
"@result NOW CODE" is one result: when it was there (monotonic clock, nanoseconds) and the time that is drawn into its
image (-1: none); "@event NOW TEXT" is an event that the peer reported to its program. Other lines are its log.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from live_server import read
from numpy.typing import NDArray

LEAST = 0.25


def note(image: NDArray[Any]) -> None:
    """Report a result, with the time that is drawn into its image."""
    now_ns = time.monotonic_ns()
    ticks = read(image)
    print(f"@result {now_ns} {-1 if ticks is None else ticks}", flush=True)


def report_event(text: object) -> None:
    """Report an event that the peer gave its program."""
    print(f"@event {time.monotonic_ns()} {text}", flush=True)


class Detector:
    """The network in ONNX Runtime as a user would call it: a BGR image to supervision's detections."""

    def __init__(self, model: str) -> None:
        import onnxruntime as ort
        import supervision as sv

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (given,) = self.session.get_inputs()
        self.name, (self.height, self.width) = given.name, given.shape[1:3]
        self.detections = sv.Detections

    def __call__(self, image: NDArray[Any]) -> Any:
        scale = min(self.height / image.shape[0], self.width / image.shape[1])
        small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        canvas = np.full((1, self.height, self.width, 3), 114, np.uint8)
        canvas[0, : small.shape[0], : small.shape[1]] = small[:, :, ::-1]
        rows = self.session.run(["boxes"], {self.name: canvas})[0][0]
        rows = rows[rows[:, 4] >= LEAST]
        return self.detections(rows[:, :4] / scale, confidence=rows[:, 4], class_id=rows[:, 5].astype(int))


def edgemtl(url: str, model: str) -> None:
    """Run edgemtl-runtime on a bundle."""
    from edgemtl_runtime import Bundle, Pipeline, open_cameras
    from edgemtl_runtime.engine.onnxruntime import open_ort_engine

    bundle = Bundle.open(model)
    (name,) = [spec.name for spec in bundle.manifest.inputs]
    for pair, _ in Pipeline(bundle, open_ort_engine(bundle, 1), open_cameras({name: url}), on_event=report_event):
        note(pair.frames[name].image)


def ultralytics(url: str, model: str) -> None:
    """Run ultralytics' predict on a stream; ONNX Runtime's threads, which it does not set, are set by a patch."""
    import onnxruntime as ort
    import torch
    from ultralytics import YOLO

    opened = ort.InferenceSession

    def on_one_thread(path: str, options: Any = None, **more: Any) -> Any:
        options = options or ort.SessionOptions()
        options.intra_op_num_threads = 1
        return opened(path, options, **more)

    ort.InferenceSession = on_one_thread
    torch.set_num_threads(1)
    shape = opened(model, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    network = YOLO(model, task="detect")
    for result in network.predict(url, stream=True, imgsz=tuple(shape[2:]), conf=LEAST, device="cpu", verbose=False):
        note(result.orig_img)


def roboflow(url: str, model: str) -> None:
    """Run roboflow's InferencePipeline with the network in a custom function."""
    from inference import InferencePipeline

    detector = Detector(model)

    def on_status(update: Any) -> None:
        if update.severity.name != "DEBUG":  # those come with every frame
            report_event(f"{update.severity.name} {update.event_type} {update.payload}")

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=url,
        on_video_frame=lambda frames: [detector(frame.image) for frame in frames],
        on_prediction=lambda detections, frame: note(frame.image),
        status_update_handlers=[on_status],
    )
    pipeline.start()
    pipeline.join()


def supervision(url: str, model: str) -> None:
    """Run the loop that supervision's documentation shows: OpenCV reads, the network detects."""
    detector = Detector(model)
    capture = cv2.VideoCapture(url)
    while True:
        good, image = capture.read()
        if not good:
            break
        detector(image)
        note(image)


PEERS = {loop.__name__: loop for loop in (edgemtl, ultralytics, roboflow, supervision)}


PACKAGES = {
    "edgemtl": ("edgemtl-runtime", "av"),
    "ultralytics": ("ultralytics", "opencv-python", "opencv-python-headless"),
    "roboflow": ("inference", "opencv-python-headless"),
    "supervision": ("supervision", "opencv-python", "opencv-python-headless"),
}


def facts(python: Path, peer: str) -> dict[str, str]:
    """Return the versions of a peer's packages."""
    words = ["onnxruntime", *PACKAGES[peer]]
    source = "import sys\nfrom importlib.metadata import distributions\nfor d in distributions():\n"
    source += "    if d.name.lower() in sys.argv[1:]:\n        print(d.name.lower(), d.version)"
    done = subprocess.run([str(python), "-c", source, *words], capture_output=True, text=True, check=True)
    return dict(line.split() for line in sorted(set(done.stdout.splitlines())))


def for_ultralytics(model: Path, file: Path) -> Path:
    """Write a bundle's RGB detector with the input that ultralytics' predict gives: float32, NCHW."""
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


def main() -> None:
    """Run the peer that the command line names until it ends or is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("url")
    parser.add_argument("model", help="a bundle for edgemtl, an ONNX file for the others")
    given = parser.parse_args()
    PEERS[given.peer](given.url, given.model)


if __name__ == "__main__":
    main()
