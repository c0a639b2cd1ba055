"""Reads a playbook: from a file to plays of calls, each bound to its typed task, before anything is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.model.task import Task
from nbprovision.playbook import keywords, parameters
from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.tags import selected
from nbprovision.playbook.template import FACTS, Scope, Templates, variable_problem
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar, read_nodes

__all__ = ["ExtraVars", "Play", "Playbook", "TaskCall", "parse_extra_vars", "read_playbook", "selected"]

Catalogue = Mapping[str, type[Task[Any]]]
Strategy = Literal["linear", "free"]

_TASK_PREFIX = "ensure_"
_HERE = ("localhost", "127.0.0.1", "::1", "all")
_EXAMPLE = "- hosts: localhost\n  tasks:\n    - ensure_...:"


class _Written(msgspec.Struct, frozen=True):
    """What it takes to work a call out anew, when more variables are known."""

    call: parameters.Call
    kind: type[Task[Any]]
    when: Node | None
    scope: Scope
    extra: Mapping[str, Any]
    templates: Templates


class TaskCall(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a playbook calls it.

    Attributes:
        name: As the playbook gives it, else the kind.
        kind: The task's key: ``ensure_kernel``.
        position: Where that key stands.
        tags: Its own and the play's.
        no_log: Nothing of its values is to be shown.
        task: None where ``when`` does not hold, or the tags do not choose it.
        chosen: Whether the tags choose it.

    """

    name: str
    kind: str
    position: Position
    tags: tuple[str, ...]
    no_log: bool
    task: Task[Any] | None
    chosen: bool
    written: _Written

    def wanted(self, variables: Mapping[str, Any] | None = None) -> bool:
        """Whether ``when`` holds, with more variables than were known at first.

        Raises:
            InvalidPlaybook: a variable is not defined, or the condition is wrong.

        """
        return _holds(self.written, self._scope(variables))

    def bind(self, variables: Mapping[str, Any] | None = None) -> Task[Any]:
        """The task, with more variables than were known at first.

        Raises:
            InvalidPlaybook: a parameter is wrong, or a variable is not defined.

        """
        faults = Faults()
        task = _bound(self.written, self._scope(variables), faults)
        faults.raise_any()
        assert task is not None  # noqa: S101 - without a fault there is one
        return task

    def _scope(self, variables: Mapping[str, Any] | None) -> Scope:
        return self.written.scope.extended(variables or {}, over=self.written.extra)


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """A play: its name, and its tasks in order. ``strategy`` is None if the playbook does not say."""

    name: str
    position: Position
    calls: tuple[TaskCall, ...]
    strategy: Strategy | None = None


class Playbook(msgspec.Struct, frozen=True, kw_only=True):
    """A playbook that was found valid.

    Attributes:
        path: Its file.
        plays: In order.
        inputs: Every file that it is made of, itself first.
        env_read: Names of the environment variables that its templates asked for; grows as ``looked_at`` does.
        looked_at: What its templates read or looked for, and whether something was there; grows while more of them are
            worked out.

    """

    path: Path
    plays: tuple[Play, ...]
    inputs: tuple[Path, ...]
    env_read: AbstractSet[str]
    looked_at: Mapping[Path, bool] = {}


def read_playbook(
    path: Path,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    tags: Collection[str] = (),
    skip_tags: Collection[str] = (),
) -> Playbook:
    """Read a playbook, and bind every task that is chosen and whose ``when`` holds.

    Args:
        path: The file. Relative paths in the playbook begin at its folder.
        catalogue: Kind to class; only those that the playbook names are asked for.
        extra_vars: Variables that win over all others, as `parse_extra_vars` gives them.
        facts: What templates know as ``nb.NAME``.
        env: The environment variables for ``lookup('env', NAME)``; default those of this process.
        tags: Choose the tasks with one of these; see `selected`.
        skip_tags: Leave out the tasks with one of these.

    Raises:
        InvalidPlaybook: something is wrong with it; all faults that one reading finds are told, the first with its
            position as the error's own.

    """
    path = Path(path)
    folder = Path(os.path.abspath(path)).parent
    templates = Templates(folder, os.environ if env is None else env)
    reader = _Reader(path, catalogue, extra_vars or {}, facts or {}, templates)
    plays = reader.plays(read_nodes(path), lambda call: selected(call, tags, skip_tags))
    files = getattr(extra_vars, "files", ())
    return Playbook(
        path=path,
        plays=plays,
        inputs=(Path(os.path.abspath(path)), *files),
        env_read=templates.outside.env_read,
        looked_at=templates.outside.looked_at,
    )


def _holds(written: _Written, scope: Scope) -> bool:
    return written.when is None or written.templates.condition(written.when, scope)


def _bound(written: _Written, scope: Scope, faults: Faults) -> Task[Any] | None:
    return parameters.bind(
        written.call,
        written.kind,
        render=lambda node: written.templates.render(node, scope),
        folder=written.templates.folder,
        faults=faults,
    )


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...]


