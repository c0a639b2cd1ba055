"""What ensure_pip_index would make of a machine's files: merged, given back, protected."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.files.configured import record_of
from nbprovision.indexes import pip_conf as pip_config
from nbprovision.indexes import uv_toml as uv_config
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Change
from nbprovision.model.task import Resource
from tests.support.driver import converge, planned
from tests.support.index_files import URL, index, mode, without_index_variables


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    return without_index_variables(env)


# name: what pip.conf says, what is asked for, what it says then
MERGED: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "no file": (None, {}, f"[global]\nindex-url = {URL}\n"),
    "an empty file": ("", {}, f"[global]\nindex-url = {URL}\n"),
    "only a comment": ("# mine\n", {}, f"# mine\n[global]\nindex-url = {URL}\n"),
    "another section": ("[install]\nuser = no\n", {}, f"[install]\nuser = no\n\n[global]\nindex-url = {URL}\n"),
    "an option of the section, no line end": ("[global]\ntimeout=60", {}, f"[global]\ntimeout=60\nindex-url = {URL}\n"),
    "comments, blanks, another spelling": (
        "; top\n[global]\n# why\nIndex_URL : https://old  \ntimeout=60\n; tail\n\n\n[list]\nformat=columns\n", {},
        f"; top\n[global]\n# why\nIndex_URL : {URL}\ntimeout=60\n; tail\n\n\n[list]\nformat=columns\n",
    ),
    "lists": (
        "[global]\nextra-index-url =\n    https://x\n    # y\n    https://z\n[list]\n", {"extra_urls": ["https://b/simple", "https://c/simple"], "trusted_hosts": "b", "find_links": ["/w w", "https://l"]},
        f"[global]\nextra-index-url =\n    https://b/simple\n    https://c/simple\nindex-url = {URL}\ntrusted-host = b\nfind-links =\n    file:///w%20w\n    https://l\n[list]\n",
    ),
    "interpolation is none of ours": ("[global]\nlog = %(x)s%%\n", {"url": "https://h/a%20b/simple"}, "[global]\nlog = %(x)s%%\nindex-url = https://h/a%20b/simple\n"),
}  # fmt: skip

UV_MERGED: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "no file": (None, {}, f'[[index]]\nurl = "{URL}"\ndefault = true\n'),
    "settings and a comment": (
        '# mine\nlink-mode = "copy" # c\n\n[pip]\nstrict = true\n', {"index_strategy": "best-match", "trusted_hosts": ["h:1"]},
        f'# mine\nlink-mode = "copy" # c\nindex-strategy = "unsafe-best-match"\nallow-insecure-host = ["h:1"]\n\n[pip]\nstrict = true\n[[index]]\nurl = "{URL}"\ndefault = true\n',
    ),
    "an index of the user's, and a default": (
        '[[index]]\nname = "torch" # gpu\nurl = "https://t"\nexplicit = true\n\n[[index]]\nname = "d"\nurl = "https://d"\ndefault = true\n', {"extra_urls": ["https://t"]},
        f'[[index]]\nname = "torch" # gpu\nurl = "https://t"\nexplicit = true\n\n[[index]]\nname = "d"\nurl = "{URL}"\ndefault = true\n[[index]]\nurl = "https://t"\n',
    ),
    "indexes in one line": ('index = [{ url = "https://x" }]\n', {}, f'index = [{{ url = "https://x" }}, {{url = "{URL}", default = true}}]\n'),
}  # fmt: skip


def tree(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Everything below a folder: mode, and content or what a link names."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


@pytest.mark.parametrize("name", MERGED)
def test_pip_conf_is_merged_and_given_back(name: str, machine: Machine, pip_conf: Path) -> None:
    """Only our own options change; `state: absent` restores every byte."""
    before, parameters, after = MERGED[name]
    if before is not None:
        pip_conf.write_bytes(before.encode())
    was = tree(pip_conf.parent)
    task = index(**parameters)
    changes = converge(task, machine)
    assert pip_conf.read_text() == after
    assert Change("create" if before is None else "change", str(pip_conf), before, after, kind="file") in changes
    assert mode(record_of(pip_conf)) == 0o600
    converge(index(**parameters, state="absent"), machine)
    assert tree(pip_conf.parent) == was


@pytest.mark.parametrize("name", UV_MERGED)
def test_uv_toml_is_merged_and_given_back(name: str, machine: Machine, uv_toml: Path) -> None:
    """The same for uv's file."""
    before, parameters, after = UV_MERGED[name]
    if before is not None:
        uv_toml.write_text(before)
    was = tree(uv_toml.parent)
    converge(index(**parameters), machine)
    assert uv_toml.read_text() == after
    converge(EnsurePipIndex(state="absent"), machine)
    assert tree(uv_toml.parent) == was


