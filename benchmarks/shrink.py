"""Exact removal on many networks, against Torch-Pruning and torch-simplify on the same zeros in the same run.

python benchmarks/shrink.py           51 networks x 3 patterns of zeros -> benchmarks/results/shrink.json
python benchmarks/shrink.py --wide    other families, ours alone        -> benchmarks/results/shrink-wide.json

`make bench-shrink` runs both; each writes docs/shrinking.md from what results there are.

Rows are written as they come, and a run goes on where the last one stopped; `--fresh` measures all again, names those.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from networks import NETWORKS, WIDE, build, calibrate, random_images
from peers import limited, parameters, torch_pruning, torch_simplify, weights
from shrinking_page import OWN_ROUNDING, totals, verdict, write_page
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zeros import MODES, zero

from edgemtl_export import channel_groups, shrink

HERE = Path(__file__).parent
FLOAT32 = 1e-4
FLOAT64 = 1e-9
"""The largest differences over the signal of what is the same network."""
SEEDS = 8
TOOLS = {"edgemtl --branches cut": "cut", "edgemtl": "keep"}
"""Our own cases, and the branches of each."""
PEERS = ("torch-pruning", "torch-simplify")
Case = dict[str, Any]


def timed(run: Callable[[], Any], times: int = 2) -> tuple[Any, float]:
    """Return what a call gives and the best of its times."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        result = run()
        taken.append(time.perf_counter() - start)
    return result, min(taken)


def outputs(net: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the floating tensors that a network gives."""
    with torch.no_grad():
        return [t for t in pytree.tree_leaves(net(*inputs)) if isinstance(t, Tensor)]


def relative_error(net: nn.Module, other: Callable[..., Any], fresh: list[tuple[Tensor, ...]]) -> float:
    """Return the largest difference over the signal: the largest change of an output between two inputs."""
    truth = [outputs(net, x) for x in fresh]
    worst = 0.0
    for i, tensors in enumerate([outputs(other, x) for x in fresh]):
        if len(tensors) != len(truth[i]):
            return float("inf")
        for k, (left, right) in enumerate(zip(truth[i], tensors, strict=True)):
            if left.shape != right.shape:
                return float("inf")
            signal = float((truth[0][k] - truth[1][k]).abs().max()) or float(left.abs().max()) or 1.0
            error = float((left - right).abs().max()) / signal
            if error != error:
                return float("nan")
            worst = max(worst, error)
    return worst


def own_rounding(net: nn.Module, fresh: list[tuple[Tensor, ...]]) -> float:
    """Return how far the given network's own float32 is from its float64, over the signal."""
    exact = copy.deepcopy(net).double()
    return relative_error(net, lambda *x: [t.float() for t in outputs(exact, tuple(i.double() for i in x))], fresh)


def onnx_error(net: nn.Module, program: Any, fresh: list[tuple[Tensor, ...]]) -> float:
    """Return the same for ONNX Runtime on the shrunk program's ONNX."""
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False)
    assert exported is not None
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(o) for o in session.run(None, given)]

    return relative_error(net, run, fresh)


