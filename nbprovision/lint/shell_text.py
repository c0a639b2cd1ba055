"""Splits a shell's text into simple commands, with their operators, redirections, here documents and conditions.

The reader is tolerant: a text that no shell accepts has commands as well, since lint judges files of strangers. It
knows what decides whether a word is a command: quotes, substitutions, comments, here documents, reserved words.

Source: https://www.gnu.org/software/bash/manual/html_node/Shell-Syntax.html
"""

from __future__ import annotations

import re

import msgspec

Span = tuple[int, int]  # start and end in the text, counted from 0

_BLANK = " \t\r"
_ENDS_WORD = " \t\r\n;&|()<>"
_OPERATORS = ("&&", "||", ";;&", ";;", ";&", "|&", ";", "|", "&")
_REDIRECTION = re.compile(r"(?:\d+|\{\w+\})?(?:&>>|&>|<<<|<<-|<<|>>|<&|>&|<>|>\||<|>)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^\]\s]*\])?\+?=")
_FUNCTION = re.compile(r"(?P<name>[\w.-]+)[ \t]*\([ \t]*\)")
_CLOSING = {"fi": "if", "done": "loop", "esac": "case", "}": "{", ")": "("}
_LOOPS = ("for", "select", "while", "until")


class Word(msgspec.Struct, frozen=True):
    """A word as written.

    Attributes:
        text: Its text, with quotes.
        start: Its offset in the file.

    """

    text: str
    start: int


class HereDocument(msgspec.Struct):
    """The lines after ``<<WORD``, filled in when the reader comes to them.

    Attributes:
        word: The line that ends it.
        dash: Whether tabs before its lines do not count.
        literal: Whether the word is quoted, so that variables stay as written.
        span: Its place in the text.

    """

    word: str
    dash: bool
    literal: bool
    span: Span = (0, 0)


class Redirection(msgspec.Struct, frozen=True):
    """A redirection: the operator without a number, its number, its word, and its here document."""

    operator: str
    number: str
    word: Word
    here: HereDocument | None = None


class Guard(msgspec.Struct, frozen=True):
    """A condition under which a command runs.

    Attributes:
        text: The text of the condition.
        holds: Whether the command runs if the condition holds; False after ``else`` and ``||``.

    """

    text: str
    holds: bool = True


class Simple(msgspec.Struct):
    """A simple command.

    Attributes:
        start: The offset of its first word or assignment.
        words: Its words, assignments before them excluded.
        assignments: The assignments before them.
        redirections: Its redirections.
        substitutions: The places of the commands within its words.
        before: The operator before it: empty at the beginning of a list.
        after: The operator after it: empty at the end of a list.
        statement: The number of its statement: `(a; b) | c` is one.
        guards: The conditions under which it runs.
        tested: Whether an ``if``, ``while``, ``until`` or ``!`` takes its status.
        blocks: The blocks around it, the outermost first, each with its own number.
        last: Whether nothing follows it in its text.

    """

    start: int
    words: list[Word]
    assignments: list[Word]
    redirections: list[Redirection]
    substitutions: list[Span]
    before: str = ""
    after: str = ""
    statement: int = 0
    guards: tuple[Guard, ...] = ()
    tested: bool = False
    blocks: tuple[tuple[str, int], ...] = ()
    last: bool = False


class _Block:
    """An open block: ``if``, ``loop``, ``case``, ``{``, ``(`` or ``function``."""

    def __init__(self, kind: str, number: int, start: int, *, condition: bool = False) -> None:
        self.kind = kind
        self.number = number
        self.start = start  # of the condition
        self.condition = condition
        self.guard: Guard | None = None
        self.pattern = kind == "case"


