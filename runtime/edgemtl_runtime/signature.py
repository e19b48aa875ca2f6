"""Signatures of bundles: Ed25519 (RFC 8032) over the manifest, which has the hash of every other file.

Keys are PEM files as OpenSSL writes them; the signature is a file of its own next to the manifest, in Base64.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import list_file
from .errors import BundleError, EdgemtlError, missing
from .limits import read_bounded

SIGNATURE = "manifest.sig"
CONTEXT = b"edgemtl bundle manifest\n"
"""What is signed begins with it, so that no signature of this key for anything else is one of a bundle."""
MOST_BYTES = 4096
"""Of a key or signature file."""
NEW_KEY = "openssl genpkey -algorithm ed25519 -out fleet.key && openssl pkey -in fleet.key -pubout -out fleet.pub"


def sign(manifest: Path, key: Path) -> Path:
    """Write the signature of a manifest by a private key next to it, in place of an earlier one; returns the file."""
    private = _load(key, "private")
    signature = private.sign(CONTEXT + manifest.read_bytes())
    file = manifest.with_name(SIGNATURE)
    partial = manifest.with_name(f".{SIGNATURE}.{os.getpid()}")
    try:
        partial.write_bytes(base64.b64encode(signature) + b"\n")
        partial.replace(file)
        list_file(manifest.parent, SIGNATURE)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EdgemtlError(f"{file}: cannot be written ({error.strerror})") from error
    return file


def check_signature(manifest: Path, content: bytes, keys: Sequence[Path]) -> Path:
    """Return the public key that a manifest of this content was signed with; raises `BundleError` where none is."""
    public = [(key, _load(key, "public")) for key in keys]
    file = manifest.with_name(SIGNATURE)
    if not file.is_file():
        raise BundleError(f"{manifest.parent}: is not signed ({SIGNATURE} is missing); do not use this bundle")
    try:
        signature = base64.b64decode(read_bounded(file, MOST_BYTES, BundleError))
    except binascii.Error as error:
        raise BundleError(f"{file}: is no signature ({error}); do not use this bundle") from error
    from cryptography.exceptions import InvalidSignature

    for path, key in public:
        try:
            key.verify(signature, CONTEXT + content)
        except InvalidSignature:
            continue
        return path
    names = " nor ".join(str(key) for key in keys)
    raise BundleError(f"{manifest.parent}: its signature is not of {names}; do not use this bundle")


def _load(file: Path, kind: str) -> Any:
    """Return a key of a PEM file; raises `EdgemtlError` where it is none of that kind."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    except ImportError as error:
        hint = "cryptography, which signatures need, is missing: pip install 'edgemtl-runtime[sign]'"
        raise EdgemtlError(missing(error, "cryptography", hint)) from error
    data = read_bounded(file, MOST_BYTES)
    try:
        key: Any = load_pem_private_key(data, None) if kind == "private" else load_pem_public_key(data)
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = "it is encrypted" if isinstance(error, TypeError) else "it is no such PEM file"
        raise EdgemtlError(f"{file}: is no {kind} key ({reason}); make a pair with: {NEW_KEY}") from None
    except Exception as error:  # of an algorithm that the library does not have
        raise EdgemtlError(f"{file}: is no {kind} key ({type(error).__name__}); make a pair with: {NEW_KEY}") from error
    if not isinstance(key, (Ed25519PrivateKey, Ed25519PublicKey)):
        raise EdgemtlError(f"{file}: is a key, but not of Ed25519; make a pair with: {NEW_KEY}")
    return key
