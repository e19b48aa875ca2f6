"""Latency of shrunk networks on ONNX Runtime's CPU, one thread, in turns; the machine must have nothing else to do.

Each network is measured in a process that keeps to one core; there are as many of those as cores.

    make bench-latency    # results/latency.json, docs/shrinking.md

Narrow: a network pruned to the widths of one that is built narrow, shrunk, against the latter. Align: networks with
zeros in 40 % of their channel groups, and ResNet-50 at 40 % of every layer's width and 224 pixels, shrunk with align 1,
8, 16 and "auto".
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from networks import NETWORKS, RawHeads, build, calibrate, random_images
from shrinking_page import write_page
from torch import Tensor, nn
from torch.export import ExportedProgram
from zeros import zero

from edgemtl_export import channel_groups, shrink
from edgemtl_export.groups import Groups
from edgemtl_export.latency import compare

HERE = Path(__file__).parent
ALIGN: list[Any] = [1, 8, 16, "auto"]
Case = dict[str, Any]


def built_narrow(name: str, share: float) -> nn.Module:
    """Return a network built with a share of its channels everywhere but in its inputs and outputs."""
    if name == "yolo11n":
        from ultralytics.nn.tasks import DetectionModel, yaml_model_load

        config = yaml_model_load("yolo11n.yaml")
        depth, width, most = config["scales"]["n"]
        config["scales"]["n"] = [depth, width * share, most]
        return RawHeads(DetectionModel(config, verbose=False)).eval()
    net, _ = build(name)
    for path, module in list(net.named_modules()):
        parent = net.get_submodule(path.rpartition(".")[0])
        scaled = _scaled(module, share)
        if scaled is not None:
            setattr(parent, path.rpartition(".")[2], scaled)
    return net.eval()


def _scaled(module: nn.Module, share: float) -> nn.Module | None:
    def part(count: int) -> int:
        return count if count == 3 else round(count * share)

    if isinstance(module, nn.Conv2d):
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
        return nn.Conv2d(part(module.in_channels), part(module.out_channels), *geometry, bias=module.bias is not None)  # type: ignore[arg-type]
    if isinstance(module, nn.BatchNorm2d):
        return nn.BatchNorm2d(part(module.num_features))
    if isinstance(module, nn.Linear):
        return nn.Linear(part(module.in_features), module.out_features)
    return None


def zero_to(net: nn.Module, groups: Groups, narrow: nn.Module) -> None:
    """Zero, at even distances, as many channels of every layer as the narrow network lacks."""
    parameters, shapes = dict(net.named_parameters()), {n: p.shape for n, p in narrow.named_parameters()}
    for name, rows in groups.rows.items():
        axis = groups.axis(name)
        position = torch.arange(len(rows) + 1) * shapes[name][axis] // len(rows)
        parameters[name].data.movedim(axis, 0)[position[1:] == position[:-1]] = 0


def write(program: ExportedProgram, file: Path) -> str:
    """Write a program as ONNX and return the file's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False)
    assert model is not None
    model.save(str(file))
    return str(file)


def against_narrow(name: str, share: float, size: int) -> Case:
    """Compare a shrunk network with the one that was built with its widths."""
    net, _ = build(name)
    inputs: tuple[Tensor, ...] = (random_images(1, 3, size, size),)
    narrow = built_narrow(name, share)
    zero_to(net, channel_groups(net, inputs), narrow)
    for one in (net, narrow):
        calibrate(one, [(3, size, size)])  # without a signal, numbers underflow, and those are slow
    result = shrink(net, inputs)
    left = {n: tuple(p.shape) for n, p in result.program.named_parameters()}
    widths = {n: tuple(p.shape) for n, p in narrow.named_parameters() if n in left}  # YOLO holds one that nobody reads
    assert left == widths, {n: (left[n], widths[n]) for n in widths if left[n] != widths[n]}
    with tempfile.TemporaryDirectory() as folder:
        files = [
            write(torch.export.export(net, inputs), Path(folder) / "dense.onnx"),
            write(result.program, Path(folder) / "shrunk.onnx"),
            write(torch.export.export(narrow, inputs), Path(folder) / "narrow.onnx"),
        ]
        dense, shrunk, built = compare(files, [inputs[0].numpy()])
    case = {"model": name, "share": share, "pixels": size, "shrunk_to_narrow": shrunk / built}
    return case | {"shrunk_to_dense": shrunk / dense, "milliseconds": [1e3 * t for t in (dense, shrunk, built)]}


def aligned(name: str, share: float, size: int, evenly: bool = False) -> Case:
    """Compare the values of ``align`` on one network; ``evenly`` sets that share of every layer to zero."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    net, given = build(name)
    inputs = tuple(random_images(x.shape[0], x.shape[1], size, size) for x in given)
    exported = torch.export.export(net, inputs)
    groups = channel_groups(net, inputs)
    if evenly:
        zero_to(net, groups, built_narrow(name, 1 - share))
    else:
        zero(net, exported, groups, "coupled", share=share)
    calibrate(net, [x.shape[1:] for x in inputs])
    with tempfile.TemporaryDirectory() as folder:
        files = [write(exported, Path(folder) / "dense.onnx")]
        for align in ALIGN:
            files.append(
                write(shrink(exported, inputs, align=align, verify=False).program, Path(folder) / f"{align}.onnx")
            )
        times = compare(files, [x.numpy() for x in inputs])
    case: Case = {"model": name, "pruned": share, "pixels": size, "milliseconds": [1e3 * t for t in times]}
    case |= {f"align_{a}_to_1": t / times[1] for a, t in zip(ALIGN, times[1:], strict=True)}
    return case | {"align_1_to_dense": times[1] / times[0]}


CORES = sorted(os.sched_getaffinity(0))
FREE: queue.Queue[int] = queue.Queue()
for core in CORES:
    FREE.put(core)


def on_a_core(measure: Callable[..., Case], args: tuple[Any, ...]) -> Case:
    """Measure in a subprocess pinned to one core, which no other measurement uses meanwhile."""
    core = FREE.get()
    try:
        with multiprocessing.get_context("spawn").Pool(1, os.sched_setaffinity, (0, {core})) as pool:
            return pool.apply(measure, args)
    finally:
        FREE.put(core)


def main() -> None:
    """Measure, and write the results after every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    file = HERE / "results" / "latency.json"
    cases: dict[str, list[Case]] = {"narrow": [], "align": []}
    jobs: list[tuple[str, Callable[..., Case], tuple[Any, ...]]] = [
        ("narrow", against_narrow, (name, 0.5, 224 if name == "resnet50" else 320)) for name in ("resnet50", "yolo11n")
    ]
    jobs.append(("align", aligned, ("resnet50", 0.6, 224, True)))
    jobs += [("align", aligned, (name, 0.4, 160)) for name in NETWORKS]
    chosen = [job for job in jobs if not given.networks or job[2][0] in given.networks]
    with ThreadPoolExecutor(len(CORES)) as pool:
        measured = [(name, pool.submit(on_a_core, measure, args)) for name, measure, args in chosen]
        for name, case in ((name, job.result()) for name, job in measured):
            cases[name].append(case)
            texts = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in case.items())
            print(name, *texts, flush=True)
            if not given.networks:
                file.write_text(json.dumps(cases, indent=1) + "\n")
    if not given.networks:
        write_page()


if __name__ == "__main__":
    main()
