"""Old files move on; a rotation that was killed anywhere is finished by the next."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest

from procd.output.logger.rotation import RollError, end_of_old, roll, uncompressed_size

if TYPE_CHECKING:
    from pathlib import Path


def lay(path: Path, *contents: str) -> None:
    """The present file, and the old ones, the newest first; an empty content: none."""
    for number, content in enumerate(contents):
        if content:
            (path.with_name(f"log.{number}") if number else path).write_text(content)


def found(path: Path) -> dict[str, str]:
    """What stands there now."""
    return {file.name: file.read_text() for file in sorted(path.parent.iterdir())}


def test_everything_moves_on_and_the_oldest_goes(tmp_path: Path) -> None:
    """`keep` old files are left."""
    path = tmp_path / "log"
    lay(path, "d", "c", "b", "a")
    roll(str(path), 3)
    assert found(path) == {"log.1": "d", "log.2": "c", "log.3": "b"}


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_a_gap_is_filled_before_anything_is_given_up(tmp_path: Path, gap: int) -> None:
    """It is where the last rotation was killed."""
    path = tmp_path / "log"
    old = ["c", "b", "a"]
    old[gap - 1] = ""
    lay(path, "d", *old)
    roll(str(path), 3)
    assert sorted(found(path).values()) == sorted(filter(None, ["d", *old]))
    assert found(path)["log.1"] == "d"


def test_with_fewer_to_keep_those_beyond_go(tmp_path: Path) -> None:
    """As soon as there is a rotation."""
    path = tmp_path / "log"
    lay(path, "d", "c", "b", "a")
    roll(str(path), 1)
    assert found(path) == {"log.1": "d"}


def test_nothing_is_kept_if_so_desired(tmp_path: Path) -> None:
    """`keep = 0`."""
    path = tmp_path / "log"
    lay(path, "d")
    roll(str(path), 0)
    assert found(path) == {}


def test_both_forms_of_a_file_move_together(tmp_path: Path) -> None:
    """A compression that was killed at its very end leaves both."""
    path = tmp_path / "log"
    lay(path, "b", "a")
    (tmp_path / "log.1.gz").write_text("A")
    roll(str(path), 3)
    assert found(path) == {"log.1": "b", "log.2": "a", "log.2.gz": "A"}


def test_a_failure_says_why(tmp_path: Path) -> None:
    """The present file is still there then."""
    path = tmp_path / "log"
    lay(path, "b")
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.2").write_text("x")
    with pytest.raises(RollError, match="directory"):
        roll(str(path), 1)
    assert path.read_text() == "b"


def test_the_log_goes_on_where_its_old_files_end(tmp_path: Path) -> None:
    """With and without the extended attribute, and through compressed files."""
    path = tmp_path / "log"
    (tmp_path / "log.1").write_bytes(bytes(100))
    (tmp_path / "log.2.gz").write_bytes(gzip.compress(bytes(1000)))
    (tmp_path / "log.3").write_bytes(bytes(10))
    assert uncompressed_size(str(tmp_path / "log.2.gz")) == 1000
    assert end_of_old(str(path), 3) == 1110
    assert end_of_old(str(path), 2) == 1100
    try:
        os.setxattr(tmp_path / "log.2.gz", "user.procd.start", b"5000")
    except OSError:
        pytest.skip("no extended attributes here")
    assert end_of_old(str(path), 3) == 6100
    assert end_of_old(str(tmp_path / "other"), 3) == 0
