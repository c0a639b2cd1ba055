"""Where the files of a conda package are in an environment, by its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Where a pure Python package (noarch) has its files: https://docs.conda.io/projects/conda-build/en/stable/resources/
# package-spec.html. They are put where the environment's Python looks for them.
_LIBRARIES, _SCRIPTS = "site-packages/", "python-scripts/"


def in_package(path: str) -> bool:
    """Whether ``path`` is one in a pure Python package: conda lists these in ``paths_data``, others where they are."""
    return path.startswith((_LIBRARIES, _SCRIPTS))


def placing(files: Sequence[str]) -> Callable[[str], str]:
    """A function from a path in the package to that in the environment.

    Args:
        files: The ``files`` of the package's record, which are paths in the environment.

    """
    parts = (file.partition(_LIBRARIES) for file in files)
    libraries = next((before for before, found, _ in parts if found), "")

    def placed(path: str) -> str:
        return libraries + path if path.startswith(_LIBRARIES) else path.replace(_SCRIPTS, "bin/", 1)

    return lambda path: placed(path) if in_package(path) else path
