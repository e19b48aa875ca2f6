"""A checkpoint of ultralytics (``.pt``), read without running any of it: weights, and the description of the network.

Such a file is a pickle of whole modules. torch's weights-only loading refuses other code, but calls the classes that it
is allowed, with arguments that the file chooses; so every class here is an inert stand-in of the same name, which takes
no arguments and does nothing. What the stand-ins hold are the weights by name, and the description that
`yolo.build_network` makes the network of.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MODULES = ("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks.")
"""Where the classes come from that stand-ins take the place of."""
OTHERS = ("ultralytics.utils.IterableSimpleNamespace",)
"""Settings of a training that is not finished."""
NETWORKS = ("model", "ema")
MOST_VALUES, MOST_DEPTH = 20_000, 12
"""Of a description."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of ultralytics, or holds what is not read."""


@dataclass(frozen=True, eq=False)
class UltralyticsCheckpoint:
    """The weights of a network in fp32 and its description, both as the file has them."""

    state: dict[str, Tensor]
    task: str
    """Detect, segment, pose, ...; detect where the file does not say."""
    yaml: dict[str, Any]
    """The layers, as plain values; nothing in it is trusted."""
    names: dict[int, str]
    stride: list[float]
    kind: str
    """The class of the network, like DetectionModel."""
    layers: dict[str, str]
    """The class of every layer, by its path: releases build another activation of the same description."""
    input_size: tuple[int, int] | None = None
    """Height and width that it was trained at, where the file has them."""


class _StandIn:
    """Takes the place of a class: it has no behaviour, and takes no arguments."""

    def __new__(cls, *args: object, **kwargs: object) -> _StandIn:
        if args or kwargs:
            raise CheckpointError(f"calls {cls.__name__} with arguments")
        return super().__new__(cls)


def read_checkpoint(file: Path) -> UltralyticsCheckpoint:
    """Read a checkpoint; raises `CheckpointError`, whose message is one line, where it cannot be read so."""
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"{file}: is no checkpoint of torch (no zip archive); one of an old release has to be saved anew"
        )
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        unknown = [n for n in names if not n.startswith(MODULES) and n not in OTHERS]
        if unknown:
            raise CheckpointError(f"names {unknown[0][:80]!a}, which is no layer of torch or ultralytics")
        stand_ins = [(type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            content = torch.load(file, map_location="cpu", weights_only=True)
        return _checkpoint(content)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{file}: cannot be read as a checkpoint without running its code ({reason})") from None


def _checkpoint(content: object) -> UltralyticsCheckpoint:
    networks = [content.get(key) for key in NETWORKS] if isinstance(content, dict) else []
    network = next((n for n in reversed(networks) if isinstance(n, _StandIn)), None)
    if network is None:
        raise CheckpointError("holds no network of ultralytics ('model' or 'ema')")
    fields = vars(network)
    yaml, names, stride = (fields.get(key) for key in ("yaml", "names", "stride"))
    if not isinstance(yaml, dict):
        raise CheckpointError("its network has no description ('yaml')")
    state = {name: t.float() if t.is_floating_point() else t for name, t in _tensors(network)}
    return UltralyticsCheckpoint(
        state,
        str(fields.get("task") or "detect")[:20],
        _plain_dict(yaml),
        _names(names),
        [float(s) for s in stride.flatten()[:16]] if isinstance(stride, Tensor) else [],
        type(network).__name__,
        {path: type(layer).__name__ for path, layer in _layers(network, "", 0)},
        _input_size(content.get("train_args") if isinstance(content, dict) else None),
    )


def _input_size(arguments: object) -> tuple[int, int] | None:
    """Return the size in a training's arguments, ``imgsz``: of a square, or height and width."""
    size = arguments.get("imgsz") if isinstance(arguments, dict) else None
    sides = [s for s in (size if isinstance(size, list | tuple) else [size, size]) if type(s) is int]
    return (sides[0], sides[1]) if len(sides) == 2 and all(32 <= side <= 8192 for side in sides) else None


def _layers(module: object, path: str, depth: int) -> Iterator[tuple[str, _StandIn]]:
    """Yield a stand-in and those in it, by path."""
    if not isinstance(module, _StandIn) or depth > 4 * MOST_DEPTH:
        return
    yield path, module
    for name, inner in _items(vars(module).get("_modules")):
        yield from _layers(inner, f"{path}.{name}" if path else name, depth + 1)


def _tensors(network: _StandIn) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of all layers, by name."""
    for path, layer in _layers(network, "", 0):
        fields = vars(layer)
        passing = fields.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _items(fields.get(kind)):
                if isinstance(tensor, Tensor) and not (kind == "_buffers" and name in passing):
                    yield f"{path}.{name}" if path else name, tensor.detach()


def _items(value: object) -> list[tuple[str, object]]:
    return [(str(key), item) for key, item in value.items()] if isinstance(value, Mapping) else []


def _names(names: object) -> dict[int, str]:
    given = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(given, dict) or not all(isinstance(k, int) and isinstance(n, str) for k, n in given.items()):
        raise CheckpointError("its network has no names of classes")
    return {int(key): str(name)[:200] for key, name in given.items()}


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    count = [0]
    plain = _plain(value, count, 0)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object, count: list[int], depth: int) -> object:
    """Return a copy of nothing but dictionaries, lists, words and numbers."""
    count[0] += 1
    if count[0] > MOST_VALUES or depth > MOST_DEPTH:
        raise CheckpointError("its description has no end")
    if isinstance(value, dict):
        return {str(key): _plain(item, count, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, count, depth + 1) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CheckpointError(f"its description holds a {type(value).__name__}")