def test_line_ends_of_windows(machine: Machine, pip_conf: Path) -> None:
    """What is not ours keeps them."""
    pip_conf.write_bytes(b"[global]\r\ntimeout = 1\r\n")
    converge(index(), machine)
    assert pip_conf.read_bytes().startswith(b"[global]\r\ntimeout = 1\r\n")
    converge(index(state="absent"), machine)
    assert pip_conf.read_bytes() == b"[global]\r\ntimeout = 1\r\n"


def test_nothing_was_there(machine: Machine, home: Path) -> None:
    """Folders that we have made go with the files."""
    converge(index(), machine)
    assert (home / ".config/uv/uv.toml").exists()
    converge(EnsurePipIndex(state="absent"), machine)
    assert tree(home) == {}


def test_check_writes_nothing(machine: Machine, home: Path) -> None:
    """Read and plan only look."""
    assert planned(index(), machine)
    assert tree(home) == {}


def test_a_second_run_imports_no_editor(machine: Machine, home: Path) -> None:
    """Where all is in place, nothing is rendered."""
    converge(index(extra_urls=["https://b/simple"], find_links="/w"), machine)
    import sys

    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "tomlkit"}
    assert planned(index(extra_urls=["https://b/simple"], find_links="/w"), machine) == ()
    assert "tomlkit" not in sys.modules
    sys.modules.update(kept)


