"""Conda's installations, environments and packages on this machine, and virtual environments that have a name.

This module reads files and never starts conda. The registry of environments and conda's configuration are in the
user's home, which a notebook instance loses at each restart. So the volume is searched for installations and
environments that neither conda nor the registry knows: its folders, and below each the places with the usual names.
A search of the whole volume might meet a million files.

Python's own tools know virtual environments by path only (PEP 405), and conda does not list them: a folder without
conda-meta is not a conda environment, wherever it lies. Those in the folders where this tool creates environments have
a name.
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
# A plain file in conda-meta that marks environments of this tool; conda reads only *.json and history there.
MADE_BY_US = "nbprovision"
# The default folders of conda's installers (Miniforge, Miniconda, Anaconda) and of container images.
USUAL_HOMES = ("miniforge3", "miniconda3", "anaconda3", "mambaforge", "micromamba")
_USUAL_ROOTS = ("opt/conda", "opt/miniforge3", "opt/miniconda3", "opt/anaconda3")
# The environment of an instance's notebook server: https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-add-external.html
_JUPYTER_SERVER = "JupyterSystemEnv"
_SERVER_PROGRAMS = ("jupyter-lab", "jupyter-server")
# Usual names on a volume: of installations (AWS's sample persistent-conda-ebs has custom-miniconda/miniconda), of
# folders of environments, and of conda's own folder of environments.
_HOMES_ON_VOLUME = (*USUAL_HOMES, "miniconda", "anaconda", "miniforge", "conda")
_FOLDERS_OF_ENVIRONMENTS = ("envs", "environments", "conda-envs", "conda_envs", "kernels")
_HIDDEN = (".conda",)
_MOUNTS = Path("/proc/self/mounts")
_MOST_FOLDERS = 200  # of a volume that are searched; names with one of these words come first
_SEARCHED_FIRST = ("conda", "mamba", "forge", "env", "kernel")

LAUNCHER = "activate.sh"
LAUNCHER_SOURCE = Path(__file__).with_name(LAUNCHER)
_SHELLS = ("bin/bash", "usr/bin/bash", "usr/local/bin/bash")


class Environment(msgspec.Struct, frozen=True):
    """A conda environment on disk.

    Attributes:
        name: ``base`` for an installation's own, else the folder's name.
        prefix: Its folder.
        provided: It belongs to the platform's image.
        ours: This tool created it.
        unfinished: It has the mark of an unfinished environment.
        jupyter_server: Only the platform's Jupyter server runs from it; the notebook depends on it.
        looked_up: Only the search of the volume found it, because neither conda nor this tool's folders list it.

    """

    name: str
    prefix: Path
    provided: bool = False
    ours: bool = False
    unfinished: bool = False
    jupyter_server: bool = False
    looked_up: bool = False


class CondaRecord(msgspec.Struct, frozen=True):
    """An installed package, by the name of its record in conda-meta."""

    name: str
    version: str
    build: str
    path: Path


class CondaFacts:
    """Configuration, installations and environments of conda, each read at its first use.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        home: The tool's home folder.
        platform: The platform, with the installation that it provides and the volume that persists.
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
        """The installation that ``conda`` on this machine means; None without one."""
        return next(iter(self.installations), None)

    @remembered
    def installations(self) -> list[Path]:
        """Base prefixes, the one in use first: by CONDA_EXE, on the PATH, the platform's, usual places, the volume."""
        return [place for place in self.places if is_environment(place)]

    @remembered
    def places(self) -> list[Path]:
        """Existing and possible installations."""
        return list(dict.fromkeys([*self._usual_places, *self._on_volume.installations]))

    @remembered
    def _usual_places(self) -> list[Path]:
        """The possible installations without those that only the search of the volume finds."""
        env, places = self.env, []
        if os.path.isabs(env.get("CONDA_EXE", "")):
            places.append(Path(env["CONDA_EXE"]).parents[1])
        commands = [os.path.join(folder, "conda") for folder in env.get("PATH", "").split(os.pathsep)]
        runnable = [command for command in commands if os.path.isabs(command) and os.access(command, os.X_OK)]
        places += [Path(os.path.realpath(command)).parents[1] for command in runnable]
        if self.platform.provided is not None:
            places.append(self.platform.provided)
        places += [*(self.user_home / name for name in USUAL_HOMES), *(self.root / place for place in _USUAL_ROOTS)]
        return list(dict.fromkeys(Path(os.path.abspath(place)) for place in places))

    @remembered
    def executable(self) -> Path | None:
        """The conda command; None without one."""
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
        """Conda's package caches, in its order; empty if none is configured and conda is not installed."""
        configured = self.configured_pkgs_dirs
        if configured or self.base is None:
            return configured
        return [self.base / "pkgs", self.user_home / ".conda/pkgs"]

    @property
    def configured_pkgs_dirs(self) -> list[Path]:
        """The package caches that the configuration names."""
        return [self._path(folder) for folder in self.condarc.pkgs_dirs]

    def channels(self, requested: Iterable[str] = ()) -> list[str]:
        """URLs of the channels to solve from, the first one preferred.

        Args:
            requested: The user's channels; default the configured ones, else conda-forge.

        """
        names = [name for name in requested if name != NO_DEFAULTS] or list(self.condarc.channels) or [FALLBACK_CHANNEL]
        return list(dict.fromkeys(url for name in names for url in self.condarc.urls(name)))

    @property
    def registry(self) -> Path:
        """The list of environments outside ``envs_dirs``, which ``conda env list`` reads."""
        return self.user_home / ".conda/environments.txt"

    @property
    def registered(self) -> list[Path]:
        """The prefixes in the registry, missing ones included; read again at each use."""
        try:
            lines = read_bytes(self.registry).decode("utf-8", "surrogateescape").splitlines()
        except OSError:
            return []
        return [Path(line.strip()) for line in lines if os.path.isabs(line.strip())]

    def environments(self) -> list[Environment]:
        """Every environment on the machine; a name that two of them share means the first."""
        return list(self._environments.values())

    def now_registered(self, prefix: Path) -> None:
        """Take note of a prefix that was added to the registry."""
        if Path(os.path.realpath(prefix)) not in self._environments:
            self.__dict__.pop("_environments", None)

    @remembered
    def _environments(self) -> dict[Path, Environment]:
        """The environments by real path: one that two paths lead to (by a link on the way) counts once."""
        environments: dict[Path, Environment] = {}
        for looked_up, prefixes in ((False, self.listed_prefixes()), (True, self._searched_prefixes())):
            for name, prefix in prefixes:
                real = Path(os.path.realpath(prefix))
                if real not in environments:
                    environments[real] = self._environment(name, prefix, looked_up=looked_up)
        return environments

    def listed_prefixes(self) -> Iterator[tuple[str, Path]]:
        """Name and prefix of the environments that conda's files and this tool's folders list."""
        for base in self.installations[:1]:
            yield "base", base
        for folder in self.folders:
            yield from _environments_in(folder)
        yield from ((prefix.name, prefix) for prefix in self.registered if is_environment(prefix))
        yield from ((base.name, base) for base in self._other_installations)

    def _searched_prefixes(self) -> Iterator[tuple[str, Path]]:
        for base in self._on_volume.installations:
            yield from _environments_in(base / "envs")
            yield base.name, base
        yield from ((prefix.name, prefix) for prefix in self._on_volume.environments)

    @property
    def _other_installations(self) -> list[Path]:
        """The installations beside the one in use, without those that only the search of the volume finds."""
        return [base for base in self.installations[1:] if base in self._usual_places]

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
        """The folders where this tool creates environments given by name, apart from conda's own folders."""
        volume = self.platform.volume
        instance = [volume / "envs"] if self.platform.kind == "notebook-instance" and volume is not None else []
        return [*instance, self.home / "envs"]

    def _environment(self, name: str, prefix: Path, *, looked_up: bool) -> Environment:
        provided = self.platform.provided
        ours = os.path.lexists(prefix / META / MADE_BY_US)
        inside = provided is not None and (prefix == provided or provided in prefix.parents)
        return Environment(
            name,
            prefix,
            provided=inside and not ours,
            ours=ours,
            unfinished=is_marked(prefix),
            jupyter_server=prefix == self.jupyter_server,
            looked_up=looked_up,
        )

    @property
    def jupyter_server(self) -> Path | None:
        """The environment that the platform keeps for its Jupyter server; None if it has none of its own."""
        provided = self.platform.provided
        return None if provided is None else provided / "envs" / _JUPYTER_SERVER

    @property
    def server(self) -> Path | None:
        """The existing environment that the platform's Jupyter server runs from.

        In Studio it is the image's base, which the image's kernels share (https://github.com/aws/sagemaker-distribution).
        A lifecycle script's PATH may lack it.
        """
        if self.platform.kind != "studio":
            return next((each.prefix for each in self.environments() if each.jupyter_server), None)
        base = self.platform.provided
        if base is None or not any(os.path.exists(base / "bin" / program) for program in _SERVER_PROGRAMS):
            return None
        return base

    def names(self) -> list[str]:
        """Names of all environments in their order, each once."""
        return list(dict.fromkeys(environment.name for environment in self.environments()))

    def prefix_of(self, name: str) -> Path | None:
        """The prefix of the environment with that name; the first in conda's order where several have it."""
        return next((each.prefix for each in self.environments() if each.name == name), None)

    def new_prefix(self, name: str) -> Path:
        """The prefix of a new environment that is given by name alone.

        On a notebook instance it lies in the first writable folder of the configured ``envs_dirs`` on its volume, else
        in ``envs`` there. Elsewhere, if conda is installed or configured, it lies in the first writable folder of its
        ``envs_dirs``; those that survive a restart come first (Studio's home, not its image). The last choice is
        ``envs`` in the tool's home.
        """
        *instance, own = self.own_folders
        if instance:
            configured = [self._path(folder) for folder in self.condarc.envs_dirs]
            candidates = [place for place in configured if instance[0].parent in place.parents]
            default = instance[0]
        else:
            lasting = self.platform.volume
            configured = self.envs_dirs if self.base is not None or self.condarc.envs_dirs else []
            candidates = sorted(configured, key=lambda place: lasting is not None and lasting not in place.parents)
            default = own
        return next(filter(_writable, candidates), default) / name

    def virtual_environments(self) -> dict[str, Path]:
        """Virtual environments that have a name, name to prefix; without those that are conda's too."""
        environments: dict[str, Path] = {}
        for folder in self.own_folders:
            for name, prefix in _visible_children(folder):
                if is_virtual(prefix) and not is_environment(prefix):
                    environments.setdefault(name, prefix)
        return environments

    def new_virtual_prefix(self, name: str) -> Path:
        """The prefix of a new virtual environment that is given by name alone.

        On a notebook instance it lies in ``envs`` on its volume, elsewhere in ``envs`` in the tool's home. It never
        lies in a folder of conda's, where conda would refuse to create an environment of that name.
        """
        return self.own_folders[0] / name

    @remembered
    def _on_volume(self) -> Survey:
        """The prefixes on the volume, which survives restarts; conda's files in the user's home do not."""
        return survey(self.platform.volume) if self.platform.volume is not None else Survey()

    def _path(self, text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            return self.user_home / text[2:]
        return Path(os.path.abspath(text))


def is_environment(prefix: Path) -> bool:
    """Whether ``prefix`` is a conda environment: it has a conda-meta folder (conda also wants its history)."""
    return os.path.isdir(prefix / META)


def is_virtual(prefix: Path) -> bool:
    """Whether ``prefix`` is a virtual environment: it has a pyvenv.cfg."""
    return os.path.isfile(prefix / "pyvenv.cfg")


def installed(prefix: Path) -> list[CondaRecord]:
    """The packages of an environment, sorted by name, from the names of their records: nothing is opened.

    A record is called ``NAME-VERSION-BUILD.json``; version and build hold no dash (CEP 26).
    """
    records = []
    try:
        with os.scandir(prefix / META) as entries:
            for entry in entries:
                name, *rest = entry.name.removesuffix(".json").rsplit("-", 2)
                if len(rest) == 2 and entry.name.endswith(".json"):
                    records.append(CondaRecord(name, rest[0], rest[1], Path(entry.path)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(records, key=lambda record: record.name)


def names_in(folder: Path) -> list[str]:
    """The sorted names in a folder; empty if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _visible_children(folder: Path) -> list[tuple[str, Path]]:
    return [(name, folder / name) for name in names_in(folder) if not name.startswith(".")]


def _environments_in(folder: Path) -> list[tuple[str, Path]]:
    return [(name, prefix) for name, prefix in _visible_children(folder) if is_environment(prefix)]


def _writable(folder: Path) -> bool:
    """Whether this user can create something in ``folder``, or in the nearest existing folder above it."""
    folder = existing(folder, os.path.lexists)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


class Survey(msgspec.Struct, frozen=True):
    """The prefixes on a volume.

    Attributes:
        installations: Prefixes with a conda of their own.
        environments: Other prefixes, without those in ``envs`` of an installation.

    """

    installations: tuple[Path, ...] = ()
    environments: tuple[Path, ...] = ()


def survey(volume: Path) -> Survey:
    """Search a volume for prefixes; unreadable folders are skipped."""
    installations: list[Path] = []
    environments: list[Path] = []
    for prefix in _prefixes_on(volume):
        has_conda = any(os.path.lexists(prefix / place) for place in ("condabin", "bin/conda", "bin/mamba"))
        (installations if has_conda else environments).append(prefix)
    return Survey(tuple(installations), tuple(environments))


def _prefixes_on(volume: Path) -> Iterator[Path]:
    for folder in _searched_folders(volume):
        if is_environment(folder):
            yield folder
        elif folder.name in _FOLDERS_OF_ENVIRONMENTS:
            yield from (prefix for _, prefix in _environments_in(folder))
        else:
            yield from (folder / name for name in _HOMES_ON_VOLUME if is_environment(folder / name))
            yield from (prefix for _, prefix in _environments_in(folder / "envs"))


def virtual_on_volume(volume: Path) -> list[Path]:
    """The virtual environments that are folders of the volume, or the usual ones in such a folder."""
    places = [place for folder in _searched_folders(volume) for place in (folder, folder / ".venv", folder / "venv")]
    return [place for place in places if is_virtual(place)]


def _searched_folders(volume: Path) -> list[Path]:
    """The folders of a volume that are searched, likely names first, without other file systems mounted on it."""
    try:
        with os.scandir(volume) as entries:
            names = [entry.name for entry in entries if _is_folder(entry)]
    except OSError:
        return []
    elsewhere = _mounted()  # EFS, S3 and the like, where a search may take forever
    names = [name for name in names if not name.startswith(".") or name in _HIDDEN]
    names = [name for name in names if str(volume / name) not in elsewhere]
    names.sort(key=lambda name: (not any(word in name.lower() for word in _SEARCHED_FIRST), name))
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


def launcher() -> bytes:
    """The script that activates an environment and becomes the program (same process, so that signals reach it)."""
    return LAUNCHER_SOURCE.read_bytes()


def launcher_shell(root: Path = Path("/")) -> list[str]:
    """The command that runs the launcher: bash, for which conda's packages write their scripts, else the POSIX shell.

    ``-p`` ignores ``BASH_ENV``, exported functions and ``SHELLOPTS`` of the program that starts the kernel.
    """
    bash = next((place for place in _SHELLS if (root / place).exists()), None)
    return ["/bin/sh"] if bash is None else [f"/{bash}", "-p"]
