"""Every string parameter of every task with values made to break out: no shell, no other folder, no crash, no hang.

The parameters are those of the tasks' own definitions. `NBPROVISION_TEST_HOSTILE=all` tries every value in every place;
without it each place gets a few of them, others in each.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from nbprovision.__main__ import main
from nbprovision.api import ProvisionError
from nbprovision.catalogue import Catalogue
from nbprovision.model.task import Task
from tests.support import auditing

CATALOGUE = Catalogue()
ALL = os.environ.get("NBPROVISION_TEST_HOSTILE") == "all"
pytestmark = pytest.mark.scaled("NBPROVISION_TEST_HOSTILE")
FEW = 1

VALUES = {
    "upwards": "../../../../../../../../escaped",
    "inside upwards": "a/../../../../../../../../escaped",
    "line end": "a\nimport evil",
    "carriage return": "a\rb",
    "NUL": "a\0b",
    "substitution": "$(touch CANARY)",
    "backticks": "`touch CANARY`",
    "end of a command": "'; touch CANARY; \"",
    "pipe": "| touch CANARY",
    "dash": "-rf",
    "long option": "--target=/escaped",
    "look-alike": "\uff0e\uff0e\uff0fescaped",
    "right to left": "a\u202etxt.exe",
    "no letter": "\u200b",
    "half a letter": "a\udcffb",
    "terminal": "\x1b[2J\x1b]0;title\x07",
    "long": "a" * 10_000,
    "long path": "/".join(["a" * 200] * 50),
    "percent": "%s%n%(x)s{0.__class__}",
    "index option": "six --index-url http://127.0.0.1:9/",
    "file URL": "x @ file:///etc/passwd",
    "file": "/etc/passwd",
    "device": "/dev/zero",
    "home": "~root/.ssh/authorized_keys",
    "variable": "${HOME}/x",
    "empty": "",
    "blank": " ",
}

# What each kind needs besides; no network is reached, and nothing real is installed.
BASES: dict[str, dict[str, Any]] = {
    "ensure_conda_env": {"name": "x", "channels": ["file:///nowhere"], "packages": ["tiny"]},
    "ensure_conda_pkg": {"packages": ["tiny"], "env": "./env", "channels": ["file:///nowhere"]},
    "ensure_pip_pkg": {"packages": ["tiny"], "env": "./env"},
    "ensure_kernel": {"name": "x", "argv": ["/bin/cat", "{connection_file}"]},
    "ensure_pip_index": {"url": "http://127.0.0.1:9/simple"},
    "ensure_condarc": {"channels": ["conda-forge"]},
    "ensure_conda_channel": {"path": "./channel", "pypi": []},
    "ensure_file": {"path": "./file"},
    "ensure_line": {"path": "./file", "line": "x", "create": True},
    "ensure_block": {"path": "./file", "block": "x", "create": True},
    "ensure_json": {"path": "./file.json", "values": {"a": "x"}},
    "ensure_ini": {"path": "./file.ini", "values": {"a": {"b": "x"}}},
    "ensure_command": {"argv": ["/bin/true"], "removes": "./gone"},
    "ensure_env_var": {"name": "A", "value": "x"},
    "ensure_git_config": {"name": "a.b", "value": "x"},
    "ensure_venv": {"path": "./venv"},
    "ensure_git_repo": {"url": "file:///nowhere", "path": "./clone"},
    "ensure_download": {"url": "http://127.0.0.1:9/a", "path": "./file", "sha256": "0" * 64},
    "ensure_ca_cert": {"name": "x", "path": "./ca.pem"},
    "ensure_system_pkg": {"packages": ["tiny"]},
    "ensure_service": {"name": "x", "enabled": False},
    "ensure_idle_stop": {"after": "2h"},
    "ensure_mount": {"name": "x", "source": "fs-0123456789abcdef0:/"},
    "ensure_r_pkg": {"packages": ["apple"], "env": "./env", "repos": "./cran"},
    "ensure_s3_sync": {"source": "s3://backups/a", "path": "./folder"},
    "ensure_schedule": {"name": "x", "argv": ["/bin/true"], "every": "1h"},
    "ensure_jupyter_extension": {"env": "./env", "lab": {"x": False}, "server": {"x": True}},
}
# Their value is a program, or a command for a shell: that is what they are for.
PROGRAMS = {"shell", "unless", "onlyif", "argv", "interpreter", "python"}


def strings(kind: type[Task[Any]]) -> Iterator[str]:
    """The parameters that take text, alone or in lists and mappings."""
    for field in msgspec.structs.fields(kind):
        schema = json.dumps(msgspec.json.schema(field.type))
        if '"type": "string"' in schema and "enum" not in schema:
            yield field.encode_name


def forms(kind: type[Task[Any]], name: str, value: str) -> Iterator[Any]:
    """The value as the parameter's type takes it."""
    field = next(one for one in msgspec.structs.fields(kind) if one.encode_name == name)
    for shape in (value, [value], {"x": value}, {value: "x"}, [{"x": value}]):
        with contextlib.suppress(msgspec.ValidationError, UnicodeEncodeError):
            yield msgspec.to_builtins(msgspec.convert(shape, field.type))


PLACES = [(kind, name) for kind in CATALOGUE for name in strings(CATALOGUE[kind])]


