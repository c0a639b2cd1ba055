"""Rules about what a task counts on: files that are there, handlers that somebody notifies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Playbook

_FILES = {
    "ensure_pip_pkg": ("requirements", "constraints"),
    "ensure_conda_env": ("file",),
    "ensure_file": ("src",),
    "ensure_pip_index": ("cert",),
}


@rule(
    "missing-file",
    "error",
    "a file beside the playbook that is not there, and that no task before makes",
    "the task fails",
)
def missing_file(playbook: Playbook) -> Iterable[Found]:
    """Only what lies in the playbook's folder goes along with it; after a command anything may be there."""
    folder = Path(os.path.abspath(playbook.path)).parent
    made: set[Path] = set()
    for call in playbook.calls:
        if call.kind == "ensure_command":
            return
        if call.values.get("state") in ("absent", "link"):
            continue
        for key in _FILES.get(call.kind, ()):
            for number, name in enumerate(call.strings(key)):
                path = Path(name)
                beside = call.task is not None and folder in path.parents
                if beside and not os.path.lexists(path) and not made & {path, *path.parents}:
                    yield Found(
                        position=call.entry(key, number),
                        message=f"there is no {path.relative_to(folder)} in the playbook's folder",
                        cure="correct the name, or put the file there",
                    )
        made |= {Path(one.identity) for one in playbook.provided(call) if one.kind == "file"}


@rule(
    "unused-handler",
    "warning",
    "a handler that no task notifies",
    "it never runs",
)
def unused_handler(playbook: Playbook) -> Iterable[Found]:
    """By its name and by what it listens to. Of a wrong playbook nothing is known."""
    notified = {name for call in playbook.calls for name in call.notify}
    for call in playbook.calls:
        if call.listen and not notified & set(call.listen):
            yield Found(
                position=call.position,
                message=f"nothing notifies '{call.name}'",
                cure=f"write notify: {call.name} on the task whose change it is for, or remove it",
            )
