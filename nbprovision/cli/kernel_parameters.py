"""An existing kernel, as the parameters of a task that would create it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbprovision.cli.inventory import FoundKernel
from nbprovision.jupyter import kernelspec
from nbprovision.machine import kernels
from nbprovision.machine.activation import LAUNCHER

# What the task that makes kernels writes under a kernelspec's metadata, and the name of its launcher.
_MARK = "nbprovision"
_NO_USER_SITE = "PYTHONNOUSERSITE"


def parameters(kernel: FoundKernel, prefix: Path, reference: str) -> dict[str, Any] | None:
    """The parameters of a task that makes this kernel, None if its kernel.json cannot be read.

    Args:
        kernel: The kernel, which starts from the environment.
        prefix: The environment.
        reference: What tasks call the environment.

    """
    spec = kernels.decoded(kernels.read_file(Path(kernel.folder) / kernels.SPEC))
    if not isinstance(spec, dict) or not isinstance(spec.get("argv"), list):
        return None
    words = [str(word) for word in spec["argv"]]
    metadata = _mapping(spec.get("metadata"))
    mark = metadata.pop(_MARK, None)
    variables = {str(name): str(value) for name, value in _mapping(spec.get("env")).items()}
    is_python = any(word in ("ipykernel_launcher", "ipykernel", "ipykernel.kernelapp") for word in words)
    values: dict[str, Any] = {"env": reference} if is_python else {"argv": words}
    values |= {"name": kernel.name, "display_name": kernel.display_name or kernel.name}
    if kernel.language not in (None, "python"):
        values["language"] = kernel.language
    if is_python and isinstance(mark, dict):
        if variables.get(_NO_USER_SITE) == "1":
            del variables[_NO_USER_SITE]
        else:
            values["user_site"] = True
        if not any(word.endswith(f"/{LAUNCHER}") for word in words):
            values["activate"] = False
        if mark.get("validated"):
            values["validate"] = True
    if variables:
        values["environment"] = variables
    if kernel.scope != "user":
        values["scope"] = kernel.scope
    if spec.get("interrupt_mode") in ("signal", "message"):
        values["interrupt_mode"] = spec["interrupt_mode"]
    said = _mapping(kernelspec.bundled_spec(prefix).get("metadata", {"debugger": True})) if is_python else {}
    more = {key: value for key, value in metadata.items() if key not in said or said[key] != value}
    if more:
        values["metadata"] = more
    return values


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
