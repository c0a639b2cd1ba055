"""Files of tasks in the place of one task: ``import_tasks`` and ``include_tasks``.

Both are read with the playbook, so that all faults are reported before anything runs. They differ as in Ansible in
what their keywords are for: those of an import are those of its tasks, the tags of an include are its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import calls, keywords
from nbprovision.playbook.calls import Entry, Setting
from nbprovision.playbook.tags import Tags
from nbprovision.playbook.task_lists import Around, TaskLists
from nbprovision.playbook.template import Deferred, NotYetKnown
from nbprovision.playbook.values import Values, is_nothing, kind_of, without
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar

MAX_FILES = 30  # one within the other


def included(lists: TaskLists, node: MapNode, key: str, around: Around) -> list[Entry]:
    """The tasks of the file that an entry of a list names.

    Args:
        lists: What reads lists of tasks.
        node: The entry.
        key: Its key: ``import_tasks`` or ``include_tasks``, perhaps with ``ansible.builtin.`` before it.
        around: The surroundings of the entry.

    """
    values = lists.values
    given = node.get(key)
    where = next(keyword for keyword, _ in node.pairs if keyword.text == key)
    dynamic = key.endswith("include_tasks")
    allowed = {name: text for name, text in keywords.INCLUDE.items() if dynamic or not name.startswith("loop")}
    values.keywords(node, allowed, "include" if dynamic else "import", but=(key, "loop", "loop_control"))
    if not dynamic and node.get("loop") is not None:
        values.fault("an import has no 'loop'", node.get("loop"), cure="write include_tasks instead of import_tasks")
    apply: Node | None = None
    if isinstance(given, MapNode):
        for name, _ in given.pairs:
            if name.value != "file" and not (dynamic and name.value == "apply"):
                values.fault(
                    f"'{key}' has no '{name.text[:40]}'", name, "it has: file" + (", apply" if dynamic else "")
                )
        apply, given = given.get("apply"), given.get("file")
    if is_nothing(given) or not isinstance(given, Scalar):
        values.fault(
            f"'{key}' takes the name of a file, not {kind_of(given)}", given or where, f"write {key}: FILE.yml"
        )
        return []
    outside = lists.aware(around.scope)
    handed = {name: Deferred(value, outside) for name, value in values.variables(node.get("vars")).items()}
    around = msgspec.structs.replace(around, scope=around.scope.extended(handed, over=around.extra))
    inner = lists.within(without(node, "vars"), around, allowed)
    gate: tuple[Node, ...] = ()
    if dynamic:
        own = tuple(values.words(node.get("tags"), "tags", lists.aware(inner.scope)))
        if not (around.handler or lists.chosen(Tags(tuple(dict.fromkeys((*around.tags, *own)))))):
            return []
        inner = msgspec.structs.replace(inner, tags=around.tags)
        gate = inner.when
        if apply is not None:
            inner = _applied(lists, apply, inner)
    setting = lists.setting(inner, lists.aware(inner.scope))
    loop = lists.loop(node) if dynamic else None
    if loop is None:
        return _read(lists, node, where, given, inner, setting, handed, gate)
    entries: list[Entry] = []
    with values.faults.gathered():
        try:
            turns = calls.turns(loop, setting)
        except NotYetKnown as late:
            raise _too_late("the list of an include", late).at(loop.items.position) from None
        for each in turns:
            names = {name: each.setting.scope.written(name) for name in (loop.variable, loop.index) if name}
            scope = outside.extended(names, over=lists.extra)
            again = {name: Deferred(value.node, scope) for name, value in handed.items()}
            turn = msgspec.structs.replace(each.setting, scope=each.setting.scope.extended(again, over=around.extra))
            turned = msgspec.structs.replace(inner, scope=turn.scope)
            entries += _read(lists, node, where, given, turned, turn, again, gate)
    return entries


def _applied(lists: TaskLists, apply: Node, inner: Around) -> Around:
    if not isinstance(apply, MapNode):
        lists.fault(f"'apply' takes a mapping of keywords, not {kind_of(apply)}", apply)
        return inner
    allowed = {name: text for name, text in keywords.BLOCK.items() if name not in ("block", "rescue", "always", "name")}
    lists.values.keywords(apply, allowed, "block")
    return lists.within(apply, inner, allowed)


def _read(
    lists: TaskLists,
    node: MapNode,
    where: Scalar,
    given: Scalar,
    around: Around,
    setting: Setting,
    handed: dict[str, Deferred],
    gate: tuple[Node, ...],
) -> list[Entry]:
    faults = lists.faults
    with faults.gathered():
        with faults.silenced():
            if not setting.holds(gate, "when"):
                return [lists.skipped_include(node, where, around)]
        name = _file_name(setting, given)
        path = around.file.parent / Path(name).expanduser()
        content = tasks_of(path, given, around, lists.values)
        extra = {**handed, **around.extra}
        inside = msgspec.structs.replace(
            around,
            scope=setting.scope.extended(handed, over=around.extra),
            extra=extra,
            file=path,
            within=(*around.within, Path(os.path.realpath(path))),
        )
        return list(lists.entries(content, inside))
    return []


def tasks_of(path: Path, given: Node, around: Around, values: Values) -> tuple[Node, ...]:
    """The entries of a file of tasks.

    Raises:
        InvalidPlaybook: it is missing, includes itself, or is not YAML; faults in the file have their own place.

    """
    real = Path(os.path.realpath(path))
    if real in around.within:
        chain = " -> ".join(path.name for path in (*around.within[around.within.index(real) :], real))
        raise InvalidPlaybook(f"{path.name} includes itself: {chain}", position=given.position)
    if len(around.within) > MAX_FILES:
        raise InvalidPlaybook(f"files are included more than {MAX_FILES} levels deep", position=given.position)
    try:
        content = values.templates.files.nodes(path, "file of tasks")
    except InvalidPlaybook as error:
        raise error.at(given.position) from None
    if is_nothing(content):
        return ()
    if not isinstance(content, ListNode):
        cure = "begin each task with '- '"
        raise InvalidPlaybook(
            f"a file of tasks is a list, not {kind_of(content)}",
            cure=cure,
            position=content.position if content is not None else given.position,
        )
    plays = [entry for entry in content.items if isinstance(entry, MapNode) and entry.get("tasks") is not None]
    if plays:
        raise InvalidPlaybook(
            "a play is in the place of a task",
            cause="the file is a playbook, but the include expects a file of tasks",
            cure="name it by import_playbook: beside the plays, or leave its tasks alone in the file",
            position=plays[0].position,
        )
    return content.items


def _file_name(setting: Setting, given: Scalar) -> str:
    try:
        name = setting.render(given)
    except NotYetKnown as late:
        raise _too_late("the name of a file of tasks", late).at(given.position) from None
    if not isinstance(name, str) or not name.strip():
        raise InvalidPlaybook("the name of a file of tasks is a string", position=given.position)
    return name


def _too_late(what: str, late: NotYetKnown) -> InvalidPlaybook:
    return InvalidPlaybook(
        f"{what} must be known before the run, but depends on the result of '{late.unknown.task}'",
        cure="include each possible file with a when: of its own",
    )
