"""Blocks, loops, handlers, results and included files, as far as they are known when a playbook is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import ansible, keywords
from nbprovision.playbook.calls import Block, Meta, TaskCall
from nbprovision.playbook.read import Playbook, read_playbook
from nbprovision.playbook.task_lists import MAX_FILES
from tests.support.playbook_tasks import CATALOGUE


@pytest.fixture
def playbook(tmp_path: Path) -> Any:
    """Reads a playbook given as text."""

    def read(text: str, **options: Any) -> Playbook:
        path = tmp_path / "play.yml"
        path.write_text(text)
        return read_playbook(path, CATALOGUE, **({"facts": {"platform": "other"}, "env": {}} | options))

    return read


def told(calls: Any) -> list[str]:
    """Each call as ``name: environment of its kernel``, with ``-`` for one that is skipped and ``?`` for a late one."""
    return [f"{call.name}: {'?' if call.late else call.task.env if call.task else '-'}" for call in calls]


NUMBERED = "ensure_kernel: {env: '{{ one.n }}{{ i }}'}"

# A task or several in YAML, as they stand under `tasks:` -> what comes of them.
CASES = {
    "a list": ("- {loop: [a, b], name: k, ensure_kernel: {env: '{{ item }}'}}", ["k (item=a): a", "k (item=b): b"]),
    "a template of a list": ("- {loop: '{{ [\"a\"] + [\"b\"] }}', ensure_kernel: {env: '{{ item }}'}}",
                             ["ensure_kernel (item=a): a", "ensure_kernel (item=b): b"]),
    "names of a loop": (
        "- loop: [{n: a}]\n  loop_control: {loop_var: one, index_var: i, label: '{{ one.n }}!'}\n  " + NUMBERED,
        ["ensure_kernel (one=a!): a0"],
    ),
    "a condition for each": (
        "- {loop: [a, b], when: item != 'a', ensure_kernel: {env: '{{ item }}'}}",
        ["ensure_kernel (item=a): -", "ensure_kernel (item=b): b"],
    ),
    "an empty list": ("- {loop: [], ensure_kernel: {env: '{{ item }}'}}", ["ensure_kernel: -"]),
    "a list that is not needed": ("- {loop: '{{ nope }}', when: false, ensure_kernel: {env: a}}", ["ensure_kernel: -"]),
    "an entry that looks like a template": (
        "- {loop: \"{{ ['{' ~ '{ 1 }' ~ '}'] }}\", ensure_kernel: {env: '{{ item }}'}}",
        ["ensure_kernel (item={{ 1 }}): {{ 1 }}"],
    ),
    "a block": ("- when: 1 == 1\n  block:\n    - ensure_kernel: {env: a}\n    - block:\n        - ensure_kernel: {env: b}",
                ["ensure_kernel: a", "ensure_kernel: b"]),
    "a condition of a block": ("- when: 1 == 2\n  block:\n    - {ensure_kernel: {env: a}, when: true}",
                               ["ensure_kernel: -"]),
    "variables of a block": (
        "- vars: {e: block, f: block}\n  block:\n    - {ensure_kernel: {env: '{{ e }}{{ f }}'}, vars: {f: task}}",
        ["ensure_kernel: blocktask"],
    ),
    "a late condition": ("- {ensure_kernel: {env: a}, register: r}\n- {ensure_kernel: {env: b}, when: r.changed}",
                         ["ensure_kernel: a", "ensure_kernel: ?"]),
    "a condition that is decided before": (
        "- {ensure_kernel: {env: a}, register: r}\n- {ensure_kernel: {env: b}, when: [1 == 2, r.changed]}",
        ["ensure_kernel: a", "ensure_kernel: -"],
    ),
    "a late parameter": ("- {ensure_kernel: {env: a}, register: r}\n- ensure_kernel: {env: '{{ r.msg }}'}",
                         ["ensure_kernel: a", "ensure_kernel: ?"]),
    "late by a variable": (
        "- {ensure_kernel: {env: a}, register: r}\n- {ensure_kernel: {env: '{{ e }}'}, vars: {e: '{{ r.msg }}'}}",
        ["ensure_kernel: a", "ensure_kernel: ?"],
    ),
    "a late list": ("- {ensure_kernel: {env: a}, register: r}\n- {loop: '{{ r.changes }}', ensure_kernel: {env: '{{ item }}'}}",
                    ["ensure_kernel: a", "ensure_kernel: ?"]),
    "a result that is asked whether it is there": (
        "- {ensure_kernel: {env: a}, when: r is not defined}\n- {ensure_kernel: {env: b}, when: r is defined}",
        ["ensure_kernel: a", "ensure_kernel: -"],
    ),
    "a late task's name": (
        "- {ensure_kernel: {env: a}, register: r}\n- {name: 'of {{ r.msg }}', ensure_kernel: {env: b}}",
        ["ensure_kernel: a", "of {{ r.msg }}: b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_tasks_are_known_to_be(playbook: Any, case: str) -> None:
    """What is known is bound; what turns on a result is late."""
    text, wanted = CASES[case]
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    assert told(playbook(f"- tasks:\n{lines}\n").plays[0].calls) == wanted


def test_a_late_task_is_bound_with_results(playbook: Any) -> None:
    """Its condition, its parameters, its environment and its list, all by what others report."""
    calls = (
        playbook(
            "- tasks:\n    - {ensure_kernel: {env: a}, register: r}\n"
            "    - ensure_kernel: {env: '{{ r.out }}', display_name: x}\n      when: r.changed\n"
            "      environment: {A: '{{ r.out }}'}\n"
            "    - {loop: '{{ r.names }}', ensure_kernel: {env: '{{ item }}'}, name: k}\n"
        )
        .plays[0]
        .calls
    )
    results = {"r": {"changed": True, "out": "{{ raw }}", "names": ["x", "y"]}}
    assert calls[1].wanted(results)
    assert not calls[1].wanted({"r": {"changed": False}})
    assert calls[1].bind(results).env == "{{ raw }}", "what a task reports is no template"
    assert calls[1].variables(results) == {"A": "{{ raw }}"}
    assert [(call.name, call.bind(results).env) for call in calls[2].turns(results)] == [
        ("k (item=x)", "x"),
        ("k (item=y)", "y"),
    ]
    with pytest.raises(InvalidPlaybook, match="the mapping has no 'out'"):
        calls[1].bind({"r": {"changed": True}})


def test_a_block_with_rescue_keeps_its_parts(playbook: Any) -> None:
    """One without is nothing but its tasks."""
    (section,) = (
        playbook(
            "- tasks:\n    - block: [{ensure_kernel: {env: a}}]\n      rescue:\n"
            "        - ensure_kernel: {env: '{{ ansible_failed_result.msg }}'}\n      always: [{ensure_kernel: {env: c}}]\n"
        )
        .plays[0]
        .sections
    )
    (block,) = section.entries
    assert isinstance(block, Block)
    assert [told(part) for part in (block.body, block.rescue, block.always)] == [
        ["ensure_kernel: a"],
        ["ensure_kernel: ?"],
        ["ensure_kernel: c"],
    ]


def test_keywords_that_tasks_take_over(playbook: Any) -> None:
    """From the play and the blocks around them; the nearer one wins, tags and conditions add up."""
    outer, inner = (
        playbook(
            "- environment: {A: play, B: play}\n  tags: p\n  ignore_errors: true\n  check_mode: true\n  tasks:\n"
            "    - ensure_kernel: {env: a}\n"
            "    - tags: b\n      environment: {B: block}\n      diff: false\n      notify: h\n      block:\n"
            "        - {ensure_kernel: {env: b}, tags: t, ignore_errors: false, check_mode: false, environment: [{A: 1}]}\n"
            "  handlers:\n    - {name: h, ensure_kernel: {env: h}}\n"
        )
        .plays[0]
        .calls
    )
    assert (outer.tags, outer.environment, outer.ignore_errors, outer.check_mode, outer.diff, outer.notify) == (
        ("p",), {"A": "play", "B": "play"}, True, True, None, (),
    )  # fmt: skip
    assert (inner.tags, inner.environment, inner.ignore_errors, inner.check_mode, inner.diff, inner.notify) == (
        ("p", "b", "t"), {"A": "1", "B": "block"}, False, False, False, ("h",),
    )  # fmt: skip


def test_handlers(playbook: Any) -> None:
    """Their names, what they listen to; of two with one name the last counts."""
    (play,) = playbook(
        "- tasks:\n    - {ensure_kernel: {env: a}, notify: [one, all]}\n  handlers:\n"
        "    - {name: one, ensure_kernel: {env: x}}\n    - {name: two, listen: [all, 'a, b'], ensure_kernel: {env: y}}\n"
        "    - {name: one, ensure_kernel: {env: z}}\n"
    ).plays
    assert [(call.title, call.listen, call.task.env) for call in play.handlers] == [
        ("two", ("two", "all", "a, b"), "y"),
        ("one", ("one",), "z"),
    ]
    assert play.calls[0].notify == ("one", "all")


def test_sections_and_meta(playbook: Any) -> None:
    """Before, during and after; meta where it stands, with its condition."""
    (play,) = playbook(
        "- post_tasks: [{ensure_kernel: {env: c}}]\n  pre_tasks: [{ensure_kernel: {env: a}, register: r}]\n  tasks:\n"
        "    - meta: flush_handlers\n    - {meta: end_play, when: r.changed}\n    - meta: noop\n"
    ).plays
    assert [section.name for section in play.sections] == ["pre_tasks", "tasks", "post_tasks"]
    flush, end = play.sections[1].entries
    assert isinstance(flush, Meta)
    assert isinstance(end, Meta)
    assert (flush.action, end.action) == ("flush_handlers", "end_play")
    assert end.wanted({"r": {"changed": True}})
    assert told(play.calls) == ["ensure_kernel: a", "ensure_kernel: c"]


FILES = {
    "one.yml": "- ensure_kernel: {env: '{{ e }}'}\n",
    "sub/two.yml": "- import_tasks: three.yml\n",
    "sub/three.yml": "- ensure_pip_pkg: {requirements: r.txt}\n- {ensure_kernel: {env: x}, tags: own}\n",
    "v.yml": "e: file\nf: '{{ e }}!'\n",
    "other.yml": "- tasks: [{ensure_kernel: {env: '{{ e | default(\"none\") }}'}}]\n",
}
# What stands under `tasks:` -> what comes of it.
INCLUDES = {
    "import": ("- {import_tasks: one.yml, vars: {e: a}}", ["ensure_kernel: a"]),
    "the full name": ("- {ansible.builtin.include_tasks: one.yml, vars: {e: a}}", ["ensure_kernel: a"]),
    "a name by a variable": ("- {include_tasks: '{{ n }}.yml', vars: {e: a, n: one}}", ["ensure_kernel: a"]),
    "variables of the same name": (
        "- {block: [{include_tasks: one.yml, vars: {e: '{{ e }}{{ e }}'}}], vars: {e: a}}",
        ["ensure_kernel: aa"],
    ),
    "in a loop": (
        "- {include_tasks: one.yml, loop: [a, b], vars: {e: '{{ item }}!'}}",
        ["ensure_kernel: a!", "ensure_kernel: b!"],
    ),
    "not at all": ("- {include_tasks: nowhere.yml, when: 1 == 2}", ["include_tasks: -"]),
    "late": (
        "- {ensure_kernel: {env: a}, register: r}\n- {include_tasks: one.yml, vars: {e: '{{ r.msg }}'}}",
        ["ensure_kernel: a", "ensure_kernel: ?"],
    ),
    "apply": ("- include_tasks: {file: one.yml, apply: {vars: {e: a}, when: 1 == 2}}", ["ensure_kernel: -"]),
}


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", INCLUDES)
def test_files_of_tasks(playbook: Any, case: str) -> None:
    """Their tasks stand in the place of the include, with its variables."""
    text, wanted = INCLUDES[case]
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    assert told(playbook(f"- tasks:\n{lines}\n").plays[0].calls) == wanted


@pytest.mark.usefixtures("files")
def test_an_empty_file_of_tasks_has_none(playbook: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.yml").write_text("# nothing yet\n")
    found = playbook("- tasks: [{import_tasks: empty.yml}, {include_tasks: {file: empty.yml}}]\n")
    assert found.plays[0].calls == ()
    assert tmp_path / "empty.yml" in found.content


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ensure_kernel: {env: a}\n", "a file of tasks is a list, not a mapping"),
        ("- ensure_kernel: {env: a}\n- tasks: []\n  name: p\n", "a play is in the place of a task"),
    ],
)
def test_what_is_no_file_of_tasks_is_told_with_its_place(playbook: Any, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "wrong.yml").write_text(text)
    with pytest.raises(InvalidPlaybook) as caught:
        playbook("- tasks: [{include_tasks: wrong.yml}]\n")
    line = text.count("\n", 0, text.find("tasks:")) + 1
    assert str(caught.value).startswith(f"{tmp_path / 'wrong.yml'}:{line}:")
    assert said in str(caught.value)


def test_files_within_files_end_somewhere(playbook: Any, tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.yml").write_text(f"- import_tasks: {number + 1}.yml\n")
    with pytest.raises(InvalidPlaybook, match=f"more than {MAX_FILES} levels deep") as caught:
        playbook("- tasks: [{import_tasks: 0.yml}]\n")
    assert caught.value.position is not None
    assert Path(caught.value.position.file).name == f"{MAX_FILES - 1}.yml"


@pytest.mark.usefixtures("files")
def test_files_are_inputs_and_paths_begin_beside_them(playbook: Any, tmp_path: Path) -> None:
    """An include is relative to the file that it stands in, as a task's paths are; every file is an input."""
    found = playbook("- vars_files: [v.yml]\n  tasks:\n    - import_tasks: sub/two.yml\n")
    assert found.plays[0].calls[0].task.requirements == str(tmp_path / "sub/r.txt")
    assert str(found.plays[0].calls[0].position) == str(tmp_path / "sub/three.yml:1:3")
    assert [str(path.relative_to(tmp_path)) for path in found.content] == [
        "play.yml",
        "v.yml",
        "sub/two.yml",
        "sub/three.yml",
    ]


