"""``edgemtl-runtime profile``: what a network's parts cost on this machine, for the training that makes it smaller."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import msgspec

from .atomic import AtomicFile
from .bundle import MODELS
from .cli_parser import add_examples
from .errors import EdgemtlError
from .signals import with_default_signals


def add_profile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line's parser."""
    profile = commands.add_parser(
        "profile",
        help="measure a probe of a network on this machine: the costs that it is pruned by",
        description="`edgemtl export RUN --probe DIR` writes the probe where the network is trained, this measures it "
        "where it will run, and a training takes the file as sparsity.costs=costs.json.",
    )
    profile.add_argument("probe", metavar="PROBE", type=Path)
    profile.add_argument("--out", metavar="FILE.json", type=Path, default=Path("costs.json"), help="(%(default)s)")
    profile.add_argument("--overwrite", action="store_true", help="replace the file of --out, if it exists")
    profile.add_argument("--backend", metavar="NAME", default="onnxruntime-cpu", help="what runs it (%(default)s)")
    profile.add_argument("--precision", choices=list(MODELS), help="(default: that of the probe)")
    profile.add_argument(
        "--threads", type=int, default=1, help="of onnxruntime-cpu, 0: all cores but one (%(default)s)"
    )
    profile.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(profile, "probe", "probe --backend tensorrt --precision fp16 --out orin.json")
    profile.set_defaults(command=command_profile)


@with_default_signals
def command_profile(args: argparse.Namespace) -> int:
    """Measure a probe, and write its costs."""
    from .engine.config import EngineConfig
    from .engine.costs import read_probe
    from .engine.onnxruntime import MOST_THREADS
    from .engine.profile import profile
    from .progress import print_progress

    probe = read_probe(args.probe)
    if not 0 <= args.threads <= MOST_THREADS:
        raise EdgemtlError(f"--threads {args.threads}: give 1 to {MOST_THREADS}, or 0 for all cores but one")
    with AtomicFile(args.out, args.overwrite) as output:
        try:
            config = EngineConfig(args.backend, args.precision or probe.precision, args.threads)
        except ValueError as error:
            raise EdgemtlError(str(error)) from error
        costs = profile(args.probe, config, lambda done, total: print_progress("measuring", done, total))
        output.write(msgspec.json.encode(costs))
    report = {"out": str(args.out), "models": len(costs.times_ms), "dense_ms": costs.times_ms.get("network-0")}
    if args.json:
        described = {
            name: getattr(costs, name) for name in ("device", "backend", "precision", "threads", "fingerprint")
        }
        print(json.dumps(report | described))
    else:
        print(f"{probe.network}: {len(costs.times_ms)} models measured with {costs}")
        print(f"the whole network takes {costs.times_ms['network-0']:.2f} ms; wrote {args.out}")
    return 0
