"""A conda channel of small made-up packages, for solves that need nothing real."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLACEHOLDER = "/opt/placeholder" + "_placeholder" * 12


class TinyChannel:
    """A channel in a folder; ``add`` writes a package and the index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = path.as_uri()
        self._index: dict[str, dict[str, Any]] = {"noarch": {}, "linux-64": {}}
        self._write()

    def add(
        self,
        name: str,
        version: str,
        *,
        build: str = "0",
        build_number: int = 0,
        depends: Sequence[str] = (),
        constrains: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        links: Mapping[str, str] | None = None,
        listed: Sequence[str] = (),
        noarch: str = "generic",
        entry_points: Sequence[str] = (),
        subdir: str = "noarch",
    ) -> None:
        """Write ``NAME-VERSION-BUILD.tar.bz2``; by default it holds one file, ``share/NAME.txt`` with its version.

        A file that holds PLACEHOLDER gets the prefix in its place. ``links`` are symbolic, ``listed`` are files of the
        list that the archive does not have.
        """
        content = {f"share/{name}.txt": f"{name} {version}\n"} if files is None else dict(files)
        links = links or {}
        stem = f"{name}-{version}-{build}"
        index = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": build_number,
            "subdir": subdir,
            **({"noarch": noarch} if subdir == "noarch" else {}),
            "depends": list(depends),
            "constrains": list(constrains),
        }
        paths = [
            {
                "_path": path,
                "path_type": "hardlink",
                **({"prefix_placeholder": PLACEHOLDER, "file_mode": "text"} if PLACEHOLDER in text else {}),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "size_in_bytes": len(text.encode()),
            }
            for path, text in {**content, **dict.fromkeys(listed, "x")}.items()
        ]
        paths += [{"_path": path, "path_type": "softlink"} for path in links]
        link = {"noarch": {"type": "python", "entry_points": list(entry_points)}, "package_metadata_version": 1}
        members = {
            "info/index.json": json.dumps(index),
            "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
            "info/files": "".join(f"{path}\n" for path in content),
            **({"info/link.json": json.dumps(link)} if noarch == "python" else {}),
            **content,
        }
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, target in links.items():
                member = tarfile.TarInfo(path)
                member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member)
            for path, text in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(text.encode())
                member.mode = 0o755 if path.startswith("bin/") or path.endswith(".sh") else 0o644
                archive.addfile(member, io.BytesIO(text.encode()))
        data = bz2.compress(stream.getvalue())
        (self.path / subdir).mkdir(exist_ok=True)
        (self.path / subdir / f"{stem}.tar.bz2").write_bytes(data)
        self._index.setdefault(subdir, {})[f"{stem}.tar.bz2"] = {
            **index,
            "size": len(data),
            "md5": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        self._write()

    def drop(self, name: str, *, subdir: str = "noarch", version: str | None = None) -> None:
        """Take a package out of the index, in all versions or in one."""
        self._index[subdir] = {
            file: entry
            for file, entry in self._index[subdir].items()
            if entry["name"] != name or version not in (None, entry["version"])
        }
        self._write()

    def _write(self) -> None:
        for subdir, packages in self._index.items():
            folder = self.path / subdir
            folder.mkdir(parents=True, exist_ok=True)
            document = {"info": {"subdir": subdir}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
            (folder / "repodata.json").write_text(json.dumps(document))