def measure(name: str, peers: bool, onnx: bool) -> list[Case]:
    """Return all cases of one network; where it cannot be built or exported, a crash for each."""
    try:
        return measure_network(name, peers, onnx)
    except Exception as error:  # whatever a network or its library raises: the others go on
        traceback.print_exc()
        crash = {"model": name, "ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
        return [{**crash, "mode": mode, "tool": tool} for mode in MODES for tool in (*TOOLS, *(PEERS if peers else ()))]


def measure_network(name: str, peers: bool, onnx: bool) -> list[Case]:
    """Return all cases of one network; it is exported once for its three patterns of zeros."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    net, inputs = build(name)
    torch.export.export(net, inputs)  # the first export of a process pays for imports
    exported, export_s = timed(lambda: torch.export.export(net, inputs))
    groups = channel_groups(net, inputs)
    fresh = [tuple(random_images(*x.shape) for x in inputs) for _ in range(2)]
    cases = []
    for mode in MODES:
        base: Case = {"model": name, "mode": mode, "export_seconds": export_s}
        base |= draw(name, net, partial(zero, net, exported, groups, mode), fresh)
        base["params_before"] = sum(p.numel() for p in net.parameters())
        cases += ours(base, net, exported, inputs, fresh, onnx and mode == "constant")
        base["params_removable"] = cases[-1].get("params_removable")
        if peers:
            run = partial(torch_pruning, net, inputs, groups, mode)
            runs = (run, lambda: torch_simplify(net, inputs))
            cases += [peer({**base, "tool": t}, net, fresh, r) for t, r in zip(PEERS, runs, strict=True)]
    return cases


def draw(name: str, net: nn.Module, zeroing: Callable[[], None], fresh: list[tuple[Tensor, ...]]) -> Case:
    """Give a network random weights with zeros in them, the first that distinguish right from wrong at 1e-4.

    A random network may amplify its float32 rounding to that; then weights of the next seed are drawn, before any tool
    is run.
    """
    for seed in range(SEEDS):
        net.load_state_dict(build(name, seed)[0].state_dict())
        zeroing()
        # With statistics from before the zeros, each layer would pass on less and less of the signal.
        calibrate(net, [x.shape[1:] for x in fresh[0]])
        case: Case = {"seed": seed, "own_rounding": own_rounding(net, fresh)}
        if case["own_rounding"] <= OWN_ROUNDING:
            break
    return case


def ours(
    base: Case, net: nn.Module, exported: Any, inputs: tuple[Tensor, ...], fresh: list[Any], onnx: bool
) -> list[Case]:
    """Return our cases: by position (with the proof), and with branches cut."""
    cases = []
    for tool, branches in TOOLS.items():
        case, proved = {**base, "tool": tool}, branches == "keep"
        try:
            if proved:
                _, case["seconds"] = timed(lambda: shrink(exported, inputs, verify=False))
            result = shrink(exported, inputs, branches=branches)  # type: ignore[arg-type]
            report = result.report
            case |= {f"{how}_error": error for how, error in report.proof.items()}
            case |= {"params_after": report.parameters_after, "pinned": report.pinned}
            case["weights_after"] = weights(result.module())
            case["params_removable"] = report.parameters_before - report.parameters_bound
            case["relative_error"] = relative_error(net, result.module(), fresh)
            if onnx and proved:
                case["onnx_error"] = onnx_error(net, result.program, fresh)
            case["ok"] = case["relative_error"] <= FLOAT32
            if not case["ok"] and case["own_rounding"] > OWN_ROUNDING:
                # The given network's own float32 is as far off: only float64 tells right from wrong.
                case |= {"judged_in": "float64", "ok": case["float64_error"] <= FLOAT64}
        except Exception as error:
            case |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
            traceback.print_exc()
        cases.append(case)
    return cases


def peer(case: Case, net: nn.Module, fresh: list[Any], run: Callable[[], nn.Module]) -> Case:
    """Return the case of another tool; a crash and a time-out are results too."""
    start = time.perf_counter()
    try:
        with limited():
            network = run()
        case["seconds"] = time.perf_counter() - start
        case |= {"params_after": parameters(network), "weights_after": weights(network)}
        case["relative_error"] = relative_error(net, network.eval(), fresh)
        case["ok"] = case["relative_error"] <= FLOAT32
    except Exception as error:
        case |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:120]}
        case["seconds"] = time.perf_counter() - start
    return case


def main() -> None:
    """Measure, write the JSON and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    known = WIDE if given.wide else NETWORKS
    results = HERE / "results" / ("shrink-wide.json" if given.wide else "shrink.json")
    rows = [] if given.fresh or not results.is_file() else json.loads(results.read_text())
    cases: list[Case] = [c for c in rows if c["model"] in known and c["model"] not in given.networks]
    names = given.networks or [name for name in known if name not in {c["model"] for c in cases}]
    context = multiprocessing.get_context("spawn")
    with context.Pool(given.workers, maxtasksperchild=4) as pool:
        jobs = [(name, pool.apply_async(measure, (name, not given.wide, True))) for name in names]
        for i, (name, job) in enumerate(jobs, 1):
            cases += job.get()
            exact = [c for c in cases if c["model"] == name and c["tool"] == "edgemtl"]
            print(f"{i}/{len(names)} {name}: " + ", ".join(f"{c['mode']} {verdict(c)}" for c in exact), flush=True)
            cases.sort(key=lambda c: known.index(c["model"]) if c["model"] in known else len(known))
            results.write_text(json.dumps(cases, indent=1) + "\n")
    print("\n".join(totals(cases)))
    write_page()


if __name__ == "__main__":
    main()
