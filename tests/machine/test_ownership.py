"""Whose home a run may work in, and what is said to those who may not."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from nbprovision.machine.ownership import note, refuse_foreign
from nbprovision.model.errors import UsageError

NOBODYS = 54321  # a user that no machine knows


def refused(home: Path, tool_home: Path, env: dict[str, str] | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        refuse_foreign(env or {}, home, tool_home)
    return caught.value


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def foreign(as_root: None, tmp_path: Path) -> tuple[Path, int]:
    """A folder that is not root's, and whose it is."""
    folder = tmp_path / "ann"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, NOBODYS, NOBODYS)
    return folder, folder.stat().st_uid


def test_ones_own_home_is_ones_own_to_work_in(tmp_path: Path) -> None:
    refuse_foreign({}, tmp_path, tmp_path / "not/there/yet")


def test_a_home_has_a_whole_path(tmp_path: Path) -> None:
    error = refused(Path("ann"), tmp_path)
    assert error.message == "HOME is 'ann', and a home folder has an absolute path"
    assert error.cure == "set HOME to the absolute path"


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = refused(tmp_path, tmp_path / "file/below")
    assert error.message == f"the tool's home is {tmp_path}/file/below, and {tmp_path}/file is not a folder"
    assert error.cure == "set HOME or --home to a folder"


@pytest.mark.parametrize(
    ("name", "cause"), [("loop", "Too many levels of symbolic links"), ("x" * 300, "File name too long")]
)
def test_where_no_folder_can_be_is_no_home(name: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    error = refused(tmp_path / name, tmp_path)
    assert error.message == f"HOME is {tmp_path / name}, which cannot be a folder"
    assert error.cause == cause
    assert error.cure == "set HOME or --home to a folder"


class TestRoot:
    def test_it_is_kept_out_of_the_home_of_a_user(self, foreign: tuple[Path, int]) -> None:
        folder, owner = foreign
        error = refused(folder, folder)
        assert error.message.startswith(f"HOME is {folder}, which is ")
        assert error.message.endswith("'s, and this runs as root")
        assert "its owner could neither change nor remove" in error.cause
        assert error.cure.endswith("; to provide for root set HOME to root's (sudo -H)")
        if owner == NOBODYS:
            assert f"which is user {NOBODYS}'s" in error.message
            assert error.cure.startswith(
                "run it as the user with the number 54321;"
            )  # no command takes such a number for a name

    def test_where_the_user_has_a_name_the_command_is_told(self, foreign: tuple[Path, int]) -> None:
        folder, owner = foreign
        if owner == NOBODYS:
            owner = pwd.getpwnam("nobody").pw_uid
            os.chown(folder, owner, owner)
        name = pwd.getpwuid(owner).pw_name
        assert refused(folder, folder).cure.startswith(f"run it as that user: setsid --wait runuser -u {name} -- ...;")

    def test_it_is_kept_out_of_what_is_not_made_yet_in_there(self, foreign: tuple[Path, int]) -> None:
        folder, _ = foreign
        assert refused(folder / "a/b", folder).message.startswith(f"HOME is {folder}/a/b, which is ")

    def test_a_user_who_calls_it_by_sudo_can_leave_that_out(self, foreign: tuple[Path, int]) -> None:
        folder, owner = foreign
        error = refused(folder, folder, {"SUDO_UID": str(owner)})
        assert error.cure == "omit sudo; to provide for root use sudo -H"

    def test_with_sudo_it_is_told_for_whom_this_provides(self, as_root: None, tmp_path: Path) -> None:
        told = note({"SUDO_UID": str(NOBODYS)}, tmp_path)
        assert told == (
            f"note: run by sudo, this provides for root (in {tmp_path}), not for user {NOBODYS}; "
            f"for user {NOBODYS} omit sudo"
        )

    @pytest.mark.parametrize("caller", ["", "0", "ann"])
    def test_where_nobody_else_called_it_there_is_nothing_to_tell(
        self, caller: str, as_root: None, tmp_path: Path
    ) -> None:
        assert note({"SUDO_UID": caller}, tmp_path) is None


def test_a_user_is_told_of_a_home_that_is_not_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As su and some container engines leave it."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODYS)
    monkeypatch.setattr(os, "access", lambda *_: False)
    error = refused(Path("/no-such-home"), tmp_path)
    assert error.message == f"HOME is /no-such-home, where user {NOBODYS} may not write: / is root's"
    assert error.cause == "su without -, and sudo without -H or -i, may keep the caller's HOME"
    assert error.cure == f"set HOME to a folder of user {NOBODYS}'s"
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    assert refused(Path("/no-such-home"), tmp_path).cure == (
        "start it as `sudo -iu nobody` or `su - nobody` does, or set HOME to a folder of nobody's"
    )
    assert note({"SUDO_UID": "1000"}, tmp_path) is None


def test_whoever_may_write_in_a_home_may_work_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in images that give one home to any user of a group."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODYS)
    monkeypatch.setattr(os, "access", lambda *_: True)
    refuse_foreign({}, tmp_path, tmp_path)
