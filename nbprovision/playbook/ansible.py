"""Advice for users of Ansible: the replacement for each of Ansible's words that nbprovision does not support.

Advice on a module's parameters belongs to the task that replaces it (``habits`` of `model.task.Task`). The names are
from these pages below https://docs.ansible.com/ansible/latest: collections/index_module.html,
collections/ansible/builtin/index.html (filters, tests, lookups), reference_appendices/playbooks_keywords.html,
cli/ansible-playbook.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from nbprovision.model.errors import InvalidPlaybook, Position


class Advice(NamedTuple):
    """The replacement for a word, and the reason for its refusal if that is not obvious."""

    fix: str
    why: str = ""

    def fault(self, message: str, position: Position | None = None) -> InvalidPlaybook:
        """Return the error for the word."""
        return InvalidPlaybook(message, cause=self.why, cure=self.fix, position=position)


_Value = TypeVar("_Value", Advice, str)


def _by_word(words: Mapping[_Value, str]) -> dict[str, _Value]:
    """Return the advice for each of the words."""
    return {word: advice for advice, names in words.items() for word in names.split()}


_ROOT = "it needs root, and every task runs as the notebook's user"
_ONE_MACHINE = "a playbook runs on this machine only"
_NOBODY = "nobody can answer"
_NOBODY_TO_ASK = "a notebook that starts has nobody to ask"
_NO_ROLES = "roles do not exist here"
_STATE = "a playbook describes a state, which is the same each time"
_HAND_OVER = "hand the value over: -e NAME=VALUE"
_NO_VAULT = Advice("hand secrets over in an environment variable: lookup('env', NAME)", "vaults are not supported")

_INTO_IMAGE = Advice("put it into the image or the lifecycle script's own part", _ROOT)
_SYSTEM_PACKAGE = Advice(
    "ensure_system_pkg: {packages: [...]} under root_tasks: of the play; many are on conda-forge, too: "
    "ensure_conda_pkg: {env: ..., packages: [...]}",
    f"system packages: {_ROOT}",
)
_SERVICE = Advice(
    "for Jupyter itself: notify: restart_jupyter; for others ensure_service: {name: ...} under root_tasks: of the play",
    f"services: {_ROOT}",
)
_COMMAND = (
    "ensure_command: {argv: [...], creates: PATH}; `creates`, `unless` or `onlyif` say when the work is already done"
)
_FACTS = Advice("nothing: facts are read when they are needed, as {{ nb.platform }} and so on")

# By their short names.
_MODULES = {
    "pip": Advice("ensure_pip_pkg: {env: ..., packages: [...]}, or `requirements` for a file"),
    "pip_package_info": Advice("nothing: ensure_pip_pkg looks for itself; nbprovision facts lists the packages"),
    "conda": Advice("ensure_conda_pkg: {env: ..., packages: [...]}, or ensure_conda_env for an environment"),
    "conda_env": Advice("ensure_conda_env: {name: ..., file: environment.yml}"),
    "file": Advice("ensure_file: {path: ..., state: directory}, or `absent`, `link`"),
    "copy": Advice("ensure_file: {path: ..., src: ...}, or `content` for a text"),
    "template": Advice("ensure_file: {path: ..., template: ...}"),
    "lineinfile": Advice("ensure_line: {path: ..., line: ...}"),
    "blockinfile": Advice("ensure_block: {path: ..., block: ...}"),
    "replace": Advice("ensure_line: {path: ..., regexp: ..., line: ...}, or ensure_block"),
    "ini_file": Advice(
        "ensure_ini: {path: ..., values: {SECTION: {OPTION: VALUE}}}; for pip's indexes ensure_pip_index, for git's "
        "variables ensure_git_config"
    ),
    **dict.fromkeys(("json_file", "json_patch"), Advice("ensure_json: {path: ..., values: {KEY: VALUE}}")),
    "stat": Advice("nothing: a task checks the state itself, and does nothing if it is right"),
    "command": Advice(_COMMAND),
    "shell": Advice("ensure_command: {shell: ..., creates: PATH}; or `argv`, which no shell reads"),
    "raw": Advice(_COMMAND),
    "script": Advice("ensure_command: {argv: [sh, FILE], creates: PATH}"),
    "expect": Advice(_COMMAND, _NOBODY),
    "git_config": Advice("ensure_git_config: {name: ..., value: ...}"),
    "git": Advice("ensure_git_repo: {url: ..., path: ...}, with `ref` for `version`, and `update: ff` for updates"),
    "get_url": Advice("ensure_download: {url: ..., path: ..., sha256: ...}"),
    "s3_sync": Advice("ensure_s3_sync: {source: s3://BUCKET/PREFIX, path: FOLDER, direction: up}"),
    "s3_object": Advice(
        "ensure_download: {url: s3://BUCKET/KEY, path: ..., sha256: ...}, or ensure_s3_sync for a folder"
    ),
    "uri": Advice("ensure_command: {argv: [curl, -f, URL]}"),
    "unarchive": Advice(
        "ensure_download: {url: ..., path: FOLDER, sha256: ..., unpack: true}; for an archive of this machine "
        "ensure_command: {argv: [tar, -xf, FILE, -C, FOLDER], creates: PATH}"
    ),
    "tempfile": Advice("a path of your own below {{ nb.home }}", "a state cannot have a new name each time"),
    "debug": Advice("run with -v or --diff: each task shows its changes", "a playbook describes a state"),
    "set_fact": Advice("vars: of the play, the block or the task, with a template that refers to a registered result"),
    "set_stats": Advice("--format json gives the results to other programs"),
    "assert": Advice("when: on the tasks that need it; `nbprovision lint` finds mistakes beforehand"),
    "fail": Advice("when: on the tasks that need it, or failed_when: on the task whose result decides"),
    "pause": Advice("retries, until and delay on the task that has to wait", _NOBODY),
    "wait_for": Advice("retries, until and delay on the task that has to wait"),
    "include_vars": Advice("vars_files: [FILE] beside the play's tasks"),
    "setup": _FACTS,
    "gather_facts": _FACTS,
    "ping": Advice("nothing: a playbook runs on this machine"),
    "import_role": Advice("import_tasks: FILE", _NO_ROLES),
    "include_role": Advice("include_tasks: FILE", _NO_ROLES),
    "group_by": Advice("when: on the tasks", "there is one machine"),
    "add_host": Advice(f"nothing: {_ONE_MACHINE}"),
    "cron": Advice(
        "ensure_schedule under root_tasks of the play: {name: NAME, at: 'Mon..Fri 08:30', shell: COMMAND}",
        "each restart deletes cron jobs with the root volume",
    ),
    "mount": Advice("ensure_mount: {name: NAME, source: ...} under root_tasks: of the play", _ROOT),
    "reboot": Advice("stop and start the notebook instance", _ROOT),
    **dict.fromkeys(("user", "group", "sysctl", "hostname"), _INTO_IMAGE),
    "npm": Advice("ensure_conda_pkg: {env: ..., packages: [nodejs]}, then ensure_command with npm"),
    "jupyter_extension": Advice("ensure_jupyter_extension: {packages: [...]}"),
    **dict.fromkeys(("apt", "apt_repository", "apk", "snap"), _SYSTEM_PACKAGE),
    **dict.fromkeys(("yum", "yum_repository", "dnf", "dnf5", "package", "rpm_key"), _SYSTEM_PACKAGE),
    **dict.fromkeys(("service", "systemd", "systemd_service", "sysvinit"), _SERVICE),
}

_AS_USER = Advice(
    "remove it; put a task that needs root under root_tasks: of the play",
    "every task runs as the notebook's user: root never runs a playbook's tasks",
)
_LOCAL = Advice("remove it", _ONE_MACHINE)
_IN_BACKGROUND = Advice(
    "remove it; a command has background: true and timeout: of its own",
    "long work continues in the background: run --deadline SECONDS",
)
_SIDE_BY_SIDE = "on one machine, tasks run side by side unless one needs what another makes"
_KEYWORDS = {
    **dict.fromkeys(("become", "become_user", "become_method", "become_flags", "become_exe", "remote_user"), _AS_USER),
    **dict.fromkeys(("delegate_to", "delegate_facts", "serial", "port", "run_once", "order"), _LOCAL),
    **dict.fromkeys(("max_fail_percentage", "ignore_unreachable"), _LOCAL),
    **dict.fromkeys(("async", "poll", "timeout"), _IN_BACKGROUND),
    **dict.fromkeys(("gather_subset", "gather_timeout"), Advice("remove it", "facts are read when they are needed")),
    "vars_prompt": Advice(
        f"{_HAND_OVER}, or an environment variable: \"{{{{ lookup('env', 'NAME') }}}}\"", _NOBODY_TO_ASK
    ),
    "debugger": Advice("remove it; run --check --diff shows what would be done", _NOBODY_TO_ASK),
    "local_action": Advice("write the task's own key", "every task is local"),
    "action": Advice("write ensure_...: and its parameters below it", "a task is named by its own key"),
    "args": Advice("move them there", "parameters belong below the task's own key"),
    "roles": Advice("write the tasks in the playbook, or in a file of their own with import_tasks", _NO_ROLES),
    "import_role": Advice("write the tasks in a file of their own: import_tasks: FILE", _NO_ROLES),
    "include_role": Advice("write the tasks in a file of their own: include_tasks: FILE", _NO_ROLES),
    "include": Advice("write import_tasks: FILE", "Ansible has removed it"),
    "include_vars": Advice(
        "write vars_files: [FILE] beside the play's tasks", "variables are known before anything is run"
    ),
    "strategy": Advice("remove it; put tasks that must wait for all others below `post_tasks`", _SIDE_BY_SIDE),
    "force_handlers": Advice(
        "remove it; put tasks that must run in any case below `always` of a block",
        "a failure loses no handler: the next run that succeeds runs it",
    ),
    "any_errors_fatal": Advice(
        "remove it; put tasks that must not run after a failure below `post_tasks`", "there is one machine"
    ),
    "throttle": Advice("remove it", "the engine decides how many tasks run side by side"),
    "collections": Advice("remove it", "collections are not supported: every task comes with the tool"),
    "module_defaults": Advice("write the parameters, or take them from vars", "tasks have no defaults"),
}
_OLDER_LOOPS = {
    "with_items": 'loop: "{{ THE LIST | flatten(1) }}", or loop: and the list unchanged',
    "with_list": "loop: and the list unchanged",
    "with_flattened": 'loop: "{{ THE LIST | flatten }}"',
    "with_dict": 'loop: "{{ THE MAPPING | dict2items }}", with item.key and item.value',
    "with_together": 'loop: "{{ A | zip(B) | list }}", with item.0 and item.1',
    "with_nested": 'loop: "{{ A | product(B) | list }}", with item.0 and item.1',
    "with_cartesian": 'loop: "{{ A | product(B) | list }}", with item.0 and item.1',
    "with_sequence": 'loop: "{{ range(1, 5) | list }}"',
    "with_indexed_items": "loop: and the list, with loop_control: {index_var: NAME}",
}
LOOP_CONTROL = {
    "pause": Advice("take retries and delay"),
    "extended": Advice("take index_var, and `| length` of the list"),
    "break_when": Advice("take index_var, and `| length` of the list"),
}
META = {
    "end_host": Advice("write end_play: there is one machine", "facts and hosts differ from Ansible's"),
    "clear_facts": Advice("remove it", "facts and hosts differ from Ansible's"),
}

_IN_LOOP = Advice("write `loop` with a filter: dict2items, product, zip, flatten", "it is made for loops")
LOOKUPS = {
    **dict.fromkeys(
        ("pipe", "lines"),
        Advice(f"use ensure_command with `register`, or {_HAND_OVER}", "templates start no program"),
    ),
    **dict.fromkeys(("password", "random_choice"), Advice(_HAND_OVER, _STATE)),
    **dict.fromkeys(("dict", "items", "list", "indexed_items", "nested", "subelements", "together"), _IN_LOOP),
    "sequence": Advice('write: loop: "{{ range(1, 4) }}"', "it is made for loops"),
    "template": Advice("use ensure_file with `template`", "the result of a template file is a file"),
    "url": Advice(
        "fetch the file first, and look it up by lookup('file', PATH)", "templates read nothing from the network"
    ),
    **dict.fromkeys(
        ("vars", "varnames"),
        Advice("keep the values in a mapping: NAME[KEY]", "names of variables are not computed"),
    ),
    "unvault": _NO_VAULT,
    **dict.fromkeys(
        ("ini", "csvfile"),
        Advice("write: lookup('file', PATH) | from_yaml, or from_json", "only JSON and YAML are read"),
    ),
}
# Some of these filters are Jinja2's.
FILTERS = {
    **dict.fromkeys(
        ("random", "shuffle", "password_hash"),
        Advice("write the value", "it has another result each time, and a playbook describes a state"),
    ),
    **dict.fromkeys(
        ("strftime", "to_datetime"),
        Advice("write the value", "it depends on the time, and a playbook describes a state"),
    ),
    **dict.fromkeys(
        ("safe", "urlize", "xmlattr", "forceescape", "striptags"), Advice("write without it", "it is made for HTML")
    ),
    **dict.fromkeys(("vault", "unvault"), _NO_VAULT),
    "json_query": Advice("use selectattr, rejectattr and map", "it is not part of Ansible itself"),
    **dict.fromkeys(("json_patch", "json_patch_recipe"), Advice("use combine; to change keys of a file, ensure_json")),
    "from_yaml_all": Advice("use from_yaml", "a text has one document"),
}
TESTS = {
    **dict.fromkeys(("reachable", "unreachable"), Advice("remove it", "a playbook has one host")),
    **dict.fromkeys(
        ("started", "finished", "timedout"),
        Advice("write: is changed, is failed or is skipped", "tasks do not run in the background"),
    ),
    **dict.fromkeys(("vault_encrypted", "vaulted_file"), _NO_VAULT),
    "mount": Advice("write: is directory", "no file shows the next run whether it is still mounted"),
}

_VARIABLES = _by_word(
    {
        "write nb.architecture": "ansible_architecture ansible_machine",
        "write nb.cpus": "ansible_processor_count ansible_processor_nproc ansible_processor_vcpus",
        "write nb.distribution": "ansible_distribution ansible_os_family",
        "write nb.distribution_version": "ansible_distribution_major_version ansible_distribution_version",
        "write nb.python": "ansible_python_version",
        "write nb.user": "ansible_real_user_id ansible_user ansible_user_id",
        "write nb.user_home": "ansible_env_home ansible_user_dir",
        "write nb.version": "ansible_version",
        "write lookup('env', NAME)": "ansible_env",
        "write playbook_dir": "role_path",
        f"{_ONE_MACHINE}, localhost": "inventory_hostname inventory_hostname_short hostvars groups group_names "
        "ansible_play_hosts ansible_host ansible_hostname ansible_nodename ansible_fqdn",
        f"{_STATE}; write the value": "ansible_date_time",
    }
)
_OTHER_FACTS = "facts of the machine are nb.platform, nb.user, nb.envs and so on; the reference lists them"

_OTHER_NAME = "it has another name here"
# Options of `ansible-playbook`, and others that people try.
RUN_OPTIONS = _by_word(
    {
        Advice("leave it out", _ONE_MACHINE): "-i --inventory --inventory-file -l --limit --list-hosts -u --user -c "
        "--connection --private-key --key-file --ssh-common-args --ssh-extra-args --sftp-extra-args --scp-extra-args",
        Advice(
            "leave it out; put a task that needs root under root_tasks: of the play",
            "every task runs as the user who starts it: root never runs a playbook's tasks",
        ): "-b --become --become-user --become-method -K --ask-become-pass -k --ask-pass --become-password-file "
        "--connection-password-file",
        Advice(
            "keep the secret in an environment variable, and write \"{{ lookup('env', 'NAME') }}\" in the playbook",
            "vaults are not supported",
        ): "-J --ask-vault-pass --ask-vault-password --vault-id --vault-password-file",
        Advice("write --check", _OTHER_NAME): "-n --dry-run --dryrun",
        Advice("leave it out", "independent tasks run side by side anyway"): "-f --forks",
        Advice(
            "leave it out; `nbprovision doc` lists them", "every kind of task comes with the tool"
        ): "-M --module-path",
        Advice("write: nbprovision lint PLAYBOOK", "that is a command of its own"): "--syntax-check",
        Advice("leave it out; --no-witness checks everything again", "facts are never kept"): "--flush-cache",
        Advice("leave it out", "a failure loses no handler: the next run that succeeds runs it"): "--force-handlers",
        Advice("write --deadline SECONDS", _OTHER_NAME): "-T --timeout",
        Advice("leave it out", "a run never asks"): "-y --yes",
        Advice("send standard output elsewhere: >/dev/null", "a run prints a line a task"): "-q --quiet",
        Advice("write --format json", _OTHER_NAME): "--json",
    }
)


def module(name: str) -> Advice | None:
    """Return the advice on a module, by its short or full name (``ansible.builtin.pip``), or None."""
    return _MODULES.get(name.rpartition(".")[2])


def keyword(name: str) -> Advice | None:
    """Return the advice on a refused keyword, or None."""
    if name.startswith("with_"):
        fix = _OLDER_LOOPS.get(name, "loop: and a list, or a template that gives one")
        return Advice(f"write {fix}", "'loop' does the same")
    return _KEYWORDS.get(name)


def variable(name: str) -> str:
    """Return the replacement for a variable of Ansible, or nothing."""
    return _VARIABLES.get(name, _OTHER_FACTS if name.startswith("ansible_") else "")
