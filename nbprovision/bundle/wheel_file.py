"""Writes wheels whose bytes depend on their files alone.

Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can have


def written(files: Iterable[tuple[str, bytes, bool]]) -> bytes:
    """A wheel of files, each with its name, its content, and whether it is executable."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data, executable in files:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            wheel.writestr(entry, data)
    return content.getvalue()


def with_fixed_times(wheel: bytes) -> bytes:
    """The same wheel without the times of its build."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        return written(
            (entry.filename, archive.read(entry), bool(entry.external_attr >> 16 & 0o111)) for entry in entries
        )
