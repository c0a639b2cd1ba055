"""Whole playbooks of the smallest tasks: what runs, in which order, what comes of it, and what the next run finds."""

from __future__ import annotations

import pytest

from nbprovision.model.errors import UnknownEnvironment, UsageError
from tests.support.plays import HANDLERS, Playbook, play

# name -> tasks, what the first run says, what the second says, whether the third is witnessed
CASES: dict[str, tuple[str, list[str], list[str], bool]] = {
    "a condition on a change": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: b}, when: r is changed}
""",
        ["a:changed", "b:changed"],
        ["a:ok", "b:skipped"],
        True,
    ),
    "a condition on no change": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: b}, when: not r.changed}
""",
        ["a:changed", "b:skipped"],
        ["a:ok", "b:changed"],
        True,
    ),
    "a parameter of a result": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: "{{ r.path }}.b"}}
- {name: c, ensure_note: {path: c}}
""",
        ["a:changed", "b:changed", "c:changed"],
        ["a:ok", "b:ok", "c:ok"],
        True,
    ),
    "a result that is built on is not there": (
        """
- {name: a, ensure_note: {path: a, fails: before}, register: r}
- {name: b, ensure_note: {path: "{{ r.path }}.b"}}
- {name: c, ensure_note: {path: c}}
""",
        ["a:failed", "b:skipped", "c:changed"],
        ["a:failed", "b:skipped", "c:ok"],
        False,
    ),
    "what a result does not say": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: "{{ r.nothing }}"}}
""",
        ["a:changed", "b:failed"],
        ["a:ok", "b:failed"],
        False,
    ),
    "a late list": (
        """
- {name: a, ensure_deed: {says: {names: [x, y]}}, register: r}
- {name: b, ensure_note: {path: "{{ item }}"}, loop: "{{ r.names }}", register: s}
- {name: c, ensure_note: {path: "{{ s.results | map(attribute='path') | map('basename') | join }}"}}
""",
        ["a:changed", "b:changed", "c:changed"],
        ["a:changed", "b:ok", "c:ok"],
        False,
    ),
    "a late list that stands": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: "{{ item }}.b"}, loop: "{{ [r.path] }}"}
""",
        ["a:changed", "b:changed"],
        ["a:ok", "b:ok"],
        True,
    ),
    "a result of a loop": (
        """
- {name: a, ensure_note: {path: "{{ item }}"}, loop: [x, y], register: r}
- {name: b, ensure_note: {path: b}, when: [r is changed, r.results | length == 2]}
- {name: c, ensure_note: {path: c}, loop: [], register: s}
- {name: d, ensure_note: {path: d}, when: "s is skipped and s.results == []"}
""",
        ["a (item=x):changed", "a (item=y):changed", "b:changed", "c:skipped", "d:changed"],
        ["a (item=x):ok", "a (item=y):ok", "b:skipped", "c:skipped", "d:ok"],
        True,
    ),
    "the entries of a loop in its result": (
        """
- {name: a, ensure_note: {path: "{{ n }}"}, loop: [x, y], loop_control: {loop_var: n, index_var: i}, register: r}
- name: b
  ensure_note: {path: "{{ r.results | map(attribute='n') | join }}{{ r.results | sum(attribute='i') }}"}
- {name: c, ensure_note: {path: c}, when: "r.n is not defined and r.results[0].ansible_loop_var == 'n'"}
- {name: d, ensure_note: {path: "{{ item }}.d"}, loop: "{{ r.results | map(attribute='n') }}", register: s}
- {name: e, ensure_note: {path: "{{ s.results | map(attribute='item') | join }}.e"}}
""",
        ["a (n=x):changed", "a (n=y):changed", "b:changed", "c:changed", "d:changed", "e:changed"],
        ["a (n=x):ok", "a (n=y):ok", "b:ok", "c:ok", "d:ok", "e:ok"],
        True,
    ),
    "ignored": (
        """
- {name: a, ensure_note: {path: a, fails: before}, ignore_errors: true, register: r}
- {name: b, ensure_note: {path: b}, when: r is failed}
- {name: c, ensure_note: {path: a, text: y}}
""",
        ["a:ignored", "b:changed", "c:changed"],
        ["a:ignored", "b:ok", "c:ok"],
        False,
    ),
    "rescued": (
        """
- block:
    - {name: a, ensure_note: {path: a}}
    - {name: b, ensure_note: {path: b, fails: before}}
    - {name: c, ensure_note: {path: c}}
  rescue:
    - {name: d, ensure_note: {path: d, text: "{{ ansible_failed_task.name }} {{ ansible_failed_result.msg }}"}}
  always:
    - {name: e, ensure_note: {path: e}}
