"""Small wheels made by hand, so that pip tasks can be tried without an index."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    requires_python: str = ">=3.8",
    fields: Iterable[str] = (),
) -> Path:
    """Write the wheel of a distribution with one module, named like it, that tells its ``version``.

    ``fields`` are further lines of its METADATA.
    """
    module = name.replace("-", "_")
    stem = f"{module}-{version}"
    content = {f"{module}.py": f"version = {version!r}\n", **(files or {})}
    metadata = [
        "Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Requires-Python: {requires_python}",
        *(f"Requires-Dist: {text}" for text in requires), *fields,
    ]  # fmt: skip
    metadata += [f"Provides-Extra: {extra}" for extra in sorted({t.split('"')[1] for t in requires if "extra ==" in t})]
    content[f"{stem}.dist-info/METADATA"] = "\n".join(metadata) + "\n"
    content[f"{stem}.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in content.items()]
    content[f"{stem}.dist-info/RECORD"] = "\n".join([*rows, f"{stem}.dist-info/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, text in content.items():
            wheel.writestr(path, text)
    return target


def make_project(folder: Path) -> Path:
    """A project `mine` 0.1 with one module; its build backend is its own, as there may be no index to fetch one from."""
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("x = 1\n")
    (folder / "backend.py").write_text(_BACKEND)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "mine"\nversion = "0.1"\n'
    )
    return folder


def make_refusing_sdist(folder: Path, name: str, version: str, says: str) -> Path:
    """Write a source distribution that cannot be built: its backend raises what it ``says``."""
    stem = f"{name}-{version}"
    backend = f"def build_wheel(*arguments, **keywords):\n    raise SystemExit({says!r})\n"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{stem}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return folder / f"{stem}.tar.gz"


_BACKEND = """
import os, sys, zipfile

def _write(folder, editable):
    name = "mine-0.1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        if editable:
            wheel.writestr("mine.pth", os.getcwd() + "\\n")
        else:
            wheel.write("mine.py", "mine.py")
        wheel.writestr("mine-0.1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 0.1\\n")
        wheel.writestr("mine-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        names = [*wheel.namelist(), "mine-0.1.dist-info/RECORD"]
        wheel.writestr("mine-0.1.dist-info/RECORD", "".join(f"{n},,\\n" for n in names))
    return name

def build_wheel(folder, *arguments, **keywords):
    return _write(folder, False)

def build_editable(folder, *arguments, **keywords):
    return _write(folder, True)
"""


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
