"""The bundles that C++ and Python are compared on: every head, one camera and two, 16 bits, int8, suppression.

Networks are trained for a minute each, so that their outputs are no noise; those of real data need EDGEMTL_DATA and
EDGEMTL_WEIGHTS and are left out without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joint
import torch
from torch import nn

from edgemtl.config_file import load
from edgemtl.console import print_message
from edgemtl.export import Options, export
from edgemtl.external.export import drawn_images, export_network
from edgemtl.external.opening import open_network
from edgemtl.external.options import OpenOptions
from edgemtl.external.source import parse
from edgemtl.train import train
from edgemtl_runtime.bundle import ThermalRange

STEPS = 90
DRAWN = ("input_size=[96,128]", "data.synthetic.num_train=240", "data.synthetic.num_val=24", "sparsity.target=0.6")
ANY_PRECISION = Options(precisions=("fp16", "int8"), keep_undecided=True, max_drop=0.99)
CAMERA = (480, 640)
SPREAD = 8.0
"""Of random scores, so that rounding puts no two boxes in another order."""
PLAIN = Options()


def write_bundles(folder: Path) -> Iterator[Path]:
    """Write the bundles one after the other, and yield their folders."""
    from every_head import write_every_head

    yield write_every_head(folder / "every-head")
    yield write_every_head(folder / "radiometric", ThermalRange("radiometric", 27_315, 31_315))
    run = trained(folder, "street", DRAWN)
    yield written(run, folder / "street", ANY_PRECISION)
    yield written(run, folder / "street-in-graph", replace(PLAIN, camera_size=CAMERA))
    yield written(trained(folder, "thermal", (*DRAWN, "modalities=[ir]", "tasks=[boxes]")), folder / "thermal")
    for name, suppressed in (("yolo11n", True), ("yolo26n", False)):
        yield foreign(folder, name, yolo(name, folder / f"{name}.pt"), suppressed)
    weights = os.environ.get("EDGEMTL_WEIGHTS")
    if weights is None or "EDGEMTL_DATA" not in os.environ:
        print_message("EDGEMTL_DATA and EDGEMTL_WEIGHTS are not set: bundles of real data are left out")
        return
    for name in ("kitchen", "camvid"):
        config = joint.configured(name, "network=rgbir-n", "modalities=[rgb]", f"steps={STEPS}")
        yield written(train(config, folder / "runs" / name), folder / name)
    yield foreign(folder, "yolox-nano", Path(weights) / "yolox_nano.onnx", True)


def trained(folder: Path, name: str, words: Sequence[str]) -> Any:
    """Return a run of a minute."""
    config = load(None, [*words, f"steps={STEPS}", "batch_size=8", "precision=fp32"])
    return train(config, folder / "runs" / name)


def written(run: Any, out: Path, options: Options = PLAIN) -> Path:
    """Write the bundle of a run."""
    return export(run, out, None, options)[0].path


def yolo(name: str, file: Path) -> Path:
    """Save a YOLO with random weights that sees boxes everywhere, of scores from low to high."""
    from foreign_networks import checkpoint

    checkpoint(name, file, ("person", "car", "dog"))
    saved = torch.load(file, weights_only=False)
    head = saved["model"].model[-1]
    for convolution in _class_convolutions(head):
        nn.init.zeros_(convolution.bias)
        convolution.weight.data *= SPREAD
    torch.save(saved, file)
    return file


def _class_convolutions(head: Any) -> Iterator[nn.Conv2d]:
    for branches in ("cv3", "one2one_cv3"):
        for branch in getattr(head, branches, ()):
            yield branch[-1]


def foreign(folder: Path, name: str, file: Path, suppressed: bool) -> Path:
    """Write the bundle of a network from elsewhere, whose boxes have to be suppressed or not."""
    source = parse(str(file))
    assert source is not None
    network = open_network(source, OpenOptions((320, 320)))
    bundle, _ = export_network(network, folder / name, drawn_images(network), PLAIN)
    assert (bundle.manifest.heads[0].decoder == "nms_boxes") == suppressed
    return bundle.path
