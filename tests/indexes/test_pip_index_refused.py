"""What ensure_pip_index refuses, what it warns of, and passwords that nobody gets to see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.model.errors import ParameterError, TaskFailed
from tests.support.driver import converge, planned
from tests.support.index_files import URL, index, mode, without_index_variables


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    return without_index_variables(env)


def test_a_link_with_a_password_is_replaced(machine: Machine, pip_conf: Path, uv_toml: Path, tmp_path: Path) -> None:
    """Also where what it names says all: it may lie on the persistent volume."""
    url = "https://me:canary88@h/simple"
    (tmp_path / "shared.conf").write_text(f"[global]\nindex-url = {url}\n")
    pip_conf.symlink_to(tmp_path / "shared.conf")
    converge(index(url=url), machine)
    assert not pip_conf.is_symlink()
    assert mode(pip_conf) == 0o600


@pytest.mark.parametrize("there", ["folder", "broken", "fifo"])
def test_what_cannot_be_merged_stays(there: str, machine: Machine, pip_conf: Path) -> None:
    """A clear word, and nothing touched."""
    if there == "folder":
        pip_conf.mkdir()
    elif there == "fifo":
        os.mkfifo(pip_conf)
    else:
        pip_conf.write_text("[global\nindex-url\n")
    with pytest.raises(TaskFailed, match=r"pip\.conf"):
        planned(index(), machine)


def test_scope_system_without_the_right(machine: Machine) -> None:
    """Said before anything is done, and only where something is to be done."""
    task = index(scope="system")
    state = task.read(machine)
    files = [structs.replace(entry, file=structs.replace(entry.file, writable=False)) for entry in state.files]
    with pytest.raises(TaskFailed, match="scope: user"):
        task.plan(structs.replace(state, files=tuple(files)))
    assert not EnsurePipIndex(scope="system", state="absent").plan(structs.replace(state, files=tuple(files)))


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no url": ({"url": None}, "state", "needs `url` or `codeartifact`"),
    "a path": ({"url": "/opt/simple"}, "url", "write file:///opt/simple"),
    "no scheme": ({"url": "pypi.org/simple"}, "url", "not an http, https or file URL"),
    "another scheme": ({"url": "ftp://h/simple"}, "url", "not an http, https or file URL"),
    "no host": ({"url": "https:///simple"}, "url", "has no host"),
    "no absolute path": ({"url": "file://opt/simple"}, "url", "has no absolute path"),
    "a line break": ({"url": "https://h/simple\ntrusted-host = evil"}, "url", "line break"),
    "a line break in a list": ({"extra_urls": [URL, "https://h\n[install]"]}, "extra_urls", "line break"),
    "a blank": ({"url": "https://h/a b"}, "url", "%20"),
    "a slash in a password": ({"url": "https://me:canary/99@h/simple"}, "url", "%2F"),
    "a number sign in a password": ({"url": "https://me:12#canary99@h/simple"}, "url", "%23"),
    "empty": ({"extra_urls": [""]}, "extra_urls", "is empty"),
    "a URL for a host": ({"trusted_hosts": ["https://h:80/simple"]}, "trusted_hosts", "write h:80"),
    "two hosts in one": ({"trusted_hosts": "a b"}, "trusted_hosts", "is not a host"),
    "a line break in find_links": ({"find_links": ["/a\n/b"]}, "find_links", "line break"),
    "a line break in cert": ({"cert": "/a\n[x]"}, "cert", "line break"),
    "env without its scope": ({"env": "x"}, "env", "needs `scope: env`"),
    "scope without its env": ({"scope": "env"}, "scope", "needs `env`"),
    "a password in an environment": ({"url": "https://me:canary99@h/simple", "scope": "env", "env": "x"}, "url", "scope: user"),
    "a password for all": ({"extra_urls": "https://me:canary99@h/simple", "scope": "system"}, "url", "scope: user"),
    "a token for all": ({"url": "https://canary99canary99canary99@h/simple", "scope": "system"}, "url", "scope: user"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters(name: str) -> None:
    """Each is refused with its key and what to do, and never shows a password."""
    parameters, key, text = WRONG[name]
    with pytest.raises(ParameterError) as caught:
        index(**parameters)
    assert caught.value.key == key
    assert text in str(caught.value)
    assert "canary" not in str(caught.value)


def test_no_password_on_the_persistent_volume(machine: Machine, home: Path, env: dict[str, str]) -> None:
    """Where the home survives a restart, or the configuration lies on the volume, it is refused."""
    task = index(url="https://me:canary88@h/simple")
    machine.__dict__["platform"] = Platform("studio", "a test", home, None)
    with pytest.raises(TaskFailed, match="PIP_INDEX_URL"):
        planned(task, machine)
    assert planned(index(), machine)
    machine.__dict__["platform"] = Platform("notebook-instance", "a test", home / "SageMaker", None)
    assert planned(task, machine)
    (home / "SageMaker/config").mkdir(parents=True)
    (home / ".config").symlink_to(home / "SageMaker/config")
    with pytest.raises(TaskFailed, match="survives a restart"):
        planned(task, machine)


def test_no_change_shows_a_password(machine: Machine, pip_conf: Path, uv_toml: Path) -> None:
    """Neither ours nor one that was there; a new password is a change all the same."""
    pip_conf.write_text("[global]\nindex-url = https://old:canary-old@h/simple\n")
    shown = str(converge(index(url="https://me:canary%2F88@h/simple"), machine))
    shown += str(changed := converge(index(url="https://me:canary%2F99@h/simple"), machine))
    assert [change.action for change in changed] == ["change password"] * 2
    shown += str(converge(EnsurePipIndex(state="absent"), machine))
    assert "canary" not in shown
    assert "https://me:****@h/simple" in shown


@pytest.mark.parametrize(
    ("parameters", "variables", "files", "text"),
    [
        ({}, {"PIP_INDEX_URL": "https://x/simple"}, {}, "PIP_INDEX_URL is stronger"),
        ({"cert": "/"}, {"PIP_CERT": "/x"}, {}, "PIP_CERT is stronger"),
        ({}, {"PIP_CONFIG_FILE": "/dev/null"}, {}, "PIP_CONFIG_FILE makes it read other files"),
        ({}, {"UV_DEFAULT_INDEX": "https://x/simple"}, {}, "UV_DEFAULT_INDEX"),
        ({}, {}, {".config/pip/pip.conf": "[install]\nindex-url = https://x\n"}, "[install] is stronger"),
        ({"scope": "system"}, {}, {".pip/pip.conf": "[global]\nindex-url = https://x\n"}, ".pip/pip.conf [global] is stronger"),
        ({}, {}, {".config/pip/pip.conf": "[global]\nno-index = true\n"}, "pip uses no index"),
        ({}, {"PIP_NO_INDEX": "1"}, {}, "PIP_NO_INDEX sets `no-index`"),
        ({}, {}, {".config/uv/uv.toml": "no-index = true\n"}, "uv, started by hand, uses no index"),
        ({}, {}, {".config/uv/uv.toml": "[pip]\nno-index = true\n"}, "uv, started by hand, uses no index"),
        ({"scope": "system"}, {}, {".config/uv/uv.toml": "no-index = false\n"}, None),
        ({"url": "http://me:canary88@h/simple"}, {}, {}, "unencrypted"),
        ({"url": "https://pypi.org"}, {}, {}, "/simple"),
        ({"extra_urls": "https://pypi.org/simple"}, {}, {}, "anyone can publish"),
        ({"cert": "/nowhere.pem"}, {}, {}, "/nowhere.pem (`cert`) does not exist"),
        ({}, {}, {".pip/pip.conf": "[global]\nindex-url = https://x\n"}, None),
        ({"extra_urls": ["https://b/simple"], "find_links": ["~/w"], "trusted_hosts": "h"}, {"UV_DEFAULT_INDEX": URL + "/"}, {}, None),
    ],
)  # fmt: skip
def test_warnings(
    parameters: dict[str, Any],
    variables: dict[str, str],
    files: dict[str, str],
    text: str | None,
    machine: Machine,
    home: Path,
) -> None:
    """What is stronger than our files is named, as is what is seldom meant."""
    machine.env.update(variables)
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(content)
    task = index(**parameters)
    warnings = task.plan(task.read(machine)).warnings
    assert len(warnings) == (0 if text is None else 1)
    assert all(text in warning for warning in warnings if text)
    assert "canary" not in str(warnings)
