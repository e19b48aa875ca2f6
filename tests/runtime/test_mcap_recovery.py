"""MCAP files truncated at any byte or damaged: read, and recovered."""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as RawWriter
from test_mcap import NOW_NS, make_pair, make_result

from edgemtl_runtime.camera.mcap import frames, topics
from edgemtl_runtime.cli import main
from edgemtl_runtime.errors import CameraError
from edgemtl_runtime.frame import FramePair
from edgemtl_runtime.mcap_recovery import recover_mcap
from edgemtl_runtime.sink.mcap import McapFile


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of several chunks, small."""
    sink = McapFile(tmp_path_factory.mktemp("cut") / "run.mcap", NOW_NS)
    for index in range(12):
        pair = make_pair(index, (20, 30))
        sink.write(pair, make_result(pair, index))
        if index % 3 == 2:
            sink.segment.flush()  # type: ignore[union-attr]
    sink.close()
    return sink.file  # type: ignore[return-value]


def write_foreign(file: Path, compression: CompressionType, is_chunked: bool) -> Path:
    """Write text messages as another program does, with an attachment and metadata between them."""
    with file.open("wb") as stream:
        writer = RawWriter(stream, 400, compression, use_chunking=is_chunked)
        writer.start("mine", "another")
        schema = writer.register_schema("Text", "jsonschema", b"{}")
        channels = [writer.register_channel(f"/{name}", "json", schema, {"a": name}) for name in "ab"]
        for number in range(60):
            writer.add_message(channels[number % 2], 10**9 + number * 10**7, b"%05d" % number, 5, number)
            if number == 30:
                writer.add_attachment(1, 2, "note", "text/plain", b"x" * 50)
                writer.add_metadata("about", {"b": "c"})
        writer.finish()
    return file


def messages_of(file: Path) -> list[tuple[str, int, int, bytes]]:
    """Return every message of a whole file, in the order of recording."""
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_summary() is not None
        found = reader.iter_messages(log_time_order=False)
        return [(channel.topic, m.log_time, m.sequence, m.data) for _, channel, m in found]


def test_a_recording_cut_anywhere_is_read_and_recovered(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    whole = messages_of(recording)
    stamps = [ns for ns, _ in frames(recording, "/camera/ir/image")]
    cut, counts = tmp_path / "cut.mcap", []
    for size in range(8, len(raw), 397):
        cut.write_bytes(raw[:size])
        readable = [ns for ns, _ in frames(cut, "/camera/ir/image")] if "/camera/ir/image" in topics(cut) else []
        assert readable == stamps[: len(readable)]
        recovered = recover_mcap(cut)
        if recovered.messages:
            found = messages_of(cut)
            assert found == whole[: len(found)] and len(found) == recovered.messages >= len(readable)
            counts.append(len(found))
            assert recover_mcap(cut).was_whole
    assert counts == sorted(counts) and counts[-1] == len(whole) and len(set(counts)) == 4


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("compression", list(CompressionType), ids=lambda c: c.name)
def test_what_other_programs_wrote_is_recovered(compression: CompressionType, is_chunked: bool, tmp_path: Path) -> None:
    file = write_foreign(tmp_path / "a.mcap", compression, is_chunked)
    raw, whole = file.read_bytes(), messages_of(file)
    cut = tmp_path / "b.mcap"
    for size in range(60, len(raw), 97):
        cut.write_bytes(raw[:size])
        recovered = recover_mcap(cut)
        found = messages_of(cut)
        assert found == whole[: len(found)] and len(found) == recovered.messages
    with cut.open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().library == "another"
        assert [a.data for a in reader.iter_attachments()] == [b"x" * 50]
        assert [m.metadata for m in reader.iter_metadata()] == [{"b": "c"}]
    assert len(found) == 60


@pytest.mark.parametrize("compression", list(CompressionType), ids=lambda c: c.name)
def test_whole_messages_of_the_cut_chunk_are_saved(compression: CompressionType, tmp_path: Path) -> None:
    """Cut at four fifths of one chunk: compressed blocks of 64 or 128 kB are lost, not the chunk."""
    rng = np.random.default_rng(0)
    file = tmp_path / "a.mcap"
    with file.open("wb") as stream:
        writer = RawWriter(stream, 1 << 30, compression)
        writer.start()
        channel = writer.register_channel("/a", "json", writer.register_schema("A", "jsonschema", b"{}"))
        for number in range(1000):
            writer.add_message(channel, number, rng.bytes(1000), number)
        writer.finish()
    whole = messages_of(file)
    file.write_bytes(file.read_bytes()[:800_000])
    recovered = recover_mcap(file)
    assert 650 < recovered.messages <= 800 and messages_of(file) == whole[: recovered.messages]


def test_damage_in_the_middle_costs_one_chunk(recording: Path, tmp_path: Path) -> None:
    with recording.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    second = summary.chunk_indexes[1]
    whole = messages_of(recording)
    for offset in (60, 3):  # in the data, and in the length of the record
        raw = bytearray(recording.read_bytes())
        raw[second.chunk_start_offset + offset] ^= 0x40
        (tmp_path / "a.mcap").write_bytes(raw)
        out = tmp_path / f"{offset}.mcap"
        assert main(["recover", str(tmp_path / "a.mcap"), "--out", str(out)]) == 0
        found = messages_of(out)
        assert [m for m in whole if m in found] == found and 0 < len(whole) - len(found) <= 30
        with out.open("rb") as stream:
            assert len(list(NonSeekingReader(stream, validate_crcs=True).iter_messages())) == len(found)


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Return bytes with some flipped, overwritten, taken out or doubled, and perhaps cut; the begin stays."""
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        offset, change = rng.randrange(8, len(changed)), rng.randrange(4)
        if change == 0:
            changed[offset] ^= 1 << rng.randrange(8)
        elif change == 1:
            changed[offset : offset + 8] = rng.choice([bytes(8), b"\xff" * 8, b"\x7f" + bytes(7)])
        elif change == 2:
            del changed[offset : offset + rng.randrange(1, 60)]
        else:
            changed[offset:offset] = changed[offset : offset + rng.randrange(1, 200)]
    return bytes(changed[: rng.randrange(8, len(changed) + 1)] if rng.random() < 0.5 else changed)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind_is_survived(seed: int, recording: Path, tmp_path: Path) -> None:
    """Reading gives images or a line; what is recovered is read to its end by the library's reader."""
    file, rng = tmp_path / "a.mcap", random.Random(seed)
    sources = [recording.read_bytes()]
    for compression in CompressionType:
        for is_chunked in (True, False):
            sources.append(write_foreign(tmp_path / "b.mcap", compression, is_chunked).read_bytes())
    for _ in range(60):
        file.write_bytes(mutated(rng.choice(sources), rng))
        try:
            for topic in topics(file):
                assert all(image.size for _, image in frames(file, topic))
        except CameraError as error:
            assert "a.mcap" in str(error) and "\n" not in str(error)
        report = recover_mcap(file)
        if report.messages and not report.was_whole:
            assert len(messages_of(file)) == report.messages and recover_mcap(file).was_whole


