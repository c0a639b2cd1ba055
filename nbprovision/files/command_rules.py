"""Rules about commands: those that need root, that images lack, or that do harm while a notebook starts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import Call, Playbook

_PACKAGE_MANAGERS = ("yum", "dnf", "apt", "apt-get", "rpm", "dpkg", "amazon-linux-extras", "snap", "zypper")
_ROOT_COMMANDS = (
    *_PACKAGE_MANAGERS,
    *("systemctl", "service", "initctl", "chkconfig", "update-rc.d", "timedatectl"),
    *("sudo", "su", "mount", "umount", "useradd", "usermod", "groupadd", "sysctl", "modprobe"),
)
_USER_SERVICE = re.compile(r"\bsystemctl\s+(\S+\s+)*--user\b")
_CRON = ("crontab", "cron", "crond", "at")
_SYSTEM_FOLDER = re.compile(r"/(etc|usr|root|lib|lib64|boot|sbin|bin)(/|$)")
_SEGMENT = re.compile(r"[^;&|(`{\n]+")  # a shell reads it as one command
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n$`]*\"")
_ASSIGNMENT = re.compile(r"\w+=")
_SHELL_OPERATORS = ("&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>", "&>")
# Words that run another command, and their options that take a word.
_BEFORE_COMMAND = ("then", "do", "else", "exec", "nohup", "time", "env", "setsid", "sudo", "xargs", "if", "while", "!")
_OPTIONS_WITH_WORD = ("-u", "--user", "-g", "-n", "-C", "-h")
_FILE_TASKS = ("ensure_file", "ensure_line", "ensure_block")
RESTART = re.compile(
    r"(?:systemctl|initctl|service)\b[^\n;&|]*\b(?:restart|stop|start)\b[^\n;&|]*\bjupyter"
    r"|(?:systemctl|initctl|service)\b[^\n;&|]*\bjupyter[\w.-]*\s+(?:restart|stop)"
)


def programs(text: str) -> Iterator[tuple[str, int]]:
    """Return the programs that a shell's text starts, each with its offset. Quoted text starts none."""
    bare = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    for segment in _SEGMENT.finditer(bare):
        skip = False
        for word in re.finditer(r"\S+", segment[0]):
            if skip or word[0].startswith("-") or _ASSIGNMENT.match(word[0]):
                skip = not skip and word[0] in _OPTIONS_WITH_WORD
                continue
            program = word[0].rpartition("/")[2]
            yield program, segment.start() + word.start()
            if program not in _BEFORE_COMMAND:
                break


def _commands(playbook: Playbook) -> Iterator[tuple[Call, str]]:
    """Each ensure_command, with the text that a shell would read."""
    for call in playbook.of("ensure_command"):
        argv = call.strings("argv")
        yield call, shlex.join(argv) if argv else "\n".join(call.strings("shell"))


@rule("error", "every task runs as the notebook's user, who may have no right to it")
def root_needed(playbook: Playbook) -> Iterable[Problem]:
    """Work that only root can do: system packages, services, mounts, `sudo`, files of the system."""
    for call, text in _commands(playbook):
        program = next((program for program, _ in programs(text) if program in _ROOT_COMMANDS), None)
        if program is not None and not _USER_SERVICE.search(text):
            cure = "put it into the lifecycle script, which root runs, or into the image"
            if program in _PACKAGE_MANAGERS:
                cure = "install it by ensure_conda_env or ensure_conda_pkg"
            yield Problem(call.at("argv", "shell"), f"'{program}' needs root", cure)
    for call in playbook.of(*_FILE_TASKS):
        for path, position in call.entries("path"):
            if _SYSTEM_FOLDER.match(path):
                cure = "write to one of the user's files, or write this one in the lifecycle script"
                yield Problem(position, f"{path} is root's", cure)
    if playbook.machine.platform.kind == "notebook-instance":
        for call in playbook.of("ensure_kernel", "ensure_pip_index", "ensure_condarc"):
            if call.values.get("scope") == "system":
                yield Problem(call.at("scope"), "scope: system is root's", "write scope: user")


@rule("warning", "the image of AL2023 has no cron, and each restart deletes a crontab")
def no_cron(playbook: Playbook) -> Iterable[Problem]:
    """A command that calls cron, or one of cron's files."""
    for call, text in _commands(playbook):
        if any(program in _CRON for program, _ in programs(text)):
            yield Problem(call.at("argv", "shell"), "the command relies on cron", "write a systemd timer")
    for call in playbook.of(*_FILE_TASKS):
        if any(re.match(r"/etc/cron|/var/spool/cron", path) for path in call.strings("path")):
            yield Problem(call.at("path"), "the file belongs to cron", "write a systemd timer")


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
    """A command without `creates`, `removes`, `unless` and `onlyif`.

    A handler runs after a change, a rescue after a failure, and a command with `register` may be a query.
    """
    for call in playbook.of("ensure_command"):
        guarded = any(call.parameters.get(key) is not None for key in ("creates", "removes", "unless", "onlyif"))
        if not (guarded or call.handler or call.rescue or call.register or call.conditional):
            cure = "write creates: or unless:, which show that its work is done"
            yield Problem(call.position, "the command runs each time", cure)
