"""The files that a playbook is made of: from the disk, or as an earlier run that succeeded has read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nbprovision.playbook.yaml_nodes import Node, decode, parse_nodes, read_file_bytes


class Files:
    """Reads the playbook, the files that it includes, and those of its variables; everything of them goes through here.

    Args:
        kept: Contents by absolute path, which are read in place of the files. Other files are read from the
            disk.
        judge: Called before a file is read from the disk; raises `InvalidPlaybook` for one not to obey.

    Attributes:
        content: What was read, by absolute path.
    """

    def __init__(
        self, kept: Mapping[Path, bytes] | None = None, judge: Callable[[Path], None] = lambda path: None
    ) -> None:
        self._kept = kept or {}
        self.judge = judge
        self.content: dict[Path, bytes] = {}

    def is_kept(self, path: Path) -> bool:
        """Whether ``path`` is read from what was kept."""
        return Path(os.path.abspath(path)) in self._kept

    def nodes(self, path: Path, what: str = "playbook") -> Node | None:
        """The content of a YAML file, or None if there is nothing in it; see `yaml_nodes.read_nodes`."""
        own = Path(os.path.abspath(path))
        data = self._kept.get(own)
        if data is None:
            self.judge(path)
            data = read_file_bytes(path, what)
        self.content[own] = data
        return parse_nodes(decode(data, str(path), what), str(path), what)
