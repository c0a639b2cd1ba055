"""An installed R, its libraries and the packages in them, by files alone: no R is started.

The folders are those that R's own start-up computes (https://stat.ethz.ch/R-manual/R-devel/library/base/html/libPaths.html).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.machine import environments
from nbprovision.machine.machine import Machine
from nbprovision.r.description import NAME, Description, descriptions, series
from nbprovision.system import inputs, trust
from nbprovision.system.reading import read_bytes

# In the folder of a package that this tool installed; so it is not one of the platform's image.
MARK = environments.MADE_BY_US
LIBRARY = "R_LIBS_USER"
_HOME = re.compile(r"^R_HOME_DIR=['\"]?([^'\"\n]+)['\"]?$", re.MULTILINE)
_PLATFORM = re.compile(r"^R_PLATFORM=\$\{R_PLATFORM:?-'?([^}']*)", re.MULTILINE)
_SITE = re.compile(r"^R_LIBS_SITE=\$\{R_LIBS_SITE:?-'?([^}']*)", re.MULTILINE)

Owner = Literal["", "R", "conda", "image", "another library"]


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """An R.

    Attributes:
        program: The command that starts it.
        home: Its folder, R_HOME.
        version: Its version; empty for a folder without a working R.
        prefix: The environment that it is in, if a task names one.
        library: The folder that packages are installed into.
        others: The other folders in which it finds packages, the first one preferred.

    """

    program: Path
    home: Path
    version: str
    prefix: Path | None
    library: Path
    others: tuple[Path, ...]

    @property
    def libraries(self) -> tuple[Path, ...]:
        """All folders in which it finds packages, the first one preferred."""
        return (self.library, *self.others)


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """An installed package.

    Attributes:
        description: Its DESCRIPTION.
        path: Its folder.
        owner: What brought it, if a task may not change it.

    """

    description: Description
    path: Path
    owner: Owner = ""


def find(machine: Machine, prefix: Path | None) -> Installation | None:
    """The R of an environment, or the R on the PATH.

    Args:
        machine: The facts.
        prefix: The environment; None for the R on the PATH.

    Returns:
        None if there is none.

    """
    path = str(prefix / "bin/R") if prefix is not None else _on_path(machine)
    if path is None:
        return None
    program = Path(path)
    inputs.file(program)
    home = _home(program)
    if home is None:
        return None
    version = next((base.version for base in _described(home / "library/base")), "")
    settings = _text(home / "etc/Renviron")
    match = _PLATFORM.search(settings)
    names = {"p": match[1] if match else "", "v": series(version), "V": version}
    requested = machine.environment.get(LIBRARY) if prefix is not None else machine.env.get(LIBRARY)
    own = [_expanded(text, names, machine) for text in (requested or "").split(":") if text]
    system = home / "library"
    if prefix is not None:
        folders = [*own, system]
    else:
        match = _SITE.search(settings)
        site = machine.env.get("R_LIBS_SITE") or (match[1] if match and match[1] else "%S")
        user = own or [machine.path(f"~/R/{names['p']}-library/{names['v']}")]
        folders = [*user, *(_site(text, home, names, machine) for text in site.split(":") if text), system]
    library, *others = dict.fromkeys(folders)
    # Root loads no code that others can change: such a library does not count.
    others = [folder for folder in others if trust.fault(folder) is None]
    return Installation(
        program=program, home=home, version=version, prefix=prefix, library=library, others=tuple(others)
    )


def installed(machine: Machine, installation: Installation, names: Sequence[str]) -> dict[str, Package]:
    """The packages of these names and all that they need to be loaded, as far as they are installed.

    Only a whole package counts: R writes ``Meta/package.rds`` at the end of an installation.
    """
    packages: dict[str, Package] = {}
    prefix = installation.prefix
    conda = {record.name for record in environments.installed(prefix)} if prefix is not None else set()
    ahead = list(names)
    with inputs.unrecorded():  # the libraries are the witnesses
        while ahead:
            name = ahead.pop()
            if name in packages or not NAME.fullmatch(name):
                continue
            for library in installation.libraries:
                description = next(iter(_described(library / name)), None)
                if description is None or description.name != name or not description.built:
                    continue
                if not (library / name / "Meta/package.rds").is_file():
                    continue
                owner = _owner(machine, installation, library, description, conda)
                packages[name] = Package(description=description, path=library / name, owner=owner)
                ahead += [needed.name for needed in description.to_load]
                break
    return packages


def dependents(installation: Installation, names: Sequence[str]) -> dict[str, str]:
    """For each of the packages, another package in the library that needs it."""
    needed: dict[str, str] = {}
    with inputs.unrecorded():
        try:
            others = sorted(os.listdir(installation.library))
        except OSError:
            return {}
        for other in others:
            for description in _described(installation.library / other) if other not in names else ():
                needed.update((each.name, other) for each in description.to_load if each.name in names)
    return needed


def _owner(
    machine: Machine, installation: Installation, library: Path, description: Description, conda: set[str]
) -> Owner:
    if description.priority == "base":
        return "R"
    if library != installation.library:
        return "another library"
    if installation.prefix is None or installation.prefix not in library.parents:
        return ""
    if f"r-{description.name.lower()}" in conda:
        return "conda"
    provided = machine.platform.provided
    of_platform = provided is not None and (provided == installation.prefix or provided in installation.prefix.parents)
    return "image" if of_platform and not (library / description.name / MARK).exists() else ""


def _on_path(machine: Machine) -> str | None:
    return trust.find_program("R", {"PATH": machine.env.get("PATH", os.defpath)}, "/")


def _home(program: Path) -> Path | None:
    """R_HOME as the script that starts R names it; like that script, in lib64 if it is there alone."""
    match = _HOME.search(_text(program))
    if match is None:
        return None
    named = Path(match[1])
    candidates = (named, Path(str(named).replace("/lib/", "/lib64/", 1)))
    return next((home for home in candidates if (home / "library/base/DESCRIPTION").is_file()), None)


def _described(folder: Path) -> list[Description]:
    return list(descriptions(_text(folder / "DESCRIPTION")))[:1]


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _expanded(text: str, names: Mapping[str, str], machine: Machine) -> Path:
    """A folder of R_LIBS_USER or R_LIBS_SITE with its conversions, such as ``%v`` for 4.3."""
    if text == "%U":
        text = "~/R/%p-library/%v"
    return machine.path(re.sub("%([pvV])", lambda match: names[match[1]], text))


def _site(text: str, home: Path, names: Mapping[str, str], machine: Machine) -> Path:
    return home / "site-library" if text == "%S" else _expanded(text, names, machine)


def search_path(folders: Sequence[Path]) -> str:
    """Folders as a variable names them to R, which leaves out those that do not exist."""
    return ":".join(os.fspath(folder) for folder in folders)
