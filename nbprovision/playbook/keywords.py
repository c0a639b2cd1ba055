"""The keywords of plays, tasks, blocks and handlers: what each means here.

Source of the names: https://docs.ansible.com/ansible/latest/reference_appendices/playbooks_keywords.html
"""

from __future__ import annotations

from collections.abc import Mapping

from nbprovision.model.errors import InvalidPlaybook, Position, nearest
from nbprovision.playbook import ansible

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
    advice = ansible.keyword(key)
    if advice is not None:
        return advice.fault(f"'{key}' is refused", position)
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
    return any(key in table for table in _PLACES.values()) or ansible.keyword(key) is not None
