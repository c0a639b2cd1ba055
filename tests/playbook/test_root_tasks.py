"""``root_tasks``: what may stand there, and that nothing of the machine has a say in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.extra_vars import parse_extra_vars
from nbprovision.playbook.read import Playbook, read_playbook

MOUNT = 'ensure_mount: {name: team, source: "h:/x", fstype: nfs4}'


def reading(folder: Path, text: str, *extra: str) -> Playbook:
    path = folder / "playbook.yml"
    path.write_text(text)
    return read_playbook(
        path, Catalogue(), parse_extra_vars(list(extra)), {"platform": "notebook-instance"}, env={"A": "b"}
    )


def refusal(folder: Path, text: str, *extra: str) -> InvalidPlaybook:
    with pytest.raises(InvalidPlaybook) as caught:
        reading(folder, text, *extra)
    return caught.value


def test_variables_tags_conditions_and_loops(tmp_path: Path) -> None:
    text = """\
- vars: {places: [a, b], host: files}
  tags: team
  root_tasks:
    - name: The files
      ensure_mount: {name: "{{ item }}", source: "{{ host }}:/{{ item }}", fstype: nfs4}
      loop: "{{ places }}"
      when: wanted | bool
      tags: [files]
  tasks:
    - ensure_file: {path: x}
"""
    (play,) = reading(tmp_path, text, "wanted=true", "host=other").plays
    assert [(call.name, call.task.source, call.tags) for call in play.root_calls if call.task] == [  # type: ignore[attr-defined]
        ("The files (item=a)", "other:/a", ("team", "files")),
        ("The files (item=b)", "other:/b", ("team", "files")),
    ]
    assert [section.name for section in play.sections] == ["root_tasks", "tasks"]
    (play,) = reading(tmp_path, text, "wanted=false").plays
    assert [call.task for call in play.root_calls] == [None, None]


@pytest.mark.parametrize(
    "keyword",
    [
        "register: x", "notify: restart_jupyter", "environment: {A: b}", "no_log: true", "ignore_errors: true", "vars: {a: b}",
        "check_mode: false", "until: x", "retries: 3", "changed_when: true", "failed_when: false", "loop_control: {label: x}",
        "become: true", "diff: true", "async: 3",
    ],
)  # fmt: skip
def test_other_keywords_are_refused(tmp_path: Path, keyword: str) -> None:
    fault = refusal(tmp_path, f"- root_tasks:\n    - {MOUNT}\n      {keyword}\n")
    assert fault.position is not None
    assert (fault.position.line, fault.position.column) == (3, 7)
    assert f"'{keyword.partition(':')[0]}' is refused in root_tasks" in fault.message


@pytest.mark.parametrize(
    "entry", [f"block: [{{{MOUNT}}}]", "import_tasks: more.yml", "include_tasks: more.yml", "meta: end_play"]
)
def test_other_entries_are_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "more.yml").write_text(f"- {MOUNT}\n")
    assert "is refused in root_tasks" in refusal(tmp_path, f"- root_tasks:\n    - {entry}\n").message


@pytest.mark.parametrize(
    "value",
    [
        "{{ nb.platform }}", "{{ nb['platform'] }}", "{{ nb.get('platform', 'x') }}", "{{ lookup('env', 'A') }}",
        "{{ lookup('file', 'x') }}", "{{ query('fileglob', '*') }}", "{{ '~' | expanduser }}", "{{ '$A' | expandvars }}",
        "{{ '/etc' | realpath }}", "{{ lookup('env', 'A') | default('b') }}", "{{ nb.platform | default('b') }}",
        "{{ of_the_machine }}", "{{ 'x' if '/etc/passwd' is exists else 'y' }}", "{{ lookup('first_found', ['a']) }}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["value", "when", "loop", "name"])
def test_nothing_of_the_machine_is_known(tmp_path: Path, value: str, place: str) -> None:
    """Neither directly, nor by way of a variable of the play."""
    task = {"value": f'ensure_mount: {{name: team, source: "h:/{value}", fstype: nfs4}}'}.get(place, MOUNT)
    more = {
        "when": f'\n      when: "{value[2:-2].strip()} == 1"',
        "loop": f'\n      loop: ["{value}"]\n      tags: x',
        "name": f'\n      name: "{value}"',
    }.get(place, "")
    if place == "loop":
        task = 'ensure_mount: {name: team, source: "h:/{{ item }}", fstype: nfs4}'
    fault = refusal(
        tmp_path, f'- vars: {{of_the_machine: "{{{{ nb.platform }}}}"}}\n  root_tasks:\n    - {task}{more}\n'
    )
    assert "in root_tasks" in fault.message
    assert fault.position is not None
    assert "where the script is rendered" in fault.cause


def test_the_result_of_a_task_is_refused(tmp_path: Path) -> None:
    text = f"- tasks:\n    - ensure_file: {{path: x}}\n      register: made\n- root_tasks:\n    - {MOUNT}\n      when: made.changed\n"
    assert "variable 'made' is not defined" in refusal(tmp_path, text).message


def test_a_task_of_roots_among_the_users(tmp_path: Path) -> None:
    fault = refusal(tmp_path, f"- tasks:\n    - {MOUNT}\n")
    assert "ensure_mount needs root" in fault.message
    assert "root_tasks:" in fault.cure
    fault = refusal(tmp_path, "- root_tasks:\n    - ensure_file: {path: x}\n")
    assert "ensure_file is the user's own" in fault.message
    assert "ensure_mount needs root" in refusal(tmp_path, f"- handlers:\n    - {MOUNT}\n  tasks: []\n").message


def test_variables_of_files_and_of_an_importing_playbook(tmp_path: Path) -> None:
    (tmp_path / "vars.yml").write_text("host: files\n")
    (tmp_path / "inner.yml").write_text(
        '- vars_files: vars.yml\n  root_tasks:\n    - ensure_mount: {name: team, source: "{{ host }}:/{{ folder }}", fstype: nfs4}\n'
    )
    (play,) = reading(tmp_path, "- import_playbook: inner.yml\n  vars: {folder: team}\n").plays
    assert [call.task.source for call in play.root_calls if call.task] == ["files:/team"]  # type: ignore[attr-defined]
