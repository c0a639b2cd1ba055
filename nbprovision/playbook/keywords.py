"""The keywords of plays and tasks: those that mean something here, and what is said of Ansible's others.

Source of the names: https://docs.ansible.com/ansible/latest/reference_appendices/playbooks_keywords.html
"""

from __future__ import annotations

from nbprovision.model.errors import InvalidPlaybook, Position, nearest

PLAY = frozenset(
    ("name", "hosts", "vars", "tasks", "tags", "no_log", "strategy", "gather_facts", "connection"),
)
TASK = frozenset(("name", "when", "tags", "vars", "no_log"))

_AS_USER = (
    "every task runs as the notebook's user: root never does what a playbook says",
    "remove it; what needs root belongs into the image or the lifecycle script",
)
_LOCAL = ("a playbook is for the machine that it is run on", "remove it")
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
    "async": ("what takes long goes on in the background by itself: run --deadline SECONDS", "remove it"),
    "poll": ("what takes long goes on in the background by itself: run --deadline SECONDS", "remove it"),
    "roles": ("there are no roles", "write the tasks in the playbook"),
    "serial": _LOCAL,
    "port": _LOCAL,
    "run_once": _LOCAL,
    "max_fail_percentage": _LOCAL,
    "any_errors_fatal": _LOCAL,
    "ignore_unreachable": _LOCAL,
    "gather_subset": ("facts are read when they are needed", "remove it"),
    "gather_timeout": ("facts are read when they are needed", "remove it"),
    "collections": ("there are no collections: every task comes with the tool", "remove it"),
    "module_defaults": ("there are no defaults for tasks", "write the parameters, or take them from vars"),
}
_NOT_YET = frozenset(
    (
        *("handlers", "notify", "listen", "vars_files", "pre_tasks", "post_tasks", "loop", "loop_control", "register"),
        *("block", "rescue", "always", "ignore_errors", "failed_when", "changed_when", "retries", "until", "delay"),
        *("environment", "check_mode", "diff", "import_tasks", "include_tasks", "import_playbook", "force_handlers"),
        *("throttle", "timeout", "order", "debugger", "include_vars", "meta"),
    )
)


def unknown(key: str, known: frozenset[str], where: str, position: Position) -> InvalidPlaybook | None:
    """What is wrong with a keyword, or None if nothing is.

    Args:
        key: The keyword.
        known: Those that mean something there.
        where: ``play`` or ``task``.
        position: Where it stands.

    """
    if key in known:
        return None
    if key in _REFUSED:
        why, cure = _REFUSED[key]
        return InvalidPlaybook(f"'{key}' is refused", cause=why, cure=cure, position=position)
    if key in _NOT_YET or key.startswith("with_"):
        return InvalidPlaybook(f"'{key}' is not supported yet", cure="write without it", position=position)
    shown = key[:40]
    near = nearest(shown, known)
    cure = "" if near else f"a {where} has: {', '.join(sorted(known))}"
    return InvalidPlaybook(f"a {where} has no keyword '{shown}'{near}", cure=cure, position=position)


def is_ansible(key: str) -> bool:
    """Whether Ansible has such a keyword, whatever is said of it here."""
    return key in PLAY | TASK | _NOT_YET or key in _REFUSED or key.startswith("with_")
