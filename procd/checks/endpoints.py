"""Where a check knocks: `host:port`, and URLs.

Owns their syntax, and which addresses they stand for.  Must not touch the network: asking a name server would
stop the one thread of the daemon, so a host is an address, or `localhost`, which needs no asking.
"""

from __future__ import annotations

import re
import socket
from typing import Any, NamedTuple

from msgspec import Struct

#: Characters of a URL: a request for it fits into the buffer of any new socket (tcp(7)).
MAX_URL = 2048
#: A local service that listens on one of the two families is there.
LOCALHOST = ("127.0.0.1", "::1")

# An IPv6 address stands in brackets, or nobody could tell where its port begins (RFC 3986, 3.2.2).
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\[\]:/@\s]+)):([0-9]{1,5})", re.ASCII)
_URL = re.compile(r"http://([^/?#\s]+)((?:[/?][^#\s]*)?)", re.ASCII | re.IGNORECASE)


class Address(NamedTuple):
    """What socket(2) and connect(2) want."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class Url(Struct, frozen=True):
    """A URL to GET: where to connect, what to write into the Host header, and what to ask for."""

    addresses: tuple[Address, ...]
    host: str
    target: str


def parse_host_port(text: str) -> tuple[Address, ...]:
    """The addresses of `host:port`, in the order in which they are tried.

    Raises ValueError, in words, for a host that is no address and not `localhost`, and for a port that is none.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not host:port, such as 127.0.0.1:80 or [::1]:80')
    host, port = match[1] or match[2], int(match[3])
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port: 1 to 65535")
    hosts = LOCALHOST if host.lower() == "localhost" else (host,)
    return tuple(_literal(each, port) for each in hosts)


def parse_url(text: str) -> Url:
    """What an `http://host[:port][/path][?query]` asks for.

    Raises ValueError, in words, for everything else: https needs a command that knows whom to trust.
    """
    match = _URL.fullmatch(text)
    if match is None or len(text) > MAX_URL:
        raise ValueError(f'"{text}" is not a URL such as http://127.0.0.1:8000/health (https: use a command)')
    host, target = match[1], match[2]
    has_port = re.search(r":[0-9]+$", host) is not None
    addresses = parse_host_port(host if has_port else f"{host}:80")
    return Url(addresses, host, target if target.startswith("/") else f"/{target}")


def _literal(host: str, port: int) -> Address:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        raise ValueError(f'"{host}" is not an address: names other than localhost are not looked up') from error
    family, _, _, _, sockaddr = found[0]
    return Address(family, sockaddr)
