"""Follows a script from command to command: the user of each, its folder, its variables, and whether `set -e` holds.

Commands within `sudo -u ec2-user ... <<EOF`, `su -c TEXT`, `bash -c TEXT` and `$(...)` are followed as well. A value
that only a run knows stays as written, `$NAME`.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

import msgspec

from nbprovision.lint.shell_text import Guard, Redirection, Simple, Span, Word, read

User = Literal["root", "user", "other"]

_DEEPEST = 12  # texts within texts; a script has two or three
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<plus>\+?)=(?P<value>[\s\S]*)")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)\}|(?P<plain>[A-Za-z_]\w*))")
_PART = re.compile(
    r"'(?P<single>[^']*)'|\"(?P<double>(?:\\.|[^\"\\])*)\"|\\(?P<escaped>[\s\S])|(?P<plain>[^'\"\\]+|[\s\S])", re.DOTALL
)
_HOME = re.compile(r"~(?P<user>[\w-]*)(?=/|$)")
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
_WRAPPERS = ("nohup", "setsid", "exec", "builtin", "nice", "ionice", "stdbuf", "timeout", "env", "time")
_DECLARING = ("export", "declare", "local", "readonly", "typeset")
# Options that take the next word.
_SUDO_WORD = "ughpCrtTDRU"
_WRAPPER_WORD = {"nice": "n", "ionice": "cn", "timeout": "sk", "stdbuf": "ioe", "env": "uCS", "exec": "a"}
_SYSTEMD_RUN_WORD = ("-p", "--property", "-u", "--unit", "-E", "--setenv", "--uid", "--gid", "--slice", "-M", "-H")
_SYSTEMD_RUN_USER = re.compile(r"(?:--uid=|(?:--property=|-p)?User=)(?P<user>\S+)")


class Argument(msgspec.Struct, frozen=True):
    """A word of a command.

    Attributes:
        text: The word as written.
        value: The word without quotes, with the values of variables that are known.
        start: Its offset in the file.

    """

    text: str
    value: str
    start: int


class Output(msgspec.Struct, frozen=True):
    """A file that a command's output is written to.

    Attributes:
        path: Its absolute path; empty if only a run knows it.
        appends: Whether the file's content stays.

    """

    path: str
    appends: bool


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command that a script runs.

    Attributes:
        start: The offset of its first word or assignment.
        at: The offset of its program, or the same.
        program: The name of its program, without a folder; empty for assignments alone.
        path: The program as written, with the values of known variables.
        arguments: Its other words.
        wrappers: The programs that start it, such as ``sudo`` and ``nohup``.
        user: Whose rights it has: root's, those of the notebook's user, or those of another.
        opener: Whose rights its shell has, which opens the files of redirections.
        folder: Its working folder; empty if only a run knows it.
        home: The home of its user.
        outputs: The files to which it redirects its output.
        data: The text that it reads from a here document or string.
        before: The operator before it.
        after: The operator after it.
        statement: The number of its statement: `(a; b) | c` is one.
        guards: The conditions under which it runs.
        tested: Whether its status decides something, or is taken by an operator after it.
        grouped: Whether it is part of a function or of `( )` or `{ }`, whose status something else may take.
        level: The number of shells around its own shell.
        shell: The number of its own shell.
        errexit: Whether `set -e` holds in its shell.
        substituted: Whether it is part of `$(...)`, `<(...)` or backquotes.
        within: The offset of the command that contains its text, or -1.
        last: Whether its shell ends with it.

    """

    start: int
    at: int
    program: str
    path: str
    arguments: tuple[Argument, ...]
    wrappers: tuple[Argument, ...]
    user: User
    opener: User
    folder: str
    home: str
    outputs: tuple[Output, ...]
    data: str
    before: str
    after: str
    statement: int
    guards: tuple[Guard, ...]
    tested: bool
    grouped: bool
    level: int
    shell: int
    errexit: bool
    substituted: bool
    within: int
    last: bool

    @property
    def values(self) -> list[str]:
        """The values of its arguments."""
        return [argument.value for argument in self.arguments]

    @property
    def operands(self) -> list[str]:
        """The values of its arguments that are not options."""
        return [value for value in self.values if not value.startswith("-") or value == "-"]

    @property
    def conditional(self) -> bool:
        """Whether it runs under a condition, or its failure has an answer."""
        return bool(self.guards) or self.after == "||"

    def has(self, *options: str) -> bool:
        """Whether it has one of these options, short ones (``-p``) within a cluster (``-vp``) as well."""
        return any(
            value == option
            or (option.startswith("--") and value.startswith(option + "="))
            or (len(option) == 2 and re.match(r"-[A-Za-z0-9]+$", value) is not None and option[1] in value)
            for value in self.values
            for option in options
        )

    def place(self, value: str) -> str:
        """Return the absolute path of a value; empty if only a run knows it."""
        return placed(value, self.folder)


