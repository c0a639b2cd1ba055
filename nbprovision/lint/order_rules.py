"""Rules about what a task relies on: existing files, notified handlers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.model.errors import Position
from nbprovision.model.task import Input


@rule(
    "missing-file",
    "error",
    "a missing file beside the playbook that no earlier task creates",
    "the task fails",
)
def missing_file(playbook: Playbook) -> Iterable[Found]:
    """Only what lies in the playbook's folder goes along with it; after a command anything may be there."""
    folder = Path(os.path.abspath(playbook.path)).parent
    made: set[Path] = set()
    for call in playbook.calls:
        if call.kind == "ensure_command":
            return
        for path, position in _files(playbook, call) if call.values.get("state") not in ("absent", "link") else ():
            if folder in path.parents and not os.path.lexists(path) and not made & {path, *path.parents}:
                yield Found(
                    position=position,
                    message=f"{path.relative_to(folder)} is missing in the playbook's folder",
                    cure="correct the name, or add the file",
                )
        made |= {Path(resource.identity) for resource in playbook.provided(call) if resource.identity.startswith("/")}


def _files(playbook: Playbook, call: Call) -> Iterator[tuple[Path, Position]]:
    """What a task reads, with what the files name that it names, and where each is named."""
    inputs = playbook.asked(call, lambda task: list(task.inputs(playbook.machine))) or []
    if call.kind == "ensure_pip_index" and call.task is not None:
        inputs += [Input(Path(text), "cert") for text in call.strings("cert")]
    for path, parameter, position in inputs:
        texts = call.strings(parameter)
        number = texts.index(str(path)) if str(path) in texts else -1
        yield path, position or (call.entry(parameter, number) if number >= 0 else call.at(parameter))


@rule(
    "unused-handler",
    "warning",
    "a handler that no task notifies",
    "it never runs",
)
def unused_handler(playbook: Playbook) -> Iterable[Found]:
    """By its name and by what it listens to; in an invalid playbook nothing is known."""
    notified = {name for call in playbook.calls for name in call.notify}
    for call in playbook.calls:
        if call.listen and not notified & set(call.listen):
            yield Found(
                position=call.position,
                message=f"nothing notifies '{call.name}'",
                cure=f"add notify: {call.name} to the task that should trigger it, or remove it",
            )