class _Reader:
    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.position = start
        self.end = end
        self.commands: list[Simple] = []
        self.blocks: list[_Block] = []
        self.waiting: list[HereDocument] = []
        self.functions: set[str] = set()
        self.number = 0
        self.statement = 0
        self.operator = ""
        self.negated = False
        self.command: Simple | None = None

    def read(self) -> list[Simple]:
        while self.position < self.end:
            self._step()
        self._finish("")
        for command in self.commands[-1:]:
            command.last = not self.blocks
        return self.commands

    def _step(self) -> None:
        text, here = self.text, self.position
        letter = text[here]
        if letter in _BLANK:
            self.position += 1
        elif text.startswith("\\\n", here) or text.startswith("\\\r\n", here):
            self.position = text.index("\n", here) + 1
        elif letter == "#":
            stop = text.find("\n", here, self.end)
            self.position = stop if stop >= 0 else self.end
        elif letter == "\n":
            self._finish("")
            self.position += 1
            self._read_here_documents()
        elif (match := _REDIRECTION.match(text, here, self.end)) and not text.startswith(("<(", ">("), here):
            self._redirect(match)
        elif operator := next((sign for sign in _OPERATORS if text.startswith(sign, here)), ""):
            self._finish(operator)
            self.position += len(operator)
            if operator.startswith(";;") or operator == ";&":
                self._open_pattern()
        elif letter == "(":
            self._open_parenthesis()
        elif letter == ")":
            self._finish("")
            self._close(")")
            self.position += 1
        else:
            self._word()

    def _open_parenthesis(self) -> None:
        if self.text.startswith("((", self.position) and self.command is None:
            stop = closing(self.text, self.position, self.end)
            self._begin(self.position).words.append(Word(self.text[self.position : stop + 1], self.position))
            self.position = stop + 1
            return
        self._finish("")
        self._open("(")
        self.position += 1

    def _redirect(self, match: re.Match[str]) -> None:
        sign = match[0].lstrip("0123456789")
        number = match[0][: len(match[0]) - len(sign)]
        if sign.startswith("{"):
            number, _, sign = sign.partition("}")
        start = match.end()
        while start < self.end and self.text[start] in _BLANK:
            start += 1
        substitutions: list[Span] = []
        stop = word_end(self.text, start, self.end, substitutions)
        word = Word(self.text[start:stop], start)
        here = None
        if sign in ("<<", "<<-"):
            plain = re.sub(r"['\"\\]", "", word.text)
            here = HereDocument(plain, dash=sign == "<<-", literal=plain != word.text)
            self.waiting.append(here)
        command = self._begin(match.start())
        command.redirections.append(Redirection(sign, number, word, here))
        command.substitutions += substitutions
        self.position = max(stop, match.end())

    def _read_here_documents(self) -> None:
        for here in self.waiting:
            start = position = self.position
            while position < self.end:
                stop = self.text.find("\n", position, self.end)
                stop = stop if stop >= 0 else self.end
                line = self.text[position:stop].rstrip("\r")
                if (line.lstrip("\t") if here.dash else line) == here.word:
                    here.span = (start, position)
                    self.position = min(stop + 1, self.end)
                    break
                position = stop + 1
            else:
                here.span = (start, self.end)
                self.position = self.end
        self.waiting.clear()

    def _word(self) -> None:
        start = self.position
        if self._is_pattern(start):
            return
        if self.command is None or not self.command.words:
            function = _FUNCTION.match(self.text, start, self.end)
            if function and self.command is None:
                self._define(function["name"])
                self.position = function.end()
                return
        substitutions: list[Span] = []
        stop = word_end(self.text, start, self.end, substitutions)
        if stop == start:  # no shell takes it
            self.position += 1
            return
        word = Word(self.text[start:stop], start)
        self.position = stop
        if self.command is None and not substitutions and self._reserved(word):
            return
        command = self._begin(start)
        assignment = _ASSIGNMENT.match(word.text) if not command.words else None
        if assignment:
            if stop < self.end and self.text[stop] == "(" and assignment.end() == len(word.text):  # a list
                self.position = closing(self.text, stop, self.end) + 1
                word = Word(self.text[start : self.position], start)
            command.assignments.append(word)
        else:
            command.words.append(word)
        command.substitutions += substitutions
        if word.text == "[[":
            end = re.compile(r"\s\]\](?=[\s;&|)]|$)").search(self.text, stop, self.end)
            stop = end.end() if end else self.end
            command.words.append(Word(self.text[self.position : stop].strip(), self.position))
            self.position = stop

    def _reserved(self, word: Word) -> bool:
        """Handle a reserved word in the place of a command."""
        text = word.text
        if text in ("if", *_LOOPS):
            self._open("if" if text == "if" else "loop", condition=text not in ("for", "select"))
            if text in ("for", "select"):
                self._read_header()
        elif text == "case":
            self._open("case")
            match = re.compile(r"\bin\b").search(self.text, self.position, self.end)
            self.position = match.end() if match else self.end
        elif text in ("then", "do"):
            self._begin_body(word.start)
        elif text == "elif":
            self._else(word.start)
            if self.blocks:
                self.blocks[-1].condition, self.blocks[-1].start = True, self.position
        elif text == "else":
            self._else(word.start)
        elif text in _CLOSING:
            self._close(text)
        elif text == "{":
            self._open("{")
        elif text == "!":
            self.negated = True
        elif text == "function":
            match = re.compile(r"[ \t]*(?P<name>[\w.-]+)[ \t]*(?:\([ \t]*\))?").match(self.text, self.position)
            if match:
                self._define(match["name"])
                self.position = match.end()
        elif text not in ("time", "coproc"):
            return False
        return True

    def _read_header(self) -> None:
        """Skip ``NAME in WORDS``; the first word is kept as the variable's value."""
        stop = re.compile(r"[;\n]").search(self.text, self.position, self.end)
        start, self.position = self.position, stop.start() if stop else self.end
        match = re.match(r"\s*(?P<name>\w+)\s+in\s+(?P<value>[^\s;|&()<>`]+)", self.text[start : self.position])
        if match is not None:
            self._begin(start).assignments.append(Word(f"{match['name']}={match['value']}", start))
            self._finish("")

    def _define(self, name: str) -> None:
        self.functions.add(name)
        self._open("function")

    def _is_pattern(self, start: int) -> bool:
        """Skip the pattern of a ``case``, up to its parenthesis."""
        block = self.blocks[-1] if self.blocks else None
        if block is None or block.kind != "case" or not block.pattern:
            return False
        if re.compile(r"esac\b").match(self.text, start, self.end):
            return False
        stop = self.text.find(")", start, self.end)
        self.position = stop + 1 if stop >= 0 else self.end
        block.guard = Guard(self.text[start : self.position])
        block.pattern = False
        return True

    def _open_pattern(self) -> None:
        if self.blocks and self.blocks[-1].kind == "case":
            self.blocks[-1].pattern = True

    def _open(self, kind: str, *, condition: bool = False) -> None:
        self.number += 1
        self.blocks.append(_Block(kind, self.number, self.position, condition=condition))

    def _begin_body(self, position: int) -> None:
        if self.blocks and self.blocks[-1].condition:
            block = self.blocks[-1]
            block.condition = False
            block.guard = Guard(self.text[block.start : position].strip())

    def _else(self, position: int) -> None:
        if self.blocks and self.blocks[-1].kind == "if":
            block = self.blocks[-1]
            block.guard = Guard(block.guard.text if block.guard else "", holds=False)
            block.start = position

    def _close(self, word: str) -> None:
        kind = _CLOSING[word]
        for number in range(len(self.blocks) - 1, -1, -1):
            if self.blocks[number].kind == kind:
                del self.blocks[number:]
                break
        else:
            return
        if self.blocks and self.blocks[-1].kind == "function":
            self.blocks.pop()

    def _begin(self, start: int) -> Simple:
        if self.command is None:
            guards = [block.guard for block in self.blocks if block.guard is not None]
            if self.operator in ("&&", "||") and self.commands:
                before = self.commands[-1]
                stop = re.compile(r"\s*(?:&&|\|\|)").search(self.text, before.start, start)
                text = self.text[before.start : stop.start() if stop else start]
                guards.append(Guard(text, holds=self.operator == "&&"))
            self.command = Simple(
                start,
                [],
                [],
                [],
                [],
                before=self.operator,
                statement=self.statement,
                guards=tuple(guards),
                tested=self.negated or any(block.condition for block in self.blocks),
                blocks=tuple((block.kind, block.number) for block in self.blocks),
            )
        return self.command

    def _finish(self, operator: str) -> None:
        if self.command is not None:
            self.command.after = operator
            self.commands.append(self.command)
            self.command = None
            self.negated = self.negated and operator in ("|", "|&")
            self.operator = operator
        elif operator or not self.commands or self.operator not in ("&&", "||", "|", "|&"):
            self.operator = operator  # a line may end after an operator, and `} && x` continues a list
        if self.operator in ("", ";", "&") and not self._is_in_group():
            self.statement += 1

    def _is_in_group(self) -> bool:
        """Whether the open block is `( )` or `{ }`, all of which an operator after it takes."""
        kinds = [block.kind for block in self.blocks]
        return kinds[-1:] == ["("] or (kinds[-1:] == ["{"] and kinds[-2:-1] != ["function"])


