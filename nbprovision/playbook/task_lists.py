"""Lists of tasks: the kind of each entry, what it inherits from its surroundings, and what it depends on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.model.task import Task
from nbprovision.playbook import ansible, calls, keywords, parameters, task_keys
from nbprovision.playbook.calls import Block, Entry, Judgement, Loop, Meta, Setting, TaskCall, Written
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.tags import Tags
from nbprovision.playbook.template import NotYetKnown, Scope, Templates, Unknown
from nbprovision.playbook.values import Values, kind_of
from nbprovision.playbook.yaml_nodes import MapNode, Node, Scalar

Catalogue = Mapping[str, type[Task[Any]]]

MAX_CALLS = 2_000  # of one playbook, every turn of its loops counted
_FAILURE = ("ansible_failed_task", "ansible_failed_result")


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """The values that a task inherits from its surroundings: the play, blocks, includes.

    Attributes:
        scope: The variables.
        extra: Variables that win over those of a task: of includes, and of the command line.
        file: The file that is read, by the name that positions have.
        within: The files that led there, itself the last.
        handler: Whether handlers are read.

    """

    scope: Scope
    extra: Mapping[str, Any]
    file: Path
    within: tuple[Path, ...]
    tags: tuple[str, ...] = ()
    when: tuple[Node, ...] = ()
    environment: tuple[Node, ...] = ()
    notify: tuple[str, ...] = ()
    no_log: bool = False
    ignore_errors: bool = False
    check_mode: bool | None = None
    diff: bool | None = None
    handler: bool = False


class TaskLists:
    """Reads lists of tasks.

    Args:
        catalogue: Kind to class.
        templates: What evaluates templates.
        faults: Takes up what is wrong.
        extra: Variables of the command line, which win over all others.
        chosen: Whether tags choose a task.
        include: Reads a file of tasks in the place of an entry.

    """

    def __init__(
        self,
        catalogue: Catalogue,
        templates: Templates,
        faults: Faults,
        extra: Mapping[str, Any],
        chosen: Callable[[Tags], bool],
        include: Callable[[TaskLists, MapNode, str, Around], list[Entry]],
    ) -> None:
        self.catalogue = catalogue
        self.kinds = frozenset(catalogue)
        self.templates = templates
        self.faults = faults
        self.extra = extra
        self.chosen = chosen
        self.values = Values(templates, faults)
        self.registered: dict[str, Unknown] = {}
        self.notified: list[tuple[str, Position]] = []
        self._include = include
        self._loops = 0
        self._calls = 0

    def entries(self, nodes: Collection[Node], around: Around) -> tuple[Entry, ...]:
        """What a list of tasks says, included files in their place."""
        return tuple(entry for node in nodes for entry in self._entry(node, around))

    def within(self, node: MapNode, around: Around, allowed: Mapping[str, str]) -> Around:
        """Return the surroundings of tasks within ``node``: the outer ones, with its own ``allowed`` keywords."""
        values = self.values
        scope = around.scope.extended(self.values.variables(node.get("vars")), over=around.extra)
        aware = self.aware(scope)
        own = {key.value: value for key, value in node.pairs if key.value in allowed}
        notify = tuple(values.strings(own.get("notify"), "notify", aware))
        self.notified += [(name, own["notify"].position) for name in notify]
        check_mode = values.boolean(node, "check_mode", aware)
        diff = values.boolean(node, "diff", aware)
        ignore = values.boolean(node, "ignore_errors", aware)
        hidden = values.boolean(node, "no_log", aware)
        unclear = node.get("no_log") is not None and hidden is None  # what might be a secret is hidden
        when = own.get("when")
        return msgspec.structs.replace(
            around,
            scope=scope,
            tags=tuple(dict.fromkeys((*around.tags, *values.words(node.get("tags"), "tags", aware)))),
            when=around.when if when is None else (*around.when, when),
            environment=(*around.environment, *filter(None, [node.get("environment")])),
            notify=tuple(dict.fromkeys((*around.notify, *notify))),
            no_log=around.no_log or bool(hidden) or unclear,
            ignore_errors=around.ignore_errors if ignore is None else ignore,
            check_mode=around.check_mode if check_mode is None else check_mode,
            diff=around.diff if diff is None else diff,
        )

    def setting(self, around: Around, scope: Scope) -> Setting:
        """The setting of a task; relative paths begin at the folder of its file."""
        folder = Path(os.path.abspath(around.file)).parent
        return Setting(scope, self.extra, self.templates, folder)

    def aware(self, scope: Scope) -> Scope:
        """The variables with those that earlier tasks register, whose values are not known yet."""
        return scope.knowing(self.registered, over=self.extra)

    def fault(self, message: str, node: Node | None, cure: str = "", cause: str = "") -> None:
        """Note that something is wrong."""
        self.values.fault(message, node, cure, cause)

    def _entry(self, node: Node, around: Around) -> list[Entry]:
        if not isinstance(node, MapNode):
            self.fault(f"a task is a mapping, not {kind_of(node)}", node, cure="write: - ensure_...: {...}")
            return []
        keys = {str(key.value).removeprefix("ansible.builtin."): key for key, _ in node.pairs}
        if "block" in keys or (("rescue" in keys or "always" in keys) and not keys.keys() & self.kinds):
            return self._block(node, around)
        for word in ("import_tasks", "include_tasks"):
            if word in keys:
                return self._include(self, node, keys[word].text, around)
        if "meta" in keys:
            return self._meta(node, around)
        return list(self._task(node, around))

    def _block(self, node: MapNode, around: Around) -> list[Entry]:
        if around.handler:
            self.fault("a block cannot be a handler", node, cure="let several handlers listen to the same name")
            return []
        if node.get("block") is None:
            keyword = "rescue" if node.get("rescue") else "always"
            self.fault(f"'{keyword}' needs a block", node, cure="write block: and the tasks that may fail")
            return []
        if node.get("loop") is not None:
            self.fault(
                "a block has no 'loop'",
                node.get("loop"),
                cure="put its tasks into a file, and write include_tasks: FILE with the loop",
            )
        self.values.keywords(node, keywords.BLOCK, "block", but=("loop",))
        around = self.within(node, around, keywords.BLOCK)
        self.values.name(node, self.aware(around.scope), forgiving=True)
        body, rescue, always = (self.values.listed(node.get(part), part) for part in ("block", "rescue", "always"))
        inner = self.entries(body, around)
        if not rescue and not always:
            return list(inner)
        failure = {name: Unknown("the block") for name in _FAILURE}
        rescued = msgspec.structs.replace(around, scope=around.scope.knowing(failure, over=self.extra))
        return [
            Block(
                position=node.position,
                body=inner,
                rescue=self.entries(rescue, rescued),
                always=self.entries(always, rescued),
            )
        ]

    def _meta(self, node: MapNode, around: Around) -> list[Entry]:
        given = next(value for key, value in node.pairs if str(key.value).endswith("meta"))
        what = given.value if isinstance(given, Scalar) else kind_of(given)
        if what not in keywords.META:
            others = ansible.Advice(f"there are: {', '.join(keywords.META)}")
            advice = ansible.META.get(str(what), others)
            self.faults.add(advice.fault(f"'meta: {str(what)[:40]}' is refused", given.position))
            return []
        self.values.keywords(
            node, {"name": "", "when": "", "tags": "", "vars": ""}, "task", but=("meta", "ansible.builtin.meta")
        )
        around = self.within(node, around, {"when": ""})
        chosen = what == "flush_handlers" or self.chosen(Tags(around.tags))
        if what == "noop" or not chosen:
            return []
        if around.handler:
            self.fault("'meta' cannot be a handler", node, cure="handlers run after the tasks")
            return []
        return [Meta(str(what), given.position, self.setting(around, self.aware(around.scope)), around.when)]

    def _task(self, node: MapNode, around: Around) -> list[TaskCall]:
        call = task_keys.call(node, self.kinds, self.values)
        allowed = keywords.HANDLER if around.handler else keywords.TASK
        around = self.within(node, around, allowed)
        if call is None:
            return []
        kind = self.catalogue[call.kind]
        if kind.handler_only and not around.handler:
            self.fault(
                f"{call.kind} can only be a handler", node, cure=f"put it under handlers:, and notify: {call.kind}"
            )
            return []
        where = "handler" if around.handler else "task"
        beside = task_keys.misplaced(node, call.kind, kind, allowed, where, self.values)
        parameters.check_names(call, kind, self.faults, beside)
        scope = self.aware(around.scope)
        judgement = self._judgement(node, scope)
        register = self.values.variable_name(node.get("register"), "register")
        if judgement.until is not None and not register:
            self.fault("'until' needs a registered result", node.get("until"), cure="add register: NAME")
        turns = self._turns(node, call, kind, around, scope)
        named = self.values.name(node, scope, forgiving=all(turn.task is None for turn in turns)) or call.kind
        made = [
            msgspec.structs.replace(
                turn,
                name=f"{named}{turn.name}",
                title=named,
                register=register,
                judgement=judgement,
                listen=tuple(dict.fromkeys((named, *self.values.strings(node.get("listen"), "listen", scope))))
                if around.handler
                else (),
            )
            for turn in turns
        ]
        if register and any(call.chosen for call in made):
            self.registered[register] = Unknown(named)
        self._check_judgement(node, around)
        return made

    def _turns(
        self, node: MapNode, call: parameters.Call, kind: type[Task[Any]], around: Around, scope: Scope
    ) -> list[TaskCall]:
        """The calls that a task is: one, or one for each entry of a list that is known now."""
        loop = self.loop(node)
        setting = self.setting(around, scope)
        if loop is None:
            if any(key.text.startswith("with_") for key, _ in node.pairs):  # refused already: it would set `item`
                return [self._skipped(call, kind, around, setting)]
            return [self._bound(call, kind, around, setting, "")]
        if not (around.handler or self.chosen(Tags(around.tags))):
            return [self._bound(call, kind, around, setting, "")]
        self._loops += 1
        try:
            turns = calls.turns(loop, setting)
        except NotYetKnown as late:
            return [self._late_loop(call, kind, around, setting, loop, late)]
        except InvalidPlaybook as fault:
            # As in Ansible, what a skipped task would loop over need not be there.
            skipped = False
            with self.faults.silenced():
                skipped = not setting.holds(around.when, "when")
            if not skipped:
                self.faults.add(fault)
            return [self._skipped(call, kind, around, setting)]
        if not turns:
            return [msgspec.structs.replace(self._skipped(call, kind, around, setting), turn=self._loops, empty=True)]
        return [
            msgspec.structs.replace(
                self._bound(call, kind, around, turn.setting, f" ({loop.variable}={turn.label})"),
                turn=self._loops,
                entry=turn.entry,
            )
            for turn in turns
        ]

    def loop(self, node: MapNode) -> Loop | None:
        """The loop of a task, or None."""
        items, control = node.get("loop"), node.get("loop_control")
        if items is None:
            if control is not None:
                self.fault("'loop_control' needs a loop", control, cure="add loop: and a list, or remove it")
            return None
        if control is not None and not isinstance(control, MapNode):
            self.fault(f"'loop_control' takes a mapping, not {kind_of(control)}", control)
            control = None
        control = control or MapNode(node.position, ())
        for key, _ in control.pairs:
            if key.value in ansible.LOOP_CONTROL:
                self.faults.add(
                    ansible.LOOP_CONTROL[key.text].fault(f"'loop_control' has no '{key.text}' here", key.position)
                )
            elif key.value not in ("loop_var", "index_var", "label"):
                near = nearest(key.text[:40], ("loop_var", "index_var", "label"))
                self.fault(
                    f"'loop_control' has no '{key.text[:40]}'{near}",
                    key,
                    "" if near else "it has: loop_var, index_var, label",
                )
        variable = self.values.variable_name(control.get("loop_var"), "loop_var") or "item"
        index = self.values.variable_name(control.get("index_var"), "index_var") or None
        return Loop(items, variable, index, control.get("label"))

    def _late_loop(
        self,
        call: parameters.Call,
        kind: type[Task[Any]],
        around: Around,
        setting: Setting,
        loop: Loop,
        late: NotYetKnown,
    ) -> TaskCall:
        entry = {
            loop.variable: Unknown(late.unknown.task),
            **({loop.index: Unknown(late.unknown.task)} if loop.index else {}),
        }
        inner = msgspec.structs.replace(setting, scope=setting.scope.extended(entry, over=around.extra))
        with self.faults.gathered():
            self.templates.check(loop.items, setting.scope)
        made = self._bound(call, kind, around, inner, "")
        written = msgspec.structs.replace(made.written, setting=setting, loop=loop)
        return msgspec.structs.replace(made, written=written, task=None, late=True)

    def _skipped(self, call: parameters.Call, kind: type[Task[Any]], around: Around, setting: Setting) -> TaskCall:
        return self._made(call, around, Written(call, kind, setting, around.when, around.environment), "", chosen=True)

    def skipped_include(self, node: MapNode, key: Scalar, around: Around) -> TaskCall:
        """A file that is not read, because the condition of its include does not hold."""
        call = parameters.Call(key.text, key.position, MapNode(key.position, ()))
        setting = self.setting(around, self.aware(around.scope))
        made = self._made(call, around, Written(None, Task, setting, around.when), "", chosen=True)
        named = self.values.name(node, setting.scope, forgiving=True) or key.text
        return msgspec.structs.replace(made, name=named, title=named)

    def _bound(
        self, call: parameters.Call, kind: type[Task[Any]], around: Around, setting: Setting, label: str
    ) -> TaskCall:
        """Make one call, and bind what is already known."""
        written = Written(call, kind, setting, around.when, around.environment)
        chosen = around.handler or self.chosen(Tags(around.tags))
        made = self._made(call, around, written, label, chosen=chosen)
        if not chosen:
            return made
        before = len(self.faults)
        with self.faults.gathered():
            late = False
            try:
                if not setting.holds(around.when, "when"):
                    return made
            except NotYetKnown:
                late = True
                for condition in around.when:
                    self.templates.check(condition, setting.scope, condition=True)
            variables: dict[str, str] = {}
            try:
                variables = calls.environment(around.environment, setting)
            except NotYetKnown:
                late = True
                self._check(around.environment, setting.scope)
            try:
                task = calls.bound(written, setting, self.faults)
            except NotYetKnown:
                task, late = None, True
                self._check((call.parameters,), setting.scope)
            if len(self.faults) == before:
                return msgspec.structs.replace(made, task=task, environment=variables, late=late)
        return made

    def _check(self, nodes: Collection[Node], scope: Scope) -> None:
        for node in nodes:
            self.templates.check(node, scope)

    def _made(self, call: parameters.Call, around: Around, written: Written, label: str, *, chosen: bool) -> TaskCall:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise InvalidPlaybook(
                f"the playbook has more than {MAX_CALLS} tasks, each turn of a loop counted",
                cure="if the task takes a list, give the list to one task",
                position=call.position,
            )
        return TaskCall(
            name=label,
            title="",
            kind=call.kind,
            position=call.position,
            tags=around.tags,
            no_log=around.no_log,
            task=None,
            chosen=chosen,
            written=written,
            notify=around.notify,
            ignore_errors=around.ignore_errors,
            check_mode=around.check_mode,
            diff=around.diff,
        )

    def _judgement(self, node: MapNode, scope: Scope) -> Judgement:
        until = node.get("until")
        retries = self.values.number(node, "retries", scope, whole=True)
        delay = self.values.number(node, "delay", scope, whole=False)
        if delay is not None and until is None and retries is None:
            self.fault("'delay' needs 'retries' or 'until'", node.get("delay"), cure="add one of them, or remove it")
        failed, changed = node.get("failed_when"), node.get("changed_when")
        return Judgement(
            failed_when=None if failed is None else (failed,),
            changed_when=None if changed is None else (changed,),
            until=None if until is None else (until,),
            retries=int(retries) if retries is not None else 3 if until is not None else 0,
            delay=5.0 if delay is None else delay,
        )

    def _check_judgement(self, node: MapNode, around: Around) -> None:
        """Check the conditions on a result; their variables must be known when the result is."""
        scope = self.aware(around.scope)
        loop = node.get("loop_control")
        names = [loop.get("loop_var"), loop.get("index_var")] if isinstance(loop, MapNode) else []
        entry = [name.value for name in names if isinstance(name, Scalar) and isinstance(name.value, str)]
        scope = scope.extended({name: Unknown("") for name in ("item", *entry)}, over={})
        for keyword in ("failed_when", "changed_when", "until"):
            condition = node.get(keyword)
            if condition is not None:
                with self.faults.gathered():
                    try:
                        self.templates.condition(condition, scope, keyword)
                    except NotYetKnown:
                        self.templates.check(condition, scope, condition=True)
