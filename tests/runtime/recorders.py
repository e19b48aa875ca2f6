"""File sinks for tests: pairs to feed them, and counts of what their files hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import av
import cv2
from mcap.reader import NonSeekingReader, make_reader
from test_mcap import NOW_NS, make_pair, make_result

from edgemtl_runtime.sink.file_sink import FileSink
from edgemtl_runtime.sink.jsonl import JsonLines
from edgemtl_runtime.sink.mcap import McapFile
from edgemtl_runtime.sink.rotation import RotationLimits
from edgemtl_runtime.sink.video import Video

COMMAND = [sys.executable, "-m", "edgemtl_runtime.cli"]
LIVE = ["--rgb", "pattern:?fps=30", "--ir", "pattern:?fps=30"]
DATED = r"{}-\d{{8}}T\d{{6}}Z-\d{{3}}\.{}"


def feed(sink: Any, count: int, step: int = 10, size: tuple[int, int] = (48, 64)) -> None:
    """Write pairs with results, ``step`` hundredths of a second apart."""
    for index in range(count):
        pair = make_pair(index * step, size)
        sink.write(pair, make_result(pair, index))


def sinks_of(kind: str, file: Path, limits: RotationLimits = RotationLimits()) -> FileSink:  # noqa: B008
    """Return a sink by its option's name."""
    if kind == "jsonl":
        return JsonLines(file, limits).lines  # type: ignore[return-value]
    return Video(file, 10, limits) if kind == "video" else McapFile(file, NOW_NS, limits)


KINDS = {"mcap": "mcap", "video": "mp4", "jsonl": "jsonl"}


def image_count(file: Path) -> int:
    """Return how many images PyAV and OpenCV both read from a video."""
    with av.open(str(file)) as container:
        by_av = sum(1 for _ in container.decode(video=0))
    reader, by_cv = cv2.VideoCapture(str(file)), 0
    while reader.read()[0]:
        by_cv += 1
    assert by_av == by_cv
    return by_av


def count_of(kind: str, file: Path) -> int:
    """Return how many results a whole file holds."""
    if kind == "jsonl":
        return len([json.loads(line) for line in file.read_text().splitlines()])
    if kind == "video":
        return image_count(file)
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None and summary.chunk_indexes
        topics = [channel.topic for _, channel, _ in reader.iter_messages()]
        assert summary.statistics.message_count == len(topics)
        stream.seek(0)
        assert len(list(NonSeekingReader(stream, validate_crcs=True).iter_messages())) == len(topics)
        return topics.count("/result")
