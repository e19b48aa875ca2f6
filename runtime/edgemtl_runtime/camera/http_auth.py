"""HTTP authentication, which RTSP shares: Digest (RFC 7616, MD5 and SHA-256) and Basic (RFC 7617)."""

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
            parameters = _parameters(rest)
            algorithm = parameters.get("algorithm", "MD5").upper()
            if algorithm.removesuffix("-SESS") in HASHES and (not best.startswith("Digest") or "SHA" in algorithm):
                best = _digest(parameters, algorithm, method, uri, user, password)
        elif scheme.lower() == "basic" and not best:
            best = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return best


def _parameters(rest: str) -> dict[str, str]:
    try:
        return parse_keqv_list(parse_http_list(rest))
    except (ValueError, IndexError):  # not a list of key=value pairs
        return {}


def _digest(parameters: dict[str, str], algorithm: str, method: str, uri: str, user: str, password: str) -> str:
    def hash_of(*words: str) -> str:
        return HASHES[algorithm.removesuffix("-SESS")](":".join(words).encode()).hexdigest()

    realm, nonce, cnonce = parameters.get("realm", ""), parameters.get("nonce", ""), secrets.token_hex(8)
    secret = hash_of(user, realm, password)
    if algorithm.endswith("-SESS"):
        secret = hash_of(secret, nonce, cnonce)
    request_hash = hash_of(method, uri)
    values = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    plain = {"algorithm": algorithm} if "algorithm" in parameters else {}
    if "auth" in [word.strip() for word in parameters.get("qop", "").split(",")]:
        values["response"] = hash_of(secret, nonce, "00000001", cnonce, "auth", request_hash)
        values["cnonce"] = cnonce
        plain |= {"qop": "auth", "nc": "00000001"}
    else:
        values["response"] = hash_of(secret, nonce, request_hash)
    if "opaque" in parameters:
        values["opaque"] = parameters["opaque"]
    quoted = [f'{name}="{value}"' for name, value in values.items()]
    return "Digest " + ", ".join([*quoted, *(f"{name}={value}" for name, value in plain.items())])
