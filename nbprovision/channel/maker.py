"""Builds a channel by a process of its own, and writes the manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.channel.manifest import EMPTY, MANIFEST, File, Manifest
from nbprovision.indexes import index_settings
from nbprovision.machine import network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import install_settings, pip_command, request, uv_command
from nbprovision.system import files, trust
from nbprovision.system.process import call_module

# Prefixes of variables that the engines get only from the machine's configuration, as nbprovision reads it.
_TOOLS_OWN = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_")


def make(
    machine: Machine, folder: Path, *, interpreters: Sequence[str | None], requirements: Sequence[str], wheels: Path
) -> None:
    """Build the channel's packages, index them, and write the manifest last.

    Raises:
        NetworkFailed: the index could not be reached.
        TaskFailed: another failure, such as a missing interpreter or wheel.
    """
    import uv

    settings = index_settings.effective(machine.env, machine.user_home, root=machine.root)
    options = install_settings.configured(machine.env, machine.user_home, None, root=machine.root)
    cache = machine.cache / "uv"
    files.make_folder(cache, mode=0o700)  # everybody who can enter it may write to uv's locks
    plain = {name: value for name, value in machine.env.items() if not name.startswith(_TOOLS_OWN)}
    trust.place(folder, "build a channel in")
    files.make_folder(folder)
    # A folder with an empty manifest is ours already, so that the next run continues a killed build.
    if not (folder / MANIFEST).exists():
        _write_manifest(folder, EMPTY)

    def build() -> list[Any]:
        """One attempt; the retries of the engines depend on the time that is left."""
        pip_env = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip_env |= {**pip_command.limits(machine), **pip_command.all_variables(options)}
        uv_env = {
            "UV_CACHE_DIR": machine.env.get("UV_CACHE_DIR") or str(cache),
            "UV_TOOL_DIR": str(cache / "tools"),  # else uv creates one in the user's home folder
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
                on_event=lambda event: machine.progress(event["text"], event["done"], event["total"]),
            )
        except TaskFailed as error:
            raise request.by_network(error.message, error.cause, settings, machine) or error from None
        return built

    built = network.retry(machine, lambda _: build(), cached=False)  # fetched wheels are kept
    _write_manifest(
        folder, Manifest(tuple(interpreters), tuple(requirements), tuple(msgspec.convert(built, list[File])))
    )


def remove(folder: Path) -> None:
    """Remove the channel, the manifest last: after a kill it shows that the folder is ours."""
    for path in folder.iterdir():
        if path.name != MANIFEST:
            files.remove(path)
    files.remove(folder)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    files.write_atomically(folder / MANIFEST, msgspec.json.encode(manifest))
