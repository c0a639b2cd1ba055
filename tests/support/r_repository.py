"""A repository of R packages that R itself builds, and what R says of a library."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

HAS_R = shutil.which("R") is not None
needs_r = pytest.mark.skipif(not HAS_R, reason="there is no R here: apt-get install r-base-core")


def r(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run R, the program of the system, and return what it prints."""
    done = subprocess.run(
        ["R", *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Repository:
    """A folder as CRAN has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contrib = folder / "src/contrib"
        self.contrib.mkdir(parents=True)

    def add(
        self, name: str, version: str, files: Mapping[str, str] | None = None, *, index: bool = True, **fields: str
    ) -> Path:
        """Build a package whose function ``version_of_NAME`` returns the version, and add it.

        Args:
            name: Its name.
            version: Its version.
            files: Further files by path; a ``configure`` is made executable.
            index: Write PACKAGES again.
            fields: Further fields of DESCRIPTION.

        """
        source = self.folder / "sources" / name
        shutil.rmtree(source, ignore_errors=True)
        described = {
            "Package": name, "Version": version, "Title": "A Package", "Description": "Of a test.", "License": "MIT",
            "Author": "Ada", "Maintainer": "Ada <ada@example.org>", **fields,
        }  # fmt: skip
        content = {
            "DESCRIPTION": "".join(f"{key}: {value}\n" for key, value in described.items()),
            "NAMESPACE": f"export(version_of_{name})\n",
            "R/code.R": f'version_of_{name} <- function() "{version}"\n',
            **(files or {}),
        }
        for path, text in content.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text)
            if path == "configure":
                (source / path).chmod(0o755)
        r("CMD", "build", source, cwd=self.contrib)
        if index:
            self.index()
        return self.contrib / f"{name}_{version}.tar.gz"

    def index(self) -> None:
        """Write PACKAGES, with every version of each package."""
        r("--vanilla", "-s", "-e", "tools::write_PACKAGES('.', latestOnly = FALSE, addFiles = TRUE)", cwd=self.contrib)


def version_in(library: Path, name: str) -> str:
    """The version of a package as the package itself, loaded by R, reports it."""
    code = f"library({name}, lib.loc = commandArgs(TRUE)); cat({name}::version_of_{name}())"
    return r("--vanilla", "-s", "-e", code, "--args", library, env={"R_LIBS": str(library)})


def environment(prefix: Path, *records: str) -> Path:
    """A conda environment with a library, and the real R by links."""
    home = Path(r("RHOME").strip())
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "conda-meta/history").write_text("")
    for record in ("r-base-4.2.2-h0", *records):
        name = record.rsplit("-", 2)[0]
        (prefix / f"conda-meta/{record}.json").write_text(f'{{"name": "{name}", "version": "1.0", "build": "h0"}}')
    for folder in ("", "bin", "library"):
        (prefix / "lib/R" / folder).mkdir(parents=True)
        for entry in (home / folder).iterdir():
            if entry.name not in ("bin", "library") and entry != home / "bin/R":
                (prefix / "lib/R" / folder / entry.name).symlink_to(entry)
    for path in (prefix / "lib/R/bin/R", prefix / "bin/R"):
        text = (home / "bin/R").read_text().replace(str(home), str(prefix / "lib/R"))
        path.write_text(text)
        path.chmod(0o755)
    return prefix