- {name: f, ensure_note: {path: f}}
""",
        ["a:changed", "b:rescued", "c:skipped", "d:changed", "e:changed", "f:changed"],
        ["a:ok", "b:rescued", "c:skipped", "d:ok", "e:ok", "f:ok"],
        False,
    ),
    "nothing to rescue": (
        """
- block: [{name: a, ensure_note: {path: a}}]
  rescue: [{name: b, ensure_note: {path: b}}]
  always: [{name: c, ensure_note: {path: c}}]
""",
        ["a:changed", "c:changed"],
        ["a:ok", "c:ok"],
        True,
    ),
    "a rescue that fails": (
        """
- block: [{name: a, ensure_note: {path: a, fails: before}}]
  rescue: [{name: b, ensure_note: {path: b, fails: before}}, {name: c, ensure_note: {path: c}}]
  always: [{name: d, ensure_note: {path: d}}]
- {name: e, ensure_note: {path: e}}
""",
        ["a:rescued", "b:failed", "d:changed", "e:changed"],
        ["a:rescued", "b:failed", "d:ok", "e:ok"],
        False,
    ),
    "a block within a block": (
        """
- block:
    - block: [{name: a, ensure_note: {path: a, fails: before}}]
      always: [{name: b, ensure_note: {path: b}}]
    - {name: c, ensure_note: {path: c}}
  rescue: [{name: d, ensure_note: {path: d}}]
""",
        ["a:rescued", "b:changed", "c:skipped", "d:changed"],
        ["a:rescued", "b:ok", "c:skipped", "d:ok"],
        False,
    ),
    "failed_when and changed_when": (
        """
- {name: a, ensure_deed: {says: {rc: 3}}, register: r, failed_when: r.rc == 3, ignore_errors: true}
- {name: b, ensure_deed: {fails: true}, failed_when: false}
- {name: c, ensure_deed: {says: {out: same}}, register: s, changed_when: "'new' in s.out"}
- {name: d, ensure_note: {path: d}, changed_when: [true, false]}
""",
        ["a:ignored", "b:ok", "c:ok", "d:ok"],
        ["a:ignored", "b:ok", "c:ok", "d:ok"],
        False,
    ),
    "what never says changed": (
        "- {name: a, ensure_note: {path: a}, changed_when: false, register: r, failed_when: r.path == ''}",
        ["a:ok"],
        ["a:ok"],
        True,
    ),
    "what always says changed": (
        "- {name: a, ensure_note: {path: a}, changed_when: true}",
        ["a:changed"],
        ["a:changed"],
        False,
    ),
    "tried again": (
        """
- {name: a, ensure_note: {path: a, tries: 2}, retries: 2, delay: 0, register: r}
- {name: b, ensure_note: {path: b, text: "{{ r.attempts | default('none') }}"}}
- {name: c, ensure_deed: {says: {n: 1}}, register: s, until: s.n == 2, retries: 1, delay: 0, ignore_errors: true}
- {name: d, ensure_note: {path: d}, when: s.attempts == 2}
""",
        ["a:changed", "b:changed", "c:ignored", "d:changed"],
        ["a:ok", "b:changed", "c:ignored", "d:ok"],
        False,
    ),
    "the environment of a task": (
        """
- {name: a, ensure_note: {path: a}, environment: {SEEN: one}, register: r}
- {name: b, ensure_note: {path: "{{ r.seen }}"}, environment: {SEEN: "{{ r.seen }}"}, register: s}
- {name: c, ensure_note: {path: "{{ s.seen }}.c"}}
""",
        ["a:changed", "b:changed", "c:changed"],
        ["a:ok", "b:ok", "c:ok"],
        True,
    ),
    "only looked at": (
        """
- {name: a, ensure_note: {path: a}, check_mode: true}
- {name: b, ensure_note: {path: b}}
""",
        ["a:changed", "b:changed"],
        ["a:changed", "b:ok"],
        False,
    ),
    "the end of a play": (
        """