def placed(value: str, folder: str) -> str:
    """Return the absolute path of a value in a folder; empty if only a run knows it."""
    path = value if value.startswith("/") else os.path.join(folder, value) if folder and value else ""
    if not path.startswith("/") or value.startswith("$"):
        return ""
    path = "/" + os.path.normpath(path).lstrip("/")
    return path + "/" if value.endswith("/") and path != "/" else path


class _State:
    """What holds at one point of a shell."""

    def __init__(self, user: User, folder: str, *, errexit: bool = False) -> None:
        self.user = user
        self.folder = folder
        self.errexit = errexit

    def copy(self) -> _State:
        return _State(self.user, self.folder, errexit=self.errexit)


class _Started(msgspec.Struct):
    """A command without the programs that start it.

    Attributes:
        words: The rest of its words.
        user: Whose rights it has.
        wrappers: The programs before it.
        text: The word that a shell reads as commands.
        reads: Whether a shell reads its input.
        errexit: Whether that shell starts with `set -e`.
        login: Whether the shell begins in the user's home.

    """

    words: list[Argument]
    user: User
    wrappers: list[Argument]
    text: Argument | None = None
    reads: bool = False
    errexit: bool = False
    login: bool = False


class ShellScript:
    """The commands of a script.

    Args:
        text: Its text.
        user: The user that the script starts as.
        folder: The folder that it starts in.
        homes: The home of each kind of user.
        errexit: Whether the script starts with `set -e`.

    Attributes:
        commands: The commands in the order of the text.
        functions: The names of its functions.

    """

    def __init__(self, text: str, user: User, folder: str, homes: Mapping[User, str], *, errexit: bool = False) -> None:
        self._text = text
        self._homes = homes
        self._variables: dict[str, str] = {}
        self._shells = 0
        self.functions: set[str] = set()
        commands = self._follow((0, len(text)), _State(user, folder, errexit=errexit), 0)
        self.commands = sorted(commands, key=lambda command: command.start)
        self._statements: dict[tuple[int, int], list[Command]] = {}
        for command in self.commands:
            self._statements.setdefault((command.shell, command.statement), []).append(command)

    def beside(self, command: Command) -> list[Command]:
        """Return the commands of a command's statement, itself included."""
        return self._statements[command.shell, command.statement]

    @cached_property
    def outer(self) -> dict[int, Command]:
        """The commands that contain others, by their offset, as `Command.within` names them."""
        return {command.start: command for command in self.commands}

    def _follow(
        self, span: Span, state: _State, level: int, *, within: int = -1, substituted: bool = False
    ) -> list[Command]:
        if level > _DEEPEST:
            return []
        self._shells += 1
        shell = self._shells
        simples, functions = read(self._text, span)
        self.functions |= functions
        states: dict[tuple[int, ...], _State] = {(): state}
        commands: list[Command] = []
        for simple in simples:
            path = tuple(number for kind, number in simple.blocks if kind == "(")
            for depth in range(1, len(path) + 1):
                if path[:depth] not in states:
                    states[path[:depth]] = states[path[: depth - 1]].copy()
            here = states[path]
            started = self._started(simple, here)
            command = self._command(simple, started, here, shell, level, within=within, substituted=substituted)
            commands.append(command)
            for inner in simple.substitutions:
                commands += self._follow(inner, here.copy(), level + 1, within=simple.start, substituted=True)
            commands += self._inner(simple, started, here, level)
            self._remember(simple, command, here)
        return commands

    def _inner(self, simple: Simple, started: _Started, state: _State, level: int) -> Iterator[Command]:
        """Follow the text that a shell reads which this command starts."""
        folder = self._homes[started.user] if started.login else state.folder
        inner = _State(started.user, folder, errexit=started.errexit)
        if started.text is not None:
            word = started.text
            quote = word.text[:1] if word.text[:1] in "'\"" and len(word.text) > 1 else ""
            span = (word.start + len(quote), word.start + len(word.text) - len(quote))
            yield from self._follow(span, inner, level + 1, within=simple.start)
        elif started.reads:
            for redirection in simple.redirections:
                if redirection.here is not None:
                    yield from self._follow(redirection.here.span, inner, level + 1, within=simple.start)

    def _remember(self, simple: Simple, command: Command, state: _State) -> None:
        """Keep what the command changes for those after it."""
        words = [*simple.assignments] if not simple.words else []
        if command.program in _DECLARING:
            words += [Word(argument.text, argument.start) for argument in command.arguments]
        for word in words:
            match = _ASSIGNED.match(word.text)
            if match is not None:
                value = self._value(match["value"], state)
                before = self._variables.get(match["name"], "") if match["plus"] else ""
                self._variables[match["name"]] = before + value
        if command.program == "cd" and not command.substituted:
            target = command.operands[0] if command.operands else command.home
            state.folder = command.place(target) if command.after != "|" else state.folder
        elif command.program == "set":
            for flag, name in zip(command.values, [*command.values[1:], ""], strict=False):
                if re.match(r"[-+]\w*e", flag) or (flag in ("-o", "+o") and name == "errexit") or _ends_o(flag, name):
                    state.errexit = flag.startswith("-")

    def _command(
        self,
        simple: Simple,
        started: _Started,
        state: _State,
        shell: int,
        level: int,
        *,
        within: int,
        substituted: bool,
    ) -> Command:
        first = started.words[0] if started.words else None
        data = ""
        outputs: list[Output] = []
        for redirection in simple.redirections:
            if redirection.here is not None:
                data += self._text[slice(*redirection.here.span)]
            elif redirection.operator == "<<<":
                data += self._value(redirection.word.text, state)
            elif (output := self._output(redirection, state)) is not None:
                outputs.append(output)
        return Command(
            start=simple.start,
            at=first.start if first else simple.start,
            program=first.value.rpartition("/")[2] if first else "",
            path=first.value if first else "",
            arguments=tuple(started.words[1:]),
            wrappers=tuple(started.wrappers),
            user=started.user,
            opener=state.user,
            folder=state.folder,
            home=self._homes[started.user],
            outputs=tuple(outputs),
            data=data,
            before=simple.before,
            after=simple.after,
            statement=simple.statement,
            guards=simple.guards,
            tested=simple.tested or simple.after in ("||", "&&", "|", "|&", "&"),
            grouped=any(kind in ("function", "(", "{") for kind, _ in simple.blocks),
            level=level,
            shell=shell,
            errexit=state.errexit,
            substituted=substituted,
            within=within,
            last=simple.last,
        )

    def _output(self, redirection: Redirection, state: _State) -> Output | None:
        """The redirection's file, opened with the rights of the shell, whatever `sudo` starts."""
        if redirection.operator not in (">", ">>", ">|", "&>", "&>>") or redirection.word.text.startswith("&"):
            return None
        value = self._value(redirection.word.text, state)
        return Output(placed(value, state.folder), redirection.operator.endswith(">>"))

    def _value(self, text: str, state: _State) -> str:
        """Return a word without quotes, with variables replaced if their values are known."""
        home = _HOME.match(text)
        if home is not None and home["user"] in ("", "ec2-user", "sagemaker-user", "root"):
            users: dict[str, User] = {"": state.user, "root": "root"}
            user = users.get(home["user"], "user")
            text = self._homes[user] + text[home.end() :]
        value = ""
        for part in _PART.finditer(text):
            if part["single"] is not None:
                value += part["single"]
            elif part["double"] is not None:
                value += self._expanded(re.sub(r"\\([\"$`\\])", r"\1", part["double"]), state)
            else:
                value += part["escaped"] or self._expanded(part["plain"], state)
        return value

    def _expanded(self, text: str, state: _State) -> str:
        def replaced(match: re.Match[str]) -> str:
            name = match["braced"] or match["plain"]
            if name == "HOME" and name not in self._variables:
                return self._homes[state.user]
            if name == "PWD":
                return state.folder or match[0]
            value = self._variables.get(name)
            return value if value is not None and not re.search(r"\$|`", value) else match[0]

        return _VARIABLE.sub(replaced, text)

    def _started(self, simple: Simple, state: _State) -> _Started:
        words = [Argument(word.text, self._value(word.text, state), word.start) for word in simple.words]
        started = _Started(words, state.user, [])
        for _ in range(8):
            program = words[0].value.rpartition("/")[2] if words else ""
            if program == "sudo":
                words = _after_sudo(words, started)
            elif program in ("su", "runuser") and _is_user_option(words, program):
                _read_su(words, started)
                return started
            elif program == "runuser":
                words = _after_runuser(words, started)
            elif program == "systemd-run":
                words = _after_systemd_run(words, started)
            elif program in _WRAPPERS and len(words) > 1:
                words = _after_wrapper(words, started, program)
            else:
                break
            started.words = words
        if not words:
            return started
        if words[0].value.rpartition("/")[2] in _SHELLS:
            _read_shell(words, started)
        elif words[0].value == "eval" and len(words) == 2:
            started.text = words[1] if not simple.substitutions else None
        return started


