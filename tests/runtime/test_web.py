"""The web page: its latest result, and its endpoints for monitoring."""

from __future__ import annotations

import contextlib
import importlib.abc
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from web_page import RunState, ask, decode_image, latest, sample, wait_until

from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.sink.web import Web
from edgemtl_runtime.sink.web.connections import Limits

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def served() -> Iterator[Web]:
    """One page without a token at a free port, for all tests of this file."""
    with contextlib.closing(Web("0", "", RunState())) as opened:
        yield opened


@pytest.fixture
def state(served: Web) -> RunState:
    """The state of a run that is as it should be."""
    assert isinstance(served.status, RunState)
    served.status.reset()
    return served.status


@pytest.fixture
def web(served: Web, state: RunState) -> Web:
    """The page, before the first result."""
    served.feed.latest = None
    return served


def test_a_new_result_is_waited_for_and_comes_with_its_images(web: Web) -> None:
    threading.Timer(0.4, lambda: web.write(*sample(3))).start()
    begin = time.monotonic()
    answer = latest(web, "after=-1")
    assert 0.3 < time.monotonic() - begin < 1.9
    assert answer["index"] == 3 and answer["result"] == sample(3)[1].to_dict() | {
        "stamp_ns": answer["result"]["stamp_ns"]
    }
    assert list(answer["panels"]) == ["rgb", "ir", "depth", "normals", "edges"]
    assert all(decode_image(url).shape == (480, 640, 3) for url in answer["panels"].values())
    assert 0 <= answer["latency_ms"] < 1000 and answer["status"]["stats"]["pairs"] == 39
    assert answer["views"]["heads"]["semantic"]["colours"].keys() == {"sky", "road"}
    assert {n: h["kind"] for n, h in answer["views"]["heads"].items()} == {
        **dict.fromkeys(("boxes", "semantic", "attributes"), "overlay"),
        **dict.fromkeys(("depth", "normals", "edges"), "map"),
    }


@pytest.mark.fault("C4")
def test_every_panel_whose_colours_are_values_has_its_scale(web: Web) -> None:
    pair, result = sample()
    counts = np.linspace(21_000, 24_000, 48 * 64).reshape(48, 64).astype(np.uint16)
    pair.frames["ir"] = replace(pair.frames["ir"], image=counts)
    web.write(pair, result)
    scales = latest(web)["views"]["scales"]
    assert scales.keys() == {"ir", "depth", "normals", "edges"}
    assert scales["ir"]["ticks"][-1][1].endswith(" counts") and scales["ir"]["colours"][-1] == "#ffffff"
    assert all(text.endswith(" m") for _, text in scales["depth"]["ticks"]) and 8 < len(scales["depth"]["colours"]) < 40
    assert ["up", "#7fff7f"] in scales["normals"]["entries"]
    result.heads["depth"] = replace(result.heads["depth"], relative=True)
    web.write(pair, replace(result, index=1))
    assert all(text.endswith("× median") for _, text in latest(web, "after=0")["views"]["scales"]["depth"]["ticks"])


def test_without_a_new_result_the_state_is_reported_after_two_seconds(state: RunState) -> None:
    assert Limits().poll_timeout_s == 2
    with contextlib.closing(Web("0", "", state, limits=Limits(poll_timeout_s=0.3))) as web:
        web.write(*sample(5))
        begin = time.monotonic()
        answer = latest(web, "after=5")
        assert 0.28 < time.monotonic() - begin < 2.3 and answer["panels"] == {} and answer["index"] == 5
        assert answer["status"]["cameras"]["rgb"]["state"] == "live"


def test_panels_and_heads_are_drawn_as_asked(web: Web) -> None:
    web.write(*sample())
    bare, boxed, labelled = (
        {n: decode_image(u) for n, u in latest(web, f"panels=rgb,ir,nothing&heads={heads}")["panels"].items()}
        for heads in ("", "boxes", "semantic,unknown")
    )
    assert bare.keys() == boxed.keys() == {"rgb", "ir"}
    assert np.ptp(bare["ir"]) < 8 and np.ptp(boxed["ir"]) > 100 and np.ptp(labelled["ir"]) < 8
    assert np.abs(bare["rgb"].astype(int) - labelled["rgb"]).max() > 20
    assert list(latest(web, "heads=boxes,depth")["panels"]) == ["rgb", "ir", "depth"]


def test_a_large_image_is_shown_smaller(web: Web) -> None:
    web.write(*sample(size=(1080, 1920)))
    assert decode_image(latest(web, "panels=rgb,depth")["panels"]["rgb"]).shape == (540, 960, 3)


def test_a_missing_camera_is_marked_and_never_shown_by_its_old_image(web: Web) -> None:
    web.write(*sample(0))
    before = decode_image(latest(web)["panels"]["ir"])
    web.write(*sample(1, ("ir",)))
    answer = latest(web, "after=0")
    after = decode_image(answer["panels"]["ir"])
    assert answer["views"]["absent"] == ["ir"] == answer["result"]["absent"] and before.mean() > 90
    assert abs(int(np.median(after)) - 60) <= 1 and set(answer["panels"]) >= {"rgb", "ir"}


def test_an_index_that_is_no_number_is_rejected(web: Web) -> None:
    assert ask(web, "/latest?after=x")[0] == 400


def test_what_many_watch_is_drawn_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemtl_runtime import draw as drawing

    count, real = [0], drawing.camera_panel

    def counted(*given: Any) -> Any:
        count[0] += 1
        return real(*given)

    monkeypatch.setattr(drawing, "camera_panel", counted)
    web.write(*sample())
    assert count == [0]  # nobody looks, nothing is drawn
    for _ in range(5):
        latest(web, "panels=rgb&heads=boxes")
    assert count == [1]