- {name: a, ensure_note: {path: a}, register: r}
- {meta: end_play, when: r is not changed}
- {name: b, ensure_note: {path: b}}
""",
        ["a:changed", "b:changed"],
        ["a:ok", "b:skipped"],
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_comes_of_it(playbook: Playbook, case: str) -> None:
    """The first run, the second, and whether the third can be told from the second without being made."""
    tasks, first, second, witnessed = CASES[case]
    assert sorted(playbook.run(play(tasks))) == sorted(first)
    assert sorted(playbook.run()) == sorted(second)
    assert playbook.stands == witnessed
    failed = any(line.endswith(":failed") for line in second)
    assert (playbook.content["status"] == "failed") == failed


def test_a_second_run_is_witnessed_at_once(playbook: Playbook) -> None:
    """What later tasks are when nothing changes is known at the end of the first run already."""
    tasks = """
- {name: a, ensure_note: {path: a}, register: r, notify: h}
- {name: b, ensure_note: {path: b}, when: r is changed}
- {name: c, ensure_note: {path: "{{ item }}"}, loop: [x, y]}
- block: [{name: d, ensure_note: {path: "{{ r.path }}.d"}}]
  always: [{name: e, ensure_note: {path: e}}]
"""
    text = play(tasks, "  handlers: [{name: h, ensure_note: {path: h}}]\n")
    playbook.run(text)
    assert playbook.stands
    (playbook.folder / "x").write_text("by hand")
    assert not playbook.stands
    assert [line for line in playbook.run() if not line.endswith((":ok", ":skipped"))] == ["c (item=x):changed"]
    assert playbook.stands


def test_counts_of_what_is_forgiven(playbook: Playbook) -> None:
    """As in Ansible's recap: an ignored failure is ok, a rescued one is neither; both are told only if there are any."""
    playbook.run(play(CASES["rescued"][0] + CASES["ignored"][0].replace("path: ", "path: i")))
    counts = playbook.content["counts"]
    assert counts == {
        "ok": 1, "changed": 6, "skipped": 1, "failed": 0, "deferred": 0, "rescued": 1, "ignored": 1,
    }  # fmt: skip
    (rescued,) = [task for task in playbook.content["tasks"] if task.get("rescued")]
    assert (rescued["name"], rescued["status"]) == ("b", "failed")
    playbook.run(play("- {name: z, ensure_note: {path: z}}"))
    assert set(playbook.content["counts"]) == {"ok", "changed", "skipped", "failed", "deferred"}


def test_always_knows_what_has_failed(playbook: Playbook) -> None:
    """As it is there to clean up; tasks behind the block build on no failure."""
    tasks = """
- block: [{name: a, ensure_note: {path: a, fails: before}, register: r}]
  always: [{name: b, ensure_note: {path: b, text: "{{ r.msg }}"}, when: r is failed}]
- {name: c, ensure_note: {path: c}, when: r is failed}
"""
    assert playbook.run(play(tasks)) == ["a:failed", "b:changed", "c:skipped"]
    assert (playbook.folder / "b").read_text() == "it does not work"


def test_a_check_goes_on_where_the_end_of_a_play_turns_on_what_is_planned(playbook: Playbook) -> None:
    """What a command would say is not known before."""
    tasks = """
- {name: a, ensure_deed: {says: {out: x}}, register: r}
- {meta: end_play, when: r.out == 'x'}
- {name: b, ensure_note: {path: b}}
"""
    assert playbook.run(play(tasks), check=True) == ["a:changed", "b:changed"]
    assert playbook.run() == ["a:changed", "b:skipped"]


def test_an_environment_that_a_late_task_makes(playbook: Playbook) -> None:
    """Who names it is looked at when its turn comes; where nobody makes it, that is a failed task with its place."""
    tasks = """
- {name: a, ensure_note: {path: a}, register: r}
- {name: b, ensure_note: {path: "{{ r.path }}.env", makes: mine}, when: %s}
- {name: c, ensure_note: {path: c, needs: mine}}
- {name: d, ensure_note: {path: d}}
"""
    assert playbook.run(play(tasks % "r is not skipped")) == ["a:changed", "b:changed", "c:changed", "d:changed"]
    assert playbook.stands
    assert playbook.run() == ["a:ok", "b:ok", "c:ok", "d:ok"]
    assert playbook.run(play(tasks % "r is skipped")) == ["a:ok", "b:skipped", "c:failed", "d:ok"]
    (task,) = [task for task in playbook.content["tasks"] if task["name"] == "c"]
    assert "mine" in task["error"]["message"]
    assert task["error"]["line"] == 5


def test_an_environment_that_nobody_can_make_is_an_invalid_playbook(playbook: Playbook) -> None:
    """Nothing is done then."""
    with pytest.raises(UnknownEnvironment):
        playbook.run(play("- {name: a, ensure_note: {path: a}}\n- {name: c, ensure_note: {path: c, needs: mine}}"))
    assert not (playbook.folder / "a").exists()