@pytest.mark.usefixtures("files")
def test_tags_of_an_import_are_its_tasks_and_those_of_an_include_its_own(playbook: Any) -> None:
    """As in Ansible."""
    for key, wanted in (("import_tasks", [True, True]), ("include_tasks", [False, False])):
        calls = playbook(f"- tasks:\n    - {{{key}: sub/three.yml, tags: t}}\n", tags=["t"]).plays[0].calls
        assert [call.chosen for call in calls] == wanted
    assert playbook("- tasks:\n    - {include_tasks: sub/three.yml, tags: t}\n", tags=["own"]).plays[0].calls == ()


@pytest.mark.usefixtures("files")
def test_files_of_variables(playbook: Any) -> None:
    """Over the play's variables, under those of tasks and of the command line; of a list the first that is there."""
    text = "- vars: {e: play}\n  vars_files: [[nowhere.yml, v.yml]]\n  tasks:\n    - ensure_kernel: {env: '{{ f }}'}\n"
    assert told(playbook(text).plays[0].calls) == ["ensure_kernel: file!"]
    assert told(playbook(text, extra_vars={"e": "over"}).plays[0].calls) == ["ensure_kernel: over!"]


@pytest.mark.usefixtures("files")
def test_an_imported_playbook(playbook: Any) -> None:
    """Its plays stand in its place, with its variables and tags."""
    found = playbook("- import_playbook: other.yml\n  vars: {e: mine}\n  tags: t\n- tasks: []\n")
    assert [told(play.calls) for play in found.plays] == [["ensure_kernel: mine"], []]
    assert found.plays[0].calls[0].tags == ("t",)


def test_a_playbook_does_not_grow_without_end(playbook: Any, tmp_path: Path) -> None:
    """Loops of includes of loops are counted."""
    (tmp_path / "many.yml").write_text("- {loop: '{{ range(900) | list }}', ensure_kernel: {env: a}}\n")
    with pytest.raises(InvalidPlaybook, match="more than 2000 tasks"):
        playbook("- tasks:\n    - {include_tasks: many.yml, loop: '{{ range(3) | list }}'}\n")


def test_every_keyword_is_described_and_no_module_is_a_keyword() -> None:
    """The tables are what the reference and the schema are made of."""
    for table in (keywords.PLAY, keywords.TASK, keywords.BLOCK, keywords.HANDLER, keywords.INCLUDE, keywords.META):
        assert all(text[:1].isupper() or text[:1] == "`" for text in table.values())
        assert all(text.endswith(".") for text in table.values())
    for name in ("pip", "ansible.builtin.pip", "community.general.ini_file", "yum", "systemd"):
        assert ansible.module(name)
    assert isinstance(TaskCall.__struct_fields__, tuple)
