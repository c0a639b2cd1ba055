"""What is in an environment, told by the environment itself: its own Python runs this file, which knows nothing of us.

    PREFIX/bin/python -I -B oracle.py PREFIX [files]

It prints JSON: the distributions by `importlib.metadata`, the packages by conda's records, and with ``files`` every
file whose hash is not the one in its RECORD or in its record's ``paths_data``. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import sys
from typing import Any


def distributions() -> dict[str, list[str]]:
    """Versions by name in lower case, as METADATA tells them; more than one where folders of several lie about."""
    found: dict[str, list[str]] = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name is not None:
            found.setdefault(name.lower().replace("_", "-"), []).append(one.version)
    return found


def records(prefix: str) -> dict[str, list[str]]:
    """Versions by name, as the content of the records in conda-meta tells them."""
    found: dict[str, list[str]] = {}
    for record in _records(prefix):
        found.setdefault(record["name"], []).append(record["version"])
    return found


def harm(prefix: str) -> list[str]:
    """Files that are not as they were installed."""
    wrong = []
    owned_by_pip = set()
    for one in importlib.metadata.distributions():
        by_conda = (one.read_text("INSTALLER") or "").strip() == "conda"
        listed = one.files
        if listed is None:
            wrong.append(f"{one.metadata['Name']} has no RECORD")
            continue
        for file in listed:
            path = str(one.locate_file(file))
            if not by_conda:
                owned_by_pip.add(os.path.realpath(path))
            if by_conda or path.endswith(".pyc"):
                continue  # conda's own records tell of these
            if not os.path.exists(path):
                wrong.append(f"{path} is missing")
            elif file.hash is not None:
                digest = hashlib.new(file.hash.mode, _read(path)).digest()
                if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                    wrong.append(f"{path} has another content")
    for record in _records(prefix):
        for entry in record["paths_data"]["paths"]:
            path = os.path.join(prefix, entry["_path"])
            if entry["_path"].endswith(".pyc") or os.path.realpath(path) in owned_by_pip:
                continue
            if not os.path.lexists(path):
                wrong.append(f"{path} is missing")
            elif entry.get("path_type") == "hardlink":
                wanted = entry.get("sha256_in_prefix") or (None if entry.get("prefix_placeholder") else entry["sha256"])
                if wanted is not None and hashlib.sha256(_read(path)).hexdigest() != wanted:
                    wrong.append(f"{path} has another content")
    return wrong


def _records(prefix: str) -> list[dict[str, Any]]:
    folder = os.path.join(prefix, "conda-meta")
    return [json.loads(_read(os.path.join(folder, name))) for name in os.listdir(folder) if name.endswith(".json")]


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


if __name__ == "__main__":
    where = sys.argv[1]
    answer: dict[str, Any] = {"prefix": sys.prefix, "distributions": distributions(), "records": records(where)}
    if "files" in sys.argv[2:]:
        answer["harm"] = harm(where)
    json.dump(answer, sys.stdout)
