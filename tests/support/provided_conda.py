"""A notebook instance's root with environments as the platform's image brings them, and playbooks run on it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.system import unfinished
from tests.support.driver import converge


class Instance:
    """The machine of one boot; `again` is a new process on it."""

    def __init__(self, env: dict[str, str], root: Path) -> None:
        self.env = env
        self.root = root
        (root / "home/ec2-user/SageMaker").mkdir(parents=True, exist_ok=True)
        self.anaconda = root / "home/ec2-user/anaconda3"
        (self.anaconda / "conda-meta").mkdir(parents=True, exist_ok=True)

    @property
    def machine(self) -> Machine:
        return Machine(self.env, root=self.root)

    def prefix(self, name: str) -> Path:
        return self.anaconda / "envs" / name

    def provide(self, name: str, channel: str, *packages: str) -> Path:
        """Make an environment that looks as if the image had brought it."""
        prefix = self.prefix(name)
        elsewhere = Machine(self.env, root=self.root / "elsewhere")  # where no platform provides it
        converge(EnsureCondaEnv(prefix=str(prefix), packages=list(packages), channels=[channel]), elsewhere)
        (prefix / "conda-meta/nbprovision").unlink()
        (prefix / unfinished.MARK).unlink(missing_ok=True)
        return prefix

    def run(self, playbook: str, **request: Any) -> list[Result]:
        """Run a playbook given as text, as the command line does."""
        machine = self.machine
        path = self.root / "playbook.yml"
        path.write_text(textwrap.dedent(playbook), encoding="utf-8")
        session = Session(Request(playbook=path, **request), machine, Catalogue())
        return session.perform(_Deaf(), lambda text: None)[0]


class _Deaf:
    def started(self, step: Any) -> None: ...

    def progressed(self, step: Any, text: str, done: float, total: float) -> None: ...

    def finished(self, step: Any, result: Result) -> None: ...
