"""``ensure_line``: one line in a text file."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from nbprovision.files.edited_text import EditedText
from nbprovision.files.file_work import check_text
from nbprovision.files.text import Edit, Place, check_pattern, with_line, without_line
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import Needs
from nbprovision.model.task import parameter


class EnsureLine(EditedText, frozen=True, kw_only=True):
    r"""Create and maintain a line in a text file; all other lines stay.

    ``line`` replaces the last line that matches ``regexp``. If no line matches and the line is missing, it is added.
    ``state: absent`` removes every matching line.
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
        "search_string": "write regexp:, with a backslash before special characters",
        "value": "write line:",
    }

    line: Annotated[str | None, parameter("The line, without its end.")] = None
    regexp: Annotated[
        str | None,
        parameter("Python regular expression, searched in each line, of the line to replace or remove."),
    ] = None
    backrefs: Annotated[
        bool,
        parameter(r"`\1` or `\g<name>` in `line` stands for a group of `regexp`; without a match nothing changes."),
    ] = False
    firstmatch: Annotated[
        bool, parameter("Use the first matching line, not the last, also for `insertafter` and `insertbefore`.")
    ] = False

    def check(self) -> None:
        """Check the parameters without looking at the file."""
        super().check()
        check_text(self, "line")
        check_pattern("regexp", self.regexp)
        if self.line is None and (self.state == "present" or self.regexp is None):
            raise ParameterError("line", "ensure_line needs `line`", cure="write the whole line")
        if self.line is not None and ("\n" in self.line or "\r" in self.line):
            raise ParameterError("line", "`line` contains a line end", cure="use ensure_block for several lines")
        if self.backrefs and self.line is not None and self.state == "present":
            try:
                re.sub(self.regexp or "", self.line, "")  # checks the groups without a match, too
            except (re.error, IndexError) as error:
                raise ParameterError("line", "`line` names a group that `regexp` lacks", cause=str(error)) from None

    @property
    def place(self) -> Place:
        """The place of a new line."""
        return super().place._replace(first=self.firstmatch)

    def edit(self, text: str) -> Edit:
        """Write or remove the line."""
        if self.state == "absent":
            return without_line(text, self.line, self.regexp)
        return with_line(text, self.line or "", self.regexp, self.place, groups=self.backrefs)
