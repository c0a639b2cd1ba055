"""Builds the documentation site: ``python docs/site/build.py``, in an environment with the extra ``docs``.

The pages stay where they are and are readable in the repository. This script copies them into a folder of its own,
where zensical makes HTML of them. Files outside of ``docs`` that they link to go with them: a playbook becomes a page
with its text, README and CHANGELOG are pages too. A link to anything else is an error, and so is each warning of
zensical: a page or an anchor that does not exist.

    python docs/site/build.py            build/docs/html/index.html is the home page
    python docs/site/build.py --serve    the same at http://localhost:8000, built again after each change
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docs/site/zensical.toml"
_AT_THE_TOP = ("README.md", "CHANGELOG.md", "SECURITY.md")  # pages beside those of docs
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_CELL_CODE = re.compile(r"(?<!`)`[^`\n]+`")
_CATALOGUE = PurePosixPath("playbooks/index.md")


class BrokenLinkError(Exception):
    """A page links to something that is not on the site."""


def place(path: PurePosixPath) -> PurePosixPath | None:
    """Where a file of the repository is on the site, or None if it is not."""
    match path.parts:
        case ["docs", *rest] if rest and rest[0] != "site" and path.suffix != ".py":
            return PurePosixPath(*rest)
        case ["playbooks", *_]:
            return path.with_suffix(".md") if path.suffix == ".yml" else _CATALOGUE if not path.suffix else None
        case [name] if name in _AT_THE_TOP:
            return PurePosixPath(path.name.lower())
    return None


def pages() -> Iterator[tuple[PurePosixPath, bytes]]:
    """Each file of the site before zensical, with its content."""
    playbooks = sorted((ROOT / "playbooks").rglob("*.yml"))
    for path in (*(ROOT / name for name in _AT_THE_TOP), *sorted((ROOT / "docs").rglob("*")), *playbooks):
        source = PurePosixPath(path.relative_to(ROOT))
        target = place(source)
        if target is None or not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".md":
            content = linked(content.decode(), source).encode()
        elif path.suffix == ".yml":
            content = f"# {path.name}\n\n```yaml\n{content.decode().rstrip()}\n```\n".encode()
        yield target, content
    yield _CATALOGUE, catalogue(playbooks).encode()


def linked(text: str, source: PurePosixPath) -> str:
    """A page with its links as they are on the site.

    Raises:
        BrokenLinkError: one leads to a file that is not on the site.

    """

    def replaced(match: re.Match[str]) -> str:
        path = os.path.normpath(source.parent / match[1])
        target = place(PurePosixPath(path))
        if target is None or not (ROOT / path).exists():
            message = f"{source}: the link to {match[1]} leads to nothing on the site"
            raise BrokenLinkError(message)
        anchor = match[2] or ""
        if target == _CATALOGUE:
            anchor = ""
        return f"]({os.path.relpath(target, place(source).parent)}{anchor})"  # type: ignore[union-attr]

    parts = _FENCED.split(text)
    return "".join(part if part.startswith("```") else _cells(_LINK.sub(replaced, part)) for part in parts)


def _cells(text: str) -> str:
    """GitHub wants the bar in code of a table's cell escaped, Python-Markdown shows the backslash."""
    rows = (_CELL_CODE.sub(_bare, line) if line.startswith("|") else line for line in text.splitlines(keepends=True))
    return "".join(rows)


def _bare(match: re.Match[str]) -> str:
    return match[0].replace("\\|", "|")


def catalogue(playbooks: list[Path]) -> str:
    """The page that lists every playbook with the first sentence of its comment."""
    rows = {"playbooks": "", "playbooks/samples": ""}
    for path in playbooks:
        folder = str(path.parent.relative_to(ROOT))
        if folder in rows:
            summary = path.read_text().partition("\n#\n")[0].replace("\n# ", " ").removeprefix("# ")
            name = path.relative_to(ROOT / "playbooks").with_suffix("")
            rows[folder] += f"| [{path.name}]({name}.md) | {summary.partition('. ')[0].rstrip('.')} |\n"
    return (
        "# Playbooks to copy\n\nThe comments in each playbook say what to change. A test runs each one.\n\n"
        f"| playbook | for |\n|---|---|\n{rows['playbooks']}\n"
        "## In place of AWS's sample scripts\n\n[From AWS's samples](../samples.md) says what is better.\n\n"
        f"| playbook | for |\n|---|---|\n{rows['playbooks/samples']}"
    )


def stage(folder: Path) -> None:
    """Write what zensical reads; files that are the same already are left alone, those of a removed page go."""
    files = {folder / "pages" / path: content for path, content in pages()}
    files[folder / "zensical.toml"] = CONFIGURATION.read_bytes()
    for path, content in files.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in (folder / "pages").rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()


def staged(folder: Path) -> bool:
    """Write what zensical reads, or print why that is impossible."""
    try:
        stage(folder)
    except BrokenLinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Build the site, or serve it.

    Returns:
        The exit status: 0, or 1 after a warning or a link that leads to nothing.

    """
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/docs", help="default: build/docs")
    parser.add_argument("--serve", action="store_true", help="show it at http://localhost:8000, and follow changes")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if not staged(folder):
        return 1
    words = ["serve"] if options.serve else ["build", "--strict", "--clean"]
    # mkdocstrings reads the stub of this checkout, whatever else is installed.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "zensical", *words]
    # Control-C ends zensical as well, which says so.
    with subprocess.Popen(argv, cwd=folder, env=env) as zensical, contextlib.suppress(KeyboardInterrupt):
        while options.serve and zensical.poll() is None:
            time.sleep(1)
            staged(folder)
    return int(zensical.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
