"""Specs survive as bytes, whatever is in them."""

from __future__ import annotations

import zlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from procd.config import snapshot
from procd.config.access import Right, Rule
from procd.config.spec import (
    Backoff,
    CgroupLimits,
    Check,
    CheckKind,
    Condition,
    Configuration,
    Credentials,
    DaemonSpec,
    Dependency,
    Health,
    Hooks,
    Input,
    LogFormat,
    LogSpec,
    OnError,
    ProgramSpec,
    ResourceLimit,
    Scheduling,
    SocketSpec,
    StartLimit,
    StopStep,
    Success,
)

FULL = ProgramSpec(
    name="web@1",
    program="web",
    instance=1,
    groups=("app", "front"),
    command=("/bin/x", "a b"),
    environment=(("A", "1"), ("B", "not \udcff UTF-8")),
    inherit=frozenset({"PATH"}),
    credentials=Credentials(uid=1, gid=2, groups=(2, 3), name="ann", home="/home/ann", shell="/bin/sh"),  # noqa: S604 - a field
    stdin=Input.PIPE,
    stdout_log=LogSpec("/l", max_size=None, max_age_s=5.0, format=LogFormat.JSON, on_error=OnError.BLOCK),
    success=Success(frozenset({0, 3}), frozenset({15})),
    backoff=Backoff(factor=3.0),
    stop_steps=(StopStep(2, 5.0),),
    depends_on=(Dependency("db", Condition.HEALTHY),),
    ready=Check(kind=CheckKind.FD, fd=3),
    health=Health(check=Check(kind=CheckKind.COMMAND, command=("x",)), watchdog_s=3.0),
    start_limit=StartLimit(3, 60.0),
    schedule="@daily",
    max_runtime_s=5.0,
    hooks=Hooks(after_stop=("x",)),
    sockets=("http",),
    limits=(ResourceLimit(7, 1, 2),),
    scheduling=Scheduling(nice=1, cpu_affinity=frozenset({0, 1})),
    capabilities=frozenset({1}),
    cgroup=CgroupLimits(),
)


def test_every_field_comes_back() -> None:
    """Each with its type: what comes back is equal, and so is what follows from it."""
    sockets = [SocketSpec(name="http", host="::1", port=80), SocketSpec(name="u", path="/x", uid=3)]
    plain = ProgramSpec(name="a", program="a", command=("x",))
    whole = Configuration(
        daemon=DaemonSpec(
            runtime_dir="/r", state_dir="/s", log_dir="/l", socket="/r/s",
            allow=(Rule(uids=frozenset({5}), programs=("web*",), rights=frozenset({Right.STATUS})),),
        ),
        programs={each.name: each for each in (FULL, plain)},
        sockets={each.name: each for each in sockets},
        files=("/etc/procd/procd.toml",),
    )  # fmt: skip
    assert snapshot.load(snapshot.dump(whole), Configuration) == whole


@given(st.lists(st.tuples(st.text(), st.text())))
def test_any_environment_comes_back(environment: list[tuple[str, str]]) -> None:
    """Files with environments are bytes of other people."""
    held = tuple(
        (name.encode("utf-8", "ignore").decode(), value.encode("utf-8", "ignore").decode())
        for name, value in environment
    )
    spec = structs.replace(FULL, environment=held)
    assert snapshot.load(snapshot.dump([spec]), list[ProgramSpec]) == [spec]


def test_a_thousand_like_programs_are_small() -> None:
    """They are kept in memory, for all the time that procd runs."""
    specs = [structs.replace(FULL, name=f"web@{i}", instance=i) for i in range(1000)]
    assert len(snapshot.dump(specs)) < 100_000


@pytest.mark.parametrize("data", [b"", b"x", zlib.compress(b"\xc1"), zlib.compress(msgpack.packb([]))])
def test_what_is_no_snapshot_is_told(data: bytes) -> None:
    """It is a ValueError, and nothing else."""
    with pytest.raises(ValueError, match="snapshot"):
        snapshot.load(data, Configuration)


def test_the_snapshot_of_another_version_is_told() -> None:
    """Whoever reads it can say so."""
    other = zlib.compress(msgpack.packb([snapshot.VERSION + 1, []]))
    with pytest.raises(snapshot.UnknownVersionError, match="this procd reads"):
        snapshot.load(other, Configuration)