def _ends_o(flag: str, name: str) -> bool:
    return re.match(r"[-+]\w+o$", flag) is not None and name == "errexit"


def _user_of(name: str) -> User:
    if name in ("root", "0", "#0"):
        return "root"
    return "user" if name in ("ec2-user", "sagemaker-user", "1000") or name.startswith("$") else "other"


def _after_sudo(words: list[Argument], started: _Started) -> list[Argument]:
    started.wrappers.append(words[0])
    started.user = "root"
    number = 1
    shell = False
    while number < len(words):
        value = words[number].value
        if value == "--":
            number += 1
            break
        if value.startswith("--"):
            name, _, rest = value.partition("=")
            if name in ("--user", "--group", "--host", "--prompt", "--chdir") and not rest:
                number += 1
                rest = words[number].value if number < len(words) else ""
            if name == "--user":
                started.user = _user_of(rest)
            shell = shell or name in ("--login", "--shell")
            started.login = started.login or name == "--login"
        elif value.startswith("-") and len(value) > 1:
            for place, letter in enumerate(value[1:], 1):
                shell = shell or letter in "is"
                started.login = started.login or letter == "i"
                if letter in _SUDO_WORD:
                    rest = value[place + 1 :]
                    if not rest:
                        number += 1
                        rest = words[number].value if number < len(words) else ""
                    if letter == "u":
                        started.user = _user_of(rest)
                    break
        elif not _ASSIGNED.match(value):
            break
        number += 1
    rest_of = words[number:]
    started.reads = shell and not rest_of
    return rest_of


