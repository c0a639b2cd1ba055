"""The channel builder's side in the tool: hands the order to a process of its own, and keeps the manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.channel.manifest import MANIFEST, File, Manifest
from nbprovision.indexes import index_settings
from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import install_settings, pip_command, request, uv_command
from nbprovision.system import files, trust
from nbprovision.system.process import call_module

# The engines get these from the machine's configuration in our reading of it, and from nowhere else.
_TOOLS_OWN = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_")


def make(
    machine: Machine, folder: Path, *, interpreters: Sequence[str | None], requirements: Sequence[str], wheels: Path
) -> None:
    """Build the channel's packages, index them, and write the manifest last.

    Raises:
        NetworkFailed: the index was not reached.
        TaskFailed: no such interpreter, no wheel, ...
    """
    import uv

    settings = index_settings.effective(machine.env, machine.user_home, root=machine.root)
    options = install_settings.configured(machine.env, machine.user_home, None, root=machine.root)
    cache = machine.cache / "uv"
    files.make_folder(cache, mode=0o700)  # uv's locks are writable for everybody who gets there
    plain = {name: value for name, value in machine.env.items() if not name.startswith(_TOOLS_OWN)}
    trust.place(folder, "build a channel in")
    files.make_folder(folder)
    # A folder with an empty manifest is ours already: a build that is killed is taken up by the next run.
    if not (folder / MANIFEST).exists():
        _write_manifest(folder, Manifest((), (), ()))

    def build() -> list[Any]:
        """One attempt; how often each engine asks by itself depends on the patience that is left."""
        pip_env = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip_env |= {**pip_command.limits(machine), **pip_command.all_variables(options)}
        uv_env = {
            "UV_CACHE_DIR": machine.env.get("UV_CACHE_DIR") or str(cache),
            "UV_TOOL_DIR": str(cache / "tools"),  # else it makes one in the user's home folder
        }
        order = {
            "channel": str(folder),
            "interpreters": list(interpreters),
            "requirements": list(requirements),
            "wheels": str(wheels),
            "uv": uv.find_uv_bin(),
            "pip_env": {**plain, **pip_env, **index_settings.pip_environment(settings)},
            "uv_env": {**uv_env, **uv_command.limits(machine), **index_settings.uv_environment(settings)},
        }
        try:
            built: list[Any] = call_module(
                "nbprovision.channel.build",
                order,
                env=plain,
                on_event=lambda told: machine.progress(told["text"], told["done"], told["total"]),
            )
        except TaskFailed as error:
            raise request.by_network(error.message, error.cause, settings, machine) or error from None
        return built

    built = network.persistently(machine, lambda _: build(), cached=False)  # wheels that were fetched are kept
    _write_manifest(
        folder, Manifest(tuple(interpreters), tuple(requirements), tuple(msgspec.convert(built, list[File])))
    )


def remove(folder: Path) -> None:
    """Remove the channel; the manifest goes last, so that what is left of it after a kill still is known as ours."""
    for path in folder.iterdir():
        if path.name != MANIFEST:
            files.remove(path)
    files.remove(folder)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    files.write_atomically(folder / MANIFEST, msgspec.json.encode(manifest))
