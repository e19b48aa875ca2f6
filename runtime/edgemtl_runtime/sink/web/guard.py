"""Access control: by token, or by the Host header where there is none."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from .address import is_loopback_host
from .reply import Reply


class Guard:
    """Admits requests with the token; without a token, those to a loopback host.

    The Host header is what a page of another site cannot choose when it lets its own name resolve to this machine (DNS
    rebinding). The cookie holds a keyed hash of the token, so that any token fits into it.
    """

    def __init__(self, token: str) -> None:
        self.token = token.encode()
        self.digest = hmac.new(self.token, b"edgemtl web cookie", hashlib.sha256).hexdigest()

    def check(self, headers: Mapping[str, str], query: Mapping[str, str], port: int) -> Reply | None:
        """Return None where the request is admitted, else its answer.

        ``headers`` have names in lower case and values decoded as Latin-1; ``port`` is the server's.
        """
        if not self.token:
            host = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?|([^:\[\]]+)(?::[0-9]*)?", headers.get("host", ""))
            if host and is_loopback_host(host[1] or host[2]):
                return None
            return Reply.line(
                403, "this page is for 127.0.0.1 and localhost alone; give --token to serve it by another name"
            )
        if "token" in query:
            if not hmac.compare_digest(query["token"].encode(errors="replace"), self.token):
                return Reply.line(401, "this is not the token", WWW_Authenticate="Bearer")
            cookie = f"{cookie_name(port)}={self.digest}; HttpOnly; SameSite=Strict; Path=/"
            return Reply.line(303, "", Location="/", Set_Cookie=cookie)
        if self._has_token(headers, port):
            return None
        return Reply.line(401, "a token is needed: open the address with ?token=TOKEN", WWW_Authenticate="Bearer")

    def _has_token(self, headers: Mapping[str, str], port: int) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(credentials.strip().encode("latin-1", "replace"), self.token)
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(cookie_name(port))
        return cookie is not None and hmac.compare_digest(cookie.value.encode(errors="replace"), self.digest.encode())


def cookie_name(port: int) -> str:
    """Return the name of the session cookie; it has the port, since browsers share cookies between a host's ports."""
    return f"edgemtl_{port}"
