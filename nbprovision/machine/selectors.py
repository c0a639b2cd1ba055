"""Selection of environments: names, globs, paths, ``all``, and exceptions from them.

Environments come and go with the machine's image. So each run evaluates a selector again, and `sources` are the
witnesses of the result.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from nbprovision.machine import distributions
from nbprovision.machine.condarc import condarc_files
from nbprovision.machine.environments import META, is_environment, is_virtual
from nbprovision.model.errors import UnknownEnvironment, nearest
from nbprovision.system import unfinished

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

ALL = "all"

Selected = tuple[str, Path]


class _Candidates(NamedTuple):
    """The environments that a text may mean.

    Attributes:
        by_name: Those that a name means.
        by_path: Those that a glob in an existing folder means.
        by_glob: Those that ``all`` and any other glob mean.

    """

    by_name: Sequence[Selected]
    by_path: Sequence[Selected]
    by_glob: Sequence[Selected]


def select(
    machine: Machine,
    texts: Iterable[str],
    *,
    excluded: Iterable[str] = (),
    allow_empty: bool = False,
    with_python: bool = False,
    by_conda: bool = False,
    declared: Mapping[str, Path] | None = None,
) -> list[Selected]:
    """The environments that ``texts`` select, each once, without those that ``excluded`` selects.

    ``all`` and globs select every environment that conda or an earlier task of the playbook knows, including conda's
    own ``base``. They also select every virtual environment that has a name. They never select the environment of the
    Jupyter server, nor one that only a search of the volume finds.

    Args:
        machine: The facts.
        texts: Names, globs (``pytorch*``; with a slash in it one of paths), paths, ``all``.
        excluded: The same; a glob without a match excludes nothing.
        allow_empty: Accept a glob without a match, and an empty result.
        with_python: ``all`` and globs select only environments that have a Python, or may yet get one. They never
            select a half-made environment that no task of the playbook completes.
        by_conda: ``all`` and globs select only conda environments.
        declared: The environments that earlier tasks create; default those of the whole playbook.

    Returns:
        The name and the prefix of each.

    Raises:
        UnknownEnvironment: a name is unknown, a glob matches nothing, or the result is empty.

    """
    declared = machine.declared if declared is None else declared
    created = set(declared.values())

    def is_selectable(prefix: Path) -> bool:
        if not (prefix in created or _is_whole(prefix)):
            return False
        if with_python and not _will_have_python(machine, prefix, awaited=prefix in created):
            return False
        return not (by_conda and (prefix in machine.virtual or is_virtual(prefix)))

    # An environment that only a search of the volume finds has to be named: no witness shows when others appear.
    looked_up = {each.prefix for each in machine.conda.environments() if each.looked_up} - created
    environments = _all_environments(machine, declared)
    selectable = [(name, prefix) for name, prefix in environments if is_selectable(prefix)]
    in_globs = [(name, prefix) for name, prefix in selectable if prefix not in looked_up]
    candidates = _Candidates(environments, selectable, in_globs)
    chosen: dict[Path, str] = {}
    for text in texts:
        selected = _selected(machine, text, candidates, "envs")
        if not selected and not allow_empty:
            raise _no_match(text, environments, with_python=with_python)
        for name, prefix in selected:
            chosen.setdefault(prefix, name)
    everything = _Candidates(environments, environments, environments)
    exceptions = {
        os.path.realpath(prefix) for text in excluded for _, prefix in _selected(machine, text, everything, "except")
    }
    rest = [(name, prefix) for prefix, name in chosen.items() if os.path.realpath(prefix) not in exceptions]
    if chosen and not rest and not allow_empty:
        raise UnknownEnvironment(
            "`except` leaves no environment of those in `envs`",
            cause=f"they are: {', '.join(chosen.values())}",
            cure="exclude fewer environments, or set `allow_empty: true`",
        )
    return rest


def sources(machine: Machine, texts: Sequence[str]) -> Iterator[Path]:
    """Witnesses of a selection: the files and folders that list environments, if ``texts`` has a glob or ``all``."""
    if not any(text == ALL or _is_glob(text) for text in texts):
        return
    conda = machine.conda
    yield conda.registry
    yield from conda.condarc_places
    yield from condarc_files(conda.env, conda.user_home, conda.base, conda.root)  # those in condarc.d folders too
    for base in conda.places:
        yield base / META
    globs = [machine.path(text) for text in texts if "/" in text and _is_glob(text)]
    for folder in dict.fromkeys([*conda.folders, *(path.parent for path in globs if not _is_glob(str(path.parent)))]):
        yield folder
        yield from _other_folders_in(folder)
    for environment in conda.environments():
        if not (_is_whole(environment.prefix) and _may_have_python(environment.prefix)):
            yield from (environment.prefix / META, environment.prefix / unfinished.MARK)
    yield from (prefix / unfinished.MARK for prefix in conda.virtual_environments().values() if not _is_whole(prefix))


def unknown(reference: str, names: Collection[str]) -> UnknownEnvironment:
    """The error for an unknown name: the nearest name, all existing names, and the name on another image.

    Args:
        reference: The unknown name.
        names: The known names.

    """
    renamed = sorted(name for name in names if name != reference and _stem(name) == _stem(reference))
    if renamed:
        cure = (
            f"this machine has '{renamed[0]}'; image changes rename environments; write {_stem(reference)}* under "
            "`envs`, if the task has that parameter, to select it on both images"
        )
    elif reference == ALL or _is_glob(reference):
        cure = f"write `{reference}` under `envs`, if the task has that parameter"
    else:
        cure = "name one of them, give a path, or create it first with ensure_conda_env or ensure_venv"
    return UnknownEnvironment(
        f"there is no environment '{reference}'{nearest(reference, names)}",
        cause=_listed(names),
        cure=cure,
    )


def _all_environments(machine: Machine, declared: Mapping[str, Path]) -> list[Selected]:
    """Every environment but the Jupyter server's; if several have one name, all but the first go by their path."""
    environments: dict[str, Selected] = {os.path.realpath(prefix): (name, prefix) for name, prefix in declared.items()}
    names = set(declared)
    for environment in machine.conda.environments():
        real = os.path.realpath(environment.prefix)
        if environment.jupyter_server:
            environments.pop(real, None)
        elif real not in environments:
            name = str(environment.prefix) if environment.name in names else environment.name
            names.add(name)
            environments[real] = (name, environment.prefix)
    for name, prefix in machine.conda.virtual_environments().items():
        environments.setdefault(os.path.realpath(prefix), (str(prefix) if name in names else name, prefix))
    return list(environments.values())


