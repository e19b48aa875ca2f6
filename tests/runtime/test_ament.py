"""The ament package: its files, and its node on a stand-in for rclpy, never in ROS 2."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from conftest import write_toy_bundle
from programs import LIVE
from ros_stand_in import Fake, FakeNode, install, stand_in

PACKAGE = Path(__file__).parents[2] / "runtime" / "ros2"


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return stand_in(monkeypatch)


class Parameter:
    def __init__(self, value: Any) -> None:
        self.value = value


class FakeLogger:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, text: str) -> None:
        self.lines.append(f"error {text}")

    def warning(self, text: str) -> None:
        self.lines.append(f"warning {text}")

    def info(self, text: str) -> None:
        self.lines.append(f"info {text}")


class FakeLifecycleNode(FakeNode):
    """What the node uses of ``rclpy.lifecycle.Node``; ``given`` are the parameters of a file."""

    given: ClassVar[dict[str, Any]] = {}
    shared: Fake

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(self.shared)
        self.logger, self.parameters, self.state = FakeLogger(), dict[str, Any](), "unconfigured"

    def declare_parameter(self, name: str, value: Any) -> None:
        assert value != [], "ROS 2 knows no type of an empty list"
        self.parameters[name] = Parameter(self.given.get(name, value))

    def get_parameter(self, name: str) -> Parameter:
        return self.parameters[name]

    def get_logger(self) -> FakeLogger:
        return self.logger

    def create_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timer_callback = callback

    def resolve_topic_name(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"/robot/{topic}"

    def on_activate(self, state: Any) -> str:
        self.state = "active"
        return "success"

    def on_deactivate(self, state: Any) -> str:
        self.state = "inactive"
        return "success"

    def trigger_deactivate(self) -> str:
        return self.on_deactivate(None)


@pytest.fixture
def detector(ros: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes nodes of the package with parameters."""
    FakeLifecycleNode.shared = ros
    outcome = types.SimpleNamespace(SUCCESS="success", FAILURE="failure")
    lifecycle = {"Node": FakeLifecycleNode, "State": object, "TransitionCallbackReturn": outcome}
    install({"rclpy.lifecycle": lifecycle}, monkeypatch)
    monkeypatch.syspath_prepend(str(PACKAGE))
    monkeypatch.delitem(sys.modules, "edgemtl_ros.detector", raising=False)
    module = importlib.import_module("edgemtl_ros.detector")
    nodes = []

    def make(**given: Any) -> Any:
        monkeypatch.setattr(FakeLifecycleNode, "given", given)
        node = module.Detector()
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.on_shutdown(None)
    log = importlib.import_module("logging").getLogger("edgemtl_runtime")
    log.handlers = [handler for handler in log.handlers if not isinstance(handler, module.NodeHandler)]


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def results(fake: Fake) -> list[dict[str, Any]]:
    return [json.loads(message.data) for topic, message, _ in fake.published if topic == "result"]


def test_a_node_through_its_life(detector: Callable[..., Any], ros: Fake, tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    node = detector(bundle=str(bundle), sources=[f"rgb:={LIVE}", f"ir:={LIVE}"], threads=1, frame_ids=["rgb=mast"])
    for _ in range(2):
        assert node.on_configure(None) == "success", node.logger.lines
        for _ in range(2):
            count = len(results(ros))
            assert node.on_activate(None) == "success" and node.state == "active"
            wait_for(lambda count=count: len(results(ros)) > count + 3)
            assert node.on_deactivate(None) == "success"
            stopped = len(ros.published)
            time.sleep(0.1)
            assert len(ros.published) == stopped
        assert node.on_cleanup(None) == "success" and node.opened is None
    topics = {topic for topic, _, _ in ros.published}
    assert {"camera/rgb/image/compressed", "boxes", "semantic", "result", "/diagnostics"} <= topics
    boxes = next(message for topic, message, _ in ros.published if topic == "boxes")
    assert boxes.header.frame_id == "mast" and boxes.detections[0].results[0].hypothesis.class_id == "person"
    assert "node edgemtl" not in ros.calls and "destroy publisher" in ros.calls  # it is its own node that publishes
    assert not [line for line in node.logger.lines if line.startswith("error")]


def test_topics_are_resolved_by_the_node(detector: Callable[..., Any]) -> None:
    node = detector(topics=["rgb:=rgb/image", "ir:=/thermal/image_raw"], sources=["ir:=pattern:"])
    assert node._uris() == {"rgb": "ros2://robot/rgb/image", "ir": "pattern:"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"bundle": ""}, "the parameter 'bundle' is empty"),
        ({"bundle": "/nowhere"}, "/nowhere: no bundle here"),
        ({"topics": ["rgb/image"]}, "topics: 'rgb/image' is not INPUT:=TOPIC"),
        ({"sources": ["rgb:="]}, "sources: 'rgb:=' is not INPUT:=URI"),
        ({"thresholds": ["cats=0.5"]}, "the bundle has no head 'cats'"),
        ({"sources": [f"rgb:={LIVE}", f"depth:={LIVE}"], "topics": [""]}, "the bundle has no input depth"),
        ({"backend": "magic"}, "there is no back end 'magic'"),
        ({"signed_by": ["/no.pub"]}, "/no.pub"),
    ],
)
def test_what_is_wrong_is_one_line_and_the_node_stays_unconfigured(
    detector: Callable[..., Any], given: dict[str, Any], line: str, tmp_path: Path
) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    node = detector(**{"bundle": str(bundle), "sources": [f"rgb:={LIVE}", f"ir:={LIVE}"], **given})
    assert node.on_configure(None) == "failure" and len(node.logger.lines) == 1
    assert line in node.logger.lines[0] and "\n" not in node.logger.lines[0]


