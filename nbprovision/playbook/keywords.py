"""The keywords of plays, tasks, blocks and handlers with their meanings.

Source of the names: https://docs.ansible.com/ansible/latest/reference_appendices/playbooks_keywords.html
"""

from __future__ import annotations

from collections.abc import Mapping

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.playbook import ansible

# Keywords of plays, blocks and includes as well as of tasks: an inner value extends or overrides the outer one.
_INHERITED = {
    "name": "Shown in the output; `--start-at-task` and `notify` refer to it.",
    "vars": "Variables, by name; the innermost definition wins.",
    "tags": "Words for `--tags` and `--skip-tags`: a string with commas or a list. `always` and `never` are Ansible's.",
    "no_log": "Hide changes and reasons everywhere.",
    "environment": "Environment variables for the work: a mapping, or a list of mappings.",
    "ignore_errors": "Report a failure, and continue the run as if the task had succeeded.",
    "check_mode": "`true`: only show what would change; `false`: do the work even with `--check`.",
    "diff": "`true` or `false`: show the changes in full, or not, whatever the command line says.",
}
_CONDITIONAL = {
    "when": "An expression, or a list of expressions that must all be true; otherwise the task is skipped.",
    "notify": "Names (or `listen` names) of handlers to run after a change.",
}

PLAY: Mapping[str, str] = {
    **_INHERITED,
    "hosts": "`localhost`, or left out: a playbook is for the machine that runs it.",
    "vars_files": "Files of variables, which override `vars`; of a list within the list, the first existing file.",
    "task_folders": "Folders with tasks of your own, `ensure_NAME.py`: a path or a list of paths, without templates.",
    "root_tasks": "What root is to set up: `lifecycle render` makes root's part of the script of them; a run compares.",
    "pre_tasks": "Tasks that must succeed before `tasks` begin.",
    "tasks": "The tasks, in order.",
    "post_tasks": "Tasks to run after `tasks` have succeeded.",
    "handlers": "Tasks that run once, in this order, after a change has notified them.",
    "gather_facts": "Accepted for compatibility; facts are read when they are needed.",
    "connection": "`local`; accepted for compatibility.",
}

TASK: Mapping[str, str] = {
    **_INHERITED,
    **_CONDITIONAL,
    "loop": "A list: the task runs once for each entry, as `item`.",
    "loop_control": "`loop_var`, `index_var`: names for the entry and its number; `label`: its text in the output.",
    "register": "Name of a variable that gets the result: `.changed`, `.changes`, `.failed`, `.skipped`, `.msg`, and "
    "values of the task; for a loop also `.results`.",
    "failed_when": "An expression, or a list that must all be true: when the result counts as a failure.",
    "changed_when": "An expression, or a list that must all be true: when the result counts as a change.",
    "until": "An expression on the registered result: the task is repeated until it is true.",
    "retries": "The maximum number of repetitions, 3 by default.",
    "delay": "Seconds between two repetitions, 5 by default.",
}

# They are evaluated where the script is rendered, so that nothing of the machine can have a say in what root does.
ROOT_TASK: Mapping[str, str] = {
    "name": _INHERITED["name"],
    "tags": _INHERITED["tags"],
    "when": "An expression on `vars` and the variables of `-e`, or a list of such expressions.",
    "loop": TASK["loop"],
}

BLOCK: Mapping[str, str] = {
    **_INHERITED,
    **_CONDITIONAL,
    "block": "Tasks that share the block's keywords.",
    "rescue": "Tasks to run after one of them has failed; they know `ansible_failed_task`, `ansible_failed_result`.",
    "always": "Tasks to run after both, whether they failed or not.",
}

HANDLER: Mapping[str, str] = {
    **TASK,
    "listen": "Further names by which `notify` calls the handler; several handlers may share one.",
}

# Keywords beside `import_tasks` and `include_tasks`; the reader refuses keywords that only one of them accepts.
INCLUDE: Mapping[str, str] = {
    **_INHERITED,
    "when": _CONDITIONAL["when"],
    "loop": "With `include_tasks`: a list that is known beforehand; the file is read for each entry.",
    "loop_control": TASK["loop_control"],
    "import_tasks": "A file with a list of tasks to insert here; the keywords apply to these tasks.",
    "include_tasks": "As `import_tasks`; `tags` apply to the include itself, and `apply` to the file's tasks.",
}

META: Mapping[str, str] = {
    "flush_handlers": "Run the handlers that were notified so far.",
    "end_play": "End the play here.",
    "noop": "Do nothing.",
}


def unknown(key: str, keywords: Mapping[str, str], where: str, position: Position) -> InvalidPlaybook | None:
    """Return the fault of a keyword; None if it is valid.

    Args:
        key: The keyword.
        keywords: The valid keywords of the place.
        where: ``play``, ``task``, ``block``, ``handler`` or ``root task``.
        position: The keyword's position.

    """
    if key in keywords:
        return None
    advice = ansible.keyword(key)
    if advice is not None:
        return advice.fault(f"'{key}' is refused", position)
    article = "an" if where[0] in "aeiou" else "a"
    owners = [name for name, table in _PLACES.items() if key in table]
    if owners:
        cause = f"it belongs to {' or '.join(owners)}"
        return InvalidPlaybook(f"'{key}' is not a keyword of {article} {where}", cause=cause, position=position)
    shown = key[:40]
    near = nearest(shown, keywords)
    cure = "" if near else f"{article} {where} has: {', '.join(sorted(keywords))}"
    return InvalidPlaybook(f"{article} {where} has no keyword '{shown}'{near}", cure=cure, position=position)


_PLACES = {"a play": PLAY, "a task": TASK, "a block": BLOCK, "a handler": HANDLER}


def is_ansible(key: str) -> bool:
    """Whether Ansible has such a keyword, supported here or not."""
    return any(key in table for table in _PLACES.values()) or ansible.keyword(key) is not None
