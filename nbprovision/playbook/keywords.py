"""The keywords of plays, tasks, blocks and handlers: what each means here, and what is said of Ansible's others.

Source of the names: https://docs.ansible.com/ansible/latest/reference_appendices/playbooks_keywords.html
"""

from __future__ import annotations

from collections.abc import Mapping

from nbprovision.model.errors import InvalidPlaybook, Position, nearest

# Keywords of all that holds tasks, and of tasks themselves: an inner one adds to the outer one or wins over it.
_INHERITED = {
    "name": "Shown in the output; `--start-at-task` and `notify` go by it.",
    "vars": "Variables, by name; the nearer ones win.",
    "tags": "Words for `--tags` and `--skip-tags`: a string with commas or a list. `always` and `never` are Ansible's.",
    "no_log": "Changes and reasons are withheld everywhere.",
    "environment": "Environment variables for the work: a mapping, or a list of mappings.",
    "ignore_errors": "A failure is told, and the run goes on as if there were none.",
    "check_mode": "`true`: only say what would change; `false`: do the work even with `--check`.",
    "diff": "`true` or `false`: show the changes in full, or not, whatever the command line says.",
}
_CONDITIONAL = {
    "when": "An expression, or a list of them that must all hold; otherwise the task is skipped.",
    "notify": "Names of handlers (or what they listen to) that are run after a change.",
}

PLAY: Mapping[str, str] = {
    **_INHERITED,
    "hosts": "`localhost`, or left out: a playbook is for the machine that it is run on.",
    "vars_files": "Files of variables, which win over `vars`; of a list within the list, the first that is there.",
    "pre_tasks": "Tasks that must have succeeded before `tasks` begin.",
    "tasks": "The tasks, in order.",
    "post_tasks": "Tasks for when `tasks` have succeeded.",
    "handlers": "Tasks that are run once, in their order here, when a change has notified them.",
    "gather_facts": "Accepted from habit; facts are read when they are needed.",
    "connection": "`local`; accepted from habit.",
}

TASK: Mapping[str, str] = {
    **_INHERITED,
    **_CONDITIONAL,
    "loop": "A list: the task is run for each entry, which is `item`.",
    "loop_control": "`loop_var`, `index_var`: names for the entry and its number; `label`: what is shown of the entry.",
    "register": "Name of a variable that gets the result: `.changed`, `.changes`, `.failed`, `.skipped`, `.msg`, and "
    "what the task adds; of a loop also `.results`.",
    "failed_when": "An expression, or a list that must all hold: when the result counts as a failure.",
    "changed_when": "An expression, or a list that must all hold: when the result counts as a change.",
    "until": "An expression on the registered result: the task is tried again until it holds.",
    "retries": "How many times it is tried again, 3 if it is not said.",
    "delay": "Seconds between two tries, 5 if it is not said.",
}

BLOCK: Mapping[str, str] = {
    **_INHERITED,
    **_CONDITIONAL,
    "block": "Tasks that have the block's keywords in common.",
    "rescue": "Tasks for when one of them has failed; they know `ansible_failed_task` and `ansible_failed_result`.",
    "always": "Tasks that are run after both, whatever came of them.",
}

HANDLER: Mapping[str, str] = {
    **TASK,
    "listen": "Further names by which `notify` calls the handler; several handlers may have the same.",
}

# Keywords beside `import_tasks` and `include_tasks`; what is not Ansible's for both is told in the reader.
INCLUDE: Mapping[str, str] = {
    **_INHERITED,
    "when": _CONDITIONAL["when"],
    "loop": "With `include_tasks`: a list that is known beforehand; the file is read for each entry.",
    "loop_control": TASK["loop_control"],
    "import_tasks": "A file with a list of tasks that stand in this place; keywords are those of its tasks.",
    "include_tasks": "As `import_tasks`; `tags` are its own, and what `apply` holds is for the file's tasks.",
}

META: Mapping[str, str] = {
    "flush_handlers": "Run the handlers that were notified so far.",
    "end_play": "End the play here.",
    "noop": "Nothing.",
}

