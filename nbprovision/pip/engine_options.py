"""The options of an install, in the words of uv and of pip: what `install_settings` reads is handed over here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.indexes import index_settings
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.install_settings import Options
from nbprovision.system import secrets
from nbprovision.system.files import temporary_folder, write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine
    from nbprovision.pip.request import Request

_ALL = ":all:"


def for_uv(options: Options) -> list[str]:
    """Arguments of ``uv pip install``: https://docs.astral.sh/uv/reference/cli/#uv-pip-install."""
    words = _formats(options)
    words += [word for place in _elsewhere(options.constraints) for word in ("--constraints", place)]
    words += [word for place in options.build_constraints for word in ("--build-constraints", place)]
    words += ["--prerelease", "allow"] if _ALL in options.all_releases else []
    words += ["--prerelease", "disallow"] if _ALL in options.only_final else []
    words += ["--require-hashes"] if options.require_hashes else []
    words += [] if options.build_isolation else ["--no-build-isolation"]
    words += [word for setting in options.config_settings for word in ("--config-setting", setting)]
    words += ["--exclude-newer", options.uploaded_prior_to] if options.uploaded_prior_to else []
    if _ALL in options.refresh:
        words.append("--refresh")
    else:
        words += [word for name in options.refresh for word in ("--refresh-package", name)]
    if options.keyring in ("disabled", "subprocess"):
        words += ["--keyring-provider", options.keyring]
    return words


@contextlib.contextmanager
def uv_toml(machine: Machine, request: Request) -> Iterator[Path | None]:
    """A uv.toml with what the user's says of installs, for as long as uv takes; None where that is nothing.

    Args:
        machine: The facts.
        request: What is to be installed.
    """
    document = _without_resolution(request.options.for_uv) if request.upgrade else request.options.for_uv
    if not document:
        yield None
        return
    import tomlkit

    with temporary_folder(machine.cache / "uv-settings") as folder:
        path = folder / "uv.toml"
        write_atomically(path, tomlkit.dumps(document), mode=0o600, durable=False)
        yield path


def refused_by_uv(machine: Machine, said: str) -> TaskFailed:
    """The error where uv does not take what the user's configuration says; it names the user's files.

    Args:
        machine: The facts.
        said: uv's words.
    """
    files = [str(path) for path, _ in index_settings.uv_documents(machine.env, machine.user_home, root=machine.root)]
    return TaskFailed(
        f"uv does not take what {' and '.join(files)} says",
        cause=secrets.mask(said.strip())[-3000:],
        cure="correct the key that is named, or remove it; uv by hand stops there as well",
    )


def for_pip(options: Options) -> list[str]:
    """Arguments of ``pip install``; what older pips do not know goes by variables, which they pass over."""
    words = _formats(options)
    words += [word for place in _elsewhere(options.constraints) for word in ("--constraint", place)]
    words += ["--pre"] if _ALL in options.all_releases else []
    words += ["--prefer-binary"] if options.prefer_binary else []
    words += ["--require-hashes"] if options.require_hashes else []
    words += [] if options.build_isolation else ["--no-build-isolation"]
    words += [word for setting in options.config_settings for word in ("--config-settings", setting)]
    return words


def pip_variables(options: Options) -> dict[str, str]:
    """The rest of pip's configuration, in place of its files."""
    rest = {
        "PIP_BUILD_CONSTRAINT": " ".join(options.build_constraints),
        "PIP_ALL_RELEASES": "" if _ALL in options.all_releases else ",".join(options.all_releases),
        "PIP_ONLY_FINAL": ",".join(options.only_final),
        "PIP_NO_REQUIRE_HASHES": "1" if options.no_require_hashes and not options.require_hashes else "",
        "PIP_UPLOADED_PRIOR_TO": options.uploaded_prior_to or "",
        "PIP_REFRESH_PACKAGE": ",".join(options.refresh),
        "PIP_KEYRING_PROVIDER": options.keyring or "",
    }
    return {**options.for_pip, **{name: value for name, value in rest.items() if value}}


def all_variables(options: Options) -> dict[str, str]:
    """All of it as variables, for a pip that takes wheels only."""
    everything = {
        **pip_variables(options),
        "PIP_CONSTRAINT": " ".join(options.constraints),
        "PIP_PRE": "1" if _ALL in options.all_releases else "",
        "PIP_REQUIRE_HASHES": "1" if options.require_hashes else "",
    }
    return {name: value for name, value in everything.items() if value}


def _formats(options: Options) -> list[str]:
    """In an order in which none takes back another: all, then single names."""
    uses = [(argument, name) for argument, names in
            (("--no-binary", options.no_binary), ("--only-binary", options.only_binary)) for name in names]  # fmt: skip
    return [word for use in sorted(uses, key=lambda use: use[1] != _ALL) for word in use]


def _elsewhere(places: tuple[str, ...]) -> list[str]:
    """Constraints that are no files of this machine; those are handed over as the task's own are."""
    return [place for place in places if "://" in place]


def _without_resolution(document: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in document.items() if key != "resolution"}
    if "pip" in rest:
        rest["pip"] = {key: value for key, value in rest["pip"].items() if key != "resolution"}
    return rest
