"""Publishes pictures that tell their time on Zenoh keys, as ROS 2's middleware writes them, in a process of its own.

    python topic_publisher.py ENDPOINT '{"topic": "cam/image", "form": "ros2", …}'…

The wire is written here by its own rules (`ros_reference`), not by what is tested. Forms: ros2, humble, bridge.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import zenoh
from clockface import BLOCK, HEIGHT, ROWS, WIDTH, Painter, face
from clockface import jpeg as timed_jpeg
from ros_reference import encode

IMAGE_HASH = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
COMPRESSED_HASH = "RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a"
"""As `ros2 topic info --verbose` prints them."""
DEFAULTS = {
    "form": "ros2",
    "domain": 0,
    "fps": 20,
    "encoding": "rgb8",
    "delay_s": 0.0,
    "clock_ns": 0,
    "damage": 0,
    "numbered": 0,
    "focal_px": 0.0,
}


def message(stamp_ns: int, encoding: str, clock_ns: int) -> tuple[str, bytes]:
    """Return the type and the bytes of a picture drawn at a time of the monotonic clock."""
    unix_ns = time.time_ns() - time.monotonic_ns() + stamp_ns + clock_ns
    stamp = SimpleNamespace(sec=unix_ns // 1_000_000_000, nanosec=unix_ns % 1_000_000_000)
    header = SimpleNamespace(stamp=stamp, frame_id="camera_optical_frame")
    if encoding == "jpeg":
        fields = SimpleNamespace(header=header, format="rgb8; jpeg compressed bgr8", data=b"")
        return "CompressedImage", with_data(fields, "sensor_msgs/msg/CompressedImage", timed_jpeg(stamp_ns, Painter()))
    luma = face(stamp_ns) + bytes(WIDTH * (HEIGHT - BLOCK * ROWS))
    every = np.frombuffer(luma, np.uint8)
    pixels = {"mono8": every, "rgb8": every.repeat(3), "mono16": every.astype("<u2") << 8}[encoding]
    step = pixels.nbytes // HEIGHT
    fields = SimpleNamespace(
        header=header, height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=0, step=step, data=b""
    )
    return "Image", with_data(fields, "sensor_msgs/msg/Image", pixels.tobytes())


def calibration(focal_px: float) -> bytes:
    """Return the bytes of a CameraInfo of this focal length, its middle in that of the image."""
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="camera_optical_frame")
    k = [focal_px, 0.0, WIDTH / 2, 0.0, focal_px, HEIGHT / 2, 0.0, 0.0, 1.0]
    fields = SimpleNamespace(
        header=header, height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.0], k=k,
        r=[1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0], p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0], binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )  # fmt: skip
    return encode(fields, "sensor_msgs/msg/CameraInfo")


def with_data(fields: SimpleNamespace, type_name: str, data: bytes) -> bytes:
    """Return a message's bytes: its last field is a sequence of bytes, a count and they."""
    return encode(fields, type_name)[:-4] + struct.pack("<I", len(data)) + data


def publish(session: Any, given: dict[str, Any], number: int) -> None:
    """Publish one topic for ever."""
    topic = SimpleNamespace(**{**DEFAULTS, **given})
    kind = "CompressedImage" if topic.encoding == "jpeg" else "Image"
    digest = COMPRESSED_HASH if kind == "CompressedImage" else IMAGE_HASH
    digest = "TypeHashNotSupported" if topic.form == "humble" else digest
    dds = f"sensor_msgs::msg::dds_::{kind}_"
    key = topic.topic if topic.form == "bridge" else f"{topic.domain}/{topic.topic}/{dds}/{digest}"
    name = "%" + topic.topic.replace("/", "%")
    token = f"@ros2_lv/{topic.domain}/{session.zid()}/0/{number}/MP/%/%/camera/{name}/{dds}/{digest}/::,10:,:,:,,"
    kept = None if topic.form == "bridge" else session.liveliness().declare_token(token)
    publisher = session.declare_publisher(key)
    info_topic = f"{topic.topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info".lstrip("/")
    info_key = f"{topic.domain}/{info_topic}/sensor_msgs::msg::dds_::CameraInfo_/RIHS01_of_camera_info"
    infos = session.declare_publisher(info_topic if topic.form == "bridge" else info_key)
    sequence, due_s = 0, time.monotonic()
    while kept is None or kept:
        due_s += 1 / topic.fps
        time.sleep(max(0.0, due_s - time.monotonic()))
        if topic.focal_px:
            infos.put(calibration(topic.focal_px))
        drawn_ns = time.monotonic_ns()
        _, data = message(drawn_ns, topic.encoding, topic.clock_ns)
        sequence += 1
        if topic.numbered:  # in the first pixels of the last row
            if sequence > topic.numbered:
                time.sleep(1)
                continue
            data = data[:-WIDTH] + struct.pack("<I", sequence) + data[-WIDTH + 4 :]
        if topic.damage and sequence % topic.damage == 0:
            data = data[: len(data) // 2]
        attachment = struct.pack("<qqB", sequence, time.time_ns(), 16) + bytes(range(16))

        def send(data: bytes = data, attachment: bytes = attachment) -> None:
            publisher.put(data, attachment=None if topic.form == "bridge" else attachment)

        if topic.delay_s:
            threading.Timer(topic.delay_s, send).start()
        else:
            send()


def main() -> None:
    config = zenoh.Config()
    config.insert_json5("listen/endpoints", json.dumps([sys.argv[1]]))
    config.insert_json5("scouting/multicast/enabled", "false")
    with zenoh.open(config) as session:
        topics = [json.loads(word) for word in sys.argv[2:]]
        threads = [
            threading.Thread(target=publish, args=(session, topic, number), daemon=True)
            for number, topic in enumerate(topics, 1)
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
