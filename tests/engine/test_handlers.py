"""Handlers: who notifies them, when they run, and that none is forgotten by a run that fails or is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.notices import path_of
from nbprovision.machine.machine import Machine
from tests.support.flow_tasks import CATALOGUE
from tests.support.plays import HANDLERS, Playbook, play


def test_handlers_run_once_in_their_order(playbook: Playbook) -> None:
    """After the section that notified them, only on a change, and those that another handler notifies too."""
    tasks = """
- {name: a, ensure_note: {path: a}, notify: [two, one]}
- {name: b, ensure_note: {path: b}, notify: two}
- {name: c, ensure_note: {path: c}}
"""
    pre = "  pre_tasks: [{name: pre, ensure_note: {path: pre}, notify: two}]\n"
    assert playbook.run(play(tasks, pre + HANDLERS), in_a_row=True) == [
        "pre:changed", "two:changed", "a:changed", "b:changed", "c:changed", "one:changed", "two:changed", "three:changed",
    ]  # fmt: skip
    assert playbook.log() == ["two", "one", "two", "three"]
    assert playbook.stands
    assert playbook.run() == ["pre:ok", "a:ok", "b:ok", "c:ok"]
    (playbook.folder / "b").write_text("by hand")
    assert playbook.run()[-1] == "two:changed"
    assert playbook.log() == ["two", "one", "two", "three", "two"]


def test_listening_and_flushing(playbook: Playbook) -> None:
    """`meta: flush_handlers` runs what was notified so far."""
    tasks = """
- {name: a, ensure_note: {path: a}, notify: all}
- meta: flush_handlers
- {name: b, ensure_note: {path: b}, notify: two}
"""
    assert playbook.run(play(tasks, HANDLERS), in_a_row=True) == [
        "a:changed", "two:changed", "three:changed", "b:changed", "two:changed",
    ]  # fmt: skip


def test_an_implied_handler(playbook: Playbook) -> None:
    """A kind of task that is nothing but a handler need not be written."""
    assert playbook.run(play("- {name: a, ensure_note: {path: a}, notify: restart_it}")) == [
        "a:changed",
        "restart_it:changed",
    ]


def test_a_failure_puts_handlers_off_and_the_next_run_makes_up_for_it(playbook: Playbook) -> None:
    """Where Ansible would forget them."""
    tasks = """
- {name: a, ensure_note: {path: a}, notify: two}
- {name: b, ensure_note: {path: b, fails: before}}
"""
    assert playbook.run(play(tasks, HANDLERS), in_a_row=True) == ["a:changed", "b:failed", "two:skipped"]
    assert playbook.log() == []
    assert not playbook.stands
    assert playbook.run(in_a_row=True) == ["a:ok", "b:failed", "two:skipped"]
    assert playbook.run(check=True) == ["a:ok", "b:changed", "two:changed"]
    assert playbook.run(play(tasks.replace(", fails: before", ""), HANDLERS), in_a_row=True) == [
        "a:ok",
        "b:changed",
        "two:changed",
    ]
    assert playbook.log() == ["two"]
    assert playbook.stands


def test_a_change_that_a_check_was_told_to_make_is_told_to_its_handler_later(playbook: Playbook) -> None:
    """`check_mode: false` works in a check too; the handler does not, so the next run owes it."""
    text = play("- {name: a, ensure_note: {path: a}, check_mode: false, notify: two}", HANDLERS)
    assert playbook.run(text, check=True) == ["a:changed", "two:changed"]
    assert playbook.log() == []
    assert playbook.run(check=True) == ["a:ok", "two:changed"]
    assert playbook.run() == ["a:ok", "two:changed"]
    assert playbook.log() == ["two"]
    assert playbook.run() == ["a:ok"]


def test_a_handler_that_fails_is_run_again(playbook: Playbook) -> None:
    """It was to be run, and was not."""
    more = "  handlers: [{name: h, ensure_deed: {fails: %s}}]\n"
    tasks = "- {name: a, ensure_note: {path: a}, notify: h}"
    assert playbook.run(play(tasks, more % "true")) == ["a:changed", "h:failed"]
    assert playbook.content["status"] == "failed"
    assert playbook.run(play(tasks, more % "false")) == ["a:ok", "h:changed"]
    assert playbook.run() == ["a:ok"]


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_failed_task_notifies_only_if_all_was_done(playbook: Playbook, fails: str) -> None:
    """What is still to do will notify when it is done; what is done would never notify again."""
    tasks = "- {name: a, ensure_note: {path: a, fails: %s}, notify: two, ignore_errors: true}"
    first = playbook.run(play(tasks % fails, HANDLERS))
    assert first == ["a:ignored", *(["two:changed"] if fails == "after" else [])]


def test_a_kill_between_a_change_and_its_handler(playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is there, so the next run finds nothing to do; the handler is run all the same."""
    text = play("- {name: a, ensure_note: {path: a}, notify: two}", HANDLERS)
    written = CATALOGUE["ensure_note"].apply

    def killed(self: Any, plan: Any, machine: Machine) -> None:
        written(self, plan, machine)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CATALOGUE["ensure_note"], "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            playbook.run(text)
    assert (playbook.folder / "a").read_text() == "x"
    assert playbook.run() == ["a:ok", "two:changed"]
    assert playbook.stands


def test_a_file_of_notifications_that_is_none(playbook: Playbook, env: dict[str, str]) -> None:
    """Whoever has written it: it is not believed, and does not make every run take the long way."""
    text = play("- {name: a, ensure_note: {path: a}, notify: two}", HANDLERS)
    playbook.run(text)
    pending = path_of(Path(env["NBPROVISION_HOME"]), str(playbook.path))
    pending.write_text('[{"play": 3}]')
    assert not playbook.stands
    assert playbook.run() == ["a:ok"]
    assert playbook.stands


def test_a_handler_that_is_no_more_is_not_waited_for(playbook: Playbook) -> None:
    """Somebody has removed or renamed it since."""
    tasks = "- {name: a, ensure_note: {path: a}%s}\n- {name: b, ensure_note: {path: b, fails: '%s'}}"
    playbook.run(play(tasks % (", notify: two", "before"), HANDLERS))
    assert playbook.run(play(tasks % ("", ""))) == ["a:ok", "b:changed"]
    assert playbook.stands
