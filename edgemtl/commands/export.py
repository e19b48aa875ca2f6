"""``edgemtl shrink`` and ``export``: from a trained network to what a robot runs."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .outputs import check_ending, output_file, overwrite_option

SHRINK = {"align": ("1", "8", "16", "32", "auto"), "branches": ("keep", "cut", "auto"), "norms": ("keep", "rewrite")}
"""What the options of ``edgemtl shrink`` may be, the default first."""


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    _add_shrink(commands)
    _add_export(commands)


def _add_shrink(commands: Any) -> None:
    shrink = commands.add_parser(
        "shrink",
        help="remove dead channels from a run's network or any exported program",
        description="Remove every channel that is zero, constant or unread, exactly, prove it, and write the program.",
    )
    shrink.add_argument("what", metavar="RUN|PROGRAM.pt2", type=Path, help="a run, or what torch.export.save wrote")
    shrink.add_argument(
        "--out", metavar="FILE.pt2", type=Path, help="(default: RUN-shrunk.pt2 or PROGRAM.shrunk.pt2, beside it)"
    )
    overwrite_option(shrink)
    told = {
        "align": "keep channels up to this multiple in every layer; auto: what is measured to be fastest",
        "branches": "cut: let the operands of a sum keep different channels; auto: where that is faster",
        "norms": "rewrite: write layer and group normalisation out, so that more may go",
    }
    for name, known in SHRINK.items():
        shrink.add_argument(f"--{name}", metavar="|".join(known), default=known[0], help=f"{told[name]} (%(default)s)")
    shrink.add_argument("--outputs", metavar="NAME,NAME", help="ship these outputs only (default: all)")
    shrink.add_argument("--no-verify", action="store_true", help="leave out the proof that the outputs are the same")
    shrink.add_argument(
        "--trust", action="store_true", help="open a PROGRAM.pt2 that may run code of its own while it is loaded"
    )
    shrink.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    shrink.set_defaults(command=_shrink)


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="shrink a run's network and write it as a bundle")
    export.add_argument("run", metavar="RUN", type=Path)
    export.add_argument("--out", metavar="BUNDLE", type=Path, required=True)
    overwrite_option(export)
    export.add_argument(
        "--align", type=int, help="round channels up to this multiple (default: 8; 32 for int8 in TensorRT)"
    )
    export.add_argument("--heads", metavar="NAME,NAME", help="ship these heads, and what they read (default: all)")
    export.add_argument(
        "--precisions",
        metavar="fp16,int8",
        help="make these too; each is shipped if it passes (default: none, with --tensorrt fp16)",
    )
    export.add_argument(
        "--for",
        dest="target",
        choices=("onnxruntime", "tensorrt"),
        help="what int8 is laid out for (default: onnxruntime); with tensorrt the rest of it computes in fp16",
    )
    export.add_argument(
        "--max-drop", type=float, default=0.01, help="largest share of a head's figure to lose (%(default)s)"
    )
    export.add_argument(
        "--dynamic-batch", action="store_true", help="leave the number of pictures at once open (Triton gathers them)"
    )
    export.add_argument(
        "--triton", metavar="REPO", type=Path, help="add it to a Triton model repository too, by the name of --out"
    )
    export.add_argument(
        "--tensorrt", action="store_true", help="build, check and time engines on this machine's GPU, in its cache"
    )
    export.add_argument(
        "--engine-out", metavar="FILE", type=Path, help="with --tensorrt: copy the fastest plain plan here"
    )
    export.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    export.set_defaults(command=_export)


def _shrink(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from ..shrink import SUFFIX, beside, plain, readable, shrink

    for name, known in SHRINK.items():
        if (word := getattr(args, name)) not in known:
            raise EdgemtlError(f"--{name} {word}: is not one of {', '.join(known)}")
    outputs = None if args.outputs is None else [name for name in map(str.strip, args.outputs.split(",")) if name]
    if outputs is not None and not outputs:
        raise EdgemtlError("--outputs names no output; give one or more, with commas between them")
    if args.out is not None:
        check_ending(args.out, (SUFFIX,))
    with output_file(args.out, beside(args.what), args.overwrite) as out:
        shrunk = shrink(
            args.what,
            out,
            outputs,
            trust=args.trust,
            align=int(args.align) if args.align.isdecimal() else args.align,
            branches=args.branches,
            norms=args.norms,
            verify=not args.no_verify,
        )
    if args.json:
        print(json.dumps({**plain(shrunk.report), "out": str(out.given)}))
    else:
        if outputs:
            print(f"outputs kept: {', '.join(outputs)}; what only the others read is gone and not counted here\n")
        print(f"{readable(shrunk.report)}\n\nwrote {out.given}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from edgemtl_runtime.atomic import AtomicFile

    from ..console import say, steps
    from ..errors import EdgemtlError
    from ..export import Options, build_engines, export, tensorrt_here
    from ..run import Run

    words = {name: _words(getattr(args, name)) for name in ("heads", "precisions")}
    for name in words["precisions"]:
        if name not in ("fp16", "int8"):
            raise EdgemtlError(f"--precisions {name}: is not one of fp16, int8; fp32 is always there")
    if not 0 <= args.max_drop < 1:
        raise EdgemtlError(f"--max-drop {args.max_drop:g}: is a share, from 0 to below 1")
    if args.align is not None and not 1 <= args.align <= 256:
        raise EdgemtlError("--align lies between 1 (keep nothing) and 256")
    if args.engine_out and not args.tensorrt:
        raise EdgemtlError("--engine-out is of an engine: give --tensorrt too")
    backend = tensorrt_here() if args.tensorrt else ""
    if backend and not words["precisions"]:
        words["precisions"] = ("fp16",)
    target = args.target or ("tensorrt" if backend else "onnxruntime")
    options = Options(
        **words, target=target, max_drop=args.max_drop, align=args.align or 0, dynamic_batch=args.dynamic_batch
    )  # type: ignore[arg-type]
    run, tell = Run.open(args.run), say if not args.json else lambda _: None
    with AtomicFile(args.engine_out, args.overwrite) if args.engine_out else nullcontext() as plan:
        with nullcontext(lambda *_: None) if args.json else steps() as told:
            bundle, shrunk = export(run, args.out, None, options, told, args.overwrite)
        engine = None
        if backend:
            choice, built = build_engines(bundle, run, backend, tell)
            engine = {"plan": str(built.plan), "precision": choice.way.precision, "p50_ms": choice.p50_ms}
            if plan:
                plan.write(built.data)
    version = None
    if args.triton:
        from edgemtl_export.triton import write_triton

        version = write_triton(bundle, args.triton, bundle.path.name)
    if args.json:
        print(
            json.dumps(
                {
                    "triton": None if version is None else str(version),
                    "engine": engine,
                    "bundle": str(bundle.path),
                    "removed": shrunk.report.to_dict(),
                    "parity": bundle.manifest.parity,
                    "precisions": bundle.manifest.precisions,
                    "refused": bundle.manifest.rejected,
                }
            )
        )
    else:
        print(shrunk.report)
        parity = bundle.manifest.parity
        raw = ", ".join(f"{name} {value:.1e}" for name, value in parity["raw_max_abs"].items())
        same = ", ".join(f"{name} {value:.2%}" for name, value in parity["agreement"].items())
        print(f"on {parity['frames']} held-out pictures: raw heads differ by at most {raw}; outputs agree: {same}")
        for name, told in bundle.manifest.precisions.items():
            scores = [f"{head} {m} {v:.4f}" for head, each in told.get("scores", {}).items() for m, v in each.items()]
            print(f"{name}: {told['bytes'] / 1000:,.0f} kB{', ' if scores else ''}{', '.join(scores)}")
        for name, why in bundle.manifest.rejected.items():
            print(f"{name} rejected: {why}")
        if engine:
            fastest = choice.p50_ms[str(choice.way)]
            print(f"fastest engine of {backend}: {choice.way.precision}, {fastest:.2f} ms; {built.plan}")
        print(f"wrote {bundle.path}" + (f" and {version}" if version else ""))
    return 0


def _words(text: str | None) -> tuple[str, ...]:
    """Return what stands between commas."""
    return tuple(word for word in map(str.strip, (text or "").split(",")) if word)
