"""What seldom comes together in a playbook: handlers without end, conditions on nothing, late loops with gaps."""

from __future__ import annotations

import pytest

from nbprovision.model.errors import InvalidPlaybook
from tests.support.plays import Playbook, play


@pytest.mark.parametrize("check", [False, True])
def test_an_end_that_turns_on_what_no_task_says_is_told_with_its_place(playbook: Playbook, check: bool) -> None:
    tasks = """
- {name: a, ensure_note: {path: a}, register: r}
- {meta: end_play, when: r.nothing == 'x'}
"""
    playbook.run(play("- {name: a, ensure_note: {path: a}}"))  # so that nothing is only planned
    with pytest.raises(InvalidPlaybook, match="nothing") as caught:
        playbook.run(play(tasks), check=check)
    assert caught.value.position is not None
    assert caught.value.position.line == 4


def test_flushing_where_nobody_can_be_notified_is_nothing(playbook: Playbook) -> None:
    tasks = "- {name: a, ensure_note: {path: a}}\n- meta: flush_handlers\n- {name: b, ensure_note: {path: b}}"
    assert playbook.run(play(tasks)) == ["a:changed", "b:changed"]


def test_handlers_that_notify_each_other_come_to_an_end(playbook: Playbook) -> None:
    handlers = """\
  handlers:
    - {name: one, ensure_deed: {log: log}, notify: two, environment: {SEEN: one}}
    - {name: two, ensure_deed: {log: log}, notify: one, environment: {SEEN: two}}
"""
    lines = playbook.run(play("- {name: a, ensure_note: {path: a}, notify: one}", handlers))
    assert lines[:3] == ["a:changed", "one:changed", "two:changed"]
    assert playbook.log() == ["one", "two", "one"]  # as many rounds as there are handlers, and one more


def test_a_late_loop_may_leave_entries_out(playbook: Playbook) -> None:
    tasks = """
- {name: a, ensure_deed: {says: {names: [x, y]}}, register: r}
- {name: b, ensure_note: {path: "{{ item }}"}, loop: "{{ r.names }}", when: item != 'x'}
"""
    lines = playbook.run(play(tasks))
    assert lines[0] == "a:changed"
    assert lines[-1] == "b:changed"
    assert not (playbook.folder / "x").exists()
    assert (playbook.folder / "y").read_text() == "x"
