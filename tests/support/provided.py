"""A notebook instance in a folder: environments that its image brings, with a real Python, made in no time."""

from __future__ import annotations

import sys
import textwrap
import zipfile
from pathlib import Path

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Result
from nbprovision.report.document import Silent
from nbprovision.system import commands
from nbprovision.system.files import make_folder
from tests.support.wheels import make_wheel


class Instance:
    """The instance, and who runs playbooks on it.

    Args:
        folder: For all of it.
        env: The user's variables; packages come from a folder of wheels and nowhere else.

    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.root = folder / "instance"
        self.wheels = folder / "wheels"
        self.env = {name: text for name, text in env.items() if not name.startswith(("PIP_INDEX", "UV_"))}
        self.env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels))
        self.playbook = folder / "play.yml"
        make_folder(self.wheels)
        make_folder(self.volume)
        conda_environment(self.anaconda)

    @property
    def volume(self) -> Path:
        """What survives a restart."""
        return self.root / "home/ec2-user/SageMaker"

    @property
    def anaconda(self) -> Path:
        """The conda installation of the image."""
        return self.root / "home/ec2-user/anaconda3"

    def provide(self, name: str, *brought: tuple[str, str]) -> Path:
        """An environment of the image, with distributions (name and version) that the index need not have."""
        prefix = conda_environment(self.anaconda / "envs" / name)
        for distribution, version in brought:
            self.bring(prefix, distribution, version)
        return prefix

    def bring(self, prefix: Path, name: str, version: str, *, requires: tuple[str, ...] = ()) -> None:
        """Put a distribution into an environment, as conda does."""
        bring(self.wheels.with_name("brought"), prefix, name, version, requires=requires)

    def machine(self) -> Machine:
        """The facts, as a new run finds them."""
        return Machine(self.env, root=self.root)

    def run(self, tasks: str, *, check: bool = False, witness: bool = True) -> list[Result]:
        """Run a playbook with these tasks.

        Raises:
            InvalidPlaybook: as the command line would say.

        """
        self.playbook.write_text(f"- tasks:\n{textwrap.indent(textwrap.dedent(tasks).strip(), '    ')}\n")
        request = Request(playbook=self.playbook, check=check, witness=witness, selection=(str(witness),))
        results, _ = Session(request, self.machine(), Catalogue()).perform(Silent(), lambda _text: None)
        return results

    def good(self, tasks: str) -> list[str]:
        """Run a playbook that must not fail; the statuses."""
        results = self.run(tasks)
        assert not (failed := [result.error.text for result in results if result.error]), failed
        return [result.status for result in results]

    def bad(self, tasks: str) -> ProvisionError:
        """Run a playbook of one task, which must fail; its error."""
        (result,) = self.run(tasks, witness=False)
        assert result.error is not None, result.changes
        return result.error


def bring(folder: Path, prefix: Path, name: str, version: str, *, requires: tuple[str, ...] = ()) -> None:
    """Put a distribution into an environment, as conda does; ``folder`` is for its wheel."""
    site = distributions.site_packages(prefix)
    assert site is not None
    with zipfile.ZipFile(make_wheel(folder, name, version, requires=requires)) as wheel:
        wheel.extractall(site)
    about = site / f"{name}-{version}.dist-info"
    (about / "INSTALLER").write_text("conda\n")
    with (about / "RECORD").open("a") as record:
        record.write(f"{about.name}/INSTALLER,,\n")


def conda_environment(prefix: Path) -> Path:
    """An environment with the Python of this one: a virtual environment that has conda's folder of records as well."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    (prefix / f"lib/python3.{sys.version_info.minor}/site-packages").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(base)
    version = ".".join(map(str, sys.version_info[:3]))
    (prefix / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/history").write_text("")
    return prefix


def versions(prefix: Path) -> dict[str, str]:
    """What is installed, by name."""
    return {name: " ".join(one.version for one in every) for name, every in distributions.installed(prefix).items()}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with what is in it."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def imported(prefix: Path, code: str) -> str:
    """What the environment's own Python prints."""
    env = {"PATH": "/usr/bin:/bin"}
    return commands.run([prefix / "bin/python", "-I", "-B", "-c", code], env=env).output.strip()
