"""What to write here in the place of Ansible's modules, for those who write them from habit.

Source of the names: https://docs.ansible.com/ansible/latest/collections/index_module.html
"""

from __future__ import annotations

from typing import NamedTuple


class Instead(NamedTuple):
    """What is said of a module: why it is not there, if that needs saying, and what to write."""

    cure: str
    cause: str = ""


_ROOT = "it needs root, and every task runs as the notebook's user"
_INTO_IMAGE = "put it into the image or the lifecycle script's own part"
_SYSTEM_PACKAGE = Instead(
    "many of them are on conda-forge: ensure_conda_pkg: {env: ..., packages: [...]}; the rest belongs into the image",
    f"system packages: {_ROOT}",
)
_SERVICE = Instead(
    "for Jupyter itself: notify: restart_jupyter; other services belong into the image or the lifecycle script",
    f"services: {_ROOT}",
)
_COMMAND = (
    "ensure_command: {argv: [...], creates: PATH}; `creates`, `unless` or `onlyif` tell when there is nothing to do"
)

_MODULES = {
    "pip": Instead("ensure_pip_pkg: {env: ..., packages: [...]}, or `requirements` for a file"),
    "pip_package_info": Instead("nothing: ensure_pip_pkg looks for itself; nbprovision facts tells what is there"),
    "conda": Instead("ensure_conda_pkg: {env: ..., packages: [...]}, or ensure_conda_env for an environment"),
    "conda_env": Instead("ensure_conda_env: {name: ..., file: environment.yml}"),
    "file": Instead("ensure_file: {path: ..., state: directory}, or `absent`, `link`"),
    "copy": Instead("ensure_file: {path: ..., src: ...}, or `content` for a text"),
    "template": Instead("ensure_file: {path: ..., template: ...}"),
    "lineinfile": Instead("ensure_line: {path: ..., line: ...}"),
    "blockinfile": Instead("ensure_block: {path: ..., block: ...}"),
    "replace": Instead("ensure_line: {path: ..., regexp: ..., line: ...}, or ensure_block"),
    "ini_file": Instead("ensure_line or ensure_block; for pip's settings ensure_pip_index"),
    "stat": Instead("a condition that asks for the state is not needed: a task that finds it does nothing"),
    "command": Instead(_COMMAND),
    "shell": Instead("ensure_command: {shell: ..., creates: PATH}; or `argv`, which no shell reads"),
    "raw": Instead(_COMMAND),
    "script": Instead("ensure_command: {argv: [sh, FILE], creates: PATH}"),
    "expect": Instead(_COMMAND, "nobody is there to answer"),
    "git_config": Instead("ensure_git_config: {name: ..., value: ...}"),
    "git": Instead("ensure_command: {argv: [git, clone, URL, FOLDER], creates: FOLDER}"),
    "get_url": Instead("ensure_command: {argv: [curl, -fLo, PATH, URL], creates: PATH}"),
    "uri": Instead("ensure_command: {argv: [curl, -f, URL]}"),
    "unarchive": Instead("ensure_command: {argv: [tar, -xf, FILE, -C, FOLDER], creates: PATH}"),
    "tempfile": Instead("a path of your own below {{ nb.home }}", "a new name each time is no state to describe"),
    "debug": Instead("run with -v or --diff: each task tells what it changes", "a playbook describes a state"),
    "set_fact": Instead("vars: of the play, the block or the task, with a template that refers to what is registered"),
    "set_stats": Instead("--format json gives the results to other programs"),
    "assert": Instead("when: on the tasks that need it; `nbprovision lint` tells what cannot be"),
    "fail": Instead("when: on the tasks that need it, or failed_when: on the task whose result decides"),
    "pause": Instead("retries, until and delay on the task that has to wait", "nobody is there to answer"),
    "wait_for": Instead("retries, until and delay on the task that has to wait"),
    "include_vars": Instead("vars_files: [FILE] beside the play's tasks"),
    "setup": Instead("nothing: facts are read when they are needed, as {{ nb.platform }} and so on"),
    "gather_facts": Instead("nothing: facts are read when they are needed, as {{ nb.platform }} and so on"),
    "ping": Instead("nothing: the machine is the one that the playbook is run on"),
    "import_role": Instead("import_tasks: FILE", "there are no roles"),
    "include_role": Instead("include_tasks: FILE", "there are no roles"),
    "group_by": Instead("when: on the tasks", "there is one machine"),
    "add_host": Instead("nothing: a playbook is for the machine that it is run on"),
    "cron": Instead(
        "what has to be done at each start is a task of the playbook that the lifecycle script runs",
        "jobs of cron are lost with the root volume at each restart",
    ),
    "user": Instead(_INTO_IMAGE, _ROOT),
    "group": Instead(_INTO_IMAGE, _ROOT),
    "mount": Instead("mount it in the lifecycle script's own part", _ROOT),
    "reboot": Instead("stop and start the notebook instance", _ROOT),
    "sysctl": Instead(_INTO_IMAGE, _ROOT),
    "hostname": Instead(_INTO_IMAGE, _ROOT),
    "npm": Instead("ensure_conda_pkg: {env: ..., packages: [nodejs]}, then ensure_command with npm"),
    "jupyter_extension": Instead("ensure_jupyter_extension: {packages: [...]}"),
    **dict.fromkeys(("apt", "apt_repository", "apk", "snap"), _SYSTEM_PACKAGE),
    **dict.fromkeys(("yum", "yum_repository", "dnf", "dnf5", "package", "rpm_key"), _SYSTEM_PACKAGE),
    **dict.fromkeys(("service", "systemd", "systemd_service", "sysvinit"), _SERVICE),
}


def instead(name: str) -> Instead | None:
    """What to write for a module, by its short or full name (``ansible.builtin.pip``); None if it is not known.

    Args:
        name: The key that stands where a task's own key is expected.

    """
    return _MODULES.get(name.rpartition(".")[2])
