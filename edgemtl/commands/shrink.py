"""The command ``edgemtl shrink``: from a trained network to the program without its pruned channels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.atomic import outermost_artefact
from edgemtl_runtime.cli_parser import add_examples, answer_words

from ..external.source import FORMS
from ..other_tools import option_hint
from .network_options import external_source, network_options, open_external
from .outputs import check_suffix, comma_separated, json_option, output_file, overwrite_option
from .plugin_options import load_plugins, plugin_options

if TYPE_CHECKING:
    from ..external.source import NetworkSource
    from .outputs import Commands

PROGRAM = ".pt2"
SHRINK = {"align": ("1", "8", "16", "32", "auto"), "branches": ("keep", "cut", "auto"), "norms": ("keep", "rewrite")}
"""Values of the options of ``edgemtl shrink``, the default first."""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    shrink = commands.add_parser(
        "shrink",
        help="remove pruned channels from a run's network, or any other",
        description="Remove every channel that is zero, constant or unread, exactly, prove it, and write the program.",
    )
    shrink.add_argument("path", metavar="RUN|NETWORK", type=Path, help=f"a run, or {FORMS}")
    shrink.add_argument(
        "--out", metavar="FILE.pt2", type=Path, help="(default: RUN-shrunk.pt2 or PROGRAM.shrunk.pt2, next to it)"
    )
    overwrite_option(shrink)
    descriptions = {
        "align": "keep channels up to this multiple in every layer; auto: what is measured to be fastest",
        "branches": "cut: let the operands of a sum keep different channels; auto: where that is faster",
        "norms": "rewrite: write layer and group normalisation out, so that more channels may be removed",
    }
    for name, values in SHRINK.items():
        text = f"{descriptions[name]} (%(default)s)"
        shrink.add_argument(f"--{name}", metavar="|".join(values), default=values[0], help=text)
    shrink.add_argument("--outputs", metavar="NAME,NAME", help="keep these outputs only (default: all)")
    shrink.add_argument("--no-verify", action="store_true", help="skip the proof that the outputs are the same")
    network_options(shrink)
    plugin_options(shrink, ", and open a NETWORK that may run custom code while it is loaded")
    json_option(shrink)
    add_examples(
        shrink,
        "runs/pruned",
        "network.pt2 --align 8 --out small.pt2",
        "pruned.pt --input-size 320 320",
    )
    answer_words(shrink, option_hint)
    shrink.set_defaults(command=_shrink)


def _shrink(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from .checks import check_run_or_program

    for name, values in SHRINK.items():
        value = vars(args)[name]
        if value not in values:
            raise EdgemtlError(f"--{name} {value}: is not one of {', '.join(values)}")
    outputs = None if args.outputs is None else list(comma_separated(args.outputs))
    if outputs is not None and not outputs:
        raise EdgemtlError("--outputs names no output; give one or more, with commas between them")
    if args.out is not None:
        check_suffix(args.out, (PROGRAM,))
    source = external_source(str(args.path), args)
    if source is None:
        check_run_or_program(args.path)
    load_plugins(args, [args.path])
    return _shrink_and_report(args, source, outputs)


def _shrink_and_report(args: argparse.Namespace, source: NetworkSource | None, outputs: list[str] | None) -> int:
    default = default_program(args.path) if source is None or source.kind == PROGRAM else source.program(PROGRAM)
    with output_file(args.out, default, args.overwrite) as out:
        from ..shrink import open_model, shrink
        from ..shrink_report import as_json, as_text

        if source is None or source.kind == PROGRAM:
            model, args_of, inputs = open_model(args.path, args.trust)
        else:
            network = open_external(source, args)
            model, args_of, inputs = network.adapter.core, network.args, {}
        shrunk = shrink(
            args.path,
            (model, args_of, inputs),
            out,
            outputs,
            align=int(args.align) if args.align.isdecimal() else args.align,
            branches=args.branches,
            norms=args.norms,
            verify=not args.no_verify,
        )
    if args.json:
        print(json.dumps({**as_json(shrunk.report), "out": str(out.given)}))
    else:
        if outputs:
            print(f"outputs kept: {', '.join(outputs)}; what only the others read is removed and not counted here\n")
        print(f"{as_text(shrunk.report)}\n\nwrote {out.given}")
    return 0


def default_program(path: Path) -> Path:
    """Return the file that is written where none is given: next to a program, or next to a run, never in it."""
    named = path if path.name not in ("", "..") else path.resolve()
    if not path.is_dir():
        return named.with_name(f"{named.name.removesuffix(PROGRAM)}.shrunk{PROGRAM}")
    name = f"{named.name}-shrunk{PROGRAM}"
    outer = outermost_artefact(named)  # a run may be a part of something larger that is ours
    return (named if outer is None else outer).with_name(name)
