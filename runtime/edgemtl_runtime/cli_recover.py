"""Command ``edgemtl-runtime recover``: recordings that a kill, a full disk or an incomplete copy truncated."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import count
from pathlib import Path

from .cli_parser import add_examples
from .errors import EdgemtlError
from .recording_recovery import recovery_for
from .sink.partial_file import PartialFile, rename_no_replace


def add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    recover = commands.add_parser(
        "recover",
        help="recover a truncated recording into a new file",
        description="Write what is complete in an MCAP file, a video or JSON lines into a new file. The source stays.",
    )
    recover.add_argument("file", metavar="FILE", type=Path, help="the recording, or the hidden .part of one")
    recover.add_argument("--out", metavar="FILE", type=Path, help="what to write (default: NAME-recovered.EXT)")
    recover.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(recover, "drive.mcap", ".drive.part.mp4 --out drive.mp4")
    recover.set_defaults(command=command_recover)


def command_recover(args: argparse.Namespace) -> int:
    """Recover a file, and print the report."""
    file: Path = args.file
    recover = recovery_for(file)
    out = args.out or free_name(file)
    if args.out is not None and args.out.exists():
        raise EdgemtlError(f"{out}: is there already; name another with --out")
    output = _open_partial(out)
    try:
        report = recover(file, output)
        if not report.count:
            raise EdgemtlError(f"{file}: holds nothing that is whole")
        if report.was_whole:
            out = file
        else:
            output.sync()
            if not rename_no_replace(output.path, out):
                raise EdgemtlError(f"{out}: is there already; name another with --out")
    except OSError as error:
        raise EdgemtlError(f"{file}: cannot be recovered to {out} ({error.strerror or error})") from error
    finally:
        output.discard()  # does nothing once it is renamed
    print(json.dumps(asdict(report) | {"file": str(out)}) if args.json else f"{out}: {report}")
    return 0


def _open_partial(out: Path) -> PartialFile:
    path = out.with_name(f".{out.stem}.recovering{out.suffix}")
    try:
        return PartialFile(path)
    except FileExistsError as error:
        raise EdgemtlError(f"{path}: is there already, of a recovery that was ended; remove it") from error
    except OSError as error:
        raise EdgemtlError(f"{out}: cannot be written ({error.strerror})") from error


def free_name(file: Path) -> Path:
    """Return NAME-recovered.EXT, with a number where that exists; of a partial file without its dot and ``.part``."""
    name = file.name.removesuffix(".part")
    plain = Path(name.removeprefix(".") if ".part" in file.name else name)
    stem = plain.stem.removesuffix(".part")
    names = (f"{stem}-recovered{'' if n == 1 else f'-{n}'}{plain.suffix}" for n in count(1))
    return next(path for name in names if not (path := file.with_name(name)).exists())
