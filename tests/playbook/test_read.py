"""A playbook's plays and tasks: typed, bound, each knowing its line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.model.task import Task
from nbprovision.playbook.read import Playbook, parse_extra_vars, read_playbook
from tests.support.playbook_tasks import CATALOGUE, EnsureKernel, EnsurePipPkg, Lazy


@pytest.fixture
def playbook(tmp_path: Path) -> Any:
    """Reads a playbook given as text."""

    def read(text: str, **options: Any) -> Playbook:
        path = tmp_path / "play.yml"
        path.write_text(text)
        options = {"facts": {"platform": "other"}, "env": {"WHERE": "fraud"}} | options
        return read_playbook(path, options.pop("catalogue", CATALOGUE), **options)

    return read


def test_a_whole_playbook(playbook: Any, tmp_path: Path) -> None:
    """Names, positions, types, templates, what was read."""
    found = playbook(
        """\
- name: team {{ team }}
  hosts: localhost
  gather_facts: false
  connection: local
  tags: all-of-it
  vars:
    team: risk
    env_name: "{{ lookup('env', 'WHERE') }}"
  tasks:
    - name: Kernel of {{ env_name }}
      tags: [kernel, "a, b"]
      no_log: true
      vars: {shown: "Fraud {{ version }}", version: "3.10"}
      ensure_kernel:
        env: "{{ env_name }}"
        display_name: "{{ shown }}"
        validate: "{{ 1 == 1 }}"
        environment: {A: "1"}
    - ensure_pip_pkg: {env: fraud, packages: "{{ ['a', 'b'] }}"}
    - ensure_pip_pkg: {env: "{{ nope }}", packages: a}
      name: never {{ nope }}
      when: nope is defined