class _Reader:
    """Goes through the nodes of one playbook, and gathers what is wrong."""

    def __init__(
        self,
        path: Path,
        catalogue: Catalogue,
        extra: Mapping[str, Any],
        facts: Mapping[str, Any],
        templates: Templates,
    ) -> None:
        self.path = path
        self.catalogue = catalogue
        self.kinds = frozenset(catalogue)
        self.extra = extra
        self.templates = templates
        self.faults = Faults()
        self.ground = Scope(templates, (extra,), {FACTS: facts, "playbook_dir": str(templates.folder)})

    def plays(self, node: Node | None, chosen: Callable[[_Tags], bool]) -> tuple[Play, ...]:
        self.chosen = chosen
        start = Position(str(self.path), 1, 1)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            raise InvalidPlaybook(
                "the playbook is empty", cure=f"a playbook is a list of plays:\n{_EXAMPLE}", position=start
            )
        if not isinstance(node, ListNode):
            one_play = isinstance(node, MapNode) and any(node.get(key) for key in ("tasks", "hosts"))
            what = _kind_of(node)
            raise InvalidPlaybook(
                f"a playbook is a list of plays, not {what}",
                cure="put '- ' before the first line, and indent the others by two"
                if one_play
                else f"write:\n{_EXAMPLE}",
                position=node.position,
            )
        if not node.items:
            raise InvalidPlaybook("the playbook has no play", cure=f"write:\n{_EXAMPLE}", position=node.position)
        plays = [self.play(item) for item in node.items]
        self.faults.raise_any()
        return tuple(play for play in plays if play is not None)

    def play(self, node: Node) -> Play | None:
        if not isinstance(node, MapNode):
            self.fault(f"a play is a mapping, not {_kind_of(node)}", node, cure=f"write:\n{_EXAMPLE}")
            return None
        first = next((key for key, _ in node.pairs if str(key.value).startswith(_TASK_PREFIX)), None)
        if first is not None:
            self.fault("a task stands where a play is expected", first, cure=f"put the tasks into a play:\n{_EXAMPLE}")
            return None
        for key, _ in node.pairs:
            fault = keywords.unknown(str(key.value), keywords.PLAY, "play", key.position)
            if fault:
                self.faults.add(fault)
        scope = self.ground.extended(self.variables(node.get("vars")), over=self.extra)
        self.hosts(node.get("hosts"), scope)
        self.one_of(node, "connection", ("local",))
        strategy = self.one_of(node, "strategy", ("linear", "free"))
        tags = self.tags(node.get("tags"), scope)
        hidden = self.boolean(node, "no_log", scope)
        name = self.name(node, scope) or "localhost"
        calls = tuple(
            call
            for item in self.listed(node.get("tasks"))
            if (call := self.task(item, scope, tags, hidden)) is not None
        )
        return Play(name=name, position=node.position, calls=calls, strategy=strategy)  # type: ignore[arg-type]

    def task(self, node: Node, scope: Scope, play_tags: tuple[str, ...], hidden: bool) -> TaskCall | None:
        if not isinstance(node, MapNode):
            self.fault(f"a task is a mapping, not {_kind_of(node)}", node, cure="write: - ensure_...: {...}")
            return None
        call = self.call(node)
        scope = scope.extended(self.variables(node.get("vars")), over=self.extra)
        tags = tuple(dict.fromkeys((*play_tags, *self.tags(node.get("tags"), scope))))
        hidden = self.boolean(node, "no_log", scope) or hidden
        if call is None:
            return None
        kind = self.catalogue[call.kind]
        beside = self.misplaced(node, call.kind, kind)
        parameters.check_names(call, kind, self.faults, beside)
        written = _Written(call, kind, node.get("when"), scope, self.extra, self.templates)
        chosen = self.chosen(_Tags(tags))
        task = None
        with self.faults.gathered():
            if chosen and _holds(written, scope):
                task = _bound(written, scope, self.faults)
        # The name of a task that is skipped may hold a variable that is not there.
        name = self.name(node, scope, forgiving=task is None)
        return TaskCall(
            name=name or call.kind,
            kind=call.kind,
            position=call.position,
            tags=tags,
            no_log=hidden,
            task=task,
            chosen=chosen,
            written=written,
        )

    def call(self, node: MapNode) -> parameters.Call | None:
        """The one key of a task that names its kind, with what stands under it."""
        found = [(key, value) for key, value in node.pairs if key.value in self.kinds]
        if len(found) > 1:
            names = " and ".join(key.text for key, _ in found)
            self.fault(f"one task has {names}", found[1][0], cure="begin each task with '- ' in a line of its own")
            return None
        if not found:
            self.no_such_task(node)
            return None
        key, value = found[0]
        if isinstance(value, Scalar) and value.value is None:
            value = MapNode(key.position, ())
        if not isinstance(value, MapNode):
            self.fault(
                f"{key.text} takes a mapping of parameters, not {_kind_of(value)}",
                value,
                cure=f"write each parameter in a line of its own:\n{key.text}:\n  NAME: VALUE",
            )
            return None
        return parameters.Call(key.text, key.position, value)

    def no_such_task(self, node: MapNode) -> None:
        """Say what is wrong with a mapping that calls no task of the catalogue."""
        strange = [key for key, _ in node.pairs if not keywords.is_ansible(str(key.value))]
        there = f"there are: {', '.join(sorted(self.kinds))}"
        if not strange:
            before = len(self.faults)
            self.keywords(node)
            if len(self.faults) == before:
                self.fault("the task has no ensure_... key, which says what to do", node, cure=there)
            return
        # A key of the kind, even a misspelt one, is the one that matters.
        key = next((key for key in strange if str(key.value).startswith("ensure")), strange[0])
        name = key.text[:40]
        near = nearest(name, self.kinds)
        if not near:  # one of Ansible's modules: which task here has a word of it in its name?
            said = set(name.rpartition(".")[2].split("_"))
            alike = [kind for kind in sorted(self.kinds) if said & set(kind.split("_")[1:])]
            near = f"; here it is {' or '.join(alike)}" if alike else ""
        self.fault(f"there is no task '{name}'{near}", key, cure="" if near else there)

    def misplaced(self, node: MapNode, name: str, kind: type[Task[Any]]) -> set[Any]:
        """Note keys beside the task's own that are no keywords; those that are parameters are returned."""
        fields = parameters.names(kind) - keywords.TASK
        strange = [key for key, _ in node.pairs if key.value in fields]
        for key in strange:
            self.fault(f"'{key.text}' is a parameter of {name}", key, cure=f"indent it below {name}:")
        beside = {key.value for key in strange}
        self.keywords(node, {name, *beside})
        return beside

    def keywords(self, node: MapNode, but: Collection[Any] = ()) -> None:
        for key, _ in node.pairs:
            if key.value not in but:
                fault = keywords.unknown(str(key.value), keywords.TASK, "task", key.position)
                if fault:
                    self.faults.add(fault)

    def variables(self, node: Node | None) -> dict[str, Node]:
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return {}
        if not isinstance(node, MapNode):
            self.fault(f"'vars' takes a mapping of names to values, not {_kind_of(node)}", node)
            return {}
        found = {}
        for key, value in node.pairs:
            problem = variable_problem(key.value)
            if problem:
                self.fault(problem, key)
            else:
                found[key.text] = value
        return found

    def hosts(self, node: Node | None, scope: Scope) -> None:
        for name in self.strings(node, "hosts", scope):
            if name not in _HERE:
                self.fault(
                    f"'hosts' is localhost, not '{name[:40]}'", node, cure="a playbook is for the machine it is run on"
                )

    def tags(self, node: Node | None, scope: Scope) -> tuple[str, ...]:
        words = (word.strip() for text in self.strings(node, "tags", scope) for word in text.split(","))
        return tuple(word for word in words if word)

    def strings(self, node: Node | None, keyword: str, scope: Scope) -> Iterator[str]:
        """The values of a keyword that takes a string or a list of strings."""
        if node is None:
            return
        with self.faults.gathered():
            value = self.templates.render(node, scope)
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, str) or (isinstance(entry, int) and not isinstance(entry, bool)):
                    yield str(entry)
                else:
                    self.fault(f"'{keyword}' takes a string or a list of strings", node)

    def name(self, node: MapNode, scope: Scope, *, forgiving: bool = False) -> str:
        given = node.get("name")
        if given is None:
            return ""
        if not isinstance(given, Scalar) or not isinstance(given.value, str):
            self.fault(f"'name' takes a string, not {_kind_of(given)}", given, cure="write it in quotes")
            return ""
        try:
            return str(self.templates.render(given, scope))
        except InvalidPlaybook as fault:
            if not forgiving:
                self.faults.add(fault)
        return given.text

    def boolean(self, node: MapNode, keyword: str, scope: Scope) -> bool:
        given = node.get(keyword)
        if given is None:
            return False
        with self.faults.gathered():
            value = self.templates.render(given, scope)
            if isinstance(value, bool):
                return value
            self.fault(f"'{keyword}' is true or false", given)
        return True  # what might be a secret is hidden

    def one_of(self, node: MapNode, keyword: str, choices: tuple[str, ...]) -> str | None:
        given = node.get(keyword)
        if given is None:
            return None
        value = given.value if isinstance(given, Scalar) else _kind_of(given)
        if value in choices:
            return str(value)
        shown = str(value)[:40]
        self.fault(f"'{keyword}' is {' or '.join(choices)}, not '{shown}'{nearest(shown, choices)}", given)
        return None

    def listed(self, node: Node | None) -> tuple[Node, ...]:
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return ()
        if isinstance(node, ListNode):
            return node.items
        self.fault(f"'tasks' takes a list, not {_kind_of(node)}", node, cure="begin each task with '- '")
        return ()

    def fault(self, message: str, node: Node | None, cure: str = "") -> None:
        self.faults.add(InvalidPlaybook(message, cure=cure, position=node.position if node else None))


def _kind_of(node: Node) -> str:
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if node.value is None:
        return "nothing"
    return "text" if isinstance(node.value, str) else f"'{node.text[:40]}'"
