"""Which environments a task means that takes several: names, globs, paths, ``all``, and exceptions from them.

What comes and goes with the machine's image is found, never listed: a selector is worked out anew in every run, and
`sources` are the witnesses of what it was worked out from.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nbprovision.machine import distributions
from nbprovision.machine.condarc import condarc_files
from nbprovision.machine.environments import META, is_environment
from nbprovision.machine.virtual_environments import is_virtual, named
from nbprovision.model.errors import UnknownEnvironment, nearest
from nbprovision.system import unfinished

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

ALL = "all"

Selected = tuple[str, Path]


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
    """The environments that ``texts`` name, each once, without those that ``excluded`` names.

    ``all`` and globs mean every environment that conda or an earlier task of the playbook knows, conda's own ``base``
    among them, every virtual one that has a name, and never the environment that the Jupyter server runs in, nor one
    that only a look over the volume finds.

    Args:
        machine: The facts.
        texts: Names, globs (``pytorch*``; with a slash in it one of paths), paths, ``all``.
        excluded: The same; a glob that matches nothing excludes nothing.
        allow_empty: A glob may match nothing, and nothing may be left.
        with_python: ``all`` and globs mean environments that have a Python (or may yet get one) only. Half-made ones,
            which no task of the playbook finishes, they never mean.
        by_conda: ``all`` and globs mean environments of conda's only.
        declared: What earlier tasks of the playbook make; default all that the playbook does.

    Returns:
        What to call each, and its prefix.

    Raises:
        UnknownEnvironment: there is none of that name, a glob matches none, or none is left.

    """
    declared = machine.declared if declared is None else declared
    known = _known(machine, declared)
    made = set(declared.values())
    reachable = [one for one in known if one[1] in made or _is_whole(one[1])]
    if with_python:
        reachable = [one for one in reachable if _will_have_python(machine, one[1], awaited=one[1] in made)]
    if by_conda:
        reachable = [one for one in reachable if one[1] not in machine.virtual and not is_virtual(one[1])]
    # What only a look over the volume finds is meant by its name or its folder: no witness tells when more of it comes.
    looked_up = {one.prefix for one in machine.conda.environments() if one.looked_up} - made
    open_to_globs = [one for one in reachable if one[1] not in looked_up]
    chosen: dict[Path, str] = {}
    for text in texts:
        found = _meant(machine, text, known, open_to_globs, reachable)
        if not found and not allow_empty:
            raise _no_match(text, known, with_python=with_python)
        for name, prefix in found:
            chosen.setdefault(prefix, name)
    left_out = {
        os.path.realpath(prefix)
        for text in excluded
        for _, prefix in _meant(machine, text, known, known, known, "except")
    }
    left = [(name, prefix) for prefix, name in chosen.items() if os.path.realpath(prefix) not in left_out]
    if chosen and not left and not allow_empty:
        raise UnknownEnvironment(
            "`except` leaves no environment of those in `envs`",
            cause=f"they are: {', '.join(chosen.values())}",
            cure="leave out less, or say `allow_empty: true`",
        )
    return left


def sources(machine: Machine, texts: Sequence[str]) -> Iterator[Path]:
    """What the environments are listed from, where ``texts`` do not simply name them: witnesses of the selection."""
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
        yield from _not_yet(folder)
    for environment in conda.environments():
        if not (_is_whole(environment.prefix) and _may_have_python(environment.prefix)):
            yield from (environment.prefix / META, environment.prefix / unfinished.MARK)
    yield from (prefix / unfinished.MARK for prefix in named(conda).values() if not _is_whole(prefix))


def unknown(reference: str, names: Collection[str]) -> UnknownEnvironment:
    """The error for a name that nothing has: the nearest, those that are there, and what an image may have done."""
    new = sorted(name for name in names if name != reference and _stem(name) == _stem(reference))
    if new:
        cure = (
            f"there is '{new[0]}' here; image changes rename environments; write {_stem(reference)}* under `envs`, "
            "where a task takes that, to mean it on either image"
        )
    elif reference == ALL or _is_glob(reference):
        cure = f"`{reference}` goes under `envs`, where a task takes that"
    else:
        cure = "name one of them, give a path, or make it first by ensure_conda_env or ensure_venv"
    return UnknownEnvironment(
        f"there is no environment '{reference}'{nearest(reference, names)}",
        cause=f"known here: {', '.join(sorted(names))}" if names else "no environment is known here",
        cure=cure,
    )


def _known(machine: Machine, declared: Mapping[str, Path]) -> list[Selected]:
    """Every environment but the Jupyter server's; of several with one name, all but the first go by their path."""
    there = {os.path.realpath(environment.prefix): environment for environment in machine.conda.environments()}
    found: dict[str, Selected] = {os.path.realpath(prefix): (name, prefix) for name, prefix in declared.items()}
    names = set(declared)
    for real, environment in there.items():
        if environment.jupyter_server:
            found.pop(real, None)
            continue
        if real in found:
            continue
        name = str(environment.prefix) if environment.name in names else environment.name
        names.add(name)
        found[real] = (name, environment.prefix)
    for name, prefix in named(machine.conda).items():
        if os.path.realpath(prefix) not in found:
            found[os.path.realpath(prefix)] = (str(prefix) if name in names else name, prefix)
    return list(found.values())