"""
    )
    path = tmp_path / "play.yml"
    assert found.path == path
    assert tuple(found.content) == (path,)
    assert found.env_read == {"WHERE"}
    (play,) = found.plays
    assert play.name == "team risk"
    kernel, packages, skipped = play.calls
    assert kernel.name == "Kernel of fraud"
    assert kernel.position == Position(str(path), 14, 7)
    assert kernel.tags == ("all-of-it", "kernel", "a", "b")
    assert kernel.no_log
    assert kernel.task == EnsureKernel(env="fraud", display_name="Fraud 3.10", validate=True, environment={"A": "1"})
    assert packages.name == packages.kind == "ensure_pip_pkg"
    assert packages.task == EnsurePipPkg(env="fraud", packages=["a", "b"])
    assert not packages.no_log
    assert skipped.task is None
    assert skipped.name == "never {{ nope }}"


@pytest.mark.parametrize(
    ("given", "variables", "task"),
    [
        ("{env: a, validate: 'yes'}", {}, EnsureKernel(env="a", validate=True)),
        ("{env: a, validate: '{{ x }}'}", {"x": "off"}, EnsureKernel(env="a", validate=False)),
        ("{env: a, timeout: '{{ x }}'}", {"x": "30"}, EnsureKernel(env="a", timeout=30)),
        ("{env: '{{ x }}'}", {"x": 3}, EnsureKernel(env="3")),
        ("{env: a, environment: {N: '{{ x }}'}}", {"x": 3}, EnsureKernel(env="a", environment={"N": "3"})),
        ("{env: a, name: '{{ x | default(omit) }}'}", {}, EnsureKernel(env="a")),
        (
            "{env: a, environment: '{{ x }}'}",
            {"x": {"N": 3, "M": "b"}},
            EnsureKernel(env="a", environment={"N": "3", "M": "b"}),
        ),
        (
            "{env: a, environment: {N: '{{ x | default(omit) }}', M: b}}",
            {},
            EnsureKernel(env="a", environment={"M": "b"}),
        ),
        ("{env: a, name: null}", {}, EnsureKernel(env="a")),
        ("{env: '{{ nb.platform }}'}", {}, EnsureKernel(env="other")),
        ("{env: ./x}", {}, EnsureKernel(env="PLAYBOOK/x")),
        ("{env: ../x}", {}, EnsureKernel(env="ABOVE/x")),
        ("{env: x/y}", {}, EnsureKernel(env="PLAYBOOK/x/y")),
        ("{env: ~/x}", {}, EnsureKernel(env="~/x")),
        ("{env: /x}", {}, EnsureKernel(env="/x")),
        ("{env: '{{ playbook_dir }}/x'}", {}, EnsureKernel(env="PLAYBOOK/x")),
    ],
)
def test_values_of_parameters(
    playbook: Any, tmp_path: Path, given: str, variables: dict[str, Any], task: EnsureKernel
) -> None:
    """Text from templates and the command line becomes what the parameter takes; paths begin at the playbook."""
    found = playbook(f"- tasks:\n    - ensure_kernel: {given}\n", extra_vars=variables)
    wanted = task.env.replace("PLAYBOOK", str(tmp_path)).replace("ABOVE", str(tmp_path.parent))
    assert found.plays[0].calls[0].task == EnsureKernel(
        **{name: getattr(task, name) for name in task.__struct_fields__} | {"env": wanted}
    )


class EnsureNote(Task[None], frozen=True, kw_only=True):
    """Its parameters have types that no task of ours has, and no description."""

    text: str
    sizes: dict[str, int | dict[str, str]] = {}
    words: list[Annotated[str, Meta(min_length=2)]] = []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}", "3:7: ensure_note needs 'text'"),
        ("{text: a, words: x}", "3:37: ensure_note: 'words' takes a list of strings, not text"),
        ("{text: a, words: [ab, c]}", "3:42: ensure_note: 'words' entry 2 must be a string of length >= 2"),
        (
            "{text: a, sizes: {a: 1, b: {c: x, d: yes}}}",
            "3:57: ensure_note: 'sizes' takes a mapping of strings to whole numbers or mappings, and 'b' 'd' is true\n  fix: write it in quotes: \"yes\"",
        ),
    ],
)
def test_parameters_of_any_type_are_told_of(playbook: Any, given: str, said: str) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        playbook(f"- name: p\n  tasks:\n    - ensure_note: {given}\n", catalogue={"ensure_note": EnsureNote})
    assert str(caught.value).partition("play.yml:")[2] == said


def test_paths_in_lists(playbook: Any, tmp_path: Path) -> None:
    """Each entry of a list is a path; URLs are not, nor are names where only dots make one."""
    found = playbook(
        "- tasks:\n    - ensure_pip_pkg:\n        requirements: [a.txt, /b.txt, ~/c.txt]\n"
        "        find_links: [./wheels, conda-forge/label/x, file:///x]\n"
    )
    task = found.plays[0].calls[0].task
    assert task.requirements == [f"{tmp_path}/a.txt", "/b.txt", "~/c.txt"]
    assert task.find_links == [f"{tmp_path}/wheels", "conda-forge/label/x", "file:///x"]


def test_variables_of_the_command_line_win(playbook: Any) -> None:
    """-e over the task's vars, those over the play's."""
    text = "- vars: {a: play, b: play}\n  tasks:\n    - vars: {a: task, b: task}\n      ensure_kernel: {env: '{{ a }}{{ b }}'}\n"
    assert playbook(text).plays[0].calls[0].task.env == "tasktask"
    assert playbook(text, extra_vars={"b": "over"}).plays[0].calls[0].task.env == "taskover"
    nested = "- vars: {a: '{{ b }}', b: play}\n  tasks:\n    - ensure_kernel: {env: '{{ a }}'}\n"
    assert playbook(nested, extra_vars={"b": "over"}).plays[0].calls[0].task.env == "over"


def test_files_of_variables_are_inputs(playbook: Any, tmp_path: Path) -> None:
    """A change of a file given by -e @FILE is a change of what the playbook means."""
    (tmp_path / "vars.yml").write_text("name: fraud\n")
    (tmp_path / "n.txt").write_text("k\n")
    found = playbook(
        "- tasks:\n    - ensure_kernel: {env: '{{ name }}', name: \"{{ lookup('file', 'n.txt') }}\"}\n",
        extra_vars=parse_extra_vars([f"@{tmp_path}/vars.yml"]),
    )
    assert tuple(found.content) == (tmp_path / "play.yml", tmp_path / "vars.yml")
    assert found.looked_at == {tmp_path / "n.txt": True}
    assert found.plays[0].calls[0].task == EnsureKernel(env="fraud", name="k")


def test_binding_again_with_more_variables(playbook: Any) -> None:
    """What a later task needs of an earlier one is known only then."""
    (call,) = (
        playbook(
            "- tasks:\n    - ensure_kernel: {env: '{{ made.name | default(\"none\") }}'}\n      when: made is not defined or made.changed\n"
        )
        .plays[0]
        .calls
    )
    assert call.task == EnsureKernel(env="none")
    assert call.wanted({"made": {"changed": True}})
    assert not call.wanted({"made": {"changed": False}})
    assert call.bind({"made": {"name": "fraud"}}) == EnsureKernel(env="fraud")
    with pytest.raises(InvalidPlaybook, match="takes a string, not a list"):
        call.bind({"made": {"name": ["a"]}})


def test_tasks_that_tags_leave_out_need_no_variables(playbook: Any) -> None:
    """As in Ansible; what can be known without variables is still checked."""
    text = "- tasks:\n    - ensure_kernel: {env: '{{ nope }}'}\n      tags: x\n    - ensure_kernel: {env: a}\n      tags: y\n"
    calls = playbook(text, tags=["y"]).plays[0].calls
    assert [call.chosen for call in calls] == [False, True]
    assert [call.task is None for call in calls] == [True, False]
    assert playbook(text, skip_tags=["x"]).plays[0].calls[1].task is not None
    with pytest.raises(InvalidPlaybook, match="'nope' is not defined"):
        playbook(text)
    with pytest.raises(InvalidPlaybook, match="has no parameter 'envv'"):
        playbook("- tasks:\n    - ensure_kernel: {envv: a, env: b}\n      tags: x\n", tags=["y"])


def test_only_the_kinds_that_are_used_are_asked_for(playbook: Any) -> None:
    """Asking for a kind imports its module, and what that imports."""
    catalogue = Lazy()
    playbook("- tasks:\n    - ensure_kernel: {env: a}\n", catalogue=catalogue)
    assert set(catalogue.asked) == {"ensure_kernel"}


@pytest.mark.parametrize("text", ["- tasks:\n", "- hosts: all\n", "- hosts: [localhost]\n  vars:\n  tasks: []\n"])
def test_plays_without_tasks(playbook: Any, text: str) -> None:
    """Nothing to do is no mistake."""
    assert playbook(text).plays[0].calls == ()


def test_a_relative_playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions name the file as the user does; inputs and paths are absolute."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/p.yml").write_text("- tasks:\n    - ensure_pip_pkg: {requirements: r.txt}\n")
    monkeypatch.chdir(tmp_path)
    found = read_playbook(Path("sub/p.yml"), CATALOGUE)
    assert tuple(found.content) == (tmp_path / "sub/p.yml",)
    (call,) = found.plays[0].calls
    assert str(call.position) == "sub/p.yml:2:7"
    assert call.task == EnsurePipPkg(requirements=f"{tmp_path}/sub/r.txt")


def test_many_faults_are_told_at_once_but_not_without_end(playbook: Any) -> None:
    """Twenty-one are told, the rest is counted, and the same fault is told once."""
    with pytest.raises(InvalidPlaybook) as caught:
        playbook("- tasks:\n" + "    - ensure_nothing: {}\n" * 50)
    assert str(caught.value).count("unknown task") == 21
    assert str(caught.value).endswith("and 29 more")
    with pytest.raises(InvalidPlaybook) as caught:
        playbook("- vars: {a: '{{ nope }}'}\n  tasks:\n" + "    - ensure_kernel: {env: '{{ a }}'}\n" * 5)
    assert str(caught.value).count("nope' is not defined") == 1
