"""Other Pythons of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path


def python_of(version: str) -> str | None:
    """The interpreter of a version such as ``3.13``, on the PATH or of pyenv in the account's home folder."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    named = shutil.which(f"python{version}")
    for candidate in (named, *map(str, home.glob(f".pyenv/versions/{version}.*/bin/python{version}"))):
        # A shim of pyenv's may be on the PATH for a version that it does not start.
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
            return candidate
    return None
