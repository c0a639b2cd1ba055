"""The content of a playbook: plays of sections, of tasks and blocks, each with its position.

A task that depends on the result of another task is late: it is checked as far as possible, and bound when
its turn has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.model.task import HOW_TO_FILL, Task, empty_secret
from nbprovision.playbook import parameters
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.template import Known, Scope, Templates, Unknown
from nbprovision.playbook.written import shown, text_of
from nbprovision.playbook.yaml_nodes import Node
from nbprovision.system.secrets import remember_if_secret

Results = Mapping[str, Any]  # registered results by name: plain data, or `template.Unknown`


class Setting(msgspec.Struct, frozen=True):
    """The setting of a task: the variables of its templates, and the folder of its relative paths."""

    scope: Scope
    extra: Mapping[str, Any]
    templates: Templates
    folder: Path

    def knowing(self, results: Results) -> Setting:
        """The same with results of tasks that have been run; those that have not been are not there."""
        values = {name: value if isinstance(value, Unknown) else Known(value) for name, value in results.items()}
        return msgspec.structs.replace(self, scope=self.scope.settled().knowing(values, over=self.extra))

    def render(self, node: Node) -> Any:
        """A node with its templates evaluated."""
        return self.templates.render(node, self.scope)

    def holds(self, conditions: Sequence[Node], keyword: str) -> bool:
        """Whether all conditions hold."""
        return all(self.templates.condition(node, self.scope, keyword) for node in conditions)


class Loop(msgspec.Struct, frozen=True):
    """A loop, and the names that ``loop_control`` gives to its parts."""

    items: Node
    variable: str = "item"
    index: str | None = None
    label: Node | None = None

    def names(self, item: Any, number: int) -> dict[str, Known]:
        """The variables of one turn."""
        return {self.variable: Known(item), **({self.index: Known(number)} if self.index else {})}

    def described(self, item: Any, number: int) -> dict[str, Any]:
        """What the result of one turn says of it, by Ansible's names."""
        index = {self.index: number, "ansible_index_var": self.index} if self.index else {}
        return {self.variable: shown(item), "ansible_loop_var": self.variable, **index}


class Turn(msgspec.Struct, frozen=True):
    """One turn of a loop.

    Attributes:
        setting: Its setting.
        label: What is shown of its entry.
        entry: What its result says of it.

    """

    setting: Setting
    label: str
    entry: Mapping[str, Any]


