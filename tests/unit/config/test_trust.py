"""Which files root would believe.  The owners are parameters, so nobody needs to be root to ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from procd.config.machine import read_environment_file
from procd.config.problems import Mistake
from procd.config.trust import require_trusted

if TYPE_CHECKING:
    from pathlib import Path

OWNERS = frozenset({0, os.getuid()})
STRANGER = 54321


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in a directory, both writable by their owner alone."""
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    path = directory / "procd.toml"
    path.write_text("")
    path.chmod(0o644)
    return path


def refusal(path: Path | str, owners: frozenset[int] = OWNERS, *, exclusive: bool = False) -> Mistake:
    """Why `path` is not trusted."""
    with pytest.raises(Mistake) as caught:
        require_trusted(str(path), owners, exclusive=exclusive)
    return caught.value


def test_a_file_that_only_its_owner_may_write_is_trusted(file: Path) -> None:
    """The usual case, in a sticky /tmp above it or not."""
    require_trusted(str(file), OWNERS)


@pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o646, "everybody"), (0o666, "everybody")])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int, who: str) -> None:
    """The remedy can be copied to a shell."""
    file.chmod(mode)
    mistake = refusal(file)
    assert who in mistake.what
    assert mistake.remedy == f"chmod go-w {file}"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_directory_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    """Who may write the directory can put another file in the place of this one."""
    file.parent.chmod(mode)
    assert refusal(file).remedy == f"chmod go-w {file.parent}"


def test_a_directory_further_up_counts_too(file: Path) -> None:
    """Who may write it can put another directory in the place of that one."""
    file.parent.parent.chmod(0o777)
    assert refusal(file).remedy == f"chmod go-w {file.parent.parent}"


def test_a_sticky_directory_is_no_danger_to_a_file_in_it(file: Path) -> None:
    """In /tmp only the owner of a file can replace it."""
    file.parent.chmod(0o1777)
    require_trusted(str(file), OWNERS)


def test_a_sticky_directory_is_a_danger_where_names_are_searched(file: Path) -> None:
    """Anybody may add a file that `conf.d/*.toml` then finds."""
    file.parent.chmod(0o1777)
    assert refusal(file.parent, exclusive=True).remedy == f"chmod go-w {file.parent}"


def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """Whoever owns a file may write it, whatever its mode says."""
    mistake = refusal(file, frozenset({STRANGER}))
    assert "belongs to user root" in mistake.what
    assert mistake.remedy.startswith("chown root ")


def test_a_link_is_judged_by_where_it_stands_and_where_it_leads(file: Path) -> None:
    """Both the directory of the link and that of its target must be safe."""
    link = file.parent / "link.toml"
    link.symlink_to(file)
    require_trusted(str(link), OWNERS)
    elsewhere = file.parent.parent / "open"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    target = elsewhere / "target.toml"
    target.write_text("")
    far = file.parent / "far.toml"
    far.symlink_to("../open/target.toml")
    assert refusal(far).remedy == f"chmod go-w {elsewhere}"
    near = elsewhere / "near.toml"
    near.symlink_to(file)
    assert refusal(near).remedy == f"chmod go-w {elsewhere}"


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    """The walk has the kernel's own bound."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "symbolic links" in refusal(tmp_path / "a").what


def test_names_with_spaces_can_be_copied_to_a_shell(tmp_path: Path) -> None:
    """Remedies are quoted."""
    path = tmp_path / "my file"
    path.write_text("")
    path.chmod(0o666)
    assert refusal(path).remedy == f"chmod go-w '{path}'"


def test_an_ordinary_user_reads_any_environment_file(file: Path) -> None:
    """Only root runs programs for others."""
    file.write_text("A=1")
    file.chmod(0o666)
    assert read_environment_file(str(file), owner=STRANGER, uid=STRANGER) == b"A=1"


def test_root_refuses_an_environment_file_that_others_may_write(file: Path) -> None:
    """LD_PRELOAD in it would run anything in the program's name."""
    file.chmod(0o666)
    with pytest.raises(Mistake, match="may be written by everybody"):
        read_environment_file(str(file), owner=os.getuid(), uid=0)


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to other users")
class TestEnvironmentFilesOfUsers:
    """What root reads on behalf of a program that runs as somebody else."""

    def test_a_file_of_the_programs_user_is_read(self, file: Path) -> None:
        """What is in it reaches nobody but that user's program."""
        file.write_text("A=1")
        os.chown(file, STRANGER, STRANGER)
        assert read_environment_file(str(file), owner=STRANGER, uid=0) == b"A=1"

    def test_a_file_of_a_third_user_is_refused(self, file: Path) -> None:
        """Another user would write this program's environment."""
        os.chown(file, STRANGER + 1, STRANGER)
        with pytest.raises(Mistake, match=f"belongs to uid {STRANGER + 1}"):
            read_environment_file(str(file), owner=STRANGER, uid=0)

    def test_a_users_link_does_not_make_root_read_a_secret(self, file: Path) -> None:
        """The user could read the secret in the environment, or in a complaint about its lines."""
        secret = file.parent / "secret"
        secret.write_text("KEY=1")
        link = file.parent / "link"
        link.symlink_to(secret)
        os.lchown(link, STRANGER, STRANGER)
        with pytest.raises(Mistake, match="file of somebody else"):
            read_environment_file(str(link), owner=STRANGER, uid=0)