def test_what_is_no_longer_asked_for_goes(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """An option that an earlier run set gets its old value; one that is the user's stays."""
    pip_conf.write_text("[global]\ntrusted-host = mine\nfind-links = /mine\n")
    uv_toml.write_text('[[index]]\nurl = "https://mine"\n')
    converge(
        index(extra_urls=["https://b/simple", "https://c/simple"], trusted_hosts=["b"], index_strategy="best-match"),
        machine,
    )
    converge(index(url="https://other/simple", extra_urls="https://c/simple"), machine)
    assert pip_conf.read_text() == (
        "[global]\ntrusted-host = mine\nfind-links = /mine\nindex-url = https://other/simple\nextra-index-url = https://c/simple\n"
    )
    found = uv_config.values(uv_toml, uv_toml.read_text())
    assert found == {"default": ["https://other/simple"], "extra": ["https://mine", "https://c/simple"]}
    converge(EnsurePipIndex(state="absent"), machine)
    assert pip_conf.read_text() == "[global]\ntrusted-host = mine\nfind-links = /mine\n"
    assert uv_toml.read_text() == '[[index]]\nurl = "https://mine"\n'


def test_edits_by_others_survive(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """What the user has written in the meantime stays, drift in our own options is repaired and given back."""
    pip_conf.write_text("[global]\nindex-url = https://before # not a comment\ncert = /before.pem\n")
    uv_toml.write_text('[[index]]\nurl = "https://before"\ndefault = true\n')
    converge(index(cert="/ours.pem", extra_urls=["https://b/simple"]), machine)
    pip_conf.write_text(pip_conf.read_text().replace("/ours.pem", "/drift.pem") + "timeout = 5\n# note\n")
    uv_toml.write_text("offline = true\n" + uv_toml.read_text() + '\n[[index]]\nurl = "https://users"\n')
    converge(index(cert="/ours.pem", extra_urls=["https://b/simple"]), machine)
    pip_conf.write_text(pip_conf.read_text() + "retries = 1\n")
    uv_toml.write_text("no-cache = true\n" + uv_toml.read_text())
    converge(index(state="absent"), machine)
    assert pip_conf.read_text() == (
        "[global]\nindex-url = https://before # not a comment\ncert = /before.pem\ntimeout = 5\n# note\nretries = 1\n"
    )
    assert uv_config.values(uv_toml, uv_toml.read_text()) == {"default": ["https://before"], "extra": ["https://users"]}
    assert uv_toml.read_text().startswith("no-cache = true\noffline = true\n")


def test_lists_and_passwords_of_before_come_back(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """Also where the file has been edited since, so that value by value is given back."""
    pip_conf.write_text(
        "[global]\nindex-url = https://me:old@h/simple\nextra-index-url =\n    https://x\n    https://y\n"
    )
    uv_toml.write_text('[[index]]\nurl = "https://me:old@h/simple"\ndefault = true\n')
    was = (pip_config.values(pip_conf, pip_conf.read_text()), uv_config.values(uv_toml, uv_toml.read_text()))
    converge(index(url="https://me:new@h/simple", extra_urls="https://b/simple"), machine)
    pip_conf.write_text("# edited\n" + pip_conf.read_text())
    uv_toml.write_text("# edited\n" + uv_toml.read_text())
    converge(EnsurePipIndex(state="absent"), machine)
    assert was == (pip_config.values(pip_conf, pip_conf.read_text()), uv_config.values(uv_toml, uv_toml.read_text()))
    assert pip_conf.read_text().startswith("# edited\n")


def test_absent_where_nothing_is_recorded(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """Only what has just the values that are asked for goes."""
    pip_conf.write_text(f"[global]\nindex-url = {URL}\ncert = /users.pem\n")
    uv_toml.write_text(f'# c\n[[index]]\nurl = "{URL}"\ndefault = true\n')
    assert planned(EnsurePipIndex(state="absent"), machine) == ()
    converge(index(cert="/other.pem", state="absent"), machine)
    assert pip_conf.read_text() == "[global]\ncert = /users.pem\n"
    assert uv_toml.read_text() == "# c\n"


def test_the_users_own_value_is_given_back(machine: Machine, pip_conf: Path) -> None:
    """Even where it is what the task asked for, once and again."""
    text = f"[global]\nindex-url = {URL}\n"
    pip_conf.write_text(text)
    converge(index(cert="/ca.pem"), machine)
    converge(index(cert="/ca.pem", state="absent"), machine)
    assert pip_conf.read_text() == text
    converge(index(cert="/ca.pem"), machine)
    assert "cert" in pip_conf.read_text()
    converge(index(cert="/ca.pem", state="absent"), machine)
    assert pip_conf.read_text() == text


def test_killed_between_record_and_file(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """The record of a text that never came to be takes nothing of the user's away."""
    pip_conf.write_text("[global]\nindex-url = https://mine\n")
    converge(index(), machine)
    pip_conf.write_text("[global]\nindex-url = https://mine\n")  # as if the second write had not happened
    converge(EnsurePipIndex(state="absent"), machine)
    assert pip_conf.read_text() == "[global]\nindex-url = https://mine\n"
    assert not record_of(pip_conf).exists()


def test_killed_between_two_versions(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """What the first version had set and the second had not is still known as ours."""
    converge(index(extra_urls=["https://b/simple"]), machine)
    first = (pip_conf.read_text(), uv_toml.read_text())
    converge(index(), machine)
    pip_conf.write_text(first[0])
    uv_toml.write_text(first[1])
    converge(index(), machine)
    assert "https://b" not in pip_conf.read_text() + uv_toml.read_text()


@pytest.mark.parametrize("damage", [b"", b"\0\1", b"{}", b'{"asked": 3}'])
def test_a_damaged_record(damage: bytes, machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """It costs what was there before, and nothing else."""
    converge(index(), machine)
    record_of(pip_conf).write_bytes(damage)
    converge(index(cert="/ca.pem"), machine)
    assert "cert = /ca.pem" in pip_conf.read_text()


@pytest.mark.parametrize(
    ("there", "secret", "then"),
    [(0o666, False, 0o644), (0o664, False, 0o644), (0o600, False, 0o600), (0o400, False, 0o400),
     (0o644, True, 0o600), (0o666, True, 0o600), (None, False, 0o644), (None, True, 0o600)],
)  # fmt: skip
def test_modes(there: int | None, secret: bool, then: int, machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """Others never write; with a password they do not read either. A mode alone is drift."""
    task = index(url="https://me:canary88@h/simple") if secret else index()
    if there is not None:
        pip_conf.write_text("[global]\ntimeout = 1\n")
        pip_conf.chmod(there)
    old = os.umask(0)
    try:
        converge(task, machine)
    finally:
        os.umask(old)
    assert mode(pip_conf) == then
    pip_conf.chmod(0o666)
    assert [change.action for change in converge(task, machine)] == ["change mode"]
    assert mode(pip_conf) == (0o600 if secret else 0o644)
    converge(EnsurePipIndex(state="absent"), machine)
    assert pip_conf.exists() == (there is not None)


def test_a_link_is_replaced_and_given_back(machine: Machine, pip_conf: Path, uv_toml: Path, tmp_path: Path) -> None:
    """What it names is merged, never written."""
    target = tmp_path / "dotfiles.conf"
    target.write_text("[global]\ntimeout = 9\n")
    pip_conf.symlink_to(target)
    uv_toml.symlink_to(tmp_path / "nowhere")
    converge(index(), machine)
    assert not pip_conf.is_symlink()
    assert pip_conf.read_text() == f"[global]\ntimeout = 9\nindex-url = {URL}\n"
    assert target.read_text() == "[global]\ntimeout = 9\n"
    assert not (tmp_path / "nowhere").exists()
    converge(EnsurePipIndex(state="absent"), machine)
    assert os.readlink(pip_conf) == str(target)
    assert os.readlink(uv_toml) == str(tmp_path / "nowhere")


def test_scope_env(machine: Machine, tmp_path: Path, home: Path) -> None:
    """Its own pip.conf with what uv is to be told; nothing in the home."""
    prefix = tmp_path / "envs" / "one"
    task = index(scope="env", env=str(prefix), index_strategy="best-match")
    with pytest.raises(TaskFailed, match="there is no environment"):
        planned(task, machine)
    machine.declared["one"] = prefix
    assert planned(task, machine)
    with pytest.raises(TaskFailed, match="there is no environment"):
        task.apply(task.plan(task.read(machine)), machine)
    assert not prefix.exists()
    prefix.mkdir(parents=True)
    converge(task, machine)
    assert (prefix / "pip.conf").read_text() == (
        f"[global]\nindex-url = {URL}\n\n[nbprovision]\nindex-strategy = unsafe-best-match\n"
    )
    assert task.provides(machine) == {Resource("index", str(prefix / "pip.conf"))}
    assert task.requires(machine) == {Resource("environment", str(prefix))}
    converge(EnsurePipIndex(scope="env", env=str(prefix), state="absent"), machine)
    assert tree(prefix) == {}
    assert tree(home) == {}


def test_scope_system(machine: Machine, home: Path) -> None:
    """The machine's files, uv's where it looks first."""
    (machine.root / "etc/xdg/uv").mkdir(parents=True)
    (machine.root / "etc/xdg/uv/uv.toml").write_text("offline = true\n")
    converge(index(scope="system"), machine)
    assert URL in (machine.root / "etc/pip.conf").read_text()
    assert URL in (machine.root / "etc/xdg/uv/uv.toml").read_text()
    assert not (machine.root / "etc/uv").exists()
    assert tree(home) == {}


@pytest.mark.parametrize("planted", ["link", "fifo", "folder"])
def test_a_planted_record(planted: str, machine: Machine, pip_conf: Path, uv_toml: Path, tmp_path: Path) -> None:
    """It is neither followed nor waited for, and what a link names stays."""
    victim = tmp_path / "victim"
    victim.write_text('{"content": "ZXZpbA==", "written": ["x"]}')
    record = record_of(pip_conf)
    if planted == "link":
        record.symlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(record)
    else:
        record.mkdir()
        with pytest.raises(TaskFailed, match="nbprovision-before"):
            converge(index(), machine)
        return
    converge(index(), machine)
    converge(EnsurePipIndex(state="absent"), machine)
    assert "ZXZpbA==" in victim.read_text()
    assert not pip_conf.exists()


def test_witnesses(machine: Machine, home: Path) -> None:
    """Both files and both records."""
    assert len(list(index().witnesses(machine))) == 4
    assert home / ".config/pip/pip.conf" in list(index().witnesses(machine))


def test_editors_leave_nothing(tmp_path: Path) -> None:
    """Without what is ours an otherwise empty file is none."""
    assert pip_config.without(Path("f"), "[global]\nindex-url = x\n", {"global.index-url": []}) is None
    assert pip_config.without(Path("f"), "# c\n[global]\nindex-url = x\n", {"global.index-url": []}) == "# c\n"
    assert uv_config.without(Path("f"), '[[index]]\nurl = "x"\n', {"extra": ["x"]}) is None


_WORD = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="#;"), min_size=1)


@given(st.lists(_WORD, min_size=1, max_size=3), st.lists(_WORD, max_size=3, unique=True))
def test_a_new_file_says_what_is_asked_for(url: list[str], extra: list[str]) -> None:
    """uv.toml is then written without tomlkit, whose import takes long."""
    words = [f"https://{word}" for word in url]
    asked = {"global.index-url": words[:1], "global.find-links": words, "own.index-strategy": ["x"]}
    path = Path("a file")
    assert pip_config.values(path, pip_config.merged(path, None, asked)) == asked
    of_uv = {"default": words[:1], "extra": [f"file:///{word}" for word in extra], "find-links": words}
    of_uv = {name: values for name, values in of_uv.items() if values}
    assert uv_config.values(path, uv_config.merged(path, None, of_uv)) == of_uv
    assert uv_config.values(path, uv_config.merged(path, "# empty\n", of_uv)) == of_uv
