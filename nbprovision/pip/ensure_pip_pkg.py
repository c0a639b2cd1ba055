"""``ensure_pip_pkg``: Python distributions in conda and virtual environments."""

from __future__ import annotations

from nbprovision.pip import examples as pip_examples
from nbprovision.pip.packages import PipPackages


class EnsurePipPkg(PipPackages, frozen=True, kw_only=True):
    """Python packages of an index, a file, a folder or a repository, in a conda or virtual environment.

    What is there and satisfies the requirements stays as it is; what they depend on comes along. Packages come from
    where pip's configuration says, whichever engine fetches them. A package that conda brought and that this task wants
    in another version is replaced, and conda's own task of the same playbook then leaves it alone. In an environment
    that the platform provides nothing moves that its image brought, unless ``allow_platform_changes`` says so.
    """

    actions, examples = pip_examples.ACTIONS, pip_examples.EXAMPLES
