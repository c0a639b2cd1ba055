"""``ensure_pip_pkg``: Python distributions in conda and virtual environments."""

from __future__ import annotations

from nbprovision.pip.packages import ACTIONS, PipPackages


class EnsurePipPkg(PipPackages, frozen=True, kw_only=True):
    """Install, upgrade and uninstall Python packages in a conda or virtual environment.

    Packages come from an index, a file, a folder or a repository. Installed packages that satisfy the requirements do
    not change; missing dependencies are installed too. Both engines use the indexes of pip's configuration. If this
    task needs another version of a conda package, it replaces the package, and the conda task of the same playbook then
    leaves it alone. In an environment that the platform provides, the packages of its image do not change without
    ``allow_platform_changes``. Nor does a lock file replace a conda package without it.
    """

    actions = ACTIONS
    examples = """
    - name: Packages in an environment
      ensure_pip_pkg:
        env: fraud
        packages:
          - humanize
          - tabulate>=0.9; python_version >= "3.9"

    - name: Packages from files
      ensure_pip_pkg:
        env: fraud
        requirements: requirements.txt
        constraints: constraints.txt

    - name: The newest version in several environments
      ensure_pip_pkg:
        envs: [fraud, "ris*"]
        packages: idna
        state: latest

    - name: A folder of packages that survives a restart
      ensure_pip_pkg:
        env: fraud
        packages: [humanize]
        target: ./packages

    - name: A package to remove
      ensure_pip_pkg:
        env: fraud
        packages: [tabulate]
        state: absent
    """