def test_a_run_that_ends_by_itself_makes_the_node_inactive(detector: Callable[..., Any], tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    short = f"{LIVE}&frames=5"
    node = detector(bundle=str(bundle), sources=[f"rgb:={short}", f"ir:={short}"])
    assert node.on_configure(None) == node.on_activate(None) == "success"
    node.timer_callback()
    wait_for(lambda: node.thread is None or not node.thread.is_alive())
    node.timer_callback()
    assert node.state == "inactive" and "the run has ended, as its cameras have" in node.logger.lines[-1]


def test_a_changed_link_is_followed_and_kept_when_the_node_is_activated_again(
    detector: Callable[..., Any],
    ros: Fake,
    tmp_path: Path,
) -> None:
    write_toy_bundle(tmp_path / "one")
    write_toy_bundle(tmp_path / "two", classes=("human", "truck"))
    link = tmp_path / "current"
    link.symlink_to("one")
    node = detector(bundle=str(link), sources=[f"rgb:={LIVE}", f"ir:={LIVE}"], threads=1)
    assert node.on_configure(None) == node.on_activate(None) == "success"
    wait_for(lambda: len(results(ros)) > 3)
    link.unlink()
    link.symlink_to("two")
    wait_for(lambda: results(ros)[-1]["heads"]["boxes"]["boxes"][0]["class"] == "human")
    node.on_deactivate(None)
    count = len(results(ros))
    node.on_activate(None)
    wait_for(lambda: len(results(ros)) > count + 3)
    assert results(ros)[-1]["heads"]["boxes"]["boxes"][0]["class"] == "human"
    wait_for(lambda: [line for line in node.logger.lines if "two takes over" in line])


def test_the_configuration_has_every_parameter_with_its_value(detector: Callable[..., Any]) -> None:
    written = yaml.safe_load((PACKAGE / "config" / "detector.yaml").read_text())["detector"]["ros__parameters"]
    assert written == {name: parameter.value for name, parameter in detector().parameters.items()}


def test_the_package_is_one_that_ament_takes() -> None:
    catkin = pytest.importorskip("catkin_pkg.package", reason="needs catkin_pkg")
    package = catkin.parse_package(str(PACKAGE))
    package.validate()
    assert package.name == "edgemtl_ros" and package.get_build_type() == "ament_python"
    assert {"rclpy", "sensor_msgs", "vision_msgs", "lifecycle_msgs"} <= {d.name for d in package.exec_depends}
    assert (PACKAGE / "resource" / package.name).is_file()


def test_the_package_installs_what_ros_looks_for(tmp_path: Path) -> None:
    copy, prefix = shutil.copytree(PACKAGE, tmp_path / "package"), tmp_path / "install"
    pytest.importorskip("setuptools", reason="needs setuptools")
    command = [sys.executable, "setup.py", "-q", "install", f"--prefix={prefix}", "--single-version-externally-managed"]
    ran = subprocess.run(
        [*command, f"--record={tmp_path / 'record'}"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    placed = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    share = "share/edgemtl_ros"
    assert {f"{share}/package.xml", f"{share}/launch/detector.launch.py", f"{share}/config/detector.yaml"} <= placed
    assert {"share/ament_index/resource_index/packages/edgemtl_ros", "lib/edgemtl_ros/detector"} <= placed


def test_the_launch_file_configures_and_then_activates(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stand-ins that keep what they are made with."""

    def kept(kind: str) -> Any:
        return lambda *args, **named: types.SimpleNamespace(kind=kind, args=args, **named)

    transition = types.SimpleNamespace(TRANSITION_CONFIGURE=1, TRANSITION_ACTIVATE=3)
    share = {"get_package_share_directory": lambda name: f"/opt/share/{name}"}
    modules: dict[str, dict[str, Any]] = {
        "ament_index_python": {}, "ament_index_python.packages": share,
        "launch": {"LaunchDescription": list},
        "launch.actions": {n: kept(n) for n in ("DeclareLaunchArgument", "EmitEvent", "RegisterEventHandler")},
        "launch.events": {"matches_action": kept("matches_action")},
        "launch.substitutions": {"LaunchConfiguration": lambda name: f"$({name})"},
        "launch_ros": {}, "launch_ros.actions": {"LifecycleNode": kept("LifecycleNode")},
        "launch_ros.event_handlers": {"OnStateTransition": kept("OnStateTransition")},
        "launch_ros.events": {}, "launch_ros.events.lifecycle": {"ChangeState": kept("ChangeState")},
        "lifecycle_msgs": {}, "lifecycle_msgs.msg": {"Transition": transition},
    }  # fmt: skip
    install(modules, monkeypatch)
    spec = importlib.util.spec_from_file_location("detector_launch", PACKAGE / "launch" / "detector.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    *arguments, handler, node, configure = module.generate_launch_description()
    assert [argument.args[0] for argument in arguments] == ["bundle", "params", "namespace", "rgb", "ir"]
    assert arguments[1].default_value == "/opt/share/edgemtl_ros/config/detector.yaml"
    assert node.kind == "LifecycleNode" and node.remappings == [("rgb/image", "$(rgb)"), ("ir/image", "$(ir)")]
    assert configure.event.transition_id == 1 and handler.args[0].entities[0].event.transition_id == 3
    assert handler.args[0].goal_state == "inactive" and handler.args[0].start_state == "configuring"