_AS_USER = (
    "every task runs as the notebook's user: root never does what a playbook says",
    "remove it; what needs root belongs into the image or the lifecycle script",
)
_LOCAL = ("a playbook is for the machine that it is run on", "remove it")
_PATIENT = ("what takes long goes on in the background by itself: run --deadline SECONDS", "remove it")
_FACTS = ("facts are read when they are needed", "remove it")
# Refused for good: keyword -> (why, what to do).
_REFUSED = {
    "become": _AS_USER,
    "become_user": _AS_USER,
    "become_method": _AS_USER,
    "become_flags": _AS_USER,
    "become_exe": _AS_USER,
    "remote_user": _AS_USER,
    "vars_prompt": (
        "a notebook that starts has nobody to ask",
        "hand the value over: -e NAME=VALUE, or an environment variable: \"{{ lookup('env', 'NAME') }}\"",
    ),
    "delegate_to": _LOCAL,
    "delegate_facts": _LOCAL,
    "local_action": ("every task is local", "write the task's own key"),
    "action": ("a task is named by its own key", "write ensure_...: and its parameters below it"),
    "args": ("parameters stand below the task's own key", "move them there"),
    "async": _PATIENT,
    "poll": _PATIENT,
    "timeout": _PATIENT,
    "roles": ("there are no roles", "write the tasks in the playbook, or in a file of their own with import_tasks"),
    "import_role": ("there are no roles", "write the tasks in a file of their own: import_tasks: FILE"),
    "include_role": ("there are no roles", "write the tasks in a file of their own: include_tasks: FILE"),
    "include": ("Ansible has removed it", "write import_tasks: FILE"),
    "include_vars": ("variables are known before anything is run", "write vars_files: [FILE] beside the play's tasks"),
    "serial": _LOCAL,
    "port": _LOCAL,
    "run_once": _LOCAL,
    "order": _LOCAL,
    "max_fail_percentage": _LOCAL,
    "ignore_unreachable": _LOCAL,
    "strategy": (
        "on one machine, tasks run side by side unless one needs what another makes",
        "remove it; what must wait for all other tasks goes below `post_tasks`",
    ),
    "force_handlers": (
        "a failure loses no handler: the next run that succeeds runs it",
        "remove it; what must run in any case goes below `always` of a block",
    ),
    "any_errors_fatal": (
        "there is one machine",
        "remove it; what must not run after a failure goes below `post_tasks`",
    ),
    "throttle": ("how many tasks run side by side, the engine decides", "remove it"),
    "debugger": ("a notebook that starts has nobody to ask", "remove it; run --check --diff shows what would be done"),
    "gather_subset": _FACTS,
    "gather_timeout": _FACTS,
    "collections": ("there are no collections: every task comes with the tool", "remove it"),
    "module_defaults": ("there are no defaults for tasks", "write the parameters, or take them from vars"),
}
# Ansible's older loops -> what to write.
_LOOPS = {
    "with_items": 'loop: "{{ THE LIST | flatten(1) }}", or loop: and the list as it stands',
    "with_list": "loop: and the list as it stands",
    "with_flattened": 'loop: "{{ THE LIST | flatten }}"',
    "with_dict": 'loop: "{{ THE MAPPING | dict2items }}", with item.key and item.value',
    "with_together": 'loop: "{{ A | zip(B) | list }}", with item.0 and item.1',
    "with_nested": 'loop: "{{ A | product(B) | list }}", with item.0 and item.1',
    "with_cartesian": 'loop: "{{ A | product(B) | list }}", with item.0 and item.1',
    "with_sequence": 'loop: "{{ range(1, 5) | list }}"',
    "with_indexed_items": "loop: and the list, with loop_control: {index_var: NAME}",
}


def unknown(key: str, known: Mapping[str, str], where: str, position: Position) -> InvalidPlaybook | None:
    """What is wrong with a keyword, or None if nothing is.

    Args:
        key: The keyword.
        known: Those that mean something there.
        where: ``play``, ``task``, ``block`` or ``handler``.
        position: Where it stands.

    """
    if key in known:
        return None
    if key in _REFUSED:
        why, cure = _REFUSED[key]
        return InvalidPlaybook(f"'{key}' is refused", cause=why, cure=cure, position=position)
    if key.startswith("with_"):
        cure = _LOOPS.get(key, "loop: and a list, or a template that gives one")
        return InvalidPlaybook(
            f"'{key}' is refused", cause="'loop' does the same", cure=f"write {cure}", position=position
        )
    article = "an" if where[0] in "aeiou" else "a"
    owners = [name for name, table in _PLACES.items() if key in table]
    if owners:
        cause = f"it belongs to {' or '.join(owners)}"
        return InvalidPlaybook(f"'{key}' means nothing for {article} {where}", cause=cause, position=position)
    shown = key[:40]
    near = nearest(shown, known)
    cure = "" if near else f"{article} {where} has: {', '.join(sorted(known))}"
    return InvalidPlaybook(f"{article} {where} has no keyword '{shown}'{near}", cure=cure, position=position)


_PLACES = {"a play": PLAY, "a task": TASK, "a block": BLOCK, "a handler": HANDLER}


def is_ansible(key: str) -> bool:
    """Whether Ansible has such a keyword, whatever is said of it here."""
    return any(key in table for table in _PLACES.values()) or key in _REFUSED or key.startswith("with_")
