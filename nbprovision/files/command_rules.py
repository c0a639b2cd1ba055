"""Rules about commands: those that need root, that images lack, or that do harm while a notebook starts."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.shell import Command, ShellScript
from nbprovision.lint.shell_writes import written_paths
from nbprovision.lint.subject import ASSUMED, Call, Playbook

_PACKAGE_MANAGERS = ("yum", "dnf", "apt", "apt-get", "rpm", "dpkg", "amazon-linux-extras", "snap", "zypper")
_SERVICES = ("systemctl", "service", "initctl", "chkconfig", "update-rc.d", "loginctl", "systemd-run")
_ROOT_COMMANDS = (
    *(*_PACKAGE_MANAGERS, *_SERVICES, "timedatectl", "hostnamectl", "sysctl", "modprobe", "reboot", "shutdown"),
    *("sudo", "su", "runuser", "mount", "umount", "useradd", "usermod", "groupadd", "update-ca-trust"),
    "update-ca-certificates",
)
# Queries, which every user may make.
_QUERIES = {
    **dict.fromkeys(("yum", "dnf"), ("list", "info", "search", "repoquery", "repolist", "--version")),
    **dict.fromkeys(("apt", "apt-get"), ("list", "show", "search", "policy", "--version")),
    "rpm": ("-q", "-qa", "-ql", "-qi", "-qf", "-V", "--query", "--version"),
    "dpkg": ("-l", "-L", "-s", "-S", "--list", "--listfiles", "--status", "--print-architecture", "--version"),
    "systemctl": (
        *("--user", "status", "show", "cat", "is-active", "is-enabled", "is-failed", "is-system-running"),
        *("list-units", "list-unit-files", "list-timers", "--version"),
    ),
    "systemd-run": ("--user", "--version"),
    "service": ("status", "--status-all"),
    "loginctl": ("list-sessions", "list-users", "show-user", "show-session", "user-status", "session-status"),
    "timedatectl": ("status", "show", "list-timezones"),
    "hostnamectl": ("status",),
    "sysctl": ("-n", "-a", "--values", "--all"),
}
_QUERIES_WITHOUT_WORDS = ("mount", "timedatectl", "hostnamectl", "systemctl", "loginctl")
_CRON = ("crontab", "cron", "crond", "at")
_SYSTEM_FOLDER = re.compile(r"/(etc|usr|root|lib|lib64|boot|sbin|bin)(/|$)")
# Root's as well, but the lifecycle script may have made a folder there for the user; below /mnt lie mounts.
_ADMIN_FOLDER = re.compile(r"/(?:(?:opt|srv)(?:/|$)|var(?!/tmp(?:/|$))(?:/|$)|mnt(?:/[^/]*)?/?$)")
_STUDIO_USERS = re.compile(r"/(?:opt/(?:conda|amazon/sagemaker)|var/log/apps)(?:/|$)")
_STUDIO_ONLY = re.compile(r"/opt/amazon/sagemaker(?:/|$)")
_SHELL_OPERATORS = ("&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>", "&>")
_GUARDS = ("creates", "removes", "unless", "onlyif", "once_per")
_FILE_TASKS = (
    *("ensure_file", "ensure_line", "ensure_block", "ensure_json", "ensure_ini"),
    *("ensure_download", "ensure_git_repo", "ensure_s3_sync"),
)
RESTART = re.compile(
    r"(?:systemctl|initctl|service)\b[^\n;&|]*\b(?:restart|stop|start)\b[^\n;&|]*\bjupyter"
    r"|(?:systemctl|initctl|service)\b[^\n;&|]*\bjupyter[\w.-]*\s+(?:restart|stop)"
)


def _commands(playbook: Playbook) -> Iterator[tuple[Call, str]]:
    """Each ensure_command, with the text that a shell would read."""
    for call in playbook.of("ensure_command"):
        argv = call.strings("argv")
        yield call, shlex.join(argv) if argv else "\n".join(call.strings("shell"))


def _parsed(playbook: Playbook, text: str) -> ShellScript:
    """The commands in a task's text, which run as the notebook's user in a folder that only a run knows."""
    home = "/home/sagemaker-user" if _is_for_studio(playbook) else "/home/ec2-user"
    return ShellScript(text, "user", "", {"root": "/root", "user": home, "other": ""})


def _is_for_studio(playbook: Playbook) -> bool:
    """Whether the playbook is for Studio, where the user has `sudo`; by the platform, or by the user that it names."""
    if playbook.machine.platform.kind in ("studio", "notebook-instance"):
        return playbook.machine.platform.kind == "studio"
    return "sagemaker-user" in playbook.text and "ec2-user" not in playbook.text


@rule("error", "every task runs as the notebook's user, who may have no right to it")
def root_needed(playbook: Playbook) -> Iterable[Problem]:
    """Work that only root can do: system packages, services, mounts, `sudo`, files of the system.

    In Studio `sudo` is not reported, since the user has it. Queries such as `systemctl status` need no root. On a
    known platform, a task that `when` leaves to another is not judged.
    """
    studio = _is_for_studio(playbook)
    for call, text in _commands(playbook):
        if _is_for_another(call, playbook):
            continue
        problems = (_of_root(command, studio) for command in _parsed(playbook, text).commands)
        problem = next(filter(None, problems), None)
        if problem is not None:
            yield Problem(call.at("argv", "shell"), *problem)
    for call in playbook.of(*_FILE_TASKS):
        if call.values.get("scope") == "system" or _is_for_another(call, playbook):  # the first under root_tasks
            continue
        for path, position in call.entries("path"):
            if _is_of_root(path, playbook, studio):
                cure = "write to one of the user's files, or write this one in the lifecycle script"
                yield Problem(position, f"{path} is root's", cure)
    if playbook.machine.platform.kind == "notebook-instance":
        for call in playbook.of("ensure_kernel", "ensure_pip_index", "ensure_condarc"):
            if call.values.get("scope") == "system":
                yield Problem(call.at("scope"), "scope: system is root's", "write scope: user")


def _is_for_another(call: Call, playbook: Playbook) -> bool:
    """Whether `when` leaves the task to another kind of machine than this one, whose kind is known."""
    return not call.here and playbook.machine.platform.kind in ("studio", "notebook-instance")


def _of_root(command: Command, studio: bool) -> tuple[str, str] | None:
    """The message and the cure for a command that needs root."""
    wrappers = [wrapper.value.rpartition("/")[2] for wrapper in command.wrappers]
    program = next((name for name in (*wrappers, command.program) if name in _ROOT_COMMANDS), "")
    if studio and command.user == "root" and command.program not in ("yum", "dnf", "amazon-linux-extras", *_SERVICES):
        return None
    if program and not _is_query(command):
        return f"'{program}' needs root", _cure(program if program not in ("sudo", "su") else command.program, studio)
    if command.user == "user":
        for path in (*written_paths(command), *(output.path for output in command.outputs)):
            if _SYSTEM_FOLDER.match(path):
                return (
                    f"{path} is root's",
                    "write to one of the user's files, or write this one in the lifecycle script",
                )
    return None


def _is_query(command: Command) -> bool:
    if command.user == "root":
        return False
    names = _QUERIES.get(command.program, ())
    return any(value in names for value in command.values) or (
        not command.arguments and command.program in _QUERIES_WITHOUT_WORDS
    )


def _cure(program: str, studio: bool) -> str:
    """The instruction that replaces a program of root's in a task."""
    if program in _PACKAGE_MANAGERS:
        cure = "install it by ensure_conda_env or ensure_conda_pkg"
        return f"{cure}, or by sudo apt-get install -y PACKAGE" if studio else cure
    if program in ("mount", "umount"):
        return "mount it in the lifecycle script, which root runs, on a folder such as /mnt/NAME"
    if program == "systemd-run":
        return "write ensure_command with background: true, or ensure_schedule under root_tasks"
    if program in _SERVICES and not studio:
        return "put it into the lifecycle script, which root runs: systemd-run --uid=ec2-user COMMAND"
    return "put it into the lifecycle script, which root runs, or into the image"


