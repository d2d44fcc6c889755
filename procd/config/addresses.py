"""Addresses that people write: `host:port`, and URLs.

Owns their syntax.  A host is an address or `localhost`: asking a name server would stop the one thread of the
daemon.  Must not touch the network.
"""

from __future__ import annotations

import re
import socket

from procd.config.problems import Mistake, quoted

# An IPv6 address stands in brackets, or nobody could tell where its port begins (RFC 3986, 3.2.2).
_HOST_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:/@\s]*)):([0-9]{1,6})", re.ASCII)
_URL = re.compile(r"http://([^/?#@]*)([/?][!-\"$-~]*)?", re.ASCII | re.IGNORECASE)
_HAS_PORT = re.compile(r":[0-9]*\Z", re.ASCII)
_LONGEST_URL = 2048  # a request for it fits into the buffer of any new socket (tcp(7))


def require_address(text: str) -> None:
    """Raise Mistake when `text` is not `host:port` that can be connected to without asking anybody."""
    host, _ = host_and_port(text)
    if not host:
        raise Mistake(f"{quoted(text)} names no host", "write 127.0.0.1:PORT")


def require_url(text: str) -> None:
    """Raise Mistake when `text` is not an `http://` URL whose host is an address or localhost."""
    if text[:8].lower() == "https://":
        raise Mistake("https is not spoken here", 'ask with a command, such as ["curl", "-fsS", "URL"]')
    match = _URL.fullmatch(text)
    if match is None or not match[1]:
        raise Mistake(f"{quoted(text)} is not a URL", "write it as http://127.0.0.1:8000/health")
    if len(text) > _LONGEST_URL:
        raise Mistake(f"a URL has at most {_LONGEST_URL} characters", "ask for something shorter")
    has_port = _HAS_PORT.search(match[1])
    require_address(match[1] if has_port else f"{match[1]}:80")


def listening_address(text: str) -> tuple[str, int]:
    """The address and the port to bind that `host:port` stands for; without a host, all IPv4 addresses.

    Raises Mistake.
    """
    host, port = host_and_port(text)
    return {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host.lower(), host), port  # noqa: S104 - it is asked for


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of `host:port`; the host is an address, `localhost`, or empty.  Raises Mistake."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise Mistake(f"{quoted(text)} is not HOST:PORT", "write it as 127.0.0.1:80 or [::1]:80")
    in_brackets, plain, port = match.groups()
    if not 1 <= int(port) <= 65535:
        raise Mistake(f"{port} is not a port", "ports are 1 to 65535")
    if in_brackets is not None:
        if not _is_address(socket.AF_INET6, in_brackets.partition("%")[0]):
            raise Mistake(f"{quoted(in_brackets)} is not an IPv6 address", "write it as [::1]:80")
        return in_brackets, int(port)
    if plain and plain.lower() != "localhost" and not _is_address(socket.AF_INET, plain):
        what = f"{quoted(plain)} is not an address, and procd asks no name server"
        raise Mistake(what, "write the address itself, or localhost")
    return plain, int(port)


def _is_address(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