def _selected(machine: Machine, text: str, candidates: _Candidates, key: Literal["envs", "except"]) -> list[Selected]:
    if text == ALL:
        return list(candidates.by_glob)
    named = [(name, prefix) for name, prefix in candidates.by_name if name == text]
    if named:
        return named
    if "/" in text or text.startswith("~"):
        path = machine.path(text)
        if not _is_glob(text):
            return [(text, path)]
        searched = candidates.by_glob if _is_glob(str(path.parent)) else candidates.by_path
        return [(name, prefix) for name, prefix in searched if prefix.match(str(path))]
    if _is_glob(text):
        return [(name, prefix) for name, prefix in candidates.by_glob if fnmatch.fnmatchcase(name, text)]
    server = machine.conda.prefix_of(text)  # only the Jupyter server's own environment is not among the candidates
    if server is not None:
        return [(text, server)]
    error = unknown(text, [name for name, _ in candidates.by_name])
    if key == "except":
        error.message += ", which `except` names"
    raise error


def _no_match(text: str, environments: Sequence[Selected], *, with_python: bool) -> UnknownEnvironment:
    python = " with a Python" if with_python else ""
    message = f"no environment{python} is known here" if text == ALL else f"'{text}' matches no environment{python}"
    cure = "correct the glob, or set `allow_empty: true` to accept an empty selection"
    return UnknownEnvironment(message, cause=_listed([name for name, _ in environments]), cure=cure)


def _listed(names: Collection[str]) -> str:
    return f"known here: {', '.join(sorted(names))}" if names else "no environment is known here"


def _is_whole(prefix: Path) -> bool:
    """Whether its creation was ever completed."""
    mark = unfinished.read_mark(prefix)
    return mark is None or not mark.made


def _will_have_python(machine: Machine, prefix: Path, *, awaited: bool) -> bool:
    """Whether it has or gets a Python; with ``--check`` the earlier tasks predict it, so that both select the same."""
    coming = machine.foretold.get(prefix)
    return _may_have_python(prefix, awaited=awaited) if coming is None else coming.python is not None


def _may_have_python(prefix: Path, *, awaited: bool = False) -> bool:
    """Whether it has a Python, or a task of the playbook has yet to create or complete it."""
    if awaited and (not (is_environment(prefix) or is_virtual(prefix)) or unfinished.is_marked(prefix)):
        return True
    return distributions.python_version(prefix) is not None


def _other_folders_in(folder: Path) -> Iterator[Path]:
    """Folders that are not environments; one that is created in them would not change ``folder`` itself."""
    try:
        with os.scandir(folder) as entries:
            others = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return
    yield from (path for path in sorted(others) if not is_environment(path))


def _is_glob(text: str) -> bool:
    return any(letter in text for letter in "*?[")


def _stem(name: str) -> str:
    """A name without the suffixes of images: ``pytorch`` of ``pytorch_p310``, ``tensorflow`` of ``tensorflow2_p38``."""
    return re.sub(r"\d+$", "", re.sub(r"_p\d+$", "", name.lower()))
