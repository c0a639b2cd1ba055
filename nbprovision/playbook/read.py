"""Reads a playbook: from a file to plays of calls, each bound to its typed task, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.playbook import keywords, other_documents
from nbprovision.playbook.calls import Block, Meta, Play, Playbook, Section, TaskCall
from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.files import Files
from nbprovision.playbook.includes import included
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.tags import Tags, selected
from nbprovision.playbook.task_lists import Around, Catalogue, TaskLists
from nbprovision.playbook.template import FACTS, Scope, Templates
from nbprovision.playbook.values import Values, is_nothing, kind_of, without
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar

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
# The keywords beside import_playbook.
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
        catalogue: Kind to class; only those that the playbook names are asked for.
        extra_vars: Variables that win over all others, as `parse_extra_vars` gives them.
        facts: What templates know as ``nb.NAME``.
        env: The environment variables for ``lookup('env', NAME)``; default those of this process.
        tags: Choose the tasks with one of these; see `selected`.
        skip_tags: Leave out the tasks with one of these.
        kept: Contents that are read in place of files, see `Files`.
        outside: Reads the machine for templates.
        judge: Called before each file that the playbook is made of is read; raises `InvalidPlaybook` for one not to
            obey.

    Raises:
        InvalidPlaybook: it has faults; the error contains all that one reading finds, the first with its
            position as the error's own.

    """
    path = Path(path)
    folder = Path(os.path.abspath(path)).parent
    templates = Templates(folder, os.environ if env is None else env, Files(kept, judge), outside)
    reader = _Reader(
        path, catalogue, extra_vars or {}, facts or {}, templates, lambda own: selected(own, tags, skip_tags)
    )
    try:
        nodes = templates.files.nodes(path)
    except InvalidPlaybook as fault:
        raise (fault if fault.position is None else _of_another_kind(path, None) or fault) from None
    plays = reader.playbook(nodes)
    given = extra_vars.files.content if isinstance(extra_vars, ExtraVars) else {}
    return Playbook(
        path=path,
        plays=plays,
        content={**templates.files.content, **given},
        env_read=templates.outside.env_read,
        looked_at=templates.outside.looked_at,
        secrets_read=templates.outside.secrets_read,
    )


def _names_of_prompts(node: Node | None) -> list[str]:
    names = [item.get("name") for item in node.items if isinstance(item, MapNode)] if isinstance(node, ListNode) else []
    return [name.text for name in names if isinstance(name, Scalar)]


def _of_another_kind(path: Path, node: Node | None) -> InvalidPlaybook | None:
    """Return the error for a document of another kind."""
    other = other_documents.named(path, node)
    if other is None:
        return None
    return InvalidPlaybook(
        f"this is {other.what}, not a playbook",
        cure=other.as_playbook,
        position=Position(str(path), 1, 1),
    )