def read(text: str, span: Span | None = None) -> tuple[list[Simple], set[str]]:
    """Read the commands of a shell's text.

    Args:
        text: The text of the file.
        span: The part to read; None for all of it.

    Returns:
        The commands in their order, without those of substitutions; the names of the functions that the text defines.

    """
    reader = _Reader(text, *(span or (0, len(text))))
    return reader.read(), reader.functions


def word_end(text: str, start: int, end: int, substitutions: list[Span]) -> int:
    """Return the end of a word, and add the places of the commands within it to ``substitutions``."""
    position = start
    while position < end:
        letter = text[position]
        if letter in "<>" and text.startswith("(", position + 1):
            position = _inner(text, position + 1, end, substitutions)
        elif letter in _ENDS_WORD:
            break
        elif letter == "\\":
            position += 2
        elif letter == "'":
            position = closing(text, position, end) + 1
        elif letter == '"':
            position = closing(text, position, end, substitutions) + 1
        elif letter == "`":
            position = _inner(text, position, end, substitutions)
        elif text.startswith("$(", position):
            position = _inner(text, position + 1, end, substitutions)
        elif text.startswith("${", position):
            position = closing(text, position + 1, end, substitutions) + 1
        else:
            position += 1
    return min(position, end)


def _inner(text: str, start: int, end: int, substitutions: list[Span]) -> int:
    stop = closing(text, start, end)
    if not text.startswith("((", start):  # arithmetic has no commands
        substitutions.append((start + 1, stop))
    return stop + 1


