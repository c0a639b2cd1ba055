"""What conda has on this machine: installations, environments, their packages. Reads files; starts no conda.

The registry of environments and conda's configuration are in the user's home, which a notebook instance loses at each
restart. So the volume is searched for installations and environments that neither conda nor the registry knows: its
folders, and below each the places with the usual names. A search of the whole volume might meet a million files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.machine.condarc import FALLBACK_CHANNEL, NO_DEFAULTS, Condarc, condarc_places, read_condarc
from nbprovision.machine.platform import Platform
from nbprovision.system.inputs import remembered
from nbprovision.system.places import existing
from nbprovision.system.reading import read_bytes
from nbprovision.system.unfinished import is_marked

META = "conda-meta"
# A plain file in conda-meta tells an environment that this tool made; conda reads only *.json and history there.
MADE_BY_US = "nbprovision"
# Where installers put conda unless told otherwise (Miniforge, Miniconda, Anaconda, and the container images).
USUAL_HOMES = ("miniforge3", "miniconda3", "anaconda3", "mambaforge", "micromamba")
_USUAL_ROOTS = ("opt/conda", "opt/miniforge3", "opt/miniconda3", "opt/anaconda3")
# Where the notebook server of an instance runs: https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-add-external.html
_JUPYTER_SERVER = "JupyterSystemEnv"
# Usual names on a volume: of installations (AWS's sample persistent-conda-ebs has custom-miniconda/miniconda), of
# folders of environments, and of conda's own folder of environments.
_HOMES_ON_VOLUME = (*USUAL_HOMES, "miniconda", "anaconda", "miniforge", "conda")
_FOLDERS_OF_ENVIRONMENTS = ("envs", "environments", "conda-envs", "conda_envs", "kernels")
_HIDDEN = (".conda",)
_MOUNTS = Path("/proc/self/mounts")
_MOST_FOLDERS = 200  # of a volume that are searched; names with one of these words come first
_TELLING = ("conda", "mamba", "forge", "env", "kernel")


class Environment(msgspec.Struct, frozen=True):
    """A conda environment on disk.

    Attributes:
        name: ``base`` for an installation's own, else the folder's name.
        prefix: Its folder.
        provided: The platform's image brings it.
        ours: This tool made it.
        unfinished: It is marked as half made or half changed.
        jupyter_server: The platform's Jupyter server runs from it: without it there is no notebook at all.
        looked_up: Only a look over the volume found it: neither conda nor this tool's folders know of it.

    """

    name: str
    prefix: Path
    provided: bool = False
    ours: bool = False
    unfinished: bool = False
    jupyter_server: bool = False
    looked_up: bool = False


class CondaRecord(msgspec.Struct, frozen=True):
    """An installed package, as far as the name of its record in conda-meta tells."""

    name: str
    version: str
    build: str
    path: Path


class CondaFacts:
    """Configuration, installations and environments of conda, each read when first asked for.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        home: The tool's home folder.
        platform: Tells the provided installation and the volume that persists.
        root: The file system's root; another folder in tests.
        expected: Configuration files as tasks of the playbook are going to leave them.

    """

    def __init__(
        self,
        env: Mapping[str, str],
        user_home: Path,
        home: Path,
        platform: Platform,
        root: Path = Path("/"),
        expected: Mapping[Path, str | None] | None = None,
    ) -> None:
        self.env = env
        self.user_home = user_home
        self.home = home
        self.platform = platform
        self.root = root
        self.expected = dict(expected or {})

    @remembered
    def base(self) -> Path | None:
        """The installation that ``conda`` on this machine means, None where there is none."""
        return next(iter(self.installations), None)

    @remembered
    def installations(self) -> list[Path]:
        """Base prefixes, the one in use first: by CONDA_EXE, on the PATH, the platform's, usual places, the volume."""
        return [place for place in self.places if is_environment(place)]

    @remembered
    def places(self) -> list[Path]:
        """Where an installation may be, whether or not there is one."""
        return list(dict.fromkeys([*self._known_places, *self._on_volume.installations]))

    @remembered
    def _known_places(self) -> list[Path]:
        """Those of them that need no look over the volume."""
        return list(dict.fromkeys(Path(os.path.abspath(place)) for place in self._candidates()))

    @remembered
    def executable(self) -> Path | None:
        """The conda command, None where there is none."""
        named = self.env.get("CONDA_EXE", "")
        places = [Path(named)] if os.path.isabs(named) else []
        places += [base / "bin/conda" for base in self.installations]
        return next((place for place in places if os.access(place, os.X_OK)), None)

    @remembered
    def condarc(self) -> Condarc:
        """Conda's configuration, merged as conda merges it."""
        return read_condarc(self.env, self.user_home, self.base, self.root, self.expected)

    @property
    def condarc_places(self) -> list[Path]:
        """Every place where a file of that configuration is or would be."""
        return condarc_places(self.env, self.user_home, self.base, self.root)

    @remembered
    def envs_dirs(self) -> list[Path]:
        """Folders whose children are environments that conda knows by name, in conda's order.

        The configured ones, then ``envs`` of the installation and ``~/.conda/envs``, the writable one of the two first
        (conda.base.context.Context.envs_dirs).
        """
        configured = [self._path(folder) for folder in self.condarc.envs_dirs]
        fixed = [self.user_home / ".conda/envs"]
        if self.base is not None:
            fixed.insert(0 if _writable(self.base) else 1, self.base / "envs")
        return list(dict.fromkeys([*configured, *fixed]))

    @remembered
    def pkgs_dirs(self) -> list[Path]:
        """Conda's package caches, in its order; empty where none is configured and no conda is there."""
        configured = self.configured_pkgs_dirs
        if configured or self.base is None:
            return configured
        return [self.base / "pkgs", self.user_home / ".conda/pkgs"]

    @property
    def configured_pkgs_dirs(self) -> list[Path]:
        """The package caches that somebody asked for."""
        return [self._path(folder) for folder in self.condarc.pkgs_dirs]

    def channels(self, asked: Iterable[str] = ()) -> list[str]:
        """URLs of the channels to solve from, the first one preferred.

        Args:
            asked: What the user named; default the configured ones, else conda-forge.

        """
        named = [name for name in asked if name != NO_DEFAULTS]
        names = named or list(self.condarc.channels) or [FALLBACK_CHANNEL]
        return list(dict.fromkeys(url for name in names for url in self.condarc.urls(name)))

    @property
    def registry(self) -> Path:
        """The list of environments outside ``envs_dirs``, which ``conda env list`` reads."""
        return self.user_home / ".conda/environments.txt"

    @property
    def registered(self) -> list[Path]:
        """The prefixes in the registry, whether or not they still exist; read again each time."""
        try:
            lines = read_bytes(self.registry).decode("utf-8", "surrogateescape").splitlines()
        except OSError:
            return []
        return [Path(line.strip()) for line in lines if os.path.isabs(line.strip())]

    def environments(self) -> list[Environment]:
        """Every environment that can be found; of two with one name the first is the one that the name means."""
        return list(self._environments.values())

    def now_registered(self, prefix: Path) -> None:
        """Take up what was written into the registry."""
        if Path(os.path.realpath(prefix)) not in self._environments:
            self.__dict__.pop("_environments", None)

    @remembered
    def _environments(self) -> dict[Path, Environment]:
        found: dict[Path, Environment] = {}
        for name, prefix in self._prefixes():
            # One folder reached by two paths (a link on the way) is one environment.
            real = Path(os.path.realpath(prefix))
            if real not in found:
                found[real] = self._environment(name, prefix)
        for name, prefix in self._looked_up():
            real = Path(os.path.realpath(prefix))
            if real not in found:
                found[real] = msgspec.structs.replace(self._environment(name, prefix), looked_up=True)
        return found

    def _prefixes(self) -> Iterator[tuple[str, Path]]:
        for base in self.installations[:1]:
            yield "base", base
        for folder in self.folders:
            for name in _children(folder):
                yield name, folder / name
        for prefix in self.registered:
            if is_environment(prefix):
                yield prefix.name, prefix
        for base in self._other_installations:
            yield base.name, base

    def _looked_up(self) -> Iterator[tuple[str, Path]]:
        for base in self._on_volume.installations:
            for name in _children(base / "envs"):
                yield name, base / "envs" / name
            yield base.name, base
        for prefix in self._on_volume.environments:
            yield prefix.name, prefix

    @property
    def _other_installations(self) -> list[Path]:
        """Beside the one in use, as far as they are known without a look over the volume."""
        return [base for base in self.installations[1:] if base in self._known_places]

    @property
    def folders(self) -> list[Path]:
        """Every known folder whose children are environments: conda's, this tool's, other installations'."""
        folders = [*self.envs_dirs, *self.own_folders]
        folders += [base / "envs" for base in self._other_installations]
        if self.env.get("MAMBA_ROOT_PREFIX"):
            folders.append(self._path(self.env["MAMBA_ROOT_PREFIX"]) / "envs")
        return list(dict.fromkeys(folders))

    @property
    def own_folders(self) -> list[Path]:
        """Where this tool makes environments that have a name only, apart from conda's own folders."""
        volume = self.platform.volume
        instance = [volume / "envs"] if self.platform.kind == "notebook-instance" and volume is not None else []
        return [*instance, self.home / "envs"]

    def _environment(self, name: str, prefix: Path) -> Environment:
        provided = self.platform.provided
        ours = os.path.lexists(prefix / META / MADE_BY_US)
        inside = provided is not None and (prefix == provided or provided in prefix.parents)
        return Environment(name, prefix, inside and not ours, ours, is_marked(prefix), prefix == self.jupyter_server)

    @property
    def jupyter_server(self) -> Path | None:
        """Where the platform's Jupyter server runs from, None where the platform has none of its own."""
        provided = self.platform.provided
        return None if provided is None else provided / "envs" / _JUPYTER_SERVER

    def names(self) -> list[str]:
        """Names of all environments, in the order in which they are looked up, each once."""
        return list(dict.fromkeys(environment.name for environment in self.environments()))

    def prefix_of(self, name: str) -> Path | None:
        """The prefix of the environment with that name; the first in conda's order where several have it."""
        return next((found.prefix for found in self.environments() if found.name == name), None)

    def new_prefix(self, name: str) -> Path:
        """Where an environment is made that is given by name alone.

        On a notebook instance the first of the configured ``envs_dirs`` that lies on its volume and can be written,
        else ``envs`` there; elsewhere, where conda is there or configured, the first of its ``envs_dirs`` that can be
        written, those that survive a restart first (Studio's home, not its image); else ``envs`` in the tool's home.
        """
        *instance, own = self.own_folders
        if instance:
            configured = [self._path(folder) for folder in self.condarc.envs_dirs]
            on_volume = [place for place in configured if instance[0].parent in place.parents and _writable(place)]
            return [*on_volume, *instance][0] / name
        if self.base is not None or self.condarc.envs_dirs:
            lasting = self.platform.volume
            for folder in sorted(
                self.envs_dirs, key=lambda folder: lasting is not None and lasting not in folder.parents
            ):
                if _writable(folder):
                    return folder / name
        return own / name

    def _candidates(self) -> Iterator[Path]:
        env = self.env
        if os.path.isabs(env.get("CONDA_EXE", "")):
            yield Path(env["CONDA_EXE"]).parents[1]
        for folder in env.get("PATH", "").split(os.pathsep):
            if os.path.isabs(folder) and os.access(os.path.join(folder, "conda"), os.X_OK):
                yield Path(os.path.realpath(os.path.join(folder, "conda"))).parents[1]
        if self.platform.provided is not None:
            yield self.platform.provided
        for name in USUAL_HOMES:
            yield self.user_home / name
        for place in _USUAL_ROOTS:
            yield self.root / place

    @remembered
    def _on_volume(self) -> Survey:
        """What lies on the volume that survives restarts, which conda's files in the user's home do not."""
        return survey(self.platform.volume) if self.platform.volume is not None else Survey()

    def _path(self, text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            return self.user_home / text[2:]
        return Path(os.path.abspath(text))


def is_environment(prefix: Path) -> bool:
    """Whether ``prefix`` is a conda environment: it has a conda-meta folder (conda asks for its history too)."""
    return os.path.isdir(prefix / META)


def installed(prefix: Path) -> list[CondaRecord]:
    """The packages of an environment, sorted by name, from the names of their records: nothing is opened.

    A record is called ``NAME-VERSION-BUILD.json``; version and build hold no dash (CEP 26).
    """
    found = []
    try:
        with os.scandir(prefix / META) as entries:
            for entry in entries:
                name, *rest = entry.name.removesuffix(".json").rsplit("-", 2)
                if len(rest) == 2 and entry.name.endswith(".json"):
                    found.append(CondaRecord(name, rest[0], rest[1], Path(entry.path)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda record: record.name)


def _children(folder: Path) -> list[str]:
    """Names of the environments in ``folder``, sorted, without hidden folders."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith(".") and is_environment(folder / name))
    except OSError:
        return []


def _writable(folder: Path) -> bool:
    """Whether something can be made in ``folder``, or in the nearest folder above it that is there."""
    folder = existing(folder, os.path.lexists)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


class Survey(msgspec.Struct, frozen=True):
    """The prefixes on a volume.

    Attributes:
        installations: Prefixes with a conda of their own.
        environments: Other prefixes; those in ``envs`` of an installation are not among them.

    """

    installations: tuple[Path, ...] = ()
    environments: tuple[Path, ...] = ()


def survey(volume: Path) -> Survey:
    """Look at a volume; what cannot be read is passed over."""
    installations: list[Path] = []
    environments: list[Path] = []
    for prefix in _prefixes(volume):
        has_conda = any(os.path.lexists(prefix / place) for place in ("condabin", "bin/conda", "bin/mamba"))
        (installations if has_conda else environments).append(prefix)
    return Survey(tuple(installations), tuple(environments))


def _prefixes(volume: Path) -> Iterator[Path]:
    for folder in folders_of(volume):
        if is_environment(folder):
            yield folder
            continue
        if folder.name in _FOLDERS_OF_ENVIRONMENTS:
            yield from (folder / name for name in _children(folder))
            continue
        yield from (folder / name for name in _HOMES_ON_VOLUME if is_environment(folder / name))
        yield from (folder / "envs" / name for name in _children(folder / "envs"))


def folders_of(volume: Path) -> list[Path]:
    """The folders of a volume that are worth a look, those with a telling name first; file systems on it are not."""
    try:
        with os.scandir(volume) as entries:
            names = [entry.name for entry in entries if _is_folder(entry)]
    except OSError:
        return []
    elsewhere = _mounted()  # EFS, S3 and the like, where a look may take for ever
    names = [name for name in names if not name.startswith(".") or name in _HIDDEN]
    names = [name for name in names if str(volume / name) not in elsewhere]
    names.sort(key=lambda name: (not any(word in name.lower() for word in _TELLING), name))
    return [volume / name for name in names[:_MOST_FOLDERS]]


def _mounted() -> set[str]:
    """The places of all mounted file systems (https://man7.org/linux/man-pages/man5/fstab.5.html has the escapes)."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    fields = [line.split(" ") for line in lines]
    return {re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), two[1]) for two in fields if len(two) > 1}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