class _Reader:
    """Goes through the nodes of one playbook, and collects the faults."""

    def __init__(
        self,
        path: Path,
        catalogue: Catalogue,
        extra: Mapping[str, Any],
        facts: Mapping[str, Any],
        templates: Templates,
        chosen: Callable[[Tags], bool],
    ) -> None:
        self.path = path
        self.catalogue = catalogue
        self.templates = templates
        self.faults = Faults()
        self.values = Values(templates, self.faults)
        self.lists = TaskLists(catalogue, templates, self.faults, extra, chosen, included)
        ground = Scope(templates, (extra,), {FACTS: facts, "playbook_dir": str(templates.folder)})
        self.outside = Around(scope=ground, extra=extra, file=path, within=(Path(os.path.realpath(path)),))

    def playbook(self, node: Node | None) -> tuple[Play, ...]:
        """Every play, those of other playbooks that it imports among them."""
        plays = self.plays(node, self.outside)
        self.faults.raise_any()
        return tuple(plays)

    def plays(self, node: Node | None, around: Around) -> list[Play]:
        start = Position(str(around.file), 1, 1)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            raise InvalidPlaybook(
                "the playbook is empty", cure=f"a playbook is a list of plays:\n{_EXAMPLE}", position=start
            )
        if not isinstance(node, ListNode):
            if (fault := _of_another_kind(around.file, node)) is not None:
                raise fault
            one_play = isinstance(node, MapNode) and any(node.get(key) for key in ("tasks", "hosts"))
            what = kind_of(node)
            raise InvalidPlaybook(
                f"a playbook is a list of plays, not {what}",
                cure="put '- ' before the first line, and indent the others by two"
                if one_play
                else f"write:\n{_EXAMPLE}",
                position=node.position,
            )
        if not node.items:
            raise InvalidPlaybook("the playbook has no play", cure=f"write:\n{_EXAMPLE}", position=node.position)
        return [play for item in node.items for play in self.entry(item, around)]

    def entry(self, node: Node, around: Around) -> list[Play]:
        """A play, or those of a playbook that is imported."""
        if not isinstance(node, MapNode):
            self.values.fault(f"a play is a mapping, not {kind_of(node)}", node, cure=f"write:\n{_EXAMPLE}")
            return []
        key = next((key for key, _ in node.pairs if str(key.value).endswith("import_playbook")), None)
        if key is not None:
            return self.imported(node, key, around)
        first = next((key for key, _ in node.pairs if str(key.value).startswith(_TASK_PREFIX)), None)
        if first is not None:
            self.values.fault("a task is in the place of a play", first, cure=f"put the tasks into a play:\n{_EXAMPLE}")
            return []
        return [self.play(node, around)]

    def imported(self, node: MapNode, key: Scalar, around: Around) -> list[Play]:
        self.values.keywords(node, _IMPORT, "play", but=(key.value,))
        given = node.get(key.text)
        inner = self.lists.within(node, around, _IMPORT)
        with self.faults.gathered():
            name = self.templates.render(given, inner.scope) if given is not None else None
            if not isinstance(name, str) or given is None:
                raise InvalidPlaybook("'import_playbook' takes the name of a playbook", position=key.position)
            path = around.file.parent / Path(name).expanduser()
            real = Path(os.path.realpath(path))
            if real in around.within:
                raise InvalidPlaybook(f"{path.name} imports itself", position=given.position)
            try:
                content = self.templates.files.nodes(path)
            except InvalidPlaybook as error:
                raise error.at(given.position) from None
            extra = {**self.values.variables(node.get("vars")), **around.extra}
            inside = msgspec.structs.replace(inner, file=path, within=(*around.within, real), extra=extra)
            return self.plays(content, inside)
        return []

    def play(self, node: MapNode, around: Around) -> Play:
        values = self.values
        values.keywords(node, keywords.PLAY, "play")
        # A prompt is refused and reported. Its names get values, so that their uses are not faults as well.
        prompted = {name: f"<{name}>" for name in _names_of_prompts(node.get("vars_prompt"))}
        scope = around.scope.extended({**prompted, **values.variables(node.get("vars"))}, over=around.extra)
        for variables in self.files_of_variables(node.get("vars_files"), scope, around):
            scope = scope.extended(variables, over=around.extra)
        around = self.lists.within(
            without(node, "vars", "notify", "when"), msgspec.structs.replace(around, scope=scope), {}
        )
        self.hosts(node.get("hosts"), scope)
        values.one_of(node, "connection", ("local",))
        name = values.name(node, scope) or "localhost"
        notified = len(self.lists.notified)
        sections = [
            Section(part, self.lists.entries(values.listed(node.get(part), part), around)) for part in _SECTIONS
        ]
        handlers = self.handlers(node, around)
        return Play(
            name=name,
            position=node.position,
            sections=tuple(section for section in sections if section.entries),
            handlers=(*handlers, *self.implied(handlers, notified, around)),
        )

    def handlers(self, node: MapNode, around: Around) -> list[TaskCall]:
        """The handlers; of several with one name the last counts, as in Ansible."""
        inner = msgspec.structs.replace(around, handler=True)
        entries = self.lists.entries(self.values.listed(node.get("handlers"), "handlers"), inner)
        calls = [entry for entry in entries if isinstance(entry, TaskCall)]
        last = {call.title: call.position for call in calls}
        return [call for call in calls if last[call.title] == call.position]

    def implied(self, handlers: list[TaskCall], notified: int, around: Around) -> list[TaskCall]:
        """Return the implied handlers: kinds of task that can only be handlers. An unknown name is a fault."""
        heard = {name for call in handlers for name in call.listen}
        calls: list[TaskCall] = []
        inner = msgspec.structs.replace(around, handler=True)
        for name, position in self.lists.notified[notified:]:
            if name in heard:
                continue
            if name in self.lists.kinds and self.catalogue[name].handler_only:
                heard.add(name)
                key = Scalar(position, name, name, plain=True)
                node = MapNode(position, ((key, MapNode(position, ())),))
                calls += [entry for entry in self.lists.entries([node], inner) if isinstance(entry, TaskCall)]
                continue
            near = nearest(name[:60], heard | {kind for kind in self.lists.kinds if self.catalogue[kind].handler_only})
            choices = f"there are: {', '.join(sorted(heard))}" if heard else "write it below handlers: of the play"
            self.faults.add(
                InvalidPlaybook(f"unknown handler '{name[:60]}'{near}", cure="" if near else choices, position=position)
            )
        return calls

    def files_of_variables(self, node: Node | None, scope: Scope, around: Around) -> list[dict[str, Node]]:
        """Read the variables of each file in ``vars_files``; of a list of files, the first existing one."""
        if is_nothing(node) or node is None:
            return []
        layers = []
        for entry in node.items if isinstance(node, ListNode) else [node]:
            with self.faults.gathered():
                names = self.templates.render(entry, scope)
                paths = [around.file.parent / Path(str(name)).expanduser() for name in _several(names)]
                if not paths:
                    raise InvalidPlaybook("'vars_files' takes names of files", position=entry.position)
                outside = self.templates.outside
                kept = next(filter(self.templates.files.is_kept, paths), None)
                chosen = kept or next(
                    (path for path in paths if outside.status(Path(os.path.abspath(path)))), paths[-1]
                )
                layers.append(self.values.file_of_variables(chosen, entry))
        return layers

    def hosts(self, node: Node | None, scope: Scope) -> None:
        for name in self.values.strings(node, "hosts", scope):
            if name not in _HERE:
                self.values.fault(
                    f"'hosts' is localhost, not '{name[:40]}'", node, cure="a playbook runs on this machine only"
                )


def _several(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [] if names is None else [names]
