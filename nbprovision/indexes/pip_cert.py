"""The option ``cert`` of the user's pip.conf, which nbprovision gives to uv as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nbprovision.files import file_work
from nbprovision.files.file_work import FilePlan, FileStep, FileTask, Follow, ManagedPath
from nbprovision.indexes import index_settings, pip_conf
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Change
from nbprovision.model.task import Resource, Setting

_OPTION = "global.cert"


class PipCert(FileTask[ManagedPath], frozen=True, kw_only=True):
    """A part of ``ensure_ca_cert``: have pip trust the authorities in a file, or no longer.

    It edits the file by the same rules as ``ensure_pip_index``, whose other options it leaves alone.
    """

    bundle: str
    present: bool
    follow: Follow = False

    def target(self, machine: Machine) -> Path:
        """The user's pip.conf."""
        return index_settings.user_pip_conf(machine.env, machine.user_home)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The file, and the index, which can be reached only with it."""
        return super().provides(machine) | {Resource("index", str(self.target(machine)))}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """The option."""
        if self.present:
            yield Setting(str(self.target(machine)), tuple(_OPTION.split(".")), self.bundle)

    def read(self, machine: Machine) -> ManagedPath:
        """The file."""
        return file_work.read_state(self.target(machine), follow=self.follow)

    def plan(self, state: ManagedPath) -> FilePlan:
        """Compare the option.

        Raises:
            TaskFailed: the file cannot be edited.

        """
        text, settings = state.text, {_OPTION: [self.bundle]}
        is_set = bool(pip_conf.matching(state.path, text, settings))
        if is_set == self.present:
            return FilePlan()
        if self.present:
            return file_work.plan_text(state, pip_conf.merged(state.path, text, settings))
        rest = pip_conf.without(state.path, text or "", settings)
        if rest is not None:
            return file_work.plan_text(state, rest)
        change = Change("remove", str(state.path), text, None, kind="file")
        return FilePlan(changes=(change,), steps=(FileStep(path=state.place, do="remove"),))
