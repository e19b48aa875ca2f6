"""HTTP's ways to prove a password, which RTSP shares: Digest (RFC 7616, MD5 and SHA-256) and Basic (RFC 7617)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from urllib.request import parse_http_list, parse_keqv_list

HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def authorization(challenges: Sequence[str], method: str, uri: str, user: str, password: str) -> str:
    """Return the Authorization header for the strongest challenge that is known, empty where none is."""
    best = ""
    for challenge in challenges:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "digest":
            told = _told(rest)
            kind = told.get("algorithm", "MD5").upper()
            if kind.removesuffix("-SESS") in HASHES and (not best.startswith("Digest") or "SHA" in kind):
                best = _digest(told, kind, method, uri, user, password)
        elif scheme.lower() == "basic" and not best:
            best = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return best


def _told(rest: str) -> dict[str, str]:
    try:
        return parse_keqv_list(parse_http_list(rest))
    except (ValueError, IndexError):  # a server that writes no such list
        return {}


def _digest(told: dict[str, str], kind: str, method: str, uri: str, user: str, password: str) -> str:
    def hashed(*words: str) -> str:
        return HASHES[kind.removesuffix("-SESS")](":".join(words).encode()).hexdigest()

    realm, nonce, fresh = told.get("realm", ""), told.get("nonce", ""), secrets.token_hex(8)
    secret = hashed(user, realm, password)
    if kind.endswith("-SESS"):
        secret = hashed(secret, nonce, fresh)
    asked = hashed(method, uri)
    values = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    plain = {"algorithm": kind} if "algorithm" in told else {}
    if "auth" in [word.strip() for word in told.get("qop", "").split(",")]:
        values["response"] = hashed(secret, nonce, "00000001", fresh, "auth", asked)
        values["cnonce"] = fresh
        plain |= {"qop": "auth", "nc": "00000001"}
    else:
        values["response"] = hashed(secret, nonce, asked)
    if "opaque" in told:
        values["opaque"] = told["opaque"]
    quoted = [f'{name}="{value}"' for name, value in values.items()]
    return "Digest " + ", ".join([*quoted, *(f"{name}={value}" for name, value in plain.items())])
