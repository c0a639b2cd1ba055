"""Everything of a release but the upload: ``.venv-test/bin/python tools/release.py --help``, and docs/releasing.md.

The version is that of ``pyproject.toml``. Programs that cannot read it there have copies, and so do examples in the
documentation: ``version`` writes all of them, and ``check`` compares them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tomlkit
from packaging.version import Version
from uv import find_uv_bin

NAME = "nbprovision"
PROJECT = "pyproject.toml"
CHANGES = "CHANGELOG.md"
_VERSION = r"([0-9]+\.[0-9]+\.[0-9]+)"  # PyPI and Ansible Galaxy write others in different ways
# The text around each copy of the version.
COPIES = {
    PROJECT: r'^version = "@"',
    "nbprovision/__init__.py": r'^__version__ = "@"',
    "bootstrap.sh": r"^version=@$",
    "ansible/galaxy.yml": r"^version: @$",
    "ansible/README.md": r"nbprovision-notebook-@\.tar\.gz",
    "docs/ansible.md": r"nbprovision-notebook-@\.tar\.gz",
    "docs/fleet.md": r"wheels/nbprovision-@-",
    "docs/lint.md": r"rev: v@$",
    "docs/operations.md": r" version=@ hook=",
    "docs/reference.md": r" version=@ hook=",
    "scripts/nbprovision.1": r"nbprovision==@",
}
_UNRELEASED = "## [Unreleased]\n"
_HEADING = re.compile(rf"^## \[{_VERSION}\] - \d{{4}}-\d\d-\d\d$", re.MULTILINE)
_PLACEHOLDER = "example.com"


class Problem(NamedTuple):
    """Why a release cannot be made, and what to do about it."""

    message: str
    cure: str


class Failed(Exception):
    """A step has failed."""


def version_of(root: Path) -> str:
    """The version of the project."""
    return str(_project(root)["version"])


def address_of(root: Path) -> str:
    """The public address of the repository."""
    return str(_project(root)["urls"]["Repository"])


def _project(root: Path) -> dict[str, dict[str, str]]:
    project: dict[str, dict[str, str]] = tomlkit.parse((root / PROJECT).read_text()).unwrap()["project"]
    return project


def set_version(root: Path, version: str, today: dt.date) -> None:
    """Write a version into every copy, and give the changes since the last one its heading.

    Raises:
        Failed: it is not three numbers, it is older than the present one, or nothing has changed.

    """
    if not re.fullmatch(_VERSION, version):
        raise Failed(f"'{version}' is not a version of three numbers, such as 1.2.0")
    if Version(version) < Version(version_of(root)):
        raise Failed(f"{version} is older than {version_of(root)}")
    changes = (root / CHANGES).read_text()
    if not _unreleased(changes):
        raise Failed(f"{CHANGES} has no changes below '{_UNRELEASED.strip()}'")
    for name, around in COPIES.items():
        text = (root / name).read_text()
        (root / name).write_text(_pattern(around).sub(lambda match: _replaced(match, version), text))
    heading = f"{_UNRELEASED}\n## [{version}] - {today.isoformat()}\n"
    (root / CHANGES).write_text(changes.replace(_UNRELEASED, heading, 1))


def _replaced(match: re.Match[str], version: str) -> str:
    start, end = (place - match.start() for place in match.span(1))
    return match[0][:start] + version + match[0][end:]


def _pattern(around: str) -> re.Pattern[str]:
    return re.compile(around.replace("@", _VERSION), re.MULTILINE)


def _unreleased(changes: str) -> str:
    """The changes that have no version yet."""
    return re.split(r"^## ", changes.partition(_UNRELEASED)[2], flags=re.MULTILINE)[0].strip()


def set_address(root: Path, address: str) -> None:
    """Write a public address of the repository in the place of the present one, in every file that has it."""
    present = address_of(root)
    for name in _git(root, "grep", "-lF", present).splitlines():
        path = root / name
        path.write_text(path.read_text().replace(present, address))


def copies(root: Path) -> Iterator[Problem]:
    """Copies of the version that differ from that of the project."""
    version = version_of(root)
    for name, around in COPIES.items():
        values = {match[1] for match in _pattern(around).finditer((root / name).read_text())}
        if values != {version}:
            written = ", ".join(sorted(values)) or "none"
            yield Problem(
                f"{name}: the version is {written}, not {version}", f"run: tools/release.py version {version}"
            )


def problems(root: Path) -> Iterator[Problem]:
    """Everything that keeps the commit that is checked out from being released."""
    version = version_of(root)
    tag = f"v{version}"
    yield from copies(root)
    changes = (root / CHANGES).read_text()
    newest = _HEADING.search(changes)
    if newest is None or newest[1] != version:
        written = f"the newest version is {newest[1]}" if newest else "no version has a heading"
        yield Problem(f"{CHANGES}: {written}, not {version}", f"run: tools/release.py version {version}")
    elif _unreleased(changes):
        yield Problem(
            f"{CHANGES}: there are changes after {version}", "move them below its heading, or release a newer one"
        )
    if _PLACEHOLDER in address_of(root):
        yield Problem(
            f"{PROJECT}: the public address is a placeholder, {address_of(root)}",
            "run: tools/release.py address URL; then: .venv-test/bin/python -m tests.regenerate",
        )
    if _git(root, "status", "--porcelain"):
        yield Problem("some files are not committed", "commit them: git status lists them")
    tagged = _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}", check=False)
    if not tagged:
        yield Problem(f"the tag {tag} does not exist", f"create it: git tag -a {tag} -m '{NAME} {version}'")
    elif tagged != _git(root, "rev-parse", "HEAD"):
        yield Problem(f"the tag {tag} names another commit", f"check it out: git checkout {tag}; or raise the version")
    others = [name for name in _git(root, "tag", "--points-at", "HEAD", "v*").splitlines() if name != tag]
    if others:
        yield Problem(f"this commit has the tag {others[0]} too", f"the version is {version}: delete the wrong tag")


def build(root: Path, dist: Path) -> None:
    """Build the source distribution, from it the wheel, and the collection; check them, and try the wheel.

    Raises:
        Failed: a step has failed; ``dist`` has what it was about.

    """
    version = version_of(root)
    shutil.rmtree(dist, ignore_errors=True)
    uv = find_uv_bin()
    _run([uv, "build", "--out-dir", str(dist), str(root)])
    sdist, wheel = dist / f"{NAME}-{version}.tar.gz", dist / f"{NAME}-{version}-py3-none-any.whl"
    _run([uv, "tool", "run", "twine", "check", "--strict", str(sdist), str(wheel)])
    complete(root, sdist, wheel)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        sources = Path(folder, sdist.name.removesuffix(".tar.gz"))
        try_out(wheel, sources, Path(folder, "machine"), version)
        galaxy = [uv, "tool", "run", "--from", "ansible-core", "ansible-galaxy", "collection", "build"]
        _run([*galaxy, "--output-path", str(dist), str(sources / "ansible")])


def complete(root: Path, sdist: Path, wheel: Path) -> None:
    """Compare the content of both distributions with the files that git has.

    Raises:
        Failed: a file is missing, or is there by mistake.

    """
    version = version_of(root)
    tracked = set(_git(root, "ls-files").splitlines())
    with tarfile.open(sdist) as archive:
        inner = {name.partition("/")[2] for name in archive.getnames()}
    package = {name for name in tracked if name.startswith(f"{NAME}/")}
    data = f"{NAME}-{version}.data"
    with zipfile.ZipFile(wheel) as zipped:
        files = {name for name in zipped.namelist() if not name.startswith(f"{NAME}-{version}.dist-info/")}
    installed = {f"{data}/scripts/{NAME}", f"{data}/data/share/man/man1/{NAME}.1"}
    for distribution, names, wanted in ((sdist, inner, tracked | {"PKG-INFO"}), (wheel, files, package | installed)):
        if names != wanted:
            lines = [f"  missing: {name}" for name in sorted(wanted - names)]
            lines += [f"  by mistake: {name}" for name in sorted(names - wanted)]
            raise Failed("\n".join([f"{distribution.name} is not what git has:", *lines]))


def try_out(wheel: Path, sources: Path, machine: Path, version: str) -> None:
    """Install the wheel for a new user, and use it: help, schema, completion, lint, and two runs of a playbook.

    Args:
        wheel: The wheel.
        sources: The unpacked source distribution, with the playbooks.
        machine: A folder that does not exist yet, for the environment and the user's home folder.
        version: The version that the wheel should have.

    Raises:
        Failed: a command has failed, or printed something else.

    """
    venv, home = machine / "venv", machine / "home"
    home.mkdir(parents=True)
    uv = find_uv_bin()
    _run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(venv)])
    _run([uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), str(wheel)])
    settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "HTTP"))}
    env = {**settings, "HOME": str(home), "PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def prints(words: str, expected: str) -> None:
        output = _run([str(venv / "bin" / NAME), *words.split()], env=env, cwd=sources)
        if expected not in output:
            raise Failed(f"{NAME} {words} does not print '{expected[:80]}' but:\n{output[:2000]}")

    prints("--version", f"{NAME} {version}")
    prints("doc", "ensure_conda_env")
    prints("schema", (sources / "docs/playbook.schema.json").read_text())
    prints("completion bash", "complete ")
    prints("lint playbooks/quickstart.yml playbooks/sagemaker.yml", "errors=0 warnings=0")
    prints("run playbooks/quickstart.yml", "failed=0")
    prints("run playbooks/quickstart.yml", "changed=0")
    if not (venv / f"share/man/man1/{NAME}.1").is_file():
        raise Failed(f"the wheel has not installed the man page of {NAME}")


def _git(root: Path, *words: str, check: bool = True) -> str:
    return _run(["git", "-C", str(root), *words], check=check, shown=False).strip()


def _run(
    argv: list[str],
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    *,
    check: bool = True,
    shown: bool = True,
) -> str:
    """Run a command and return its standard output."""
    if shown:
        print("+", *argv, flush=True)
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failed(f"{argv[0]} {argv[1]}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main(argv: list[str], root: Path) -> int:
    """Run a command line.

    Returns:
        0, or 1 if a step has failed.

    """
    parser = argparse.ArgumentParser(prog="tools/release.py", description="All of a release but the upload.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("version", help="write a version into every copy and a heading into the changelog")
    command.add_argument("version")
    command = commands.add_parser("address", help="write another public address of the repository into every file")
    command.add_argument("url")
    commands.add_parser("check", help="list what keeps the commit that is checked out from being released")
    command = commands.add_parser("build", help="the same; then build, check and try everything that is uploaded")
    command.add_argument("--dist", type=Path, default=root / "dist", help="a folder that is replaced; default: dist")
    options = parser.parse_args(argv)
    try:
        if options.command == "version":
            set_version(root, options.version, dt.datetime.now(dt.timezone.utc).date())
            return 0
        if options.command == "address":
            set_address(root, options.url.rstrip("/"))
            return 0
        obstacles = list(problems(root))
        for problem in obstacles:
            print(f"error: {problem.message}\n  fix: {problem.cure}", file=sys.stderr)
        if obstacles:
            return 1
        if options.command == "build":
            build(root, options.dist)
            print(f"\n{options.dist} is complete. docs/releasing.md has the commands that upload it.")
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).parents[1]))
