"""Where checks knock: addresses and URLs, without a name server."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.checks.endpoints import parse_host_port, parse_url
from procd.checks.http import HttpProbe
from tests.unit.checks.fake_loop import FakeLoop


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", [(socket.AF_INET, "127.0.0.1", 80)]),
        ("[::1]:5432", [(socket.AF_INET6, "::1", 5432)]),
        ("localhost:1", [(socket.AF_INET, "127.0.0.1", 1), (socket.AF_INET6, "::1", 1)]),
        ("LocalHost:65535", [(socket.AF_INET, "127.0.0.1", 65535), (socket.AF_INET6, "::1", 65535)]),
    ],
)
def test_addresses_are_read(text: str, expected: list[tuple[socket.AddressFamily, str, int]]) -> None:
    """Numbers are taken as they are; localhost is both of its addresses."""
    assert [(each.family, *each.sockaddr[:2]) for each in parse_host_port(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "80", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:99999",
        "127.0.0.1:http", "::1:80", "[::1]", "[127.0.0.1:80", "example.com:80", "a b:80", "127.0.0.1:8\u0660",
        "user@127.0.0.1:80", "127.0.0.1:80/", "-1:80", "[zz]:80", "\0:80", "127.0.0.1:80\n",
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_words(text: str) -> None:
    """A name would have to be looked up, which could stop the daemon."""
    with pytest.raises(ValueError, match=r"is not (host:port|an address|a port)"):
        parse_host_port(text)


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("http://127.0.0.1", "127.0.0.1", 80, "/"),
        ("http://127.0.0.1/", "127.0.0.1", 80, "/"),
        ("HTTP://127.0.0.1:8000/health?deep=1", "127.0.0.1:8000", 8000, "/health?deep=1"),
        ("http://127.0.0.1?x", "127.0.0.1", 80, "/?x"),
        ("http://[::1]/x", "[::1]", 80, "/x"),
        ("http://[::1]:81/x", "[::1]:81", 81, "/x"),
        ("http://localhost:8000/a/b", "localhost:8000", 8000, "/a/b"),
    ],
)
def test_urls_are_read(text: str, host: str, port: int, target: str) -> None:
    """The Host header is what stands in the URL; what is asked for begins with a slash."""
    url = parse_url(text)
    assert (url.host, url.addresses[0].sockaddr[1], url.target) == (host, port, target)


@pytest.mark.parametrize(
    "text",
    [
        "", "http://", "https://127.0.0.1/", "127.0.0.1/", "ftp://127.0.0.1/", "http://example.com/",
        "http://user:secret@127.0.0.1/", "http://127.0.0.1/a b", "http://127.0.0.1/a\r\nX: y",
        "http://127.0.0.1:99999/", "http://127.0.0.1/#part", "http:///path", "http://127.0.0.1/" + "x" * 3000,
    ],
)  # fmt: skip
def test_urls_that_cannot_be_asked_are_refused_in_words(text: str) -> None:
    """Other schemes, names, users and everything that could write a header of its own."""
    with pytest.raises(ValueError, match=r"is not"):
        parse_url(text)


def test_a_request_that_http_does_not_allow_is_refused_in_words() -> None:
    """Control characters in what is asked for."""
    with pytest.raises(ValueError, match="cannot be asked for"):
        HttpProbe(FakeLoop(), "http://127.0.0.1/\x01")  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    """They answer, or raise ValueError."""
    for parse in (parse_host_port, parse_url):
        for each in (text, f"http://{text}", f"127.0.0.1:{text}", f"http://127.0.0.1/{text}"):
            try:
                parse(each)
            except ValueError as error:
                assert str(error)  # noqa: PT017 - the error is allowed, not expected
