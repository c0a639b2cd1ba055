"""``ensure_block``: lines between two marks in a text file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from nbprovision.files.edited_text import EditedText
from nbprovision.files.file_work import check_text
from nbprovision.files.text import Edit, with_block
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import parameter

_WHICH = "{mark}"


class EnsureBlock(EditedText, frozen=True, kw_only=True):
    """Create and maintain a block of lines between two marks in a text file; all other lines stay.

    Several blocks in one file need a ``marker`` each.
    """

    examples: ClassVar[str] = """
- name: A host for ssh
  ensure_block:
    path: ~/.ssh/config
    create: true
    mode: "0600"
    block: |
      Host data
        HostName data.example.org
        User ada
- name: Settings of the shell, in a block of their own
  ensure_block:
    path: ~/.bashrc
    create: true
    marker: "# {mark} of the team's settings"
    block: export EDITOR=nano
- name: No such block any more
  ensure_block:
    path: ~/.ssh/config
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **EditedText.habits,
        "content": "write block:",
        "append_newline": "remove it; start or end the block with an empty line",
        "prepend_newline": "remove it; start or end the block with an empty line",
    }

    block: Annotated[str, parameter("The lines.")] = ""
    marker: Annotated[
        str, parameter("The two marks, comments in the file's own language; `{mark}` stands for `BEGIN` or `END`.")
    ] = "# {mark} NBPROVISION MANAGED BLOCK"
    marker_begin: Annotated[str, parameter("Text for `{mark}` in the first mark.")] = "BEGIN"
    marker_end: Annotated[str, parameter("Text for `{mark}` in the last mark.")] = "END"

    def check(self) -> None:
        """Check the parameters without looking at the file."""
        super().check()
        check_text(self, "block", "marker", "marker_begin", "marker_end")
        if _WHICH not in self.marker or self.marker_begin == self.marker_end:
            raise ParameterError(
                "marker" if _WHICH not in self.marker else "marker_end",
                "the two marks of the block would be the same",
                cure="write {mark} in `marker`, which becomes BEGIN and END",
            )
        for key in ("marker", "marker_begin", "marker_end"):
            if "\n" in getattr(self, key) or "\r" in getattr(self, key):
                raise ParameterError(key, f"`{key}` contains a line end")
        if self.state == "present" and not self.block.strip():
            raise ParameterError("block", "ensure_block needs `block`", cure="write its lines, or state: absent")
        if {line.rstrip() for line in self.block.splitlines()} & set(self._marks):
            raise ParameterError("block", "one of the block's lines is a mark of the block itself")

    def edit(self, text: str) -> Edit:
        """Write or remove the block.

        Raises:
            TaskFailed: the text contains a mark without the other, or contains the marks several times.

        """
        block = self.block if self.state == "present" else None
        return with_block(text, *self._marks, block, self.place, name=f"the block in {self.path}")

    @property
    def _marks(self) -> tuple[str, str]:
        begin, end = (self.marker.replace(_WHICH, word).rstrip() for word in (self.marker_begin, self.marker_end))
        return begin, end