class Fence:
    """Nothing is opened for writing, made, moved or removed outside of a folder while it is up."""

    def __init__(self) -> None:
        self.inside = ""
        self.crossed: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not auditing.is_write(arguments):
                return
            paths = [arguments[0]]
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link"):
            paths = [*arguments[:2]]
        elif event == "os.symlink":
            paths = [arguments[1]]
        else:
            return
        for path in paths:
            if isinstance(path, (str, bytes, os.PathLike)):
                place = os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(path))))
                if not (place + "/").startswith((self.inside, "/dev/", "/proc/")):
                    self.crossed.append(f"{event} {os.fsdecode(path)[:200]!r}")
                    raise PermissionError(13, "outside of the fence", os.fsdecode(path))


FENCE = Fence()


@pytest.fixture
def fenced(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that nothing leaves: a folder for the playbook, an environment that is none of the platform's."""
    (tmp_path / "tmp").mkdir()
    project = tmp_path / "project"
    project.mkdir()
    for name in list(env):
        if name.startswith(("PIP_", "UV_")):
            del env[name]
    values = {**env, "TMPDIR": str(tmp_path / "tmp"), "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "PIP_RETRIES": "0"}
    values |= {"NBPROVISION_NETWORK_PATIENCE": "0", "NBPROVISION_NETWORK_TIMEOUT": "1"}
    monkeypatch.chdir(project)
    monkeypatch.setattr(tempfile, "tempdir", None)
    with mock.patch.dict(os.environ, values, clear=True):
        FENCE.crossed.clear()
        FENCE.inside = str(tmp_path) + "/"
        with auditing.heard_by(FENCE.hear):
            yield project
    assert not list(tmp_path.rglob("CANARY"))
    assert not (project / "CANARY").exists()


def run(project: Path, kind: str, parameters: dict[str, Any], *options: str) -> tuple[int, str]:
    """The playbook with one task, by the command line in this process."""
    playbook = project / "playbook.yml"
    section = "root_tasks" if CATALOGUE[kind].in_root == "always" else "tasks"
    playbook.write_text(json.dumps([{section: [{kind: parameters}]}]))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = main(["run", str(playbook), "--no-witness", *options])
    return status, out.getvalue()


def chosen(number: int) -> list[str]:
    names = list(VALUES)
    return names if ALL else [names[(number * FEW + one) % len(names)] for one in range(FEW)]


@pytest.mark.parametrize(("kind", "name"), PLACES, ids=str)
def test_a_playbook(kind: str, name: str, fenced: Path) -> None:
    is_path = name in ("path", "prefix", "target", "dest", "src", "cache", "packages_cache", "chdir")
    for value in chosen(PLACES.index((kind, name))):
        for form in itertools.islice(forms(CATALOGUE[kind], name, VALUES[value]), None if ALL else 1):
            if name in PROGRAMS and value in ("substitution", "backticks", "end of a command", "pipe"):
                continue
            FENCE.crossed.clear()
            status, told = run(fenced, kind, {**BASES.get(kind, {}), name: form})
            assert status in (0, 2, 4), (value, told)
            assert "Traceback" not in told, (value, told)
            assert "defect" not in told, (value, told)
            assert "\x1b" not in told, (value, told)
            if not is_path:
                assert not FENCE.crossed, (value, told)


@pytest.mark.parametrize("kind", CATALOGUE)
def test_what_is_too_long_for_a_path(kind: str, fenced: Path) -> None:
    """In every place, as none of the others fails as often in the midst of a look."""
    import nbprovision

    for name in strings(CATALOGUE[kind]):
        for value in ("long", "long path"):
            for form in itertools.islice(forms(CATALOGUE[kind], name, VALUES[value]), 1):
                with contextlib.suppress(ProvisionError):
                    parameters = {**BASES.get(kind, {}), name.replace("except", "except_"): form}
                    getattr(nbprovision, kind)(check=True, **parameters)


@pytest.mark.parametrize(("kind", "name"), PLACES, ids=str)
def test_the_api(kind: str, name: str, fenced: Path) -> None:
    import nbprovision

    ensure = getattr(nbprovision, kind)
    for value in chosen(PLACES.index((kind, name)) + 7):
        for form in itertools.islice(forms(CATALOGUE[kind], name, VALUES[value]), 1):
            with contextlib.suppress(ProvisionError):
                ensure(check=True, **{**BASES.get(kind, {}), name.replace("except", "except_"): form})


@pytest.mark.parametrize("value", VALUES, ids=list(VALUES))
def test_extra_variables(value: str, fenced: Path) -> None:
    playbook = fenced / "playbook.yml"
    task = {"ensure_kernel": {**BASES["ensure_kernel"], "display_name": "{{ a }}"}, "name": "{{ a }}"}
    playbook.write_text(json.dumps([{"tasks": [task]}]))
    for option in ([f"a={VALUES[value]}"], [json.dumps({"a": VALUES[value]})], [VALUES[value]]):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = main(["run", str(playbook), "-e", *option, "--check"])
        assert status in (0, 2, 4, 5), out.getvalue()
        assert "Traceback" not in out.getvalue()
        assert "defect" not in out.getvalue()
        assert "\x1b" not in out.getvalue()
