"""The fenced blocks of README and the guides, and the commands of nbprovision in them.

A block of the language `sh` is typed as it is printed. One of `yaml` or `python` is a file, whose name is its first line:
``# mine.yml``. One without a language is what the commands before it print, with ``...`` for what differs. A block that
cannot be run by the tests says so in a comment before it: ``<!-- not run here: why -->``. Nothing else is hidden.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# In the order in which a newcomer reads them.
GUIDES = (
    "README.md", "docs/tutorial.md", "docs/how-to.md", "docs/lifecycle.md", "docs/operations.md", "docs/contributing.md",
)  # fmt: skip
_NOT_RUN = "not run here: "
_OF_BOOTSTRAP = ("--tool", "--sha256", "--index-url")  # each takes a value; the others it hands on
_OPERATOR = re.compile(r"[();<>|&]+")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        line: Its first line in the page.
        language: What stands behind the opening fence; empty for output.
        comment: The comment before it.
        text: What is printed.

    """

    line: int
    language: str
    comment: str
    text: str

    @property
    def not_run(self) -> str:
        """Why the tests do not run it; empty if they do."""
        return self.comment.removeprefix(_NOT_RUN) if self.comment.startswith(_NOT_RUN) else ""

    @property
    def file_name(self) -> str:
        """The name that its first line gives."""
        name = re.match(r"# ([\w-]+\.\w+)\n", self.text)
        return name[1] if name else ""


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text()
    matches = re.finditer(r"(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)```\n", text, re.DOTALL)
    return [Block(text[: match.start(3)].count("\n") + 1, match[2], match[1] or "", match[3]) for match in matches]


def invocations(shell: str) -> Iterator[list[str]]:
    """The arguments of each `nbprovision` in lines of a shell; `bootstrap.sh` is `nbprovision run`."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        for number, word in enumerate(words):
            if word.rpartition("/")[2] not in ("nbprovision", "bootstrap.sh"):
                continue
            if number and words[number - 1] not in ("sh", "sudo") and not _starts_a_command(words[:number]):
                continue
            rest = words[number + 1 :]
            ends = (place for place, following in enumerate(rest) if _OPERATOR.fullmatch(following))
            arguments = rest[: next(ends, len(rest))]
            yield ["run", *_handed_on(arguments)] if word.endswith(".sh") else arguments


def _handed_on(words: list[str]) -> list[str]:
    """What `bootstrap.sh` does not take for itself."""
    own = {place + shift for place, word in enumerate(words) if word in _OF_BOOTSTRAP for shift in (0, 1)}
    return [
        word for place, word in enumerate(words) if place not in own and word.partition("=")[0] not in _OF_BOOTSTRAP
    ]


def _starts_a_command(before: list[str]) -> bool:
    last = before[-1]
    return bool(_OPERATOR.fullmatch(last)) or re.match(r"\w+=", last) is not None or last == "--"