def test_metrics_are_those_of_the_state(web: Web) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    code, headers, body = ask(web, "/metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = {
        (point.name, *sorted(point.labels.values())): point.value
        for family in parser.text_string_to_metric_families(body.decode())
        for point in family.samples
    }
    assert values["edgemtl_frames_total", "ir"] == 41 and values["edgemtl_pairs_total",] == 39
    assert values["edgemtl_drops_total", "ir: no partner"] == 2 and values["edgemtl_drops_total", 'odd "cause"\\'] == 1
    assert values["edgemtl_latency_seconds", "0.99", "total"] == 0.04
    assert values["edgemtl_latency_seconds", "1", "infer"] == 0.007
    assert values["edgemtl_skew_seconds", "0.5"] == 0.003 and values["edgemtl_camera_up", "rgb"] == 1
    assert values["edgemtl_camera_reconnects_total", "ir"] == 2
    assert values["edgemtl_last_result_age_seconds",] == 0.03 and len(values) == 25
    assert values["edgemtl_pairs_uncertain_total",] == 2


def test_metrics_follow_a_lost_camera_and_a_run_without_a_result(web: Web, state: RunState) -> None:
    pytest.importorskip("prometheus_client")
    state.values["cameras"]["rgb"]["state"] = "lost"
    state.values["cameras"]["ir"] = {"state": "absent", "detail": "left out", "fps": 0.0, "age_ms": None}
    state.values["last_result_age_ms"] = None
    body = ask(web, "/metrics")[2].decode()
    assert 'edgemtl_camera_up{camera="rgb"} 0.0' in body and 'edgemtl_camera_up{camera="ir"} 0.0' in body
    assert 'edgemtl_camera_reconnects_total{camera="ir"} 0.0' in body and "last_result_age" not in body


def test_without_prometheus_client_the_answer_names_what_to_install(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, _, body = ask(web, "/metrics")
    assert code == 503 and body.count(b"\n") == 1 and b"pip install 'edgemtl-runtime[metrics]'" in body


def test_health_is_that_of_the_run(web: Web, state: RunState) -> None:
    assert ask(web, "/healthz")[0] == 200 and json.loads(ask(web, "/status")[2]) == state.values
    state.values["running"] = False
    assert ask(web, "/healthz")[0] == 503


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"last_result_age_ms": None}, "no result yet"),
        ({"last_result_age_ms": 2500.0}, "the last result is 2.5 s old"),
        ({"running": False}, "the run is not going"),
        ({"state": "lost", "detail": "unplugged"}, "ir: lost: unplugged"),
        ({"state": "starting"}, "ir: starting"),
        ({"state": "stale"}, None),
        ({"state": "absent"}, None),
    ],
)
def test_readiness_gives_every_reason(web: Web, state: RunState, change: dict[str, Any], reason: str | None) -> None:
    assert ask(web, "/readyz")[0] == 200
    (state.values["cameras"]["ir"] if "state" in change else state.values).update(change)
    code, _, body = ask(web, "/readyz")
    assert (code, body.decode()) == ((200, "ready\n") if reason is None else (503, f"{reason}\n"))
    state.values["cameras"]["rgb"]["state"] = "lost"
    lines = ask(web, "/readyz")[2].decode().splitlines()
    assert sorted(lines) == sorted(["rgb: lost", *([reason] if reason else [])])


@pytest.mark.parametrize(
    ("module", "remedy"), [("cv2", "edgemtl-runtime[opencv]"), ("uvicorn", "edgemtl-runtime[web]")]
)
def test_a_missing_library_is_one_line_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, remedy: str
) -> None:
    class Missing(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == module:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    for name in [n for n in sys.modules if n.split(".")[0] == module or n == "edgemtl_runtime.sink.web.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(EdgemtlError, match=r"^--serve .*: pip install '" + re.escape(remedy) + "'$"):
        Web("0", "", RunState())


def test_the_server_is_imported_only_to_serve() -> None:
    code = "import sys, edgemtl_runtime, edgemtl_runtime.sink, edgemtl_runtime.sink.web; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "edgemtl_runtime.sink.web" in loaded and not {"uvicorn", "cv2", "prometheus_client"} & set(loaded)


def test_a_run_is_watched_while_it_goes_and_after_it_has_stopped(toy_bundle: Path) -> None:
    from edgemtl_runtime.bundle import Bundle
    from edgemtl_runtime.camera import open_cameras
    from edgemtl_runtime.engine.onnxruntime import OrtEngine
    from edgemtl_runtime.pipeline import Pipeline

    bundle = Bundle.open(toy_bundle)
    sources = open_cameras(dict.fromkeys(("rgb", "ir"), "pattern:?fps=30"))
    pipeline = Pipeline(bundle, OrtEngine(bundle.model, 1), sources)
    web = Web("0", "", pipeline.status)
    run = threading.Thread(target=pipeline.run, args=([web],), daemon=True)
    run.start()
    try:
        first = latest(web)
        answer = latest(web, f"after={first['index']}")
        assert answer["index"] > first["index"] >= 0 and set(answer["panels"]) == {"rgb", "ir"}
        wait_until(lambda: ask(web, "/readyz")[0] == 200)
        assert b"edgemtl_pairs_total" in ask(web, "/metrics")[2]
        assert set(json.loads(ask(web, "/status")[2])["cameras"]) == {"rgb", "ir"}
    finally:
        pipeline.stop()
    run.join(5)
    assert not run.is_alive() and not web.server.thread.is_alive()
