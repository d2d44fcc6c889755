"""Who waits for whom: depends_on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procd.config.declaration import Declaration, Defaults
from procd.config.dependencies import Dependencies, dependencies_of
from procd.config.document import Document, Place
from procd.config.problems import Problems
from procd.config.program_schema import ProgramTable
from procd.config.spec import Condition, Dependency

if TYPE_CHECKING:
    from tests.unit.config.conftest import Site

TRUE = 'command = ["/bin/true"]\n'


def program(name: str, keys: str = "") -> str:
    """A program with some keys."""
    return f"[programs.{name}]\n{TRUE}{keys}\n"


class TestDependencies:
    """Names, or a table of conditions."""

    @pytest.mark.parametrize(
        ("value", "dependencies"),
        [
            ("[]", ()),
            ("{}", ()),
            ('["db"]', (Dependency("db", Condition.READY),)),
            ('["c", "db", "c"]', (Dependency("c", Condition.READY), Dependency("db", Condition.READY))),
            (
                '{ c = "completed", db = "started" }',
                (Dependency("c", Condition.COMPLETED), Dependency("db", Condition.STARTED)),
            ),
            ('{ db = "healthy" }', (Dependency("db", Condition.HEALTHY),)),
        ],
    )
    def test_names_and_conditions_arrive(
        self, site: Site, value: str, dependencies: tuple[Dependency, ...]
    ) -> None:
        """A plain name means ready; each name counts once."""
        text = program("web", f"depends_on = {value}") + program("db", 'health.tcp = "[::1]:1"')
        specs = site.load(text + program("c", 'type = "oneshot"')).programs
        assert specs["web"].depends_on == dependencies

    def test_the_order_of_the_file_does_not_matter(self, site: Site) -> None:
        """Across files neither."""
        site.write("conf.d/db.toml", program("db", 'depends_on = ["disk"]'))
        text = (
            '[daemon]\ninclude = ["conf.d/*.toml"]\n' + program("web", 'depends_on = ["db"]') + program("disk")
        )
        assert site.load(text).programs["db"].depends_on == (Dependency("disk", Condition.READY),)

    @pytest.mark.parametrize(
        ("value", "key", "what", "remedy"),
        [
            ('["dbx"]', "[0]", 'there is no program "dbx"', "did you mean 'db'?"),
            ('["db",\n "zzzzzz"]', "[1]", 'there is no program "zzzzzz"', "remove it"),
            ('{ dbx = "ready" }', ".dbx", 'there is no program "dbx"', "did you mean 'db'?"),
            ('["db@0"]', "[0]", "db@0 is an instance", "write db: all of its instances"),
            ('{ db = "running" }', ".db", '"running" is not "completed" or "healthy"', ""),
            ("{ db = 1 }", ".db", '1 is not "completed"', ""),
            ("[1]", "[0]", "1 is not a string", '"1"'),
            ('"db"', "", "is not an array whose elements are each a string, or a table", '["db"]'),
            ('{ db = "healthy" }', ".db", "db has no health check", "health table"),
            ('{ db = "completed" }', ".db", "db never completes", 'restart = "on-failure"'),
        ],
    )
    def test_what_cannot_be_waited_for_is_one_problem(
        self, site: Site, value: str, key: str, what: str, remedy: str
    ) -> None:
        """With the entry that is at fault."""
        problem = site.problem(program("web", f"depends_on = {value}") + program("db"))
        assert problem.key == f"programs.web.depends_on{key}"
        assert problem.line == (4 if key == "[1]" else 3)
        assert what in problem.what
        assert remedy in problem.remedy

    @pytest.mark.parametrize("keys", ['type = "oneshot"', 'restart = "never"', 'restart = "on-failure"'])
    def test_what_may_end_may_complete(self, site: Site, keys: str) -> None:
        """A oneshot is not started again when it has succeeded, whatever `restart` says."""
        text = program("web", 'depends_on = { db = "completed" }') + program("db", keys)
        assert site.load(text).programs["web"].depends_on

    @pytest.mark.parametrize("keys", ['restart = "nevr"', 'type = "onehsot"'])
    def test_a_mistake_in_the_dependency_is_not_blamed_on_the_dependent(self, site: Site, keys: str) -> None:
        """What was meant may well be something that completes."""
        text = program("web", 'depends_on = { db = "completed" }') + program("db", keys)
        assert site.problem(text).key.startswith("programs.db.")

    def test_an_empty_health_table_is_no_health_check(self, site: Site) -> None:
        """It takes back what [defaults] say."""
        text = program("web", 'depends_on = { db = "healthy" }') + program("db", "health = {}")
        assert site.problem(text).what == "db has no health check"

    def test_a_dependency_that_is_no_table_is_the_only_problem(self, site: Site) -> None:
        """There is a program of that name."""
        problem = site.problem("programs.db = 3\n" + program("web", 'depends_on = { db = "healthy" }'))
        assert problem.key == "programs.db"


class TestCycles:
    """A program that waits for itself waits for ever."""

    def test_the_path_is_shown(self, site: Site) -> None:
        """Whatever the conditions are."""
        text = program("web", 'depends_on = ["app"]') + program("app", 'depends_on = { db = "started" }')
        problem = site.problem(text + program("db", 'depends_on = ["web"]'))
        assert (problem.line, problem.key) == (3, "programs.web.depends_on[0]")
        assert problem.what == "waits for itself: web → app → db → web"

    def test_a_program_does_not_wait_for_itself(self, site: Site) -> None:
        """The shortest cycle."""
        problem = site.problem(program("web", 'depends_on = ["web"]'))
        assert problem.what == "waits for itself: web → web"
        assert problem.remedy == "remove one of these dependencies"

    def test_a_default_for_all_names_one_of_them(self, site: Site) -> None:
        """What to do is in the program, not in the default."""
        problem = site.problem('[defaults]\ndepends_on = ["db"]\n' + program("db") + program("web"))
        assert (problem.line, problem.key) == (2, "defaults.depends_on[0]")
        assert problem.remedy == "write depends_on = [] in [programs.db]"

    def test_each_cycle_is_told_once(self, site: Site) -> None:
        """From wherever it is reached."""
        text = "".join(
            program(name, f'depends_on = ["{other}"]') for name, other in ["xa", "ab", "ba", "yb", "cc", "zc"]
        )
        found = [problem.what.rpartition(": ")[2] for problem in site.problems(text)]
        assert found == ["a → b → a", "c → c"]

    def test_a_chain_may_be_as_long_as_the_file(self, site: Site) -> None:
        """And a cycle too."""
        text = "".join(program(f"p{n}", f'depends_on = ["p{n + 1}"]') for n in range(2000))
        assert len(site.load(text + program("p2000")).programs) == 2001
        assert (
            "waits for itself: p0 → p1 →" in site.problem(text + program("p2000", 'depends_on = ["p0"]')).what
        )


def declaration(name: str, depends_on: list[str]) -> Declaration:
    """A program of which only the dependencies matter."""
    place = Place(Document("x", "/x", "", {}))
    table = ProgramTable(depends_on=tuple(depends_on))
    return Declaration(name, place / name, {"depends_on": depends_on}, Defaults(place, {}, {}), table)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)))
def test_a_cycle_is_found_where_there_is_one(graph: dict[str, list[str]]) -> None:
    """And none where there is none: taking away whoever waits for nobody leaves nobody."""
    graph = {name: [other for other in others if other in graph] for name, others in graph.items()}
    problems = Problems()
    dependencies = Dependencies(graph, problems)
    for name, others in graph.items():
        program = declaration(name, others)
        dependencies.add(program, dependencies_of(program))
    dependencies.check()
    left = dict(graph)
    while free := [name for name, others in left.items() if not set(others) & set(left)]:
        for name in free:
            del left[name]
    assert bool(len(problems)) is bool(left)