def _is_user_option(words: list[Argument], program: str) -> bool:
    return program == "su" or not any(re.match(r"-u|--user", word.value) for word in words[1:])


def _read_su(words: list[Argument], started: _Started) -> None:
    """``su [-] [USER] [-c TEXT]``."""
    started.wrappers.append(words[0])
    started.user = "root"
    number, names = 1, []
    while number < len(words):
        value = words[number].value
        if value in ("-", "-l", "--login"):
            started.login = True
        elif value in ("-c", "--command") and number + 1 < len(words):
            number += 1
            started.text = words[number]
        elif value in ("-s", "--shell", "-g", "-G"):
            number += 1
        elif not value.startswith("-"):
            names.append(value)
        number += 1
    if names:
        started.user = _user_of(names[0])
    started.reads = started.text is None
    started.words = []


def _after_runuser(words: list[Argument], started: _Started) -> list[Argument]:
    """``runuser -u USER [--] COMMAND``."""
    started.wrappers.append(words[0])
    number = 1
    while number < len(words) and words[number].value.startswith("-"):
        value = words[number].value
        if value in ("-u", "--user"):
            number += 1
            started.user = _user_of(words[number].value) if number < len(words) else "other"
        elif match := re.match(r"(?:-u|--user=)(.+)", value):
            started.user = _user_of(match[1])
        number += 1
    return words[number:]


def _after_systemd_run(words: list[Argument], started: _Started) -> list[Argument]:
    started.wrappers.append(words[0])
    number = 1
    while number < len(words) and words[number].value.startswith("-"):
        value = words[number].value
        if value in _SYSTEMD_RUN_WORD and number + 1 < len(words):
            number += 1
            value += ("=" if value == "--uid" else "") + words[number].value
        match = _SYSTEMD_RUN_USER.fullmatch(value.removeprefix("--property").lstrip("="))
        if match is not None:
            started.user = _user_of(match["user"])
        number += 1
    return words[number:]


def _after_wrapper(words: list[Argument], started: _Started, program: str) -> list[Argument]:
    number = 1
    while number < len(words):
        value = words[number].value
        if value.startswith("-") and len(value) > 1:
            number += 1 if value[1:] in tuple(_WRAPPER_WORD.get(program, "")) else 0
        elif not (program == "env" and _ASSIGNED.match(value)):
            break
        number += 1
    if program == "timeout":
        number += 1
    if number < len(words):
        started.wrappers.append(words[0])
        return words[number:]
    return words


def _read_shell(words: list[Argument], started: _Started) -> None:
    """``bash -c TEXT``, or a shell that reads its input."""
    rest = iter(words[1:])
    for word in rest:
        if not re.fullmatch(r"[-+]\w+|--\w+", word.value):
            return
        cluster = word.value.startswith("-") and not word.value.startswith("--")
        started.errexit = started.errexit or (cluster and "e" in word.value)
        if cluster and word.value.endswith("c"):
            started.text = next(rest, None)
            return
        if word.value.endswith("o"):
            next(rest, None)
    started.reads = True
