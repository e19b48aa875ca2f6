"""The schema of results, as `--jsonl`, ROS 2 and zenoh carry them: a table for each record."""

from __future__ import annotations

from typing import Any

from edgemtl_runtime import result

HEAD = """\
# Results

A pair of images gives one result. In Python it is [`Result`](edgemtl_runtime.md#edgemtl_runtime.Result) with arrays; as
JSON it is a line, by `--jsonl`, ROS 2, zenoh and the web page alike. Its schema is version {version}; as JSON Schema
`edgemtl_runtime.result.schema()` returns it.
"""


def page() -> str:
    """Return the page: the line's own keys, then every record in it."""
    schema = result.schema()
    parts = [HEAD.format(version=schema["version"]), _table("A line", schema)]
    parts += [_table(name, record) for name, record in schema["$defs"].items()]
    return "\n".join(parts)


def _table(name: str, record: dict[str, Any]) -> str:
    required = record.get("required", [])
    rows = [
        f"| `{key}` | {_type(value)} | {'always' if key in required else 'where there is one'} | {_about(value)} |"
        for key, value in record.get("properties", {}).items()
    ]
    table = "\n".join(["| key | type | present | what it is |", "| --- | --- | --- | --- |", *rows])
    return f"## {name}\n\n{_about(record)}\n\n{table}\n"


def _about(record: dict[str, Any]) -> str:
    return " ".join(str(record.get("description", "")).split()).replace("|", "\\|")


def _type(value: dict[str, Any]) -> str:
    """Return a type in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(_type(option) for option in options)
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type", "")
    if kind == "array":
        return f"list of {_type(value.get('items', {})) or 'values'}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"by name: {_type(value['additionalProperties'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
