"""The content of a playbook: plays, their sections, and the tasks and blocks in these, each with its position.

A task that depends on the result of another task is late: reading the playbook checks it as far as possible, and the
run binds it when its turn has come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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

# These tags have a meaning for every task.
SPECIAL_TAGS = ("all", "always", "never", "tagged", "untagged")

Results = Mapping[str, Any]  # registered results by name: plain data, or `template.Unknown`


def selected(own: Collection[str], tags: Collection[str] = (), skip_tags: Collection[str] = ()) -> bool:
    """Whether ``--tags`` and ``--skip-tags`` choose a task, as in Ansible.

    Source: https://docs.ansible.com/ansible/latest/playbook_guide/playbooks_tags.html

    Args:
        own: The tags of the task. With ``always`` it runs unless this tag is skipped; with ``never`` only if one of its
            tags is requested.
        tags: The tags to run; empty for all. ``all``, ``tagged`` and ``untagged`` can be requested and skipped.
        skip_tags: The tags to leave out; they win.

    """
    own = set(own) or {"untagged"}
    wanted = set(tags) or {"all"}
    skipped = set(skip_tags)
    tagged = own != {"untagged"}
    if "always" not in own:
        everything = "all" in wanted or ("tagged" in wanted and tagged)
        if not ((everything and "never" not in own) or own & wanted):
            return False
    if "all" in skipped and ("always" not in own or "always" in skipped):
        return False
    return not (own & skipped or ("tagged" in skipped and tagged))


class Setting(msgspec.Struct, frozen=True):
    """The setting of a task: the variables of its templates, and the folder of its relative paths."""

    scope: Scope
    extra: Mapping[str, Any]
    templates: Templates
    folder: Path

    def knowing(self, results: Results) -> Setting:
        """Return the same setting with the results of finished tasks, and without those of other tasks."""
        values = {name: value if isinstance(value, Unknown) else Known(value) for name, value in results.items()}
        return msgspec.structs.replace(self, scope=self.scope.settled().knowing(values, over=self.extra))

    def render(self, node: Node) -> Any:
        """Evaluate the templates in a node."""
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
        """The loop's variables in the result of one turn, by Ansible's names."""
        index = {self.index: number, "ansible_index_var": self.index} if self.index else {}
        return {self.variable: shown(item), "ansible_loop_var": self.variable, **index}


class Turn(msgspec.Struct, frozen=True):
    """One turn of a loop.

    Attributes:
        setting: Its setting.
        label: The text that shows its entry.
        entry: The loop's variables for its result.

    """

    setting: Setting
    label: str
    entry: Mapping[str, Any]


class CallSource(msgspec.Struct, frozen=True):
    """The nodes of a call, which are evaluated again when more variables are known.

    Attributes:
        call: The task's key and parameters; None for a file of tasks that is not read.
        kind: The class of the task.
        setting: The variables of its templates, and the folder of its relative paths.
        when: Its own and inherited conditions.
        environment: Mappings of variables, the outermost first.
        loop: Its loop, if the list is known late.

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
        name: The name in the playbook, or else the kind; with the label of its turn of a loop.
        title: The same without the label.
        kind: The task's key: ``ensure_kernel``.
        position: The position of that key.
        tags: Its own and inherited tags.
        no_log: Hide all of its values.
        task: None if ``when`` does not hold, the tags do not choose it, or its parameters are known late.
        chosen: Whether the tags choose it.
        late: Whether its conditions, parameters or list depend on the results of earlier tasks.
        environment: The known variables for its work.
        register: The name of the variable for its result, or nothing.
        turn: The number of its loop; None outside of loops.
        empty: It represents a loop without a turn.
        entry: The loop's variables for its result.
        notify: The names to which handlers listen.
        listen: The names to which a handler listens, its own among them.
        ignore_errors, check_mode, diff: The keywords; None if the command line decides.
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
    written: CallSource
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
        """Whether ``when`` is true, with the results of earlier tasks.

        Raises:
            InvalidPlaybook: a variable is not defined, or the condition is wrong.

        """
        return self.written.setting.knowing(results or {}).holds(self.written.when, "when")

    def bind(self, results: Results | None = None) -> Task[Any]:
        """Return the task, with the results of earlier tasks.

        Raises:
            InvalidPlaybook: a parameter is wrong, or a variable is not defined.

        """
        faults = Faults()
        task = bound(self.written, self.written.setting.knowing(results or {}), faults)
        faults.raise_any()
        assert task is not None  # noqa: S101 - set unless there is a fault
        return task

    def variables(self, results: Results | None = None) -> dict[str, str]:
        """Return the environment variables for its work.

        Raises:
            InvalidPlaybook: a variable is wrong, or not defined.

        """
        return environment(self.written.environment, self.written.setting.knowing(results or {}))

    def turns(self, results: Results) -> list[TaskCall]:
        """Return one call for each entry of the list.

        Raises:
            InvalidPlaybook: the value is not a list, or uses an undefined variable.

        """
        loop = self.written.loop
        assert loop is not None  # noqa: S101 - called only for a loop
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
    """``meta``: ``flush_handlers`` or ``end_play``, if the conditions are true."""

    action: str
    position: Position
    setting: Setting
    when: tuple[Node, ...] = ()

    def wanted(self, results: Results) -> bool:
        """Whether ``when`` is true.

        Raises:
            InvalidPlaybook: a variable is not defined, or the condition is wrong.

        """
        return self.setting.knowing(results).holds(self.when, "when")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, tasks to run after a failure, and tasks to run in any case; each task has the block's keywords."""

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


