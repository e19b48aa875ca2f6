"""The address that the page is served at, and whether only this machine reaches it."""

from __future__ import annotations

import ipaddress
import re

from ...errors import EdgemtlError


def parse_address(address: str) -> tuple[str, int]:
    """Parse "HOST:PORT", ":PORT" or "PORT" (both on 127.0.0.1), IPv6 hosts in brackets; raises `EdgemtlError`."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):)?([0-9]{1,5})", address)
    if not match or int(match[2]) > 65535:
        raise EdgemtlError(f"--serve {address}: give HOST:PORT or a port from 0 to 65535, as in 127.0.0.1:8080")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def is_loopback_host(host: str) -> bool:
    """Whether a host is a loopback one: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_loopback(address: str) -> bool:
    """Whether the host of an address is a loopback one; raises `EdgemtlError` as `parse_address` does."""
    return is_loopback_host(parse_address(address)[0])
