"""A wheel from a Python package index as a conda package.

Wheels: https://packaging.python.org/en/latest/specifications/binary-distribution-format/. Pure wheels become
``noarch: python``, for every Python at once; the others one package for one minor version.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from packaging.markers import default_environment
from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from nbprovision.channel.package import PLACEHOLDER, Package

# The names of conda-forge, so that a playbook for conda-forge works with this channel too.
_CONDA_NAMES = {
    "jupyter-client": "jupyter_client",
    "jupyter-core": "jupyter_core",
    "stack-data": "stack_data",
    "pure-eval": "pure_eval",
    "typing-extensions": "typing_extensions",
    "ipython-pygments-lexers": "ipython_pygments_lexers",
    "prompt-toolkit": "prompt-toolkit",
    "ruamel-yaml": "ruamel.yaml",
    "msgpack": "msgpack-python",
    "backports-zstd": "backports.zstd",
}
_THIS_MACHINE = {name: str(value) for name, value in default_environment().items()}
# Files that the linker or `convert` writes.
_LEFT_OUT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def conda_name(name: str) -> str:
    """The conda name of a distribution."""
    canonical = canonicalize_name(name)
    return _CONDA_NAMES.get(canonical, canonical)


def is_pure(wheel: Path) -> bool:
    """Whether a wheel fits every Python and machine."""
    return all(tag.platform == "any" for tag in parse_wheel_filename(wheel.name)[3])


def match_spec(requirement: Requirement) -> str:
    """The conda match spec of a requirement, without its marker and extras.

    PEP 440 differs from https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html: ``===`` is
    ``==``, ``==1.*`` is ``1.*``, and ``<2`` must exclude 2.0rc1, which is less than 2 for conda.
    """
    clauses = []
    for specifier in sorted(requirement.specifier, key=str):
        operator, version = specifier.operator, specifier.version
        if operator == "==" and version.endswith(".*"):
            clauses.append(version)
        elif operator == "===":
            clauses.append(f"=={version}")
        elif operator == "<" and version.replace(".", "").isdigit():
            # The first of its pre-releases, for any number of zeros in the version: 2a0 < 2rc1 < 2.0rc1.
            clauses.append("<" + re.sub(r"(\.0)+$", "", version) + "a0")
        else:
            clauses.append(f"{operator}{version}")
    name = conda_name(requirement.name)
    return f"{name} {','.join(clauses)}" if clauses else name


def convert(wheel: Path, minors: Collection[str], extras: Mapping[str, Collection[str]]) -> Package:
    """Make the package of a wheel.

    Args:
        wheel: Its file.
        minors: The Pythons to serve, such as ``3.11``: several for a pure wheel, one for any other.
        extras: Requested extras by canonical name; their requirements become dependencies.
    """
    name, version, _, _ = parse_wheel_filename(wheel.name)
    pure = is_pure(wheel)
    with zipfile.ZipFile(wheel) as archive:
        folder = next(n.split("/")[0] for n in archive.namelist() if n.split("/")[0].endswith(".dist-info"))
        metadata, _ = parse_email(archive.read(f"{folder}/METADATA"))
        depends = {*_dependencies(metadata, minors, extras.get(name, ())), _python(metadata, minors, pure=pure)}
        minor = next(iter(minors))
        package = Package(
            conda_name(name),
            str(version),
            "pyh0000000_0" if pure else f"py{minor.replace('.', '')}h0000000_0",
            noarch="python" if pure else None,
            depends=tuple(depends),
            license=metadata.get("license_expression") or metadata.get("license", "").split("\n")[0][:60],
        )
        site = "site-packages" if pure else f"lib/python{minor}/site-packages"
        for path, content, executable in _members(archive, folder):
            _place(package, site, folder, path, content, executable=executable)
        entry_points = _entry_points(archive, folder)
    package.add(f"{site}/{folder}/INSTALLER", b"conda\n")
    package.add(f"{site}/{folder}/RECORD", _record(package, site, folder))
    if pure:
        package.entry_points = entry_points
    else:
        for entry_point in entry_points:
            _add_command(package, entry_point)
    package.about = {"summary": metadata.get("summary", ""), "home": metadata.get("home_page", "")}
    return package


def _dependencies(metadata: RawMetadata, minors: Collection[str], extras: Collection[str]) -> Iterator[str]:
    environments = [
        {**_THIS_MACHINE, "python_version": minor, "python_full_version": f"{minor}.0", "extra": extra}
        for minor in minors
        for extra in ("", *extras)
    ]
    for text in metadata.get("requires_dist", []):
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate(env) for env in environments):
            yield match_spec(requirement)


def _python(metadata: RawMetadata, minors: Collection[str], *, pure: bool) -> str:
    if pure:
        wanted = metadata.get("requires_python")
        return match_spec(Requirement(f"python {wanted}")) if wanted else "python"
    major, minor = next(iter(minors)).split(".")
    return f"python >={major}.{minor},<{major}.{int(minor) + 1}.0a0"


def _members(archive: zipfile.ZipFile, folder: str) -> Iterator[tuple[str, bytes, bool]]:
    for member in archive.infolist():
        path = member.filename
        own = path.startswith(f"{folder}/") and path.split("/", 1)[1] in _LEFT_OUT
        if not member.is_dir() and not own:
            yield path, archive.read(member), bool(member.external_attr >> 16 & 0o111)


def _place(package: Package, site: str, folder: str, path: str, content: bytes, *, executable: bool) -> None:
    data = folder.removesuffix(".dist-info") + ".data/"
    if not path.startswith(data):
        package.add(f"{site}/{path}", content, executable=executable)
        return
    scheme, _, rest = path.removeprefix(data).partition("/")
    if scheme in ("purelib", "platlib"):
        package.add(f"{site}/{rest}", content, executable=executable)
    elif scheme == "data":
        package.add(rest, content, executable=executable)
    elif scheme == "headers" and not package.noarch:
        minor = site.split("/")[1]
        package.add(f"include/{minor}/{folder.partition('-')[0]}/{rest}", content)
    elif scheme == "scripts":
        ours = content.startswith(b"#!python")
        if ours:
            content = f"#!{PLACEHOLDER}/bin/python".encode() + content[content.index(b"\n") :]
        bin_folder = "python-scripts" if package.noarch else "bin"
        package.add(f"{bin_folder}/{rest}", content, executable=True, placeholder=ours)


def _entry_points(archive: zipfile.ZipFile, folder: str) -> list[str]:
    try:
        text = archive.read(f"{folder}/entry_points.txt").decode()
    except KeyError:
        return []
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return [
        f"{command.strip()} = {target.split('[')[0].strip()}"
        for section in ("console_scripts", "gui_scripts")
        if parser.has_section(section)
        for command, target in parser.items(section)
    ]


def _add_command(package: Package, entry_point: str) -> None:
    command, _, target = (part.strip() for part in entry_point.partition("="))
    module, _, function = target.partition(":")
    text = (
        f"#!{PLACEHOLDER}/bin/python\nimport sys\nfrom {module} import {function.split('.')[0]}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    package.add(f"bin/{command}", text.encode(), executable=True, placeholder=True)


def _record(package: Package, site: str, folder: str) -> bytes:
    """RECORD with digests and sizes, with which pip can uninstall and every tool can check the files."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for path in package.paths:
        if path.startswith(f"{site}/"):
            content = package.content(path)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            writer.writerow((path.removeprefix(f"{site}/"), f"sha256={digest}", len(content)))
    writer.writerow((f"{folder}/RECORD", "", ""))
    return lines.getvalue().encode()