def _is_of_root(path: str, playbook: Playbook, studio: bool) -> bool:
    if Path(path).is_relative_to(playbook.machine.user_home):
        return False  # /root, if the user is root
    if _SYSTEM_FOLDER.match(path):
        return True
    if not _ADMIN_FOLDER.match(path) or (studio and _STUDIO_USERS.match(path)):
        return False
    if _STUDIO_ONLY.match(path) and playbook.machine.platform.kind == "other":
        return False  # a task for Studio, where it is the user's
    if playbook.machine.platform.because == ASSUMED or os.geteuid() == 0:
        return True
    place = Path(playbook.machine.path(path))
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    return not os.access(existing, os.W_OK)  # the lifecycle script may have given it to the user


@rule("warning", "the image of AL2023 has no cron, and each restart deletes a crontab")
def no_cron(playbook: Playbook) -> Iterable[Problem]:
    """A command that calls cron, or one of cron's files."""
    cure = "write a task under root_tasks of the play: ensure_schedule: {name: NAME, every: 1h, shell: COMMAND}"
    for call, text in _commands(playbook):
        if any(command.program in _CRON for command in _parsed(playbook, text).commands):
            yield Problem(call.at("argv", "shell"), "the command relies on cron", cure)
    for call in playbook.of(*_FILE_TASKS):
        if any(re.match(r"/etc/cron|/var/spool/cron", path) for path in call.strings("path")):
            yield Problem(call.at("path"), "the file belongs to cron", cure)


@rule("warning", "during the start it breaks the platform's own authentication, and later it ends all running kernels")
def restart_at_boot(playbook: Playbook) -> Iterable[Problem]:
    """A command that restarts Jupyter.

    In a task. A handler restarts Jupyter only after a change, but during the start as well.
    """
    for call, text in _commands(playbook):
        if RESTART.search(text):
            cure = "write notify: restart_jupyter, which restarts it only after a change"
            yield Problem(call.at("argv", "shell"), "the command restarts Jupyter", cure)
    for call in playbook.of("restart_jupyter"):
        if call.values.get("at_boot") is True:
            yield Problem(call.at("at_boot"), "Jupyter is restarted while it starts", "leave it out")


@rule("error", "no shell reads `argv`: the program gets the word as it stands")
def shell_words_in_argv(playbook: Playbook) -> Iterable[Problem]:
    """`&&`, `||`, `|`, `;`, `>` or `<` as a word of `argv`."""
    for call in playbook.of("ensure_command"):
        for word, position in call.entries("argv"):
            if word in _SHELL_OPERATORS:
                cure = "write shell: and the command as text, or a task for each command"
                yield Problem(position, f"'{word}' is a word for the program, not for a shell", cure)


@rule("warning", "it runs at each start, and each run takes the long way")
def command_always_runs(playbook: Playbook) -> Iterable[Problem]:
    """A command without `creates`, `removes`, `unless`, `onlyif` and `once_per`.

    A handler runs after a change, a rescue after a failure, and a command with `register` may be a query.
    """
    for call in playbook.of("ensure_command"):
        guarded = any(call.parameters.get(key) is not None for key in _GUARDS)
        if not (guarded or call.handler or call.rescue or call.register or call.conditional):
            cure = "write creates: or unless:, which show that its work is done, or once_per: boot, content or ever"
            yield Problem(call.position, "the command runs each time", cure)