ROOT_TASKS = "root_tasks"


class Section(msgspec.Struct, frozen=True):
    """``root_tasks``, ``pre_tasks``, ``tasks`` or ``post_tasks`` of a play."""

    name: str
    entries: tuple[Entry, ...]


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """A play.

    Attributes:
        name: Its name in the output.
        position: Its first position.
        sections: Its sections with tasks, in the order in which they run.
        handlers: Its handlers, in the order in which they run.
        task_folders: The folders with tasks of the author's own.

    """

    name: str
    position: Position
    sections: tuple[Section, ...]
    handlers: tuple[TaskCall, ...] = ()
    task_folders: tuple[Path, ...] = ()

    @property
    def calls(self) -> tuple[TaskCall, ...]:
        """Every task but the handlers, in order."""
        return tuple(call for section in self.sections for call in calls_of(section.entries))

    @property
    def root_calls(self) -> tuple[TaskCall, ...]:
        """The tasks of root's part, in order."""
        return tuple(
            call for section in self.sections if section.name == ROOT_TASKS for call in calls_of(section.entries)
        )


class Playbook(msgspec.Struct, frozen=True, kw_only=True):
    """A valid playbook.

    Attributes:
        path: Its file.
        plays: In order.
        content: The bytes of each of its files, by absolute path; the playbook itself first.
        env_read: Names of the environment variables that its templates read. This set and the next two grow while
            late templates are evaluated.
        looked_at: Paths that its templates read or looked for, and whether each exists.
        secrets_read: Names of the secrets of AWS that its templates read.

    """

    path: Path
    plays: tuple[Play, ...]
    content: Mapping[Path, bytes]
    env_read: AbstractSet[str]
    looked_at: Mapping[Path, bool] = {}
    secrets_read: AbstractSet[str] = frozenset()


def bound(source: CallSource, setting: Setting, faults: Faults) -> Task[Any] | None:
    """Return the task with its parameters; None if a parameter is wrong.

    Raises:
        NotYetKnown: a parameter is not known yet, and the others are right.

    """
    if source.call is None:
        return None
    return parameters.bind(
        source.call,
        source.kind,
        render=setting.render,
        render_file=lambda path: setting.templates.render_file(path, setting.scope),
        folder=setting.folder,
        faults=faults,
    )


def environment(layers: Sequence[Node], setting: Setting) -> dict[str, str]:
    """Return the variables that ``environment`` sets, inner layers over outer ones.

    Raises:
        InvalidPlaybook: the value is not a mapping of names to texts.

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
        actual = str(value).lower() if isinstance(value, bool) else "something else"
        message = f"the environment variable {name} takes text, not {actual}"
        raise InvalidPlaybook(message, cure=f'write it in quotes: {name}: "..."', position=node.position)
    text = text_of(value)
    if "\0" in text:
        raise InvalidPlaybook(f"the environment variable {name} holds a NUL", position=node.position)
    problem = empty_secret(text)
    if problem:
        message = f"the environment variable {name} holds {problem}"
        raise InvalidPlaybook(message, cure=HOW_TO_FILL, position=node.position)
    return text


def turns(loop: Loop, setting: Setting) -> list[Turn]:
    """Return the turns of a loop with a known list.

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
