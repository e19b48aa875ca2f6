"""A run to a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgemtl_export import NotEqualError, Shrunk
from edgemtl_export.parity import ParityError
from edgemtl_export.to_bundle import export_bundle
from edgemtl_runtime.bundle import Bundle

from .data.loader import fitted_images
from .data.open import open_data
from .data.sample import Samples
from .errors import EdgemtlError
from .run import Run

LICENCE = (
    "AGPL-3.0-only: trained with ultralytics' modules and losses, whose authors claim AGPL-3.0 for such weights "
    "and for engines made from them; the terms of your training data come on top"
)
FRAMES = 16
"""Pictures of the held-out split on which a bundle is compared with its run."""


def export(run: Run, out: str | Path, samples: Samples | None = None, align: int = 8) -> tuple[Bundle, Shrunk]:
    """Shrink a run's network, write it as a bundle and compare both on held-out pictures.

    ``samples`` replaces the held-out split of the data that the run was trained on; ``align`` is `shrink`'s.
    """
    samples = samples or open_data(run.config)["val"]
    chosen = np.unique(np.linspace(0, len(samples) - 1, FRAMES).round().astype(int))
    inputs = {spec.name: spec for spec in run.interface.inputs}
    frames = [fitted_images(samples[int(i)], inputs) for i in chosen]
    try:
        return export_bundle(
            run.network,
            run.interface.inputs,
            run.interface.heads,
            frames,
            out,
            str(run.interface.network["name"]),
            LICENCE,
            "edgemtl 0.1.0",
            align,
        )
    except (ParityError, NotEqualError) as error:
        raise EdgemtlError(f"no bundle written: {error}") from error


def check_tensorrt() -> None:
    """Raise with what to install where TensorRT is not."""
    import importlib.util

    if importlib.util.find_spec("tensorrt") is None:
        raise EdgemtlError(
            "--tensorrt: no TensorRT here; with an NVIDIA GPU `pip install tensorrt`, on a Jetson use JetPack's"
        )
    raise EdgemtlError(
        "--tensorrt: building engines comes with a later version; export without it and use ONNX Runtime"
    )
