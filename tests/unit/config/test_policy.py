"""When a program is started, restarted and stopped: type, start_limit, stop, schedule, max_runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procd.config.spec import Kind, StartLimit, StopStep

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

WEB = '[programs.web]\ncommand = ["/bin/true"]\n'


def test_every_key_arrives(site: Site) -> None:
    """Seconds and numbers; a oneshot has them all."""
    spec = site.program(
        """
        type = "oneshot"
        start_limit = { count = 0, within = "1h" }
        start_timeout = "2m"
        stop = [["INT", "5s"], [15, 0], ["RTMIN+1", 1.5]]
        schedule = "*/5 9-17 * * mon-fri"
        max_runtime = "1d"
        essential = true
        """
    )
    assert spec.kind is Kind.ONESHOT
    assert spec.start_limit == StartLimit(0, 3600.0)
    assert spec.start_timeout_s == 120.0
    assert spec.stop_steps == (StopStep(2, 5.0), StopStep(15, 0.0), StopStep(35, 1.5))
    assert spec.stop_signal == 2
    assert spec.schedule == "*/5 9-17 * * mon-fri"
    assert spec.max_runtime_s == 86400.0
    assert spec.essential is True
    assert {type(step.signal) for step in spec.stop_steps} == {int}
    assert type(spec.start_timeout_s) is type(spec.max_runtime_s) is float


@pytest.mark.parametrize(
    ("keys", "key", "what", "remedy"),
    [
        ('type = "simple"', "type", 'is not "oneshot" or "service"', ""),
        ("start_limit = { count = 3 }", "start_limit", "has no within", "count = 5, within ="),
        ('start_limit = { within = "1m" }', "start_limit", "has no count", "count = 5, within ="),
        ("start_limit = { count = -1, within = 1 }", "start_limit.count", "from 0 to 1000000", ""),
        ("start_limit = { count = 1, within = 0 }", "start_limit.within", 'and at least "10ms"', ""),
        ("start_limit = 3", "start_limit", "3 is not a table", ""),
        ("start_timeout = 0", "start_timeout", "0 is not a duration", ""),
        ('max_runtime = "0s"', "max_runtime", '"0s" is not a duration', ""),
        ('stop = "INT"', "stop", "is not an array whose elements are each a signal and how long", ""),
        ('stop = ["INT"]', "stop[0]", '"INT" is not a signal and how long it may take: ["INT", "5s"]', ""),
        ('stop = [["INT"]]', "stop[0]", '["INT"] is not a signal and how long it may take', ""),
        ('stop = [["INT", "5s"], ["FOO", 1]]', "stop[1]", '["FOO", 1] is not a signal', ""),
        ('stop = [["INT", -1]]', "stop[0]", '["INT", -1] is not a signal', ""),
        ('schedule = "@daily"', "schedule", "this is a service", 'type = "oneshot"'),
        ("schedule = 5", "schedule", "5 is not a string", ""),
        ("essential = 1", "essential", "1 is not true or false", ""),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_problem_with_its_place(
    site: Site, keys: str, key: str, what: str, remedy: str
) -> None:
    """As for every key."""
    problem = site.problem(f"{WEB}{keys}\n")
    assert (problem.line, problem.key) == (3, f"programs.web.{key}")
    assert what in problem.what
    assert remedy in problem.remedy


class TestStop:
    """`stop`, or `stop_signal` and `stop_timeout`."""

    @pytest.mark.parametrize(("key", "value"), [("stop_signal", '"TERM"'), ("stop_timeout", "3")])
    def test_both_in_one_table_contradict_each_other(self, site: Site, key: str, value: str) -> None:
        """In a program, and in [defaults]."""
        keys = f'stop = [["INT", "5s"]]\n{key} = {value}\n'
        problem = site.problem(WEB + keys)
        assert (problem.line, problem.key) == (4, f"programs.web.{key}")
        assert problem.what == "stands beside stop"
        problem = site.problem(f"[defaults]\n{keys}{WEB}")
        assert (problem.line, problem.key) == (3, f"defaults.{key}")

    def test_a_program_overrides_the_default_in_either_way(self, site: Site) -> None:
        """What is nearer is meant."""
        steps = 'stop = [["INT", "5s"]]\n'
        (spec,) = site.load(
            f"[defaults]\nstop_signal = 'HUP'\nstop_timeout = 1\n{WEB}{steps}"
        ).programs.values()
        assert (spec.stop_steps, spec.stop_signal) == ((StopStep(2, 5.0),), 2)
        (spec,) = site.load(f"[defaults]\n{steps}{WEB}stop_timeout = 1\n").programs.values()
        assert (spec.stop_steps, spec.stop_signal, spec.stop_timeout_s) == ((), 15, 1.0)
        (spec,) = site.load(f"[defaults]\n{steps}{WEB}stop = []\n").programs.values()
        assert spec.stop_steps == ()
        (spec,) = site.load(f"[defaults]\n{steps}{WEB}").programs.values()
        assert spec.stop_steps == (StopStep(2, 5.0),)


class TestSchedule:
    """`schedule`."""

    @pytest.mark.parametrize("expression", ["* * *", "61 * * * *", "0 0 30 2 *", "@reboot", "", "a" * 300])
    def test_what_can_never_be_followed_is_refused(self, site: Site, expression: str) -> None:
        """With the reason, and an example."""
        problem = site.problem(f'{WEB}type = "oneshot"\nschedule = "{expression}"\n')
        assert (problem.line, problem.key) == (4, "programs.web.schedule")
        assert "is not a schedule: " in problem.what
        assert problem.remedy == 'write it as "30 4 * * *"'

    def test_a_wrong_type_is_the_only_problem(self, site: Site) -> None:
        """Whether it is a oneshot is not known then."""
        assert site.problem(f'{WEB}type = "onehsot"\nschedule = "@daily"\n').key == "programs.web.type"


def test_a_start_limit_is_joined_with_the_default(site: Site) -> None:
    """One half here, the other there."""
    text = '[defaults]\nstart_limit = { count = 3, within = "1m" }\n' + WEB + "start_limit.count = 5\n"
    (spec,) = site.load(text).programs.values()
    assert spec.start_limit == StartLimit(5, 60.0)