class Written(msgspec.Struct, frozen=True):
    """A call as written, to evaluate it again when more variables are known.

    Attributes:
        call: The task's key and parameters; None in the place of a file of tasks that is not read.
        kind: The class of the task.
        setting: Its setting.
        when: Its own conditions and those of its surroundings.
        environment: Mappings of variables, the outermost first.
        loop: Only where its list is known late.

    """

    call: parameters.Call | None
    kind: type[Task[Any]]
    setting: Setting
    when: tuple[Node, ...] = ()
    environment: tuple[Node, ...] = ()
    loop: Loop | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of a result: keywords that are evaluated when it is known."""

    failed_when: tuple[Node, ...] | None = None
    changed_when: tuple[Node, ...] | None = None
    until: tuple[Node, ...] | None = None
    retries: int = 0
    delay: float = 5.0


class TaskCall(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a playbook calls it.

    Attributes:
        name: As the playbook gives it, with the label of its turn of a loop; else the kind.
        title: The same without the label.
        kind: The task's key: ``ensure_kernel``.
        position: The position of that key.
        tags: Its own and those of its surroundings.
        no_log: Hide all of its values.
        task: None if ``when`` does not hold, the tags do not choose it, or its parameters are known late.
        chosen: Whether the tags choose it.
        late: Whether its conditions, parameters or list are known only when earlier tasks have been run.
        environment: The known variables for its work.
        register: Name of the variable that gets its result, or nothing.
        turn: The number of its loop; None outside loops.
        empty: It represents a loop without a turn.
        entry: What its result says of its turn: the entry, and the names of the loop's variables.
        notify: Handlers, by the names that are listened to.
        listen: For a handler: what it listens to, its name among them.
        ignore_errors, check_mode, diff: As the keywords say; None if the command line decides.
        judgement: The judgement of its result.

    """

    name: str
    title: str
    kind: str
    position: Position
    tags: tuple[str, ...]
    no_log: bool
    task: Task[Any] | None
    chosen: bool
    written: Written
    late: bool = False
    environment: Mapping[str, str] = {}
    register: str = ""
    turn: int | None = None
    empty: bool = False
    entry: Mapping[str, Any] = {}
    notify: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    ignore_errors: bool = False
    check_mode: bool | None = None
    diff: bool | None = None
    judgement: Judgement = Judgement()

    def wanted(self, results: Results | None = None) -> bool:
        """Whether ``when`` holds, with more variables than were known at first.

        Raises:
            InvalidPlaybook: a variable is not defined, or the condition is wrong.

        """
        return self.written.setting.knowing(results or {}).holds(self.written.when, "when")

    def bind(self, results: Results | None = None) -> Task[Any]:
        """The task, with more variables than were known at first.

        Raises:
            InvalidPlaybook: a parameter is wrong, or a variable is not defined.

        """
        faults = Faults()
        task = bound(self.written, self.written.setting.knowing(results or {}), faults)
        faults.raise_any()
        assert task is not None  # noqa: S101 - without a fault there is one
        return task

    def variables(self, results: Results | None = None) -> dict[str, str]:
        """The environment variables for its work.

        Raises:
            InvalidPlaybook: one is wrong, or not defined.

        """
        return environment(self.written.environment, self.written.setting.knowing(results or {}))

    def turns(self, results: Results) -> list[TaskCall]:
        """One call for each entry of a list that is known by now.

        Raises:
            InvalidPlaybook: it is not a list, or uses something undefined.

        """
        loop = self.written.loop
        assert loop is not None  # noqa: S101 - only asked where there is one
        setting = self.written.setting.knowing(results)
        return [
            msgspec.structs.replace(
                self,
                name=f"{self.title} ({loop.variable}={turn.label})",
                written=msgspec.structs.replace(self.written, setting=turn.setting, loop=None),
                entry=turn.entry,
            )
            for turn in turns(loop, setting)
        ]