def test_zeros_that_a_disk_has_not_written_are_no_messages(recording: Path, tmp_path: Path) -> None:
    raw = recording.read_bytes()
    half = len(raw) // 2
    (tmp_path / "a.mcap").write_bytes(raw[:half] + bytes(5000))
    assert [ns for ns, _ in frames(tmp_path / "a.mcap", "/camera/ir/image")]
    assert main(["recover", str(tmp_path / "a.mcap")]) == 0
    found = messages_of(tmp_path / "a-recovered.mcap")
    assert found and found == messages_of(recording)[: len(found)]


def test_a_cut_recording_warns_once(
    recording: Path, tmp_path: Path, toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.read_bytes()[: recording.stat().st_size * 2 // 3])
    cameras = ["--rgb", f"mcap:{cut}#/camera/rgb/image/compressed", "--ir", f"mcap:{cut}#/camera/ir/image"]
    assert main(["run", str(toy_bundle), *cameras]) == 0
    out, error = capsys.readouterr()
    assert error.count("was cut off") == 1 and "recover" in error and "pairs" in out
    cut.write_bytes(recording.read_bytes()[:100])
    with pytest.raises(CameraError, match="holds no images"):
        frames(cut)


def test_a_recording_out_of_order_loses_no_frame(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "r.mcap", 0)
    for index in (0, 3, 1, 2, 7, 5, 4, 6):
        sink.write_pair(make_pair(index))
        sink.segment.flush()  # type: ignore[union-attr]
    sink.close()
    assert [ns // 10_000_000 for ns, _ in frames(tmp_path / "r.mcap", "/camera/ir/image")] == list(range(8))


def test_recover_writes_a_new_file_and_reports_its_contents(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / ".drive.part.mcap"
    part.write_bytes(recording.read_bytes()[:-3000])
    before = part.read_bytes()
    for name in ("drive-recovered.mcap", "drive-recovered-2.mcap"):
        assert main(["recover", str(part), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["file"] == str(tmp_path / name) and report["count"] == len(messages_of(tmp_path / name)) > 0
        assert not report["was_whole"] and report["seconds"] == pytest.approx(0.11, abs=0.02)
    assert part.read_bytes() == before
    assert main(["recover", str(part), "--out", str(tmp_path / "drive-recovered.mcap")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["recover", str(recording)]) == 0 and "is whole" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 3 and len(list(recording.parent.iterdir())) == 1


def test_recovery_on_a_full_disk_leaves_the_file_as_it_was(recording: Path, tmp_path: Path) -> None:
    part = tmp_path / "a.mcap"
    part.write_bytes(raw := recording.read_bytes()[:-4000])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(raw) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            recover_mcap(part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert part.read_bytes() == raw


def test_recovery_holds_no_file_in_memory(tmp_path: Path) -> None:
    sink = McapFile(tmp_path / "r.mcap")
    noise = np.random.default_rng(0).integers(0, 65536, (1000, 1000)).astype(np.uint16)
    from edgemtl_runtime.frame import Frame

    for index in range(100):
        sink.write_pair(FramePair({"ir": Frame(noise, index * 10**7, "ir", index)}))
    sink.segment.flush()  # type: ignore[union-attr]
    (part,) = tmp_path.glob(".*")
    shutil.copy(part, tmp_path / "cut.mcap")
    sink.close()
    assert (tmp_path / "cut.mcap").stat().st_size > 150e6
    code = "import resource, sys; from pathlib import Path; from edgemtl_runtime.mcap_recovery import recover_mcap\n"
    code += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; report = recover_mcap(Path(sys.argv[1]))\n"
    code += "print(report.messages, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)"
    words = [sys.executable, "-c", code, str(tmp_path / "cut.mcap")]
    messages, grown_mb = map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert messages == 100 and grown_mb < 60
