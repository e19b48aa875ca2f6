"""URL parsing for streams whose passwords may hold characters that a URL may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from ..errors import UsageError


@dataclass(frozen=True)
class Address:
    """A URL's parts: ``rest`` is the path and the query, at least ``/``; ``port`` 0 is the scheme's default."""

    user: str
    password: str
    host: str
    port: int
    rest: str

    @property
    def authority(self) -> str:
        """``host[:port]`` as in a URL (RFC 3986, 3.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


def host_begin(url: str) -> int:
    """Return the index of a URL's host: after a password that may hold "/", "?", "#" and "@"."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return 0
    user, at, _ = rest.rpartition("@")
    authority = re.split(r"[/?#]", rest)[0]
    plain = "@" not in authority and re.fullmatch(r"[^:]*(:[0-9]+)?|\[.*\](:[0-9]+)?", authority)
    start = len(scheme) + len(mark)
    return start if not at or plain else start + len(user) + len(at)


def encoded(url: str) -> str:
    """Return a URL whose user and password are percent-encoded, for libraries that end them at any "/", "?" or "#"."""
    begin, start = host_begin(url), url.find("://") + 3
    user, mark, password = url[start:begin].removesuffix("@").partition(":")
    if not user:
        return url
    plain = [quote(unquote(part), safe="") for part in (user, password)]
    return f"{url[:start]}{plain[0]}{mark}{plain[1]}@{url[begin:]}"


def split(label: str, url: str) -> Address:
    """Return the parts of a URL; raises `UsageError` where it has no host or no valid port."""
    begin = host_begin(url)
    start = url.index("://") + 3
    user, _, password = url[start:begin].removesuffix("@").partition(":")
    match = re.match(r"(\[[0-9A-Fa-f:.%]+\]|[^/?#:\[\]@\s]+)(?::([0-9]{1,5}))?(?=[/?#]|$)", url[begin:])
    if not match or int(match[2] or 0) > 65535:
        raise UsageError(f"{label}: is no address with a host and a port; give SCHEME://HOST:PORT/PATH")
    rest = url[begin + match.end() :].partition("#")[0]
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise UsageError(f"{label}: has blanks in its path; write %20 for one")
    rest = rest if rest.startswith("/") else f"/{rest}"
    return Address(unquote(user), unquote(password), match[1].strip("[]"), int(match[2] or 0), rest)
