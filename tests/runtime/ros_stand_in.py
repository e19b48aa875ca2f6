"""A stand-in for rclpy and ROS's message packages: it shows what is asked of them, not what they do."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from ros_reference import DEFINITIONS, fields_of


class Fake:
    """What the stand-in for rclpy was asked to do."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any, Any]] = []
        self.calls: list[str] = []


def rclpy_class(type_name: str) -> type:
    """Return a class like rosidl's: fields by default values, each set only to what its type takes."""
    fields = {field.name: field for field in fields_of(type_name)}
    base_types = {
        "string": str,
        "float64": float,
        "byte": bytes,
        "bool": bool,
        "uint8": int,
        "uint32": int,
        "int32": int,
    }

    def setter(self: Any, name: str, value: Any) -> None:
        field = fields[name]
        if field.size < 0 and field.base in base_types:
            assert type(value) is base_types[field.base], (type_name, name, value)
            assert field.base != "byte" or len(value) == 1
        elif field.size < 0:
            assert type(value).__name__ == field.base.rpartition("/")[2]
        elif (field.base, field.size) == ("uint8", 0):
            assert value.typecode == "B"
        else:
            assert isinstance(value, list) and len(value) == (field.size or len(value))
            assert all(type(element) is base_types.get(field.base, type(element)) for element in value)
        object.__setattr__(self, name, value)

    return type(type_name.rpartition("/")[2], (), {"__setattr__": setter})


class FakeNode:
    """Publishers of a node."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def create_publisher(self, message_type: type, topic: str, qos: Any) -> Any:
        self.fake.calls.append(f"publisher {topic}")
        return types.SimpleNamespace(publish=lambda message: self.fake.published.append((topic, message, qos)))

    def destroy_publisher(self, publisher: Any) -> None:
        self.fake.calls.append("destroy publisher")

    def destroy_node(self) -> None:
        self.fake.calls.append("destroy")


def message_packages() -> dict[str, dict[str, Any]]:
    """Return the members of the message packages by the name of the module."""
    modules: dict[str, dict[str, Any]] = {}
    for type_name in DEFINITIONS:
        package = type_name.partition("/")[0]
        modules.setdefault(package, {})
        modules.setdefault(f"{package}.msg", {})[type_name.rpartition("/")[2]] = rclpy_class(type_name)
    return modules


def install(modules: dict[str, dict[str, Any]], patch: pytest.MonkeyPatch) -> None:
    """Put modules where they are imported from."""
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        patch.setitem(sys.modules, name, module)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Install a stand-in for rclpy and the message packages."""
    fake = Fake()

    def init(*, context: Any, signal_handler_options: str) -> None:
        fake.calls.append(f"init {signal_handler_options}")

    def create_node(name: str, *, context: Any) -> FakeNode:
        fake.calls.append(f"node {name}")
        return FakeNode(fake)

    def shutdown(*, context: Any) -> None:
        fake.calls.append("shutdown")

    modules: dict[str, dict[str, Any]] = {
        "rclpy": {"init": init, "create_node": create_node, "shutdown": shutdown},
        "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
        "rclpy.context": {"Context": object},
        "rclpy.signals": {"SignalHandlerOptions": types.SimpleNamespace(NO="no signals")},
    }
    install(modules | message_packages(), monkeypatch)
    return fake