def test_sections_wait_for_each_other_and_end_with_the_first_failure(playbook: Playbook) -> None:
    """What stands in `pre_tasks` must have succeeded before `tasks` begin."""
    more = "  pre_tasks: [{name: a, ensure_note: {path: a, fails: before}}]\n  post_tasks: [{name: c, ensure_note: {path: c}}]\n"
    second = "- name: q\n  tasks: [{name: d, ensure_note: {path: d}}]\n"
    lines = playbook.run(play("- {name: b, ensure_note: {path: b}}", more) + second)
    assert lines == ["a:failed", "b:skipped", "c:skipped", "d:changed"]


def test_in_a_row_a_run_ends_with_the_first_failure_but_not_with_one_that_is_forgiven(playbook: Playbook) -> None:
    """In a row, as ``--step`` does it."""
    tasks = """
- {name: a, ensure_note: {path: a, fails: before}, ignore_errors: true}
- block: [{name: b, ensure_note: {path: b, fails: before}}]
  rescue: [{name: c, ensure_note: {path: c}}]
- {name: d, ensure_note: {path: d, fails: before}}
- {name: e, ensure_note: {path: e}}
"""
    lines = playbook.run(play(tasks), in_a_row=True)
    assert lines == ["a:ignored", "b:rescued", "c:changed", "d:failed", "e:skipped"]


def test_check_tells_what_would_come_of_it(playbook: Playbook) -> None:
    """Results are those that are planned; what cannot be known before says after what it will change."""
    tasks = """
- {name: a, ensure_note: {path: a}, register: r, notify: two}
- {name: b, ensure_note: {path: b}, when: r is changed}
- {name: c, ensure_deed: {says: {out: x}}, register: s}
- {name: d, ensure_note: {path: "{{ s.out }}"}}
- {name: e, ensure_note: {path: e}, check_mode: false}
"""
    lines = playbook.run(play(tasks, HANDLERS), check=True, in_a_row=True)
    assert lines == ["a:changed", "b:changed", "c:changed", "d:changed", "e:changed", "two:changed"]
    assert [result.warnings for result in playbook.results][3:] == [
        ("will change after 'c'",),
        (),
        ("will change after 'a'",),
    ]
    assert sorted(path.name for path in playbook.folder.iterdir() if path.suffix != ".yml") == ["e"]
    assert not playbook.stands


def test_tags_and_starting_points(playbook: Playbook) -> None:
    """Of blocks, included files and handlers too."""
    (playbook.folder / "more.yml").write_text(
        "- {name: c, ensure_note: {path: c}}\n- {name: d, ensure_note: {path: d}}\n"
    )
    text = play(
        """
- tags: t
  block:
    - {name: a, ensure_note: {path: a}, notify: two}
  always: [{name: z, ensure_note: {path: z}}]
- import_tasks: more.yml
- {name: loop, ensure_note: {path: "{{ item }}"}, loop: [l, m]}
""",
        HANDLERS,
    )
    assert playbook.run(text, tags=("t",)) == ["a:changed", "z:changed", "two:changed"]
    assert playbook.run(text, skip_tags=("t",), start_at="d") == [
        "d:changed", "loop (item=l):changed", "loop (item=m):changed",
    ]  # fmt: skip
    assert playbook.run(text, start_at="loop") == ["loop (item=l):ok", "loop (item=m):ok"]
    with pytest.raises(UsageError, match="no task is named 'nowhere'"):
        playbook.run(text, start_at="nowhere")


def test_no_log_hides_what_is_judged_and_registered(playbook: Playbook) -> None:
    """Later tasks may use it, and nobody is told."""
    tasks = """
- {name: a, ensure_deed: {says: {out: sesame}}, register: r, no_log: true, failed_when: r.out == 'sesame', ignore_errors: true}
- {name: b, ensure_note: {path: "{{ r.out }}"}, no_log: true}
"""
    assert playbook.run(play(tasks)) == ["a:ignored", "b:changed"]
    assert (playbook.folder / "sesame").exists()
    assert "sesame" not in str(playbook.content)


def test_many_plays_without_more_run_side_by_side(playbook: Playbook) -> None:
    """Plays that are nothing but their tasks are one stretch, as far as their needs allow."""
    texts = [
        play(f"- {{name: {name}, ensure_note: {{path: {name}}}}}").replace("name: p", f"name: p{name}")
        for name in "abc"
    ]
    assert sorted(playbook.run("".join(texts))) == ["a:changed", "b:changed", "c:changed"]
