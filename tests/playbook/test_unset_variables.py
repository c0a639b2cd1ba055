"""An environment variable that is not set never takes the place of a value that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision import api
from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError
from nbprovision.playbook.read import read_playbook

INDEX = "- tasks:\n    - ensure_pip_index: {url: \"https://u:{{ lookup('env', 'PW') }}@index.example/simple\"}\n"


@pytest.fixture
def run(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a playbook with these variables, and gives its exit status."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def ran(text: str, command: str = "run", **variables: str | None) -> int:
        path = tmp_path / "play.yml"
        path.write_text(text)
        for name, value in variables.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        return main([command, str(path)])

    return ran


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_good_line_stays(
    run: Any, env: dict[str, str], capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    """A run without the password is an error (4), of lint too, and the next one with it finds nothing to do."""
    assert run(INDEX, PW="hunter22") == 0
    conf = Path(env["HOME"], ".config/pip/pip.conf")
    before = conf.read_text()
    assert "u:hunter22@index.example" in before
    assert run(INDEX, PW=value) == 4
    assert run(INDEX, "lint", PW=value) == 4
    told = "".join(capsys.readouterr())
    assert ("the environment variable PW is not set" if value is None else "an empty password") in told
    assert conf.read_text() == before
    assert run(INDEX, PW="hunter22") == 0


@pytest.mark.parametrize(
    "made",
    [
        "{{ lookup('env', 'NOPE') }}",
        "{{ lookup('ansible.builtin.env', 'HOME', 'NOPE') }}",
        "{{ query('env', 'NOPE') }}",
        "{{ query('env', 'HOME', 'NOPE') | join(':') }}",
        "{{ lookup('env', 'NOPE') | upper }}",
        "{{ lookup('env', 'NOPE') or 'x' }}",
        "{{ '$NOPE' | expandvars }}",
        "{{ 'a${NOPE}' | expandvars }}",
        "{{ other }}",
        "{% if lookup('env', 'NOPE') %}{% endif %}",
    ],
)
def test_it_is_undefined_in_every_lookup(tmp_path: Path, made: str) -> None:
    """And the error names it, with what to do."""
    path = tmp_path / "play.yml"
    other = "a{{ lookup('env', 'NOPE') }}"
    path.write_text(f'- vars: {{other: "{other}"}}\n  tasks:\n    - ensure_file: {{path: /x, content: "{made}"}}\n')
    with pytest.raises(InvalidPlaybook, match="environment variable NOPE is not set") as caught:
        read_playbook(path, Catalogue(), env={"HOME": "/home/u"})
    assert "| default(" in caught.value.cure
    assert caught.value.position is not None


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("{{ lookup('env', 'NOPE') | default('d') }}", "d"),
        ("{{ lookup('env', 'NOPE', default='') }}", ""),
        ("{{ lookup('env', 'EMPTY') }}", ""),
        ("{{ 'a' if lookup('env', 'NOPE') is defined else 'b' }}", "b"),
        ("{{ other | default('d') }}", "d"),
        ("$NOPE ${NOPE}", "$NOPE ${NOPE}"),
    ],
)
def test_a_default_takes_its_place(tmp_path: Path, made: str, text: str) -> None:
    """An empty variable is set, and text that no filter reads is text."""
    path = tmp_path / "play.yml"
    other = "a{{ lookup('env', 'NOPE') }}"
    path.write_text(f'- vars: {{other: "{other}"}}\n  tasks:\n    - ensure_file: {{path: /x, content: "{made}"}}\n')
    (call,) = read_playbook(path, Catalogue(), env={"EMPTY": ""}).plays[0].calls
    assert call.task is not None
    assert getattr(call.task, "content", None) == text


@pytest.mark.parametrize(
    "task",
    [
        "ensure_pip_index: {url: 'https://u:@h.example/simple'}",
        "ensure_pip_index: {url: 'https://h.example/', extra_urls: ['http://u:@h.example/simple']}",
        "ensure_pip_index: {url: 'https://@h.example/simple'}",
        "ensure_pip_index: {url: 'https://h.example/', find_links: ['https://u:@h.example/']}",
        "ensure_condarc: {channels: ['https://u:@h.example/c']}",
        "ensure_condarc: {channels: ['https://h.example/t//c']}",
        "ensure_condarc: {settings: {x: ['https://u:@h.example/c']}}",
        "ensure_conda_env: {name: a, channels: ['https://u:@h.example/c'], packages: [x]}",
        "ensure_conda_pkg: {env: a, packages: ['https://u:@h.example/c::x']}",
        "ensure_pip_pkg: {env: a, packages: ['x @ https://u:@h.example/x.whl']}",
        "ensure_pip_pkg: {env: a, packages: ['git+https://u:@h.example/x']}",
        "ensure_env_var: {name: A, value: 'https://u:@h.example'}",
        "ensure_kernel: {argv: [a, '{connection_file}'], name: a, environment: {A: 'https://u:@h.example'}}",
        "{ensure_command: {argv: [a]}, environment: {A: 'https://u:@h.example'}}",
    ],
)
def test_an_empty_password_is_refused(tmp_path: Path, task: str) -> None:
    """Wherever a URL may stand."""
    path = tmp_path / "play.yml"
    path.write_text(f"- tasks:\n    - {task}\n")
    with pytest.raises(InvalidPlaybook, match=r"holds a URL with an? (user and an )?empty"):
        read_playbook(path, Catalogue(), env={})


def test_the_functions_refuse_it_too() -> None:
    """The Python API takes values that no playbook has seen."""
    with pytest.raises(ParameterError, match="empty password"):
        api.ensure_pip_index(url="https://u:@h.example/simple", check=True)


@pytest.mark.parametrize("url", ["https://u@h.example/simple", "https://u:p@h.example/a:@b", "https://h.example/x:@y"])
def test_what_is_whole_is_taken(tmp_path: Path, url: str) -> None:
    """A user without a password, and what only looks like one."""
    path = tmp_path / "play.yml"
    path.write_text(f"- tasks:\n    - ensure_env_var: {{name: A, value: '{url}'}}\n")
    assert read_playbook(path, Catalogue(), env={}).plays[0].calls[0].task is not None


def test_a_reference_that_pip_never_replaces(tmp_path: Path) -> None:
    """In requirements files pip replaces ``${NAME}``, in its configuration it does not."""
    path = tmp_path / "play.yml"
    path.write_text("- tasks:\n    - ensure_pip_index: {url: 'https://u:${PW}@h.example/simple'}\n")
    with pytest.raises(InvalidPlaybook, match=r"contains \$\{PW\}, which neither pip nor uv replaces") as caught:
        read_playbook(path, Catalogue(), env={"PW": "x"})
    assert "lookup('env', 'PW')" in caught.value.cure


@pytest.mark.parametrize("value", ["https://u:${PW}@h.example/c", "https://h.example/$PW"])
def test_a_reference_in_condarc(run: Any, env: dict[str, str], value: str) -> None:
    """conda replaces it when it reads the file; of one that is not set nothing is written."""
    play = f"- tasks:\n    - ensure_condarc: {{channels: ['{value}']}}\n"
    condarc = Path(env["HOME"], ".condarc")
    assert run(play, PW=None) == 4
    assert run(play, "lint", PW=None) == 4
    assert not condarc.exists()
    assert run(play, PW="hunter22") == 0
    assert value in condarc.read_text()
    before = condarc.read_text()
    assert run(play.replace("['", "[x, '"), PW=None) == 4
    assert condarc.read_text() == before


def test_lint_for_another_machine_takes_it_as_set_there(machine: Machine, tmp_path: Path) -> None:
    """With ``--platform``: what is set there is not known here."""
    path = tmp_path / "play.yml"
    path.write_text(INDEX)
    there = assumed("notebook-instance", machine.env, machine.root)
    assert check(path, there, Catalogue(), {}) == []
    assert [one.rule for one in check(path, Machine(machine.env, root=machine.root), Catalogue(), {})] == [
        "unresolved-template"
    ]