def closing(text: str, start: int, end: int, substitutions: list[Span] | None = None) -> int:
    """Return the place of the sign that closes the one at ``start``: a quote, parenthesis, brace or backquote.

    Args:
        text: The text.
        start: The place of the sign.
        end: The end of the part to read, which is the answer if nothing closes the sign.
        substitutions: A list to which the places of the outermost commands within quotes or braces are added.

    """
    if text[start] == "'":
        stop = text.find("'", start + 1, end)
        return stop if stop >= 0 else end
    stack: list[tuple[str, int]] = [(text[start], start)]
    position = start + 1
    while position < end:
        letter, top = text[position], stack[-1][0]
        if letter == "\\":
            position += 1
        elif top == '"' and letter == '"':
            stack.pop()
        elif (top == "`" and letter == "`") or (top in "({" and letter == {"(": ")", "{": "}"}[top]):
            _leave(stack, position, substitutions)
        elif text.startswith(("$(", "${"), position):
            position += 1
            stack.append((text[position], position))
        elif letter == "`":
            stack.append(("`", position))
        elif top != '"' and letter == '"':
            stack.append(('"', position))
        elif top == "(" and letter == "(":
            stack.append(("(", position))
        elif top in "(`" and letter == "'":
            stop = text.find("'", position + 1, end)
            position = stop if stop >= 0 else end
        elif top == "(" and letter == "#" and text[position - 1].isspace():
            stop = text.find("\n", position, end)
            position = stop if stop >= 0 else end
        if not stack:
            return position
        position += 1
    return end


def _leave(stack: list[tuple[str, int]], position: int, substitutions: list[Span] | None) -> None:
    sign, start = stack.pop()
    outermost = all(other in '"{' for other, _ in stack)
    if substitutions is not None and sign in "(`" and outermost and stack:
        substitutions.append((start + 1, position))