class Meta(msgspec.Struct, frozen=True):
    """``meta``: ``flush_handlers`` or ``end_play``, where the conditions hold."""

    what: str
    position: Position
    setting: Setting
    when: tuple[Node, ...] = ()

    def wanted(self, results: Results) -> bool:
        """Whether ``when`` holds.

        Raises:
            InvalidPlaybook: a variable is not defined, or the condition is wrong.

        """
        return self.setting.knowing(results).holds(self.when, "when")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, the tasks that run after a failure of one, and those that run in any case; keywords are in each task."""

    position: Position
    body: tuple[Entry, ...]
    rescue: tuple[Entry, ...] = ()
    always: tuple[Entry, ...] = ()


Entry = TaskCall | Block | Meta


def calls_of(entries: Sequence[Entry]) -> Iterator[TaskCall]:
    """Return every task in a list, with the tasks of blocks in their places."""
    for entry in entries:
        if isinstance(entry, TaskCall):
            yield entry
        elif isinstance(entry, Block):
            for part in (entry.body, entry.rescue, entry.always):
                yield from calls_of(part)


class Section(msgspec.Struct, frozen=True):
    """``pre_tasks``, ``tasks`` or ``post_tasks`` of a play."""

    name: str
    entries: tuple[Entry, ...]


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """A play: its name, and what is done in it.

    Attributes:
        name: Shown in the output.
        position: Its first position.
        sections: In the order in which they are run; those without a task are left out.
        handlers: In the order in which they are run.

    """

    name: str
    position: Position
    sections: tuple[Section, ...]
    handlers: tuple[TaskCall, ...] = ()

    @property
    def calls(self) -> tuple[TaskCall, ...]:
        """Every task but the handlers, in order."""
        return tuple(call for section in self.sections for call in calls_of(section.entries))


class Playbook(msgspec.Struct, frozen=True, kw_only=True):
    """A valid playbook.

    Attributes:
        path: Its file.
        plays: In order.
        content: Every file that it is made of, by absolute path, with the bytes that were read; itself first.
        env_read: Names of the environment variables that its templates asked for; grows as ``looked_at`` does.
        looked_at: What its templates read or looked for, and whether something was there; grows while more of them are
            evaluated.
        secrets_read: What its templates asked for at AWS; grows as ``looked_at`` does.

    """

    path: Path
    plays: tuple[Play, ...]
    content: Mapping[Path, bytes]
    env_read: AbstractSet[str]
    looked_at: Mapping[Path, bool] = {}
    secrets_read: AbstractSet[str] = frozenset()


def bound(written: Written, setting: Setting, faults: Faults) -> Task[Any] | None:
    """Return the task with its parameters; None if one of them is wrong.

    Raises:
        NotYetKnown: one of them is not known yet, and the others are right.

    """
    if written.call is None:
        return None
    return parameters.bind(
        written.call,
        written.kind,
        render=setting.render,
        render_file=lambda path: setting.templates.render_file(path, setting.scope),
        folder=setting.folder,
        faults=faults,
    )


def environment(layers: Sequence[Node], setting: Setting) -> dict[str, str]:
    """The variables that ``environment`` sets, inner layers over outer ones.

    Raises:
        InvalidPlaybook: it holds something else than names and texts.

    """
    variables: dict[str, str] = {}
    for node in layers:
        value = setting.render(node)
        for layer in value if isinstance(value, list) else [value]:
            if not isinstance(layer, dict):
                raise InvalidPlaybook(
                    "'environment' takes a mapping of names to values, or a list of such mappings",
                    cure="write each variable in a line of its own: NAME: VALUE",
                    position=node.position,
                )
            for name, text in layer.items():
                variables[_variable(name, node)] = _text(name, text, node)
                remember_if_secret(name, variables[name])
    return variables


def _variable(name: Any, node: Node) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise InvalidPlaybook(f"'{name}' is not a name for an environment variable", position=node.position)
    return name


def _text(name: str, value: Any, node: Node) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        what = str(value).lower() if isinstance(value, bool) else "no text"
        raise InvalidPlaybook(
            f"the environment variable {name} takes text, and is {what}",
            cure=f'write it in quotes: {name}: "..."',
            position=node.position,
        )
    text = text_of(value)
    if "\0" in text:
        raise InvalidPlaybook(f"the environment variable {name} holds a NUL", position=node.position)
    problem = empty_secret(text)
    if problem:
        message = f"the environment variable {name} holds {problem}"
        raise InvalidPlaybook(message, cure=HOW_TO_FILL, position=node.position)
    return text


def turns(loop: Loop, setting: Setting) -> list[Turn]:
    """The turns of a loop whose list is known.

    Raises:
        InvalidPlaybook: the value is not a list, or a label is wrong.

    """
    items = setting.render(loop.items)
    if not isinstance(items, list):
        actual = "a mapping" if isinstance(items, dict) else f"'{str(shown(items))[:40]}'"
        raise InvalidPlaybook(
            f"'loop' takes a list, not {actual}",
            cure='write [A, B], or for a mapping: "{{ NAME | dict2items }}", with item.key and item.value',
            position=loop.items.position,
        )
    made = []
    for number, item in enumerate(items):
        scope = setting.scope.extended(loop.names(item, number), over=setting.extra)
        inner = msgspec.structs.replace(setting, scope=scope)
        label = item if loop.label is None else inner.render(loop.label)
        made.append(Turn(inner, str(shown(label))[:80], loop.described(item, number)))
    return made
