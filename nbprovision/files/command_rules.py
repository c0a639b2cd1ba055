"""Rules about commands: what needs root, what images lack, what must not be done while a notebook starts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Call, Playbook

_PACKAGES = ("yum", "dnf", "apt", "apt-get", "rpm", "dpkg", "amazon-linux-extras", "snap", "zypper")
_SERVICES = ("systemctl", "service", "initctl", "chkconfig", "update-rc.d", "timedatectl")
_ROOTS = (
    *_PACKAGES,
    *_SERVICES,
    "sudo",
    "su",
    "mount",
    "umount",
    "useradd",
    "usermod",
    "groupadd",
    "sysctl",
    "modprobe",
)
_OF_USER = re.compile(r"\bsystemctl\s+(\S+\s+)*--user\b")
_CRON = ("crontab", "cron", "crond", "at")
_SYSTEM = re.compile(r"/(etc|usr|root|lib|lib64|boot|sbin|bin)(/|$)")
_SEGMENT = re.compile(r"[^;&|(`{\n]+")  # what a shell takes for one command
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n$`]*\"")
_ASSIGNMENT = re.compile(r"\w+=")
_SHELLS_WORDS = ("&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>", "&>")
# Words that run another command; with their options that take a word.
_BEFORE = ("then", "do", "else", "exec", "nohup", "time", "env", "setsid", "sudo", "xargs", "if", "while", "!")
_WITH_WORD = ("-u", "--user", "-g", "-n", "-C", "-h")
RESTART = re.compile(
    r"(?:systemctl|initctl|service)\b[^\n;&|]*\b(?:restart|stop|start)\b[^\n;&|]*\bjupyter"
    r"|(?:systemctl|initctl|service)\b[^\n;&|]*\bjupyter[\w.-]*\s+(?:restart|stop)"
)


def programs(text: str) -> Iterator[tuple[str, int]]:
    """The programs that a shell's text starts, and where in it. What stands in quotes is taken for text."""
    bare = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    for segment in _SEGMENT.finditer(bare):
        skip = False
        for word in re.finditer(r"\S+", segment[0]):
            if skip or word[0].startswith("-") or _ASSIGNMENT.match(word[0]):
                skip = not skip and word[0] in _WITH_WORD
                continue
            program = word[0].rpartition("/")[2]
            yield program, segment.start() + word.start()
            if program not in _BEFORE:
                break


def text_of(call: Call) -> str:
    """What an ensure_command runs, as a shell would read it."""
    argv = call.strings("argv")
    return shlex.join(argv) if argv else "\n".join(call.strings("shell"))


@rule(
    "root-needed",
    "error",
    "what only root can do: system packages, services, mounts, `sudo`, files of the system",
    "every task runs as the notebook's user, who need not have any right to it",
)
def root_needed(playbook: Playbook) -> Iterable[Found]:
    """By the programs of a command, and by the places of files."""
    for call in playbook.of("ensure_command"):
        for program in dict.fromkeys(program for program, _ in programs(text_of(call))):
            if program in _ROOTS and not _OF_USER.search(text_of(call)):
                yield Found(
                    position=call.at("argv", "shell"),
                    message=f"'{program}' needs root",
                    cure="install it by ensure_conda_env or ensure_conda_pkg"
                    if program in _PACKAGES
                    else "put it into the lifecycle script, which root runs, or into the image",
                )
                break
    for call in playbook.of("ensure_file", "ensure_line", "ensure_block"):
        for path in call.strings("path"):
            if _SYSTEM.match(path):
                yield Found(
                    position=call.at("path"),
                    message=f"{path} is root's",
                    cure="write a file of the user's, or write this one in the lifecycle script",
                )
    if playbook.machine.platform.kind == "notebook-instance":
        for call in playbook.of("ensure_kernel", "ensure_pip_index", "ensure_condarc"):
            if call.values.get("scope") == "system":
                yield Found(position=call.at("scope"), message="scope: system is root's", cure="write scope: user")


@rule(
    "no-cron",
    "warning",
    "cron",
    "the image of AL2023 has none, and a crontab is lost at each restart",
)
def no_cron(playbook: Playbook) -> Iterable[Found]:
    """Where a command calls it, or a file is one of cron's."""
    for call in playbook.of("ensure_command"):
        if any(program in _CRON for program, _ in programs(text_of(call))):
            yield Found(
                position=call.at("argv", "shell"), message="the command counts on cron", cure="write a systemd timer"
            )
    for call in playbook.of("ensure_file", "ensure_line", "ensure_block"):
        if any(re.match(r"/etc/cron|/var/spool/cron", path) for path in call.strings("path")):
            yield Found(position=call.at("path"), message="the file is one of cron's", cure="write a systemd timer")


@rule(
    "restart-at-boot",
    "warning",
    "a command that restarts Jupyter",
    "while the notebook starts it breaks the platform's own authentication, and later it ends everybody's kernels",
)
def restart_at_boot(playbook: Playbook) -> Iterable[Found]:
    """In a task; a handler restarts only after a change, but in the boot phase as well."""
    for call in playbook.of("ensure_command"):
        if RESTART.search(text_of(call)):
            yield Found(
                position=call.at("argv", "shell"),
                message="the command restarts Jupyter",
                cure="write notify: restart_jupyter, which does so after a change only",
            )
    for call in playbook.of("restart_jupyter"):
        if call.values.get("at_boot") is True:
            yield Found(
                position=call.at("at_boot"), message="Jupyter is restarted while it starts", cure="leave it out"
            )


@rule(
    "shell-words-in-argv",
    "error",
    "`&&`, `||`, `|`, `;`, `>` or `<` as a word of `argv`",
    "no shell reads `argv`: the program gets the word as it stands",
)
def shell_words_in_argv(playbook: Playbook) -> Iterable[Found]:
    """By the words themselves; a program that takes such a word on purpose has noqa."""
    for call in playbook.of("ensure_command"):
        for number, word in enumerate(call.strings("argv")):
            if word in _SHELLS_WORDS:
                yield Found(
                    position=call.entry("argv", number),
                    message=f"'{word}' is a word for the program, not for a shell",
                    cure="write shell: and the command as text, or a task for each command",
                )


@rule(
    "command-always-runs",
    "warning",
    "a command that nothing keeps from running: none of `creates`, `removes`, `unless`, `onlyif`",
    "it runs at each start, and each run takes the long way",
)
def command_always_runs(playbook: Playbook) -> Iterable[Found]:
    """Handlers run after a change, rescues after a failure; a command whose result is asked for is a question."""
    for call in playbook.of("ensure_command"):
        guarded = any(call.parameters.get(key) is not None for key in ("creates", "removes", "unless", "onlyif"))
        if not (guarded or call.handler or call.rescue or call.register or call.conditional):
            yield Found(
                position=call.position,
                message="the command runs each time",
                cure="say by creates: or unless: how to tell that its work is done",
            )
