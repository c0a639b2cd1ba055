"""Files that environments share with the engines' caches, and so with one another, by hard links."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nbprovision.system.files import explained, temporary_beside
from nbprovision.system.log import event


class Shared(NamedTuple):
    """A harmed file of one environment, and the same inode in another."""

    file: Path
    elsewhere: Path


def mend(shared: Iterable[Shared]) -> None:
    """Put the mended file in the place of the harmed one in every environment that shared it.

    Only what is still the harmed inode is replaced, each in one step.

    Raises:
        TaskFailed: a file cannot be written.

    """
    for file, elsewhere in shared:
        with explained(f"cannot mend {elsewhere}"):
            if not file.is_file() or not elsewhere.parent.is_dir():
                continue
            temporary = temporary_beside(elsewhere)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            try:
                os.link(file, temporary)
            except OSError:  # another file system, or no more links
                shutil.copy2(file, temporary)
            os.replace(temporary, elsewhere)
        event("mended", path=str(elsewhere), reason="shared by hard link with a file that was harmed")
