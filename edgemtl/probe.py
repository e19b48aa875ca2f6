"""The probe of a network as it is deployed, which is measured on the robot."""

from __future__ import annotations

from pathlib import Path

from edgemtl_export.cost_model.deployment import Progress
from edgemtl_export.cost_model.measured import write_probe
from edgemtl_export.cost_model.probe import Probe
from edgemtl_export.deployed import Deployed
from edgemtl_export.errors import UnsupportedError
from edgemtl_runtime.atomic import AtomicFolder
from edgemtl_runtime.engine.costs import ProbeDescription

from .errors import EdgemtlError


def write_deployed_probe(
    deployed: Deployed,
    folder: Path,
    precision: str = "fp32",
    progress: Progress = lambda *_: None,
    overwrite: bool = False,
) -> ProbeDescription:
    """Write the probe of a network at its full widths; return what it holds."""
    if precision not in ("fp32", "fp16"):
        raise EdgemtlError(f"--precisions {precision}: a probe is in fp32 or fp16")
    with AtomicFolder(folder, "probe", overwrite) as output:
        try:
            description = write_probe(Probe(deployed, deployed.blank_images()), output.folder, precision, progress)
        except UnsupportedError as error:
            raise EdgemtlError(f"no probe written: {error}") from error
        output.commit()
    return description
