"""``ensure_line``: one line in a file of text."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from nbprovision.files.edited_text import EditedText, Place, check_pattern, has_line, with_line, without_line
from nbprovision.files.file_work import check_text
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import Needs
from nbprovision.model.task import parameter


class EnsureLine(EditedText, frozen=True, kw_only=True):
    r"""A line in a file of text; all else in the file stays, line ends and comments too.

    With ``regexp`` the last line that matches becomes ``line``; where none matches, and the line is not there, it is
    added. With ``state: absent`` every line that matches goes.
    """

    relations = (*EditedText.relations, Needs("backrefs", ("regexp",)))
    examples: ClassVar[str] = """
- name: More history in every shell
  ensure_line:
    path: ~/.bashrc
    regexp: ^export HISTSIZE=
    line: export HISTSIZE=100000
    create: true
- name: The same alias nowhere twice
  ensure_line:
    path: ~/.bashrc
    line: alias ll='ls -l'
    insertafter: ^export HISTSIZE=
- name: No other prompt
  ensure_line:
    path: ~/.bashrc
    regexp: ^PS1=
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **EditedText.habits,
        "regex": "write regexp:",
        "search_string": "write regexp:, with a backslash before characters that mean something there",
        "value": "write line:",
    }

    line: Annotated[str | None, parameter("The line, without its end.")] = None
    regexp: Annotated[
        str | None,
        parameter("What the line looks like before, as a regular expression of Python that is searched in each line."),
    ] = None
    backrefs: Annotated[
        bool, parameter(r"`\1` or `\g<name>` in `line` is what a group of `regexp` matched; no match, no change.")
    ] = False
    firstmatch: Annotated[
        bool, parameter("The first line that matches is meant, not the last; of `insertafter` and `insertbefore` too.")
    ] = False

    def check(self) -> None:
        """Check what can be known without looking at the file."""
        super().check()
        check_text("line", self.line)
        check_pattern("regexp", self.regexp)
        if self.line is None and (self.state == "present" or self.regexp is None):
            raise ParameterError("line", "ensure_line needs `line`", cure="write the line as it is to be")
        if self.line is not None and ("\n" in self.line or "\r" in self.line):
            raise ParameterError("line", "`line` has a line end in it", cure="use ensure_block for several lines")
        if self.backrefs and self.line is not None and self.state == "present":
            try:
                re.sub(self.regexp or "", self.line, "")  # reads the line before it looks for a match
            except (re.error, IndexError) as error:
                raise ParameterError("line", "`line` names a group that `regexp` lacks", cause=str(error)) from None

    def place(self) -> Place:
        """Where the line goes if it is new."""
        return super().place()._replace(first=self.firstmatch)

    def is_new(self, text: str) -> bool:
        """Whether the line is added: it is not there, and takes no other's place."""
        return not self.backrefs and not has_line(text, self.line or "", pattern=self.regexp)

    def edit(self, text: str) -> str:
        """The text with the line, or without it."""
        if self.state == "absent":
            return without_line(text, self.line, pattern=self.regexp)
        return with_line(
            text,
            self.line or "",
            pattern=self.regexp,
            place=self.place(),
            first=self.firstmatch,
            groups=self.backrefs,
        )
