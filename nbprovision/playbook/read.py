"""Reads a playbook: from a file to plays of calls, each bound to its typed task, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.playbook import keywords, other_documents
from nbprovision.playbook.calls import ROOT_TASKS, Block, Meta, Play, Playbook, Section, TaskCall, selected
from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.own_tasks import KEYWORD, Kinds, folders_of
from nbprovision.playbook.root_tasks import RootTasks
from nbprovision.playbook.task_lists import Catalogue, Inherited, TaskLists
from nbprovision.playbook.template import Scope, Templates
from nbprovision.playbook.template_names import FACTS
from nbprovision.playbook.values import Values, is_nothing, kind_of, without
from nbprovision.playbook.yaml_nodes import Files, ListNode, MapNode, Node, Scalar

__all__ = [
    "Block",
    "ExtraVars",
    "Meta",
    "Play",
    "Playbook",
    "Section",
    "TaskCall",
    "parse_extra_vars",
    "read_playbook",
    "selected",
]

_TASK_PREFIX = "ensure_"
_HERE = ("localhost", "127.0.0.1", "::1", "all")
_EXAMPLE = "- hosts: localhost\n  tasks:\n    - ensure_...:"
_SECTIONS = ("pre_tasks", "tasks", "post_tasks")
# The keywords of an entry with import_playbook.
_IMPORT = {name: keywords.PLAY[name] for name in ("name", "vars", "tags")} | {
    "when": keywords.TASK["when"],
    "import_playbook": "",
}


def read_playbook(
    path: Path,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    tags: Collection[str] = (),
    skip_tags: Collection[str] = (),
    kept: Mapping[Path, bytes] | None = None,
    outside: type[Outside] = Outside,
    judge: Callable[[Path], None] = lambda path: None,
) -> Playbook:
    """Read a playbook, and bind every chosen task with a true ``when``.

    Args:
        path: The file. Relative paths begin at the folder of the file in which they are written.
        catalogue: Kind to class; only the kinds in the playbook are loaded.
        extra_vars: Variables that win over all others, from `parse_extra_vars`.
        facts: The values of ``nb.NAME`` in templates.
        env: The environment variables for ``lookup('env', NAME)``; default those of this process.
        tags: Choose the tasks with one of these; see `selected`.
        skip_tags: Leave out the tasks with one of these.
        kept: Contents that replace files, see `Files`.
        outside: Reads the machine for templates.
        judge: Called before each file of the playbook is read; raises `InvalidPlaybook` for one not to obey.

    Raises:
        InvalidPlaybook: it has faults; the error contains all of them, and has the position of the first.

    """
    path = Path(path)
    folder = Path(os.path.abspath(path)).parent
    templates = Templates(folder, os.environ if env is None else env, Files(kept, judge), outside)
    values = Values(templates, Faults())
    extra = extra_vars or {}
    lists = TaskLists(values, extra, lambda own: selected(own, tags, skip_tags))
    scope = Scope(templates, (extra,), {FACTS: facts or {}, "playbook_dir": str(folder)})
    kinds = Kinds(catalogue, templates.files, templates.outside.looked_at)
    outer = Inherited(scope=scope, extra=extra, file=path, within=(Path(os.path.realpath(path)),), kinds=kinds)
    try:
        nodes = templates.files.nodes(path)
    except InvalidPlaybook as fault:
        raise (fault if fault.position is None else _of_another_kind(path, None) or fault) from None
    plays = _Plays(lists, RootTasks(lists, folder), values).read(nodes, outer)
    values.faults.raise_any()
    given = extra_vars.files.content if isinstance(extra_vars, ExtraVars) else {}
    return Playbook(
        path=path,
        plays=tuple(plays),
        content={**templates.files.content, **given},
        env_read=templates.outside.env_read,
        looked_at=templates.outside.looked_at,
        secrets_read=templates.outside.secrets_read,
    )


def _of_another_kind(path: Path, node: Node | None) -> InvalidPlaybook | None:
    """Return the error for a document of another kind."""
    other = other_documents.named(path, node)
    if other is None:
        return None
    message = f"this is {other.what}, not a playbook"
    return InvalidPlaybook(message, cure=other.as_playbook, position=Position(str(path), 1, 1))


class _Plays:
    """Reads the plays of a playbook and of the playbooks that it imports, and collects the faults."""

    def __init__(self, lists: TaskLists, root: RootTasks, values: Values) -> None:
        self.lists = lists
        self.root = root
        self.values = values
        self.templates = values.templates
        self.faults = values.faults

    def read(self, node: Node | None, outer: Inherited) -> list[Play]:
        """Read the list of plays in a file."""
        if node is None or (isinstance(node, Scalar) and node.value is None):
            cure, start = f"a playbook is a list of plays:\n{_EXAMPLE}", Position(str(outer.file), 1, 1)
            raise InvalidPlaybook("the playbook is empty", cure=cure, position=start)
        if not isinstance(node, ListNode):
            is_play = isinstance(node, MapNode) and any(node.get(key) for key in ("tasks", "hosts"))
            raise _of_another_kind(outer.file, node) or InvalidPlaybook(
                f"a playbook is a list of plays, not {kind_of(node)}",
                cure="put '- ' before the first line, and indent the others by two"
                if is_play
                else f"write:\n{_EXAMPLE}",
                position=node.position,
            )
        if not node.items:
            raise InvalidPlaybook("the playbook has no play", cure=f"write:\n{_EXAMPLE}", position=node.position)
        return [play for item in node.items for play in self.entry(item, outer)]

    def entry(self, node: Node, outer: Inherited) -> list[Play]:
        if not isinstance(node, MapNode):
            self.values.fault(f"a play is a mapping, not {kind_of(node)}", node, cure=f"write:\n{_EXAMPLE}")
            return []
        for key, _ in node.pairs:
            if str(key.value).endswith("import_playbook"):
                return self.imported(node, key, outer)
        for key, _ in node.pairs:
            if str(key.value).startswith(_TASK_PREFIX):
                cure = f"put the tasks into a play:\n{_EXAMPLE}"
                self.values.fault("a task is in the place of a play", key, cure=cure)
                return []
        return [self.play(node, outer)]

    def imported(self, node: MapNode, key: Scalar, outer: Inherited) -> list[Play]:
        self.values.keywords(node, _IMPORT, "play", but=(key.value,))
        given = node.get(key.text)
        inner = self.lists.within(node, outer, _IMPORT)
        with self.faults.gathered():
            name = self.templates.render(given, inner.scope) if given is not None else None
            if not isinstance(name, str) or given is None:
                raise InvalidPlaybook("'import_playbook' takes the name of a playbook", position=key.position)
            path = outer.file.parent / Path(name).expanduser()
            real = Path(os.path.realpath(path))
            if real in outer.within:
                raise InvalidPlaybook(f"{path.name} imports itself", position=given.position)
            try:
                content = self.templates.files.nodes(path)
            except InvalidPlaybook as error:
                raise error.at(given.position) from None
            extra = {**self.values.variables(node.get("vars")), **outer.extra}
            inside = msgspec.structs.replace(inner, file=path, within=(*outer.within, real), extra=extra)
            return self.read(content, inside)
        return []

    def play(self, node: MapNode, outer: Inherited) -> Play:
        values = self.values
        values.keywords(node, keywords.PLAY, "play")
        # A prompt is refused and reported. Its names get values, so that their uses are not faults as well.
        prompts = node.get("vars_prompt")
        names = (
            [item.get("name") for item in prompts.items if isinstance(item, MapNode)]
            if isinstance(prompts, ListNode)
            else []
        )
        prompted = {name.text: f"<{name.text}>" for name in names if isinstance(name, Scalar)}
        outer = outer.extended({**prompted, **values.variables(node.get("vars"))})
        for variables in self.files_of_variables(node.get("vars_files"), outer):
            outer = outer.extended(variables)
        inner = self.lists.within(without(node, "vars", "notify", "when"), outer, {})
        folders: Mapping[Path, Position | None] = {}
        try:
            folders = folders_of(node.get(KEYWORD), outer.file)
            kinds = outer.kinds.with_folders(folders)
        except InvalidPlaybook as fault:
            self.faults.add(fault)
            kinds = outer.kinds.incomplete()
        inner = msgspec.structs.replace(inner, kinds=kinds)
        for host in values.strings(node.get("hosts"), "hosts", outer.scope):
            if host not in _HERE:
                cure = "a playbook runs on this machine only"
                values.fault(f"'hosts' is localhost, not '{host[:40]}'", node.get("hosts"), cure=cure)
        values.one_of(node, "connection", ("local",))
        name = values.name(node, outer.scope) or "localhost"
        notified = len(self.lists.notified)
        of_root = self.root.read(values.listed(node.get(ROOT_TASKS), ROOT_TASKS), inner)
        sections = [Section(part, self.lists.entries(values.listed(node.get(part), part), inner)) for part in _SECTIONS]
        sections.insert(0, Section(ROOT_TASKS, of_root))
        handlers = self.handlers(node, inner)
        return Play(
            name=name,
            position=node.position,
            sections=tuple(section for section in sections if section.entries),
            handlers=(*handlers, *self.implied(handlers, notified, inner)),
            task_folders=tuple(Path(os.path.abspath(folder)) for folder in folders),
        )

    def handlers(self, node: MapNode, outer: Inherited) -> list[TaskCall]:
        """Read the handlers; of several with one name the last counts, as in Ansible."""
        calls = self.handler_calls(self.values.listed(node.get("handlers"), "handlers"), outer)
        last = {call.title: call.position for call in calls}
        return [call for call in calls if last[call.title] == call.position]

    def handler_calls(self, nodes: Collection[Node], outer: Inherited) -> list[TaskCall]:
        entries = self.lists.entries(nodes, msgspec.structs.replace(outer, handler=True))
        return [entry for entry in entries if isinstance(entry, TaskCall)]

    def implied(self, handlers: list[TaskCall], notified: int, outer: Inherited) -> list[TaskCall]:
        """Return the implied handlers: kinds of task that can only be handlers. An unknown name is a fault."""
        listeners = {name for call in handlers for name in call.listen}
        calls: list[TaskCall] = []
        own = outer.kinds.own
        for name, position in self.lists.notified[notified:]:
            if name in listeners:
                continue
            if name in own and own[name].handler_only:
                listeners.add(name)
                key = Scalar(position, name, name, plain=True)
                calls += self.handler_calls([MapNode(position, ((key, MapNode(position, ())),))], outer)
                continue
            only_handlers = {kind for kind in own if own[kind].handler_only}
            near = nearest(name[:60], listeners | only_handlers)
            choices = (
                f"there are: {', '.join(sorted(listeners))}" if listeners else "write it below handlers: of the play"
            )
            message = f"unknown handler '{name[:60]}'{near}"
            self.faults.add(InvalidPlaybook(message, cure="" if near else choices, position=position))
        return calls

    def files_of_variables(self, node: Node | None, outer: Inherited) -> list[dict[str, Node]]:
        """Read the variables of each file in ``vars_files``; of a list of files, the first existing one."""
        if is_nothing(node) or node is None:
            return []
        layers = []
        for entry in node.items if isinstance(node, ListNode) else [node]:
            with self.faults.gathered():
                names = self.templates.render(entry, outer.scope)
                names = names if isinstance(names, list) else [] if names is None else [names]
                paths = [outer.file.parent / Path(str(name)).expanduser() for name in names]
                if not paths:
                    raise InvalidPlaybook("'vars_files' takes names of files", position=entry.position)
                layers.append(self.values.file_of_variables(self.first_existing(paths), entry))
        return layers

    def first_existing(self, paths: Sequence[Path]) -> Path:
        """Return the first kept or existing file; the last one if none exists."""
        exists = self.templates.outside.status
        kept = next(filter(self.templates.files.is_kept, paths), None)
        return kept or next((path for path in paths if exists(Path(os.path.abspath(path)))), paths[-1])
