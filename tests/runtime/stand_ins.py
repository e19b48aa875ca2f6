"""Stand-ins for `tensorrt`: only the names that each version has, so that what was removed is an AttributeError.

The names are those that the real bindings of 10.3, 10.16 and 11.4 show (imported beside empty libraries).
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

VERSIONS = ("10.3.0", "10.16.1", "11.4.0")


class Flags(enum.IntEnum):
    """What every version knows of network creation."""

    STRONGLY_TYPED = 1


class OldFlags(enum.IntEnum):
    """Until version 11."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Pools(enum.IntEnum):
    """Memory that can be limited."""

    WORKSPACE = 0


class ILogger:
    """Severities are numbers here, the worst 0."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def log(self, severity: int, message: str) -> None:
        """To be overridden."""


class IProgressMonitor:
    """To be overridden."""


class Tensor:
    """An input."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class Profile:
    """Sizes of inputs; refuses batches above 64."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, *sizes: tuple[int, ...]) -> bool | None:
        """Return False where it does not take them, and nothing where it does."""
        self.shapes[name] = sizes
        return False if sizes[-1][0] > 64 else None


def stand_in(version: str, fault: str = "") -> ModuleType:
    """Return a module that answers as that version does; ``fault`` makes one step fail as the real one fails."""
    trt = ModuleType("tensorrt")
    calls: list[Any] = []
    log: list[Any] = []

    class Network:
        num_inputs, num_outputs = 2, 0 if fault == "nothing" else 1

        def get_input(self, place: int) -> Tensor:
            return Tensor(("rgb", "ir")[place], (-1 if fault == "open" else 1, 8, 8, 3))

    class Config:
        builder_optimization_level = 3
        progress_monitor = None

        def set_memory_pool_limit(self, pool: Pools, size: int) -> None:
            calls.append(("limit", pool, size))

        def add_optimization_profile(self, profile: Profile) -> int:
            calls.append(("profile", profile.shapes))
            return 0

    class Error:
        def node_name(self) -> str:
            return "node_7"

        def node_operator(self) -> str:
            return "Det"

        def desc(self) -> str:
            return "no importer"

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Network, logger: ILogger) -> None:
            pass

        def parse(self, data: bytes) -> bool:
            return fault != "parse"

        def get_error(self, number: int) -> Error:
            return Error()

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            log.append(logger)

        def create_network(self, flags: int) -> Network:
            calls.append(("network", flags))
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            if config.progress_monitor:
                config.progress_monitor.phase_start("Building", None, 2)
                if not config.progress_monitor.step_complete("Building", 0):
                    return None
                config.progress_monitor.phase_finish("Building")
            if fault == "build":
                log[-1].log(ILogger.WARNING, "a warning")
                log[-1].log(ILogger.ERROR, "10: could not find\n  any implementation for node 7")
                return None
            return b"plan"

    trt.__version__ = version  # type: ignore[attr-defined]
    trt.calls = calls  # type: ignore[attr-defined]
    parts = {"ILogger": ILogger, "IProgressMonitor": IProgressMonitor, "Builder": Builder, "OnnxParser": OnnxParser}
    flags = OldFlags if version < "11" else Flags
    for name, part in (parts | {"MemoryPoolType": Pools, "NetworkDefinitionCreationFlag": flags}).items():
        setattr(trt, name, part)
    return trt
