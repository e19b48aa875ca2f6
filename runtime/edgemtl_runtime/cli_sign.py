"""Commands ``edgemtl-runtime sign`` and ``verify``: bundles that only the holder of a key can have written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .cli_parser import add_examples


def add_sign(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a command line."""
    sign = commands.add_parser(
        "sign",
        help="sign a bundle, so that robots take no other",
        description="Write the signature of a bundle's manifest, which has the hash of every file, next to it.",
    )
    sign.add_argument("bundle", metavar="BUNDLE", type=Path)
    sign.add_argument("--key", metavar="FILE", type=Path, required=True, help="the private key: PEM, Ed25519")
    sign.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(sign, "street --key fleet.key")
    sign.set_defaults(command=command_sign)
    verify = commands.add_parser(
        "verify",
        help="verify a bundle's files and its signature",
        description="Verify every file of a bundle, and that it was signed with one of some keys.",
    )
    verify.add_argument("bundle", metavar="BUNDLE", type=Path)
    verify.add_argument(
        "--key", metavar="FILE", type=Path, action="append", required=True, help="a public key; several may be given"
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_examples(verify, "street --key fleet.pub", "street --key old.pub --key new.pub")
    verify.set_defaults(command=command_verify)


def command_sign(args: argparse.Namespace) -> int:
    """Verify a bundle, sign it, and print where."""
    from .bundle import Bundle
    from .path_kinds import MANIFEST
    from .signature import sign

    bundle = Bundle.open(args.bundle)
    file = sign(bundle.path / MANIFEST, args.key)
    print(json.dumps({"signature": str(file)}) if args.json else f"wrote {file}")
    return 0


def command_verify(args: argparse.Namespace) -> int:
    """Verify a bundle and its signature; what is wrong is an error."""
    from .bundle import Bundle

    bundle = Bundle.open(args.bundle, args.key)
    files = len(bundle.manifest.files)
    print(
        json.dumps({"bundle": str(bundle.path), "files": files, "signed_by": str(bundle.signed_by)})
        if args.json
        else f"{bundle.path}: {files} files as the manifest says, signed with {bundle.signed_by}"
    )
    return 0