def _meant(
    machine: Machine,
    text: str,
    known: Sequence[Selected],
    open_to_globs: Sequence[Selected],
    reachable: Sequence[Selected],
    key: str = "envs",
) -> list[Selected]:
    if text == ALL:
        return list(open_to_globs)
    named = [one for one in known if one[0] == text]
    if named:
        return named
    if "/" in text or text.startswith("~"):
        path = machine.path(text)
        if not _is_glob(text):
            return [(text, path)]
        in_a_folder = not _is_glob(str(path.parent))
        return [one for one in (reachable if in_a_folder else open_to_globs) if one[1].match(str(path))]
    if _is_glob(text):
        return [one for one in open_to_globs if fnmatch.fnmatchcase(one[0], text)]
    hidden = machine.conda.prefix_of(text)  # the Jupyter server's own, by name
    if hidden is not None:
        return [(text, hidden)]
    error = unknown(text, [name for name, _ in known])
    if key == "except":
        error.message += ", which `except` names"
    raise error


def _no_match(text: str, known: Sequence[Selected], *, with_python: bool) -> UnknownEnvironment:
    python = " with a Python" if with_python else ""
    what = f"no environment{python} is known here" if text == ALL else f"'{text}' matches no environment{python}"
    names = sorted(name for name, _ in known)
    return UnknownEnvironment(
        what,
        cause=f"known here: {', '.join(names)}" if names else "no environment is known here",
        cure="correct the glob, or say `allow_empty: true` if there may be none",
    )


def _is_whole(prefix: Path) -> bool:
    """Whether it was ever made to its end."""
    mark = unfinished.read_mark(prefix)
    return mark is None or not mark.made


def _will_have_python(machine: Machine, prefix: Path, *, awaited: bool) -> bool:
    """With ``--check`` the tasks before have foretold whether it gets one, so that it means what the run does."""
    coming = machine.foretold.get(prefix)
    return _may_have_python(prefix, awaited=awaited) if coming is None else coming.python is not None


def _may_have_python(prefix: Path, *, awaited: bool = False) -> bool:
    """Whether there is a Python, or a task of the playbook is still to make or finish the environment."""
    if awaited and (not (is_environment(prefix) or is_virtual(prefix)) or unfinished.is_marked(prefix)):
        return True
    return distributions.python_version(prefix) is not None


def _not_yet(folder: Path) -> Iterator[Path]:
    """Folders that do not hold an environment; one that is made in them would not show in ``folder`` itself."""
    try:
        with os.scandir(folder) as entries:
            others = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return
    yield from (path for path in sorted(others) if not is_environment(path))


def _is_glob(text: str) -> bool:
    return any(letter in text for letter in "*?[")


def _stem(name: str) -> str:
    """A name without what images put behind it: ``pytorch_p310`` and ``pytorch``, ``tensorflow2_p38``."""
    return re.sub(r"\d+$", "", re.sub(r"_p\d+$", "", name.lower()))
