"""From cameras to data and to a rig, on the command line, as a robot's owner does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_frames
from mcap.reader import make_reader
from processes import wait_for
from test_sources import write_mcap, write_video

from edgemtl_runtime.camera import open_cameras
from edgemtl_runtime.cli import main
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.recording import Recording
from edgemtl_runtime.rig import CameraModel, Rig

pytestmark = pytest.mark.realtime


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_a_folder_that_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = ["--rgb", "pattern:?fps=50&frames=20", "--ir", "pattern:?fps=50&frames=20&width=160&height=120"]
    assert main(["record", *cameras, "--out", str(tmp_path / "mine"), "--json"]) == 0
    assert printed_json(capsys)["pairs"] == 20
    assert main(["record", *cameras, "--out", str(tmp_path / "mine"), "--split", "val", "--count", "3"]) == 0
    stems = {name: sorted(p.stem for p in (tmp_path / "mine" / name / "train").iterdir()) for name in ("rgb", "ir")}
    assert len(stems["rgb"]) == 20 and stems["rgb"] == stems["ir"]
    assert abs(int(stems["rgb"][0]) - time.time_ns()) < 60e9
    shapes = [cv2.imread(str(tmp_path / "mine" / n / "train" / f"{stems[n][0]}.png"), -1).shape for n in ("rgb", "ir")]
    assert shapes == [(240, 320, 3), (240, 320)]
    from edgemtl.data.formats import index

    dataset = index(tmp_path / "mine")
    assert len(dataset.splits["train"]) == 20 and len(dataset.splits["val"]) == 3


def test_sixteen_bits_go_through_an_mcap_file_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 6), write_frames(tmp_path / "ir", 6, channels=1, depth=16)
    out = tmp_path / "drive.mcap"
    assert main(["record", "--rgb", str(rgb), "--ir", str(ir), "--out", str(out), "--json"]) == 0
    report = printed_json(capsys)
    assert (report["frames"], report["pairs"], report["drops"]) == ({"rgb": 6, "ir": 6}, 6, {})
    assert report["recordings"][0]["files"] == [str(out)]
    camera = open_cameras({"ir": f"mcap:{out}#/camera/ir/image"})["ir"]
    again = [frame.image for frame in camera.frames()]
    given = [frame.image for frame in open_cameras({"ir": str(ir)})["ir"].frames()]
    assert all(np.array_equal(a, b) for a, b in zip(again, given, strict=True))


def test_existing_images_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same recording a second time has the same names: labels that were drawn on the first stay true."""
    write_mcap(tmp_path / "a.mcap")
    cameras = ["--rgb", f"mcap:{tmp_path}/a.mcap#/camera/rgb/image/compressed"]
    cameras += ["--ir", f"mcap:{tmp_path}/a.mcap#/camera/ir/image"]
    assert main(["record", *cameras, "--out", str(tmp_path / "o"), "--json"]) == 0
    files = {file: file.read_bytes() for file in (tmp_path / "o").glob("*/train/*.png")}
    first = printed_json(capsys)["recordings"]
    edited = min(files)
    edited.write_bytes(b"mine")
    assert main(["record", *cameras, "--out", str(tmp_path / "o"), "--json"]) == 0
    assert set((tmp_path / "o").glob("*/train/*.png")) == set(files) and edited.read_bytes() == b"mine"
    again = printed_json(capsys)["recordings"]
    assert first == [{"sink": "folder", "pairs": len(files) // 2, "there_already": 0}]
    assert again == [{"sink": "folder", "pairs": 0, "there_already": len(files) // 2}]


def test_pairs_have_a_minimum_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = ["--rgb", "pattern:?fps=0&frames=60", "--ir", "pattern:?fps=0&frames=60"]
    assert main(["record", *cameras, "--out", str(tmp_path / "o"), "--min-interval", "0.5", "--json"]) == 0
    report = printed_json(capsys)
    assert report["pairs"] == 4 and report["drops"] == {"pair: not wanted": 56}  # two seconds of 30 frames


def test_options_by_their_earlier_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = ["--rgb", "pattern:?fps=0&frames=60", "--ir", "pattern:?fps=0&frames=60"]
    assert main(["record", *cameras, "--out", str(tmp_path / "o"), "--apart", "0.5", "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["pairs"] == 4 and error.count("\n") == 1 and "--apart is --min-interval now" in error
    points = "\n".join(f"{x},{y},{x},{y}" for x in (10, 40, 80) for y in (8, 30, 55))
    (tmp_path / "points.csv").write_text(f"x_rgb,y_rgb,x_ir,y_ir\n{points}\n")
    words = ["calibrate", *cameras, "--points", str(tmp_path / "points.csv"), "--out", str(tmp_path / "rig.yaml")]
    assert main([*words, "--picture", str(tmp_path / "look.png"), "--apart", "0.1", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert "--picture is --preview now" in error and "--apart is --min-interval now" in error
    assert (tmp_path / "look.png").stat().st_size > 100


def test_arguments_of_a_recording_by_their_earlier_names() -> None:
    cameras = open_cameras({name: "pattern:?fps=0&frames=3" for name in ("rgb", "ir")})
    with pytest.warns(DeprecationWarning, match="argument apart_s is min_interval_s now"):
        recording = Recording(cameras, 30.0, apart_s=0.5)
    with recording:
        assert recording.min_interval_ns == 500_000_000 and recording.read() is not None


def test_a_rig_registers_what_is_recorded_and_what_is_run(toy_bundle: Path, tmp_path: Path) -> None:
    """The thermal camera sees the scene 6 pixels to the right; the rig knows."""
    scene = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 26), np.uint8), (104, 64))
    for name, left in (("rgb", 0), ("ir", 6)):
        (tmp_path / name).mkdir()
        for index in range(3):
            view = np.roll(scene, index, 0)[:, left : left + 96]
            cv2.imwrite(
                str(tmp_path / name / f"{index}.png"), np.repeat(view[:, :, None], 3, 2) if name == "rgb" else view
            )
    plain = {n: CameraModel(n, 96, 64, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    rig = Rig(plain, homography_rgb_to_ir=np.array([[1, 0, -6.0], [0, 1, 0], [0, 0, 1]]))
    rig.save(tmp_path / "rig.yaml")
    cameras = ["--rgb", str(tmp_path / "rgb"), "--ir", str(tmp_path / "ir"), "--rig", str(tmp_path / "rig.yaml")]
    assert main(["record", *cameras, "--out", str(tmp_path / "o")]) == 0
    for file in (tmp_path / "o" / "rgb" / "train").iterdir():
        a, b = cv2.imread(str(file), 0), cv2.imread(str(tmp_path / "o" / "ir" / "train" / file.name), 0)
        assert np.abs(a[:, 8:].astype(int) - b[:, 8:]).max() <= 1
    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.engine.onnxruntime import OrtEngine

    opened = Bundle.open(toy_bundle)
    pipe = Pipeline(
        opened,
        OrtEngine(opened.model, 1),
        open_cameras({n: str(tmp_path / n) for n in ("rgb", "ir")}),
        rig=Rig.open(tmp_path / "rig.yaml"),
    )
    for pair, result in pipe:
        networks = [pair.frames[name].network_input for name in ("rgb", "ir")]
        assert networks[0] is not None and networks[1] is not None and pair.frames["ir"].registered
        assert np.abs(networks[0][:, 8:, 0].astype(int) - networks[1][:, 8:, 0]).max() <= 1
        assert result.camera == "rgb"
    assert main(["run", str(toy_bundle), *cameras, "--jsonl", str(tmp_path / "r.jsonl"), "--json"]) == 0


def test_a_rig_of_another_image_size_is_reported(
    toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {n: CameraModel(n, 640, 640, np.zeros((3, 3)), np.zeros(5)) for n in ("rgb", "ir")}
    Rig(plain, homography_rgb_to_ir=np.eye(3)).save(tmp_path / "rig.yaml")
    cameras = [
        "--rgb",
        str(write_frames(tmp_path / "rgb", 2)),
        "--ir",
        str(write_frames(tmp_path / "ir", 2, channels=1)),
    ]
    assert main(["run", str(toy_bundle), *cameras, "--rig", str(tmp_path / "rig.yaml")]) == 2
    assert "has 96x64 images, the rig was calibrated with 640x640" in capsys.readouterr().err
    (tmp_path / "rig.yaml").write_text("cameras: [1")
    assert main(["run", str(toy_bundle), *cameras, "--rig", str(tmp_path / "rig.yaml")]) == 2
    assert "rig.yaml" in capsys.readouterr().err


def test_calibrating_from_matched_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb, ir = write_frames(tmp_path / "rgb", 2), write_frames(tmp_path / "ir", 2, size=(48, 72), channels=1)
    points = [(x, y, 0.75 * x + 3, 0.75 * y - 2) for x in (10, 40, 80) for y in (8, 30, 55)]
    rows = "\n".join(",".join(map(str, row)) for row in points)
    (tmp_path / "points.csv").write_text(f"x_rgb,y_rgb,x_ir,y_ir\n{rows}\n")
    words = [
        "--rgb",
        str(rgb),
        "--ir",
        str(ir),
        "--points",
        str(tmp_path / "points.csv"),
        "--out",
        str(tmp_path / "rig.yaml"),
    ]
    assert main(["calibrate", *words, "--preview", str(tmp_path / "look.png"), "--json"]) == 0
    assert printed_json(capsys)["points"] == 9
    homography = Rig.open(tmp_path / "rig.yaml").homography_rgb_to_ir
    assert homography is not None
    assert np.allclose(homography / homography[2, 2], [[0.75, 0, 3], [0, 0.75, -2], [0, 0, 1]], atol=1e-6)
    assert cv2.imread(str(tmp_path / "look.png")).shape[1:] == (960, 3)
    assert (tmp_path / "rig.rgb.yaml").exists()  # for ROS's drivers
    names = ("rig.yaml", "rig.rgb.yaml", "rig.ir.yaml", "look.png")
    for kept in names:  # one of them alone is enough to be refused, before anything is written
        for name in names:
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / kept).write_text("mine")
        assert main(["calibrate", *words, "--preview", str(tmp_path / "look.png")]) == 2
        assert f"{kept}: is there already; --overwrite" in capsys.readouterr().err
        assert (tmp_path / kept).read_text() == "mine" and sum((tmp_path / name).exists() for name in names) == 1
    assert main(["calibrate", *words, "--preview", str(tmp_path / "look.png"), "--overwrite"]) == 0
    assert all((tmp_path / name).stat().st_size > 100 for name in names)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["calibrate", "--rgb", "pattern:", "--ir", "pattern:", "--out", "r.yaml"], "either --board or --points"),
        (
            [
                "calibrate",
                "--rgb",
                "pattern:",
                "--ir",
                "pattern:",
                "--out",
                "r.yaml",
                "--board",
                "checkerboard:9x6:0.03",
            ],
            "--distance",
        ),
        (
            [
                "calibrate",
                "--rgb",
                "{frames}",
                "--ir",
                "{frames}",
                "--out",
                "r.yaml",
                "--board",
                "chess",
                "--distance",
                "3",
            ],
            "chess",
        ),
        (
            [
                "calibrate",
                "--rgb",
                "{frames}",
                "--ir",
                "{frames}",
                "--out",
                "r.yaml",
                "--board",
                "checkerboard:9x6:0.03",
                "--distance",
                "3",
            ],
            "show the board to both",
        ),
        (["record", "--out", "x"], "give --rgb and --ir, or one"),
        (["record", "--rgb", "nowhere", "--out", "x"], "no such folder or file"),
        (["record", "--rgb", "{frames}", "--out", "x", "--split", "../up"], "--split ../up"),
        (["record", "--rgb", "{frames}", "--out", "{frames}/0000.png/x"], "cannot be written"),
        (["record", "--rgb", "{frames}", "--out", "x", "--min-interval", "-1"], "not negative"),
        (["record", "--rgb", "{frames}", "--out", "x.MP4"], "--out x.MP4: give a file named .mcap, or a folder"),
        (["record", "--rgb", "{frames}", "--out", "x.bag"], "--out x.bag: give a file named .mcap, or a folder"),
        (["record", "--rgb", "{frames}", "--out", "x", "--seconds", "inf"], "below 1e6"),
        (["record", "--rgb", "{frames}", "--out", "x.mcap", "--split", "val"], "is of a folder"),
        (["record", "--rgb", "{frames}", "--out", "x", "--frame-id", "rgb=eye"], "--frame-id is of an MCAP file"),
        (["record", "--rgb", "{frames}", "--out", "x.mcap", "--frame-id", "rgn=eye"], "did you mean 'rgb'"),
        (["record", "--rgb", "{frames}", "--out", "x.mcap", "--frame-id", "rgb=/eye"], "none of these in front"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = write_frames(tmp_path / "frames", 6)
    monkeypatch.chdir(tmp_path)
    assert main([word.format(frames=frames) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert expected in error and len(error.splitlines()) == 1
    assert not (tmp_path / "r.yaml").exists()


COMMAND = [sys.executable, "-m", "edgemtl_runtime.cli"]
LIVE = ["--rgb", "pattern:?fps=60", "--ir", "pattern:?fps=60"]


def running(words: list[str], until: Path, size: int = 2000) -> subprocess.Popen[str]:
    """Start a command and return it once a file has grown."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    wait_for(lambda: until.exists() and until.stat().st_size > size, process)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_complete_files(toy_bundle: Path, tmp_path: Path, number: int) -> None:
    files = [tmp_path / name for name in ("r.jsonl", "r.mp4", "r.mcap")]
    sinks = ["--jsonl", str(files[0]), "--video", str(files[1]), "--mcap", str(files[2])]
    process = running(["run", str(toy_bundle), *LIVE, *sinks, "--json"], files[0], 8000)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    pairs = json.loads(out)["pairs"]
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    dropped = json.loads(out)["drops"]
    assert len(lines) == pairs - dropped.get("sink jsonl: too slow", 0)
    reader, shown = cv2.VideoCapture(str(files[1])), 0
    while reader.read()[0]:  # the property of that name is an estimate where a rate varies
        shown += 1
    assert shown == pairs - dropped.get("sink video: too slow", 0)
    with files[2].open("rb") as stream:
        messages = sum(channel.topic == "/result" for _, channel, _ in make_reader(stream).iter_messages())
    assert messages == pairs - dropped.get("sink mcap: too slow", 0)
    assert not list(tmp_path.glob(".*part*"))


def test_a_kill_at_any_time_leaves_existing_files(toy_bundle: Path, tmp_path: Path) -> None:
    """Lines are whole, older recordings stand, and what was being written can be read to its last chunk."""
    write_mcap(tmp_path / "r.mcap")
    older = (tmp_path / "r.mcap").read_bytes()

    def pairs() -> int:
        return len(list((tmp_path / "data").glob("ir/train/*.png")))  # the second of a pair is named last

    for size in (1, 20_000, 50_000):
        lines = tmp_path / f"{size}.jsonl"
        words = ["run", str(toy_bundle), *LIVE, "--jsonl", str(lines), "--mcap", str(tmp_path / "r.mcap")]
        process = running(words, lines, size)
        process.kill()
        process.communicate()
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        assert rows and [row["index"] for row in rows] == list(range(rows[0]["index"], rows[0]["index"] + len(rows)))
        assert (tmp_path / "r.mcap").read_bytes() == older
        words = ["record", *LIVE, "--out", str(tmp_path / "data")]
        enough = pairs() + 5
        process = running(words, tmp_path / "data" / "data.yaml", 1)
        wait_for(lambda enough=enough: pairs() >= enough, process)  # type: ignore[misc]
        process.kill()
        process.communicate()
        whole = [cv2.imread(str(file), -1) is not None for file in (tmp_path / "data").glob("*/train/[0-9]*.png")]
        assert all(whole) and len(whole) >= 10


def test_a_full_disk_is_one_line_on_the_command_line(toy_bundle: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that fills up while the video is written."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); from edgemtl_runtime.cli import main; "
    limited += "sys.exit(main(sys.argv[1:]))"
    words = ["run", str(toy_bundle), *LIVE, "--mcap", str(tmp_path / "r.mcap"), "--jsonl", str(tmp_path / "r.jsonl")]
    done = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "r.mcap").exists()
    text = (tmp_path / "r.jsonl").read_text()
    assert all(json.loads(line) for line in text[: text.rfind("\n")].splitlines())


def test_a_signal_while_a_camera_is_being_opened_is_heard(toy_bundle: Path, tmp_path: Path) -> None:
    """A server that takes connections and says nothing: libraries that wait for it swallow Ctrl-C."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        words = ["run", str(toy_bundle), "--rgb", "pattern:?fps=30", "--ir", url, "--wait"]
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        silent.accept()[0].setblocking(False)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=12)
        assert process.returncode == 0  # what was asked for is no failure


def test_an_older_file_is_kept(toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new file has another name, which is reported; a run that does not begin leaves none."""
    lines = tmp_path / "r.jsonl"
    lines.write_text('{"old": 1}\n')
    cameras = ["--rgb", "pattern:?fps=0&frames=3", "--ir", "pattern:?fps=0&frames=3"]
    words = ["run", str(toy_bundle), *cameras, "--jsonl", str(lines)]
    assert main([*words, "--serve", "256.0.0.1:99999"]) == 2
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["r.jsonl"]
    assert main([*words, "--json"]) == 0 and lines.read_text() == '{"old": 1}\n'
    out, error = capsys.readouterr()
    (name,) = json.loads(out)["recordings"][0]["files"]
    assert name in error and len(Path(name).read_text().splitlines()) == 3


def test_what_was_recorded_is_recorded_again_under_the_times_it_was_taken_at(tmp_path: Path) -> None:
    write_mcap(tmp_path / "a.mcap")
    for out in ("b.mcap", "data"):
        cameras = ["--rgb", f"mcap:{tmp_path}/a.mcap#/camera/rgb/image/compressed"]
        cameras += ["--ir", f"mcap:{tmp_path}/a.mcap#/camera/ir/image"]
        assert main(["record", *cameras, "--out", str(tmp_path / out)]) == 0
    names = sorted(int(file.stem) for file in (tmp_path / "data" / "rgb" / "train").iterdir())
    assert names[0] == 1_700_000_000_003_000_000  # of the pair's later image
    first = next(open_cameras({"ir": f"mcap:{tmp_path}/b.mcap#/camera/ir/image"})["ir"].frames())
    assert first.unix_ns == 1_700_000_000_003_000_000


def test_a_video_has_the_rate_of_what_it_shows(toy_bundle: Path, tmp_path: Path) -> None:
    for name in ("rgb", "ir"):
        write_video(tmp_path / f"{name}.mp4", [i / 12.5 for i in range(20)])
    words = ["--rgb", str(tmp_path / "rgb.mp4"), "--ir", str(tmp_path / "ir.mp4"), "--video", str(tmp_path / "o.mp4")]
    assert main(["run", str(toy_bundle), *words]) == 0
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5, rel=0.1)


def test_a_misspelt_option_is_reported_though_cameras_may_come_later(
    toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rgb", "pattern:", "--ir", "rtsp://127.0.0.1:9/x?transport=tpc", "--wait-for-cameras"]
    assert main(["run", str(toy_bundle), *words]) == 2
    assert "transport=tpc is not one of tcp, udp" in capsys.readouterr().err
