"""``ensure_block``: lines in a file of text between two marks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from nbprovision.files.edited_text import DamagedBlock, EditedText, has_block, with_block, without_block
from nbprovision.files.file_work import check_text
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import parameter

_WHICH = "{mark}"


class EnsureBlock(EditedText, frozen=True, kw_only=True):
    """Lines in a file of text between two marks, by which they are found again; all else in the file stays.

    Several blocks in one file have a ``marker`` each.
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
        "append_newline": "remove it; begin or end the block with an empty line",
        "prepend_newline": "remove it; begin or end the block with an empty line",
    }

    block: Annotated[str, parameter("The lines.")] = ""
    marker: Annotated[
        str, parameter("The two marks, a comment in the file's own language; `{mark}` is `BEGIN` or `END` in them.")
    ] = "# {mark} NBPROVISION MANAGED BLOCK"
    marker_begin: Annotated[str, parameter("What `{mark}` is in the first mark.")] = "BEGIN"
    marker_end: Annotated[str, parameter("What `{mark}` is in the last.")] = "END"

    def check(self) -> None:
        """Check what can be known without looking at the file."""
        super().check()
        for key in ("block", "marker", "marker_begin", "marker_end"):
            check_text(key, getattr(self, key))
        if _WHICH not in self.marker or self.marker_begin == self.marker_end:
            raise ParameterError(
                "marker" if _WHICH not in self.marker else "marker_end",
                "the two marks of the block would be the same",
                cure="write {mark} in `marker`, which becomes BEGIN and END",
            )
        for key in ("marker", "marker_begin", "marker_end"):
            if "\n" in getattr(self, key) or "\r" in getattr(self, key):
                raise ParameterError(key, f"`{key}` has a line end in it")
        if self.state == "present" and not self.block.strip():
            raise ParameterError("block", "ensure_block needs `block`", cure="give its lines, or write state: absent")
        if {line.rstrip() for line in self.block.splitlines()} & {self._begin, self._end}:
            raise ParameterError("block", "one of the block's lines is a mark of the block itself")

    def is_new(self, text: str) -> bool:
        """Whether the block is added: its marks are not there."""
        return not has_block(text, self._begin, self._end)

    def edit(self, text: str) -> str:
        """The text with the block, or without it.

        Raises:
            TaskFailed: one of the marks is missing, or there are several.

        """
        try:
            if self.state == "absent":
                return without_block(text, self._begin, self._end)
            return with_block(text, self._begin, self._end, self.block, self.place())
        except DamagedBlock:
            raise TaskFailed(
                f"the block in {self.path} cannot be told from the rest of it",
                cause=f"its marks, '{self._begin}' and '{self._end}', are not there once each, one behind the other",
                cure="mend the marks by hand, or remove them together with what stands between them",
            ) from None

    @property
    def _begin(self) -> str:
        return self.marker.replace(_WHICH, self.marker_begin).rstrip()

    @property
    def _end(self) -> str:
        return self.marker.replace(_WHICH, self.marker_end).rstrip()
