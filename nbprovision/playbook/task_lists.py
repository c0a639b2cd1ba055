"""Reads lists of tasks: the kind of each entry, its inherited keywords, and the files of tasks that it includes.

``import_tasks`` and ``include_tasks`` are read with the playbook, so that all faults are reported before anything runs.
They differ as in Ansible: the keywords of an import apply to its tasks, the tags of an include to the include itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.model.task import Task
from nbprovision.playbook import ansible, calls, keywords, parameters
from nbprovision.playbook.calls import Block, CallSource, Entry, Judgement, Loop, Meta, Setting, TaskCall
from nbprovision.playbook.own_tasks import FORM, KEYWORD, Kinds
from nbprovision.playbook.template import Deferred, NotYetKnown, Scope, Unknown
from nbprovision.playbook.values import Values, is_nothing, kind_of, without
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar

Catalogue = Mapping[str, type[Task[Any]]]

MAX_CALLS = 2_000  # of one playbook; each turn of a loop counts
MAX_FILES = 30  # nested includes
_FAILURE = ("ansible_failed_task", "ansible_failed_result")
_LOOP_CONTROL = ("loop_var", "index_var", "label")


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """The values that a task inherits from its play, blocks and includes.

    Attributes:
        scope: The variables.
        extra: Variables of includes and of the command line, which win over those of a task.
        file: The current file, as positions name it.
        within: The files that include each other down to the current one, which is the last.
        kinds: The kinds of task.
        handler: Whether handlers are read.

    The other attributes are keywords.

    """

    scope: Scope
    extra: Mapping[str, Any]
    file: Path
    within: tuple[Path, ...]
    kinds: Kinds
    tags: tuple[str, ...] = ()
    when: tuple[Node, ...] = ()
    environment: tuple[Node, ...] = ()
    notify: tuple[str, ...] = ()
    no_log: bool = False
    ignore_errors: bool = False
    check_mode: bool | None = None
    diff: bool | None = None
    handler: bool = False

    def extended(self, variables: Mapping[str, Any]) -> Inherited:
        """Return the same with further variables."""
        return msgspec.structs.replace(self, scope=self.scope.extended(variables, over=self.extra))


class TaskLists:
    """Reads lists of tasks.

    Args:
        values: Reads keywords, and collects the faults.
        extra: Variables of the command line, which win over all others.
        chosen: Whether the command line chooses a task with these tags.

    Attributes:
        of_root: Whether the lists are ``root_tasks``.
        notified: The handlers that tasks notify, each with the position of ``notify``.

    """

    of_root = False

    def __init__(
        self,
        values: Values,
        extra: Mapping[str, Any],
        chosen: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self.values = values
        self.templates = values.templates
        self.faults = values.faults
        self.extra = extra
        self.notified: list[tuple[str, Position]] = []
        self.is_chosen = chosen
        self._registered: dict[str, Unknown] = {}
        self._loops = 0
        self._calls = 0

    def entries(self, nodes: Collection[Node], outer: Inherited) -> tuple[Entry, ...]:
        """Read a list of tasks; the tasks of an included file take the place of the include."""
        return tuple(entry for node in nodes for entry in self._entry(node, outer))

    def within(self, node: MapNode, outer: Inherited, allowed: Mapping[str, str]) -> Inherited:
        """Return what tasks within ``node`` inherit: the outer values, with the node's ``allowed`` keywords."""
        values = self.values
        variables = outer.scope.extended(values.variables(node.get("vars")), over=outer.extra)
        scope = self._with_results(variables)
        own = {key.value: value for key, value in node.pairs if key.value in allowed}
        notify = tuple(values.strings(own.get("notify"), "notify", scope))
        self.notified += [(name, own["notify"].position) for name in notify]
        check_mode, diff, ignore_errors, no_log = (
            values.boolean(node, keyword, scope) for keyword in ("check_mode", "diff", "ignore_errors", "no_log")
        )
        unclear = node.get("no_log") is not None and no_log is None  # hide what may be a secret
        when = own.get("when")
        return msgspec.structs.replace(
            outer,
            scope=variables,
            tags=tuple(dict.fromkeys((*outer.tags, *values.words(node.get("tags"), "tags", scope)))),
            when=outer.when if when is None else (*outer.when, when),
            environment=(*outer.environment, *filter(None, [node.get("environment")])),
            notify=tuple(dict.fromkeys((*outer.notify, *notify))),
            no_log=outer.no_log or bool(no_log) or unclear,
            ignore_errors=outer.ignore_errors if ignore_errors is None else ignore_errors,
            check_mode=outer.check_mode if check_mode is None else check_mode,
            diff=outer.diff if diff is None else diff,
        )

    def _with_results(self, scope: Scope) -> Scope:
        """Add the results that earlier tasks register, as unknown values."""
        return scope.knowing(self._registered, over=self.extra)

    def _setting(self, inherited: Inherited) -> Setting:
        folder = Path(os.path.abspath(inherited.file)).parent  # relative paths begin at the folder of their file
        return Setting(self._with_results(inherited.scope), self.extra, self.templates, folder)

    def _is_chosen(self, inherited: Inherited) -> bool:
        return inherited.handler or self.is_chosen(inherited.tags)

    def _entry(self, node: Node, outer: Inherited) -> Collection[Entry]:
        if not isinstance(node, MapNode):
            self.values.fault(f"a task is a mapping, not {kind_of(node)}", node, cure="write: - ensure_...: {...}")
            return []
        keys = {str(key.value).removeprefix("ansible.builtin."): key for key, _ in node.pairs}
        if "block" in keys or (("rescue" in keys or "always" in keys) and not any(key in outer.kinds for key in keys)):
            return self._block(node, outer)
        for word in ("import_tasks", "include_tasks"):
            if word in keys:
                return self._include(node, keys[word], outer, dynamic=word == "include_tasks")
        return self._meta(node, outer) if "meta" in keys else self._task(node, outer)

    # ------------------------------------------------------------------------------------------------ blocks and meta

    def _block(self, node: MapNode, outer: Inherited) -> Collection[Entry]:
        if outer.handler:
            self.values.fault("a block cannot be a handler", node, cure="let several handlers listen to the same name")
            return []
        if node.get("block") is None:
            keyword = "rescue" if node.get("rescue") else "always"
            self.values.fault(f"'{keyword}' needs a block", node, cure="write block: and the tasks that may fail")
            return []
        if node.get("loop") is not None:
            cure = "put its tasks into a file, and write include_tasks: FILE with the loop"
            self.values.fault("a block has no 'loop'", node.get("loop"), cure=cure)
        self.values.keywords(node, keywords.BLOCK, "block", but=("loop",))
        inner = self.within(node, outer, keywords.BLOCK)
        self.values.name(node, self._with_results(inner.scope), forgiving=True)
        body, rescue, always = (self.values.listed(node.get(part), part) for part in ("block", "rescue", "always"))
        entries = self.entries(body, inner)
        if not rescue and not always:
            return entries
        failure = {name: Unknown("the block") for name in _FAILURE}
        rescued = msgspec.structs.replace(inner, scope=inner.scope.knowing(failure, over=self.extra))
        return [
            Block(
                position=node.position,
                body=entries,
                rescue=self.entries(rescue, rescued),
                always=self.entries(always, rescued),
            )
        ]

    def _meta(self, node: MapNode, outer: Inherited) -> list[Entry]:
        given = next(value for key, value in node.pairs if str(key.value).endswith("meta"))
        action = str(given.value) if isinstance(given, Scalar) else kind_of(given)
        if action not in keywords.META:
            advice = ansible.META.get(action, ansible.Advice(f"there are: {', '.join(keywords.META)}"))
            self.faults.add(advice.fault(f"'meta: {action[:40]}' is refused", given.position))
            return []
        allowed = {"name": "", "when": "", "tags": "", "vars": ""}
        self.values.keywords(node, allowed, "task", but=("meta", "ansible.builtin.meta"))
        inner = self.within(node, outer, {"when": ""})
        if action == "noop" or not (action == "flush_handlers" or self.is_chosen(inner.tags)):
            return []
        if outer.handler:
            self.values.fault("'meta' cannot be a handler", node, cure="handlers run after the tasks")
            return []
        return [Meta(action, given.position, self._setting(inner), inner.when)]

    # ---------------------------------------------------------------------------------------------------------- tasks

    def _task(self, node: MapNode, outer: Inherited) -> list[TaskCall]:
        values = self.values
        call = self._call(node, outer)
        allowed = keywords.HANDLER if outer.handler else keywords.TASK
        inner = self.within(node, outer, allowed)
        kind = self._kind(call, outer.kinds) if call is not None else None
        if call is None or kind is None:
            return []
        if kind.in_root == ("never" if self.of_root else "always"):
            self.faults.add(_misplaced(call, lists_of_root=self.of_root))
            return []
        if kind.handler_only and not outer.handler:
            cure = f"put it under handlers:, and notify: {call.kind}"
            values.fault(f"{call.kind} can only be a handler", node, cure=cure)
            return []
        self._check_keys(node, call, kind, allowed, "handler" if outer.handler else "task")
        setting = self._setting(inner)
        judgement = self._judgement(node, setting.scope)
        register = values.variable_name(node.get("register"), "register")
        if judgement.until is not None and not register:
            values.fault("'until' needs a registered result", node.get("until"), cure="add register: NAME")
        turns = self._turns(
            node, self._draft(call, inner, CallSource(call, kind, setting, inner.when, inner.environment))
        )
        title = values.name(node, setting.scope, forgiving=all(turn.task is None for turn in turns)) or call.kind
        listen = (title, *values.strings(node.get("listen"), "listen", setting.scope)) if outer.handler else ()
        if register and any(turn.chosen for turn in turns):
            self._registered[register] = Unknown(title)
        self._check_judgement(node, inner)
        return [
            msgspec.structs.replace(
                turn,
                name=f"{title}{turn.name}",
                title=title,
                register=register,
                judgement=judgement,
                listen=tuple(dict.fromkeys(listen)),
            )
            for turn in turns
        ]

    def _kind(self, call: parameters.Call, kinds: Kinds) -> type[Task[Any]] | None:
        """Return the class of a task; None if its code, which is not nbprovision's, cannot be used."""
        with self.faults.gathered():
            try:
                return kinds[call.kind]
            except InvalidPlaybook as error:
                error.at(call.position)
                raise
        return None

    def _call(self, node: MapNode, outer: Inherited) -> parameters.Call | None:
        """Return the key of a task that names its kind, with its parameters."""
        pairs = [(key, value) for key, value in node.pairs if key.value in outer.kinds]
        if len(pairs) > 1:
            names = " and ".join(key.text for key, _ in pairs)
            cure = "begin each task with '- ' in a line of its own"
            self.values.fault(f"one task has {names}", pairs[1][0], cure=cure)
            return None
        if not pairs:
            self._explain_unknown_task(node, outer)
            return None
        key, value = pairs[0]
        if is_nothing(value):
            value = MapNode(key.position, ())
        if not isinstance(value, MapNode):
            message = f"{key.text} takes a mapping of parameters, not {kind_of(value)}"
            cure = f"write each parameter in a line of its own:\n{key.text}:\n  NAME: VALUE"
            self.values.fault(message, value, cure=cure)
            return None
        return parameters.Call(key.text, key.position, value)

    def _explain_unknown_task(self, node: MapNode, outer: Inherited) -> None:
        kinds = outer.kinds
        strange = [key for key, _ in node.pairs if not keywords.is_ansible(str(key.value))]
        choices = f"there are: {', '.join(sorted(kinds))}"
        module = next((key for key, _ in node.pairs if ansible.module(str(key.value))), None)
        if not strange and module is None:
            before = len(self.faults)
            self.values.keywords(node, keywords.TASK, "task")
            if len(self.faults) == before:
                self.values.fault("the task has no ensure_... key", node, cure=choices)
            return
        # A key that begins like a kind, even a misspelt one, is the one that matters.
        key = next((key for key in strange if str(key.value).startswith("ensure")), module or strange[0])
        name = key.text[:60]
        if not kinds.complete and FORM.fullmatch(name):
            return  # it may be in the folder, whose fault has been added
        advice = ansible.module(name)
        if advice is not None:
            self.values.fault(f"unknown task '{name}'", key, cure=f"instead: {advice.fix}", cause=advice.why)
            return
        beside = next(outer.file.parent.glob(f"*/{name}.py"), None) if FORM.fullmatch(name) else None
        if beside is not None:
            cure = f"add to the play: {KEYWORD}: [{beside.parent.name}]"
            self.values.fault(f"unknown task '{name}'", key, cure=cure, cause=f"the play does not name {beside.parent}")
            return
        near = nearest(name, kinds)
        self.values.fault(f"unknown task '{name}'{near}", key, cure="" if near else choices)

    def _check_keys(
        self, node: MapNode, call: parameters.Call, kind: type[Task[Any]], allowed: Mapping[str, str], where: str
    ) -> None:
        """Check the names of keywords and parameters; a parameter beside the task's key counts as given."""
        fields = parameters.names(kind) - allowed.keys()
        misplaced = [key for key, _ in node.pairs if key.value in fields]
        for key in misplaced:
            self.values.fault(f"'{key.text}' is a parameter of {call.kind}", key, cure=f"indent it below {call.kind}:")
        names = {key.value for key in misplaced}
        self.values.keywords(node, allowed, where, {call.kind, *names})
        parameters.check_names(call, kind, self.faults, names)

    def _draft(self, call: parameters.Call, inherited: Inherited, source: CallSource) -> TaskCall:
        """Return a call with nothing but its inherited values."""
        return TaskCall(
            name="",
            title="",
            kind=call.kind,
            position=call.position,
            tags=inherited.tags,
            no_log=inherited.no_log,
            task=None,
            chosen=self._is_chosen(inherited),
            written=source,
            notify=inherited.notify,
            ignore_errors=inherited.ignore_errors,
            check_mode=inherited.check_mode,
            diff=inherited.diff,
        )

    def _turns(self, node: MapNode, draft: TaskCall) -> list[TaskCall]:
        """Return the calls of a task: one, or one for each entry of a known list. A name is only the turn's label."""
        loop = self._loop(node)
        if loop is None or not draft.chosen:
            # An older loop (with_items) is a fault already, and its tasks use the undefined variable `item`.
            older = loop is None and any(key.text.startswith("with_") for key, _ in node.pairs)
            return [self._counted(draft) if older else self._bound(draft)]
        self._loops += 1
        setting = draft.written.setting
        try:
            turns = calls.turns(loop, setting)
        except NotYetKnown as late:
            return [self._late_loop(draft, loop, late)]
        except InvalidPlaybook as fault:
            # As in Ansible, a skipped task may have an invalid list.
            with self.faults.silenced():
                if not setting.holds(draft.written.when, "when"):
                    return [self._counted(draft)]
            self.faults.add(fault)
            return [self._counted(draft)]
        if not turns:
            return [self._counted(msgspec.structs.replace(draft, turn=self._loops, empty=True))]
        return [
            self._bound(
                msgspec.structs.replace(
                    draft,
                    name=f" ({loop.variable}={turn.label})",
                    written=msgspec.structs.replace(draft.written, setting=turn.setting),
                    turn=self._loops,
                    entry=turn.entry,
                )
            )
            for turn in turns
        ]

    def _loop(self, node: MapNode) -> Loop | None:
        items, control = node.get("loop"), node.get("loop_control")
        if items is None:
            if control is not None:
                self.values.fault("'loop_control' needs a loop", control, cure="add loop: and a list, or remove it")
            return None
        if control is not None and not isinstance(control, MapNode):
            self.values.fault(f"'loop_control' takes a mapping, not {kind_of(control)}", control)
            control = None
        control = control or MapNode(node.position, ())
        for key, _ in control.pairs:
            name = key.text[:40]
            if key.value in ansible.LOOP_CONTROL:
                advice = ansible.LOOP_CONTROL[key.text]
                self.faults.add(advice.fault(f"'loop_control' has no '{name}' here", key.position))
            elif key.value not in _LOOP_CONTROL:
                near = nearest(name, _LOOP_CONTROL)
                cure = "" if near else f"it has: {', '.join(_LOOP_CONTROL)}"
                self.values.fault(f"'loop_control' has no '{name}'{near}", key, cure)
        variable = self.values.variable_name(control.get("loop_var"), "loop_var") or "item"
        index = self.values.variable_name(control.get("index_var"), "index_var") or None
        return Loop(items, variable, index, control.get("label"))

    def _late_loop(self, draft: TaskCall, loop: Loop, late: NotYetKnown) -> TaskCall:
        """Check a task whose list is known only when an earlier task has run."""
        setting = draft.written.setting
        names = filter(None, (loop.variable, loop.index))
        turn = dict.fromkeys(names, Unknown(late.unknown.task))
        with self.faults.gathered():
            self.templates.check(loop.items, setting.scope)
        scope = setting.scope.extended(turn, over=self.extra)
        source = msgspec.structs.replace(draft.written, setting=msgspec.structs.replace(setting, scope=scope))
        call = self._bound(msgspec.structs.replace(draft, written=source))
        source = msgspec.structs.replace(draft.written, loop=loop)
        return msgspec.structs.replace(call, written=source, task=None, late=True)

    def _counted(self, call: TaskCall) -> TaskCall:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise InvalidPlaybook(
                f"the playbook has more than {MAX_CALLS} tasks, each turn of a loop counted",
                cure="if the task takes a list, give the list to one task",
                position=call.position,
            )
        return call

    def _bound(self, call: TaskCall) -> TaskCall:
        """Bind the values of a call that are known already."""
        self._counted(call)
        if not call.chosen:
            return call
        source, setting = call.written, call.written.setting
        before = len(self.faults)
        with self.faults.gathered():
            late = False
            try:
                if not setting.holds(source.when, "when"):
                    return call
            except NotYetKnown:
                late = True
                for condition in source.when:
                    self.templates.check(condition, setting.scope, condition=True)
            variables: dict[str, str] = {}
            try:
                variables = calls.environment(source.environment, setting)
            except NotYetKnown:
                late = True
                for node in source.environment:
                    self.templates.check(node, setting.scope)
            try:
                task = calls.bound(source, setting, self.faults)
            except NotYetKnown:
                task, late = None, True
                self.templates.check(source.call.parameters if source.call else None, setting.scope)
            if task is not None and task.of_root() != self.of_root and source.call is not None:
                self.faults.add(_misplaced(source.call, lists_of_root=self.of_root))
            if len(self.faults) == before:
                return msgspec.structs.replace(call, task=task, environment=variables, late=late)
        return call

    def _judgement(self, node: MapNode, scope: Scope) -> Judgement:
        until = node.get("until")
        retries = self.values.number(node, "retries", scope, whole=True)
        delay = self.values.number(node, "delay", scope, whole=False)
        if delay is not None and until is None and retries is None:
            cure = "add one of them, or remove it"
            self.values.fault("'delay' needs 'retries' or 'until'", node.get("delay"), cure=cure)
        failed, changed = node.get("failed_when"), node.get("changed_when")
        return Judgement(
            failed_when=None if failed is None else (failed,),
            changed_when=None if changed is None else (changed,),
            until=None if until is None else (until,),
            retries=int(retries) if retries is not None else 3 if until is not None else 0,
            delay=5.0 if delay is None else delay,
        )

    def _check_judgement(self, node: MapNode, inherited: Inherited) -> None:
        """Check the conditions on a result; all their other variables must be known."""
        control = node.get("loop_control")
        names = [control.get("loop_var"), control.get("index_var")] if isinstance(control, MapNode) else []
        turn = [name.value for name in names if isinstance(name, Scalar) and isinstance(name.value, str)]
        scope = self._with_results(inherited.scope)
        scope = scope.extended({name: Unknown("") for name in ("item", *turn)}, over={})
        for keyword in ("failed_when", "changed_when", "until"):
            condition = node.get(keyword)
            if condition is not None:
                with self.faults.gathered():
                    try:
                        self.templates.condition(condition, scope, keyword)
                    except NotYetKnown:
                        self.templates.check(condition, scope, condition=True)

    # ------------------------------------------------------------------------------------------------- files of tasks

    def _include(self, node: MapNode, key: Scalar, outer: Inherited, *, dynamic: bool) -> list[Entry]:
        values = self.values
        allowed = {name: text for name, text in keywords.INCLUDE.items() if dynamic or not name.startswith("loop")}
        values.keywords(node, allowed, "include" if dynamic else "import", but=(key.text, "loop", "loop_control"))
        if not dynamic and node.get("loop") is not None:
            cure = "write include_tasks instead of import_tasks"
            values.fault("an import has no 'loop'", node.get("loop"), cure=cure)
        given, apply = self._included_file(node, key, dynamic=dynamic)
        if given is None:
            return []
        scope = self._with_results(outer.scope)
        variables = {name: Deferred(value, scope) for name, value in values.variables(node.get("vars")).items()}
        outer = outer.extended(variables)
        inner = self.within(without(node, "vars"), outer, allowed)
        gate: tuple[Node, ...] = ()
        if dynamic:
            if not self._is_chosen(inner):
                return []
            inner = msgspec.structs.replace(inner, tags=outer.tags)
            gate = inner.when
            if isinstance(apply, MapNode):
                unfit = ("block", "rescue", "always", "name")
                applicable = {name: text for name, text in keywords.BLOCK.items() if name not in unfit}
                values.keywords(apply, applicable, "block")
                inner = self.within(apply, inner, applicable)
            elif apply is not None:
                values.fault(f"'apply' takes a mapping of keywords, not {kind_of(apply)}", apply)

        def read(inner: Inherited, setting: Setting, variables: Mapping[str, Deferred]) -> tuple[Entry, ...]:
            with self.faults.gathered():
                with self.faults.silenced():
                    if not setting.holds(gate, "when"):
                        return (self._skipped_include(node, key, inner),)
                path = inner.file.parent / Path(_file_name(setting, given)).expanduser()
                content = self._file_of_tasks(path, given, inner)
                inside = msgspec.structs.replace(
                    inner,
                    scope=setting.scope.extended(variables, over=outer.extra),
                    extra={**variables, **outer.extra},
                    file=path,
                    within=(*inner.within, Path(os.path.realpath(path))),
                )
                return self.entries(content, inside)
            return ()

        setting = self._setting(inner)
        loop = self._loop(node) if dynamic else None
        if loop is None:
            return list(read(inner, setting, variables))
        entries: list[Entry] = []
        with self.faults.gathered():
            try:
                turns = calls.turns(loop, setting)
            except NotYetKnown as late:
                raise _too_late("the list of an include", late).at(loop.items.position) from None
            for turn in turns:
                names = {name: turn.setting.scope.written(name) for name in (loop.variable, loop.index) if name}
                deferred = scope.extended(names, over=self.extra)
                own = {name: Deferred(value.node, deferred) for name, value in variables.items()}
                turned = turn.setting.scope.extended(own, over=outer.extra)
                entries += read(
                    msgspec.structs.replace(inner, scope=turned),
                    msgspec.structs.replace(turn.setting, scope=turned),
                    own,
                )
        return entries

    def _included_file(self, node: MapNode, key: Scalar, *, dynamic: bool) -> tuple[Scalar | None, Node | None]:
        """Return the nodes with the name of the included file and with the keywords below ``apply``."""
        given, apply = node.get(key.text), None
        if isinstance(given, MapNode):
            for name, _ in given.pairs:
                if name.value != "file" and not (dynamic and name.value == "apply"):
                    cure = "it has: file" + (", apply" if dynamic else "")
                    self.values.fault(f"'{key.text}' has no '{name.text[:40]}'", name, cure)
            apply, given = given.get("apply"), given.get("file")
        if isinstance(given, Scalar) and not is_nothing(given):
            return given, apply
        message = f"'{key.text}' takes the name of a file, not {kind_of(given)}"
        self.values.fault(message, given or key, f"write {key.text}: FILE.yml")
        return None, None

    def _skipped_include(self, node: MapNode, key: Scalar, inherited: Inherited) -> TaskCall:
        """Return the call for a file that is not read, because the condition of its include is false."""
        setting = self._setting(inherited)
        call = parameters.Call(key.text, key.position, MapNode(key.position, ()))
        draft = self._draft(call, inherited, CallSource(None, Task, setting, inherited.when))
        title = self.values.name(node, setting.scope, forgiving=True) or key.text
        return self._counted(msgspec.structs.replace(draft, name=title, title=title, chosen=True))

    def _file_of_tasks(self, path: Path, given: Node, outer: Inherited) -> tuple[Node, ...]:
        """Return the entries of a file of tasks.

        Raises:
            InvalidPlaybook: it is missing, includes itself, or is not YAML; faults in the file have their own position.

        """
        real = Path(os.path.realpath(path))
        if real in outer.within:
            chain = " -> ".join(path.name for path in (*outer.within[outer.within.index(real) :], real))
            raise InvalidPlaybook(f"{path.name} includes itself: {chain}", position=given.position)
        if len(outer.within) > MAX_FILES:
            raise InvalidPlaybook(f"files are included more than {MAX_FILES} levels deep", position=given.position)
        try:
            content = self.templates.files.nodes(path, "file of tasks")
        except InvalidPlaybook as error:
            raise error.at(given.position) from None
        if content is None or is_nothing(content):
            return ()
        if not isinstance(content, ListNode):
            message, cure = f"a file of tasks is a list, not {kind_of(content)}", "begin each task with '- '"
            raise InvalidPlaybook(message, cure=cure, position=content.position)
        for entry in content.items:
            if isinstance(entry, MapNode) and entry.get("tasks") is not None:
                raise InvalidPlaybook(
                    "a play is in the place of a task",
                    cause="the file is a playbook, but the include expects a file of tasks",
                    cure="name it by import_playbook: beside the plays, or leave its tasks alone in the file",
                    position=entry.position,
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


def _too_late(subject: str, late: NotYetKnown) -> InvalidPlaybook:
    return InvalidPlaybook(
        f"{subject} must be known before the run, but depends on the result of '{late.unknown.task}'",
        cure="include each possible file with a when: of its own",
    )


def _misplaced(call: parameters.Call, *, lists_of_root: bool) -> InvalidPlaybook:
    """The fault of a task in a list of the wrong kind, root's or the user's."""
    if lists_of_root:
        return InvalidPlaybook(
            f"{call.kind} is the user's own, and stands in root_tasks",
            cure="put it under tasks:",
            position=call.position,
        )
    return InvalidPlaybook(
        f"{call.kind} needs root, and stands among the user's tasks",
        cause="root's part of a lifecycle script does it, which `lifecycle render` makes of root_tasks",
        cure="put it under root_tasks: of the play",
        position=call.position,
    )
