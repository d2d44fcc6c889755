"""The plan from one configuration to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from procd.config import scheduling
from procd.config.plan import Change, Kind, Plan, compare, key_of_field
from procd.config.program_schema import ProgramTable
from procd.config.reference import keys_of
from procd.config.schema import ControlTable, DaemonTable
from procd.config.spec import (
    Backoff,
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
    LogSpec,
    Output,
    ProgramSpec,
    ResourceLimit,
    Restart,
    Scheduling,
    SocketSpec,
    StartLimit,
    StopScope,
    StopStep,
    Success,
)
from procd.config.spec import Kind as SpecKind

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

DAEMON = DaemonSpec(runtime_dir="/r", state_dir="/s", log_dir="/l", socket="/r/procd.sock")
ANN = Credentials(1, 1, (1,), "ann", "/home/ann", "/bin/sh")
WEB = ProgramSpec(
    name="web", program="web", command=("web",), credentials=ANN, stdout_log=LogSpec("/l/web.log")
)


HEALTH = Health(check=Check(kind=CheckKind.TCP, address="[::1]:1"))
WATCHDOG = Health(check=Check(kind=CheckKind.NOTIFY), watchdog_s=5.0)


def configuration(*programs: ProgramSpec, daemon: DaemonSpec = DAEMON) -> Configuration:
    """A configuration of these programs."""
    return Configuration(daemon=daemon, programs={spec.name: spec for spec in programs})


def change_of(**differences: Any) -> Change:  # noqa: ANN401 - the value of any field
    """The only change when WEB differs in these fields."""
    (change,) = compare(configuration(WEB), configuration(structs.replace(WEB, **differences))).changes
    assert change.name == "web"
    return change


def named(name: str, **differences: Any) -> ProgramSpec:  # noqa: ANN401 - the value of any field
    """A program with this name."""
    return structs.replace(WEB, name=name, **differences)


def test_nothing_changes_between_equal_configurations() -> None:
    """A reload of an unchanged file touches nothing."""
    plan = compare(configuration(WEB), configuration(structs.replace(WEB)))
    assert plan == Plan(())
    assert not plan


@pytest.mark.parametrize(
    ("differences", "keys"),
    [
        ({"restart": Restart.NEVER}, ("restart",)),
        ({"success": Success(frozenset({3}))}, ("success_exit_status",)),
        ({"min_uptime_s": 2.0}, ("min_uptime",)),
        ({"backoff": Backoff(factor=3.0)}, ("backoff",)),
        ({"stop_signal": 2}, ("stop_signal",)),
        ({"stop_timeout_s": 2.0}, ("stop_timeout",)),
        ({"stop_scope": StopScope.PROCESS}, ("stop_scope",)),
        ({"description": "x"}, ("description",)),
        ({"groups": ("x",)}, ("groups",)),
        ({"autostart": False}, ("autostart",)),
        ({"start_limit": StartLimit(3, 60.0)}, ("start_limit",)),
        ({"start_timeout_s": 5.0}, ("start_timeout",)),
        ({"ready": Check(kind=CheckKind.FD, fd=3)}, ("ready",)),
        ({"health": HEALTH}, ("health",)),
        ({"depends_on": (Dependency("db", Condition.READY),)}, ("depends_on",)),
        ({"stop_steps": (StopStep(2, 5.0),), "stop_signal": 2}, ("stop",)),
        ({"schedule": "@daily"}, ("schedule",)),
        ({"max_runtime_s": 5.0}, ("max_runtime",)),
        ({"hooks": Hooks(after_stop=("x",))}, ("hooks",)),
        ({"essential": True}, ("essential",)),
        ({"stdout_log": LogSpec("/x"), "stderr_log": LogSpec("/y")}, ("log",)),
        (
            {"stop_signal": 2, "autostart": False, "description": "x"},
            ("description", "autostart", "stop_signal"),
        ),
    ],
)
def test_what_procd_decides_changes_in_place(differences: dict[str, Any], keys: tuple[str, ...]) -> None:
    """The process never sees these keys, so it need not end for them."""
    assert change_of(**differences) == Change("web", Kind.UPDATE, keys)


@pytest.mark.parametrize(
    ("differences", "keys"),
    [
        ({"command": ("x",)}, ("command",)),
        ({"directory": "/x"}, ("directory",)),
        ({"umask": 0}, ("umask",)),
        ({"environment": (("A", "1"),)}, ("environment",)),
        ({"inherit": False}, ("inherit_environment",)),
        ({"credentials": None}, ("user",)),
        ({"credentials": structs.replace(ANN, uid=2)}, ("user",)),
        ({"credentials": structs.replace(ANN, gid=2)}, ("group",)),
        ({"credentials": structs.replace(ANN, gid=2, groups=())}, ("group", "supplementary_groups")),
        ({"stdin": Input.PIPE}, ("stdin",)),
        ({"stdout": Output.NULL}, ("stdout",)),
        ({"stderr": Output.NULL}, ("stderr",)),
        ({"restart": Restart.NEVER, "umask": 0}, ("umask", "restart")),
        ({"kind": SpecKind.ONESHOT}, ("type",)),
        ({"limits": (ResourceLimit(7, 1, 1),)}, ("limits",)),
        ({"scheduling": Scheduling(nice=1, io_class=2)}, ("nice", "io_class")),
        ({"no_new_privileges": True}, ("no_new_privileges",)),
        ({"capabilities": frozenset({1})}, ("capabilities",)),
        ({"sockets": ("http",)}, ("sockets",)),
        ({"health": WATCHDOG}, ("health",)),
    ],
)
def test_what_the_process_was_started_with_needs_a_restart(
    differences: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """One such key is enough; all that differ are named, in the order of the documentation."""
    assert change_of(**differences) == Change("web", Kind.RESTART, keys)


def test_only_what_differs_of_scheduling_is_named() -> None:
    """It is one field, and five keys."""
    old = structs.replace(WEB, scheduling=Scheduling(nice=1, io_class=2, oom_score_adj=5))
    new = structs.replace(WEB, scheduling=Scheduling(nice=1, io_class=3))
    (change,) = compare(configuration(old), configuration(new)).changes
    assert change == Change("web", Kind.RESTART, ("io_class", "oom_score_adj"))


def test_a_watchdog_is_told_at_the_start() -> None:
    """WATCHDOG_USEC is in the environment of the process; what else is in `health` is not."""
    old = structs.replace(WEB, health=WATCHDOG)
    faster = structs.replace(WEB, health=structs.replace(WATCHDOG, watchdog_s=1.0))
    quiet = structs.replace(WEB, health=structs.replace(WATCHDOG, restart=False))
    kinds = [
        [change.kind for change in compare(configuration(old), configuration(new)).changes]
        for new in (faster, quiet, WEB)
    ]
    assert kinds == [[Kind.RESTART], [Kind.UPDATE], [Kind.RESTART]]


def test_a_program_follows_its_sockets() -> None:
    """A changed socket is opened anew, and its programs hold the old one until they are restarted."""
    old = Configuration(
        daemon=DAEMON,
        programs={
            "web": structs.replace(WEB, sockets=("http",)),
            "api": named("api", sockets=("api", "http"), autostart=False),
            "db": named("db", sockets=("db",)),
        },
        sockets={name: SocketSpec(name=name, host="::1", port=80) for name in ("http", "api", "db")},
    )
    new = structs.replace(
        old,
        programs=old.programs | {"api": named("api", sockets=("api", "http"))},
        sockets=old.sockets | {"http": SocketSpec(name="http", host="::1", port=81)},
    )
    assert compare(old, new).changes == (
        Change("web", Kind.RESTART, ("sockets",)),
        Change("api", Kind.RESTART, ("autostart", "sockets")),
    )
    assert not compare(new, structs.replace(new, sockets=dict(new.sockets)))


def test_programs_come_and_go_in_a_fixed_order() -> None:
    """Procd itself, then what goes, then the rest as it stands in the new file."""
    old = configuration(named("a"), named("b"), named("c"), named("d"))
    new = configuration(
        named("e"),
        named("d", umask=0),
        named("b", autostart=False),
        daemon=structs.replace(DAEMON, log_dir="/x"),
    )
    assert compare(old, new).changes == (
        Change("[daemon]", Kind.DAEMON, ("log_dir",)),
        Change("a", Kind.REMOVE),
        Change("c", Kind.REMOVE),
        Change("e", Kind.ADD),
        Change("d", Kind.RESTART, ("umask",)),
        Change("b", Kind.UPDATE, ("autostart",)),
    )
    assert compare(old, new).of_kind(Kind.REMOVE) == (Change("a", Kind.REMOVE), Change("c", Kind.REMOVE))


def test_the_order_of_programs_is_no_difference() -> None:
    """Moving a table in the file restarts nothing."""
    assert not compare(configuration(named("a"), named("b")), configuration(named("b"), named("a")))


@pytest.mark.parametrize(
    ("differences", "changes"),
    [
        ({"shutdown_timeout_s": 3.0}, (Change("[daemon]", Kind.DAEMON, ("shutdown_timeout",)),)),
        ({"socket_mode": 0o660}, (Change("[control]", Kind.DAEMON, ("mode",)),)),
        (
            {"socket": "/x", "log_level": "debug", "runtime_dir": "/x"},
            (
                Change("[daemon]", Kind.DAEMON, ("runtime_dir", "log_level")),
                Change("[control]", Kind.DAEMON, ("socket",)),
            ),
        ),
    ],
)
def test_procds_own_keys_are_named_by_table(differences: dict[str, Any], changes: tuple[Change, ...]) -> None:
    """The names of the tables are no names of programs."""
    new = configuration(daemon=structs.replace(DAEMON, **differences))
    assert compare(configuration(), new).changes == changes


def test_only_the_difference_in_instances_changes(site: Site) -> None:
    """Supervisord restarted all of them (issues 504 and 177)."""
    text = '[programs.web]\ncommand = ["/bin/true"]\ninstances = %d\n'
    three, five = site.load(text % 3), site.load(text % 5)
    assert compare(three, five).changes == (Change("web@3", Kind.ADD), Change("web@4", Kind.ADD))
    assert compare(five, three).changes == (Change("web@3", Kind.REMOVE), Change("web@4", Kind.REMOVE))


def test_every_key_of_the_schema_is_one_of_a_spec() -> None:
    """A key that is added to the schema and forgotten in the spec would be accepted and do nothing."""
    fields_of_program = {key_of_field(field) for field in ProgramSpec.__struct_fields__}
    by_other_fields = {"shell", "instances", "environment_files", "user", "group", "supplementary_groups"}
    by_other_fields |= set(scheduling.KEYS)
    keys = {key.name.partition(".")[0] for key in keys_of(ProgramTable)}
    assert keys - by_other_fields <= fields_of_program
    fields_of_daemon = {key_of_field(field) for field in DaemonSpec.__struct_fields__}
    keys = {key.name.partition(".")[0] for table in (DaemonTable, ControlTable) for key in keys_of(table)}
    assert keys - {"include"} == fields_of_daemon


PROGRAMS = st.lists(
    st.builds(
        named,
        st.sampled_from("abcd"),
        umask=st.sampled_from([0, 1]),
        autostart=st.booleans(),
        credentials=st.sampled_from([None, ANN, structs.replace(ANN, groups=())]),
    )
).map(lambda programs: configuration(*programs))


@given(PROGRAMS, PROGRAMS)
def test_a_plan_leads_from_the_old_to_the_new(old: Configuration, new: Configuration) -> None:
    """Carried out change by change it makes the new programs, and it never touches one that is the same."""
    programs = dict(old.programs)
    for change in compare(old, new).changes:
        if change.kind is Kind.REMOVE:
            del programs[change.name]
        else:
            assert programs.get(change.name) != new.programs[change.name]
            assert (change.name in programs) is (change.kind is not Kind.ADD)
            assert bool(change.keys) is (change.kind is not Kind.ADD)
            programs[change.name] = new.programs[change.name]
    assert programs == new.programs
