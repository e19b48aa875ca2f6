"""How a bundle is opened for a run: its engine, thresholds and keys; and its self-test before it is used."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import Bundle
from .bundle_link import Opened
from .errors import EdgemtlError
from .pipeline import check_inputs
from .postprocess import parse_thresholds

if TYPE_CHECKING:
    from .engine.config import EngineConfig


@dataclass(frozen=True)
class BundleOptions:
    """Options of every bundle of a run, whose cameras have names; `open` is what a `BundleLink` takes.

    ``backend``, ``precision`` and ``threads`` take precedence over what was selected for a bundle on this machine.
    """

    cameras: Collection[str]
    thresholds: Sequence[str] = ()
    signed_by: Sequence[Path] = ()
    backend: str = ""
    precision: str = ""
    threads: int = 0

    def open(self, path: Path) -> Opened:
        """Open a bundle and its engine, and run its self-test; raises `EdgemtlError`."""
        from .engine.config import open_engine
        from .self_test import check_self_test

        bundle = Bundle.open(path, self.signed_by)
        thresholds = parse_thresholds(self.thresholds, bundle.manifest.heads)
        check_inputs(bundle, self.cameras)
        config = self.engine_config(bundle)
        engine = open_engine(bundle, config)
        try:
            check_self_test(bundle, engine, config.precision)
        except BaseException:
            engine.close()
            raise
        return Opened(bundle, engine, thresholds)

    def engine_config(self, bundle: Bundle) -> EngineConfig:
        """Return the backend configuration that is asked for, else the selected one of this machine."""
        from .engine.config import EngineConfig, unavailable_reason
        from .engine.selection import selected_config

        config = selected_config(bundle) or EngineConfig()
        if reason := unavailable_reason(self.backend or config.backend):
            raise EdgemtlError(f"--backend {self.backend or config.backend}: {reason}")
        if self.backend:  # another backend's threads and precision are not those that were selected
            config = EngineConfig(self.backend)
        try:
            return EngineConfig(
                config.backend, self.precision or config.precision, self.threads or config.threads, config.arena
            )
        except ValueError as error:
            raise EdgemtlError(str(error)) from error
