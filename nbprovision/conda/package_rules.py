"""Rules about where packages come from, and about secrets on the way."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from nbprovision.conda import environment_file, specs
from nbprovision.conda.environment_file import EnvironmentFile
from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.machine.package_names import advice, is_none
from nbprovision.model.errors import Position, ProvisionError
from nbprovision.pip import requirements, requirements_files
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.requirements_files import AnyVariable
from nbprovision.system.plain_secrets import secret_as

_PUBLIC = ("pypi.org", "pypi.python.org", "test.pypi.org", "files.pythonhosted.org")
_TERMS = re.compile(r"(defaults|anaconda|main|r|pkgs/(main|r|msys2))|https?://repo\.anaconda\.com/.*")
# Channels that have no packages of PyPI's under PyPI's own names beside those that conda-forge has.
_LIKE_CONDA_FORGE = ("conda-forge", "bioconda", "nvidia", "pytorch")
_CONFUSING = re.compile(r"\s*--extra-index-url[\s=]")


@rule(
    "dependency-confusion",
    "warning",
    "an index of one's own beside a public one, from which packages of the same name can come",
    "anybody can put a package of that name on the public index, and it is installed here",
)
def dependency_confusion(playbook: Playbook) -> Iterable[Found]:
    """In ensure_pip_index, and by ``--extra-index-url`` in requirements files.

    uv looks into the extra indexes first, and takes a name from the first that has it; pip takes the best version of
    all.
    """
    for call in playbook.of("ensure_pip_index"):
        main, extra = call.strings("url"), call.strings("extra_urls")
        own = bool(call.values.get("codeartifact")) or any(not _is_public(url) for url in (*main, *extra))
        mixed = bool(extra) and own and any(map(_is_public, (*main, *extra)))
        if not mixed:
            continue
        strategy = call.values.get("index_strategy")
        if strategy == "best-match":
            happens = "the best version of all indexes is taken"
            cure = "say index_strategy: first-index, with the public index as `url` and your own in `extra_urls`"
        elif any(map(_is_public, extra)):
            happens = "uv looks into `extra_urls` first, and so into the public index"
            cure = "name the public index by `url` and your own by `extra_urls`"
        elif strategy is None:
            happens = "uv takes a name from your own index where that has it, but pip the best version of both"
            cure = "say index_strategy: first-index, if nobody installs by pip"
        else:
            continue
        yield Found(
            position=call.at("extra_urls"),
            message=f"packages of the own index may come from the public one: {happens}",
            cure=f"let one index serve both (CodeArtifact with an upstream, devpi), or {cure}",
        )
    for call in playbook.of("ensure_pip_pkg"):
        by_pip = call.values.get("engine") == "pip"
        happens = (
            "pip takes the best version of both indexes"
            if by_pip
            else "uv takes a name from this index before the main one, in whatever version it has there"
        )
        for number, name in enumerate(call.strings("requirements")):
            for line, text in enumerate(_lines(Path(name)), 1):
                if _CONFUSING.match(text):
                    yield Found(
                        position=Position(name, line, 1)
                        if Path(name).is_file()
                        else call.entry("requirements", number),
                        message=f"--extra-index-url: {happens}",
                        cure="let one index serve both, and name it by ensure_pip_index",
                    )


@rule(
    "unchecked-index",
    "warning",
    "an index by http, or a host whose certificate is not checked",
    "who is on the way can put other packages in the place of those asked for",
)
def unchecked_index(playbook: Playbook) -> Iterable[Found]:
    """Loopback addresses are on no way."""
    for call in playbook.of("ensure_pip_index"):
        for key in ("url", "extra_urls"):
            for number, url in enumerate(call.strings(key)):
                if url.startswith("http://") and not _is_here(urlsplit(url).hostname or ""):
                    yield Found(
                        position=call.entry(key, number),
                        message="the index is asked by http",
                        cure="write https://, with `cert` for an authority of your own",
                    )
        for number, host in enumerate(call.strings("trusted_hosts")):
            if not _is_here(host.partition(":")[0]):
                yield Found(
                    position=call.entry("trusted_hosts", number),
                    message=f"the certificate of {host} is not checked",
                    cure="name the certificate authority by `cert` instead",
                )


@rule(
    "defaults-channel",
    "warning",
    "Anaconda's own channels",
    "Anaconda's terms of service apply (organisations pay), and without their acceptance conda stops to ask",
)
def defaults_channel(playbook: Playbook) -> Iterable[Found]:
    """By name or by URL."""
    for call in playbook.of("ensure_conda_env", "ensure_conda_pkg", "ensure_condarc"):
        for number, channel in enumerate(call.strings("channels")):
            if _TERMS.fullmatch(channel) and call.values.get("state") != "absent":
                yield Found(
                    position=call.entry("channels", number),
                    message=f"the channel '{channel}' is Anaconda's",
                    cure="write conda-forge, which has the same packages",
                )


@rule(
    "platform-changes",
    "warning",
    "`allow_platform_changes: true`",
    "what the image brought in one version is tested with the rest of it in that version only",
)
def platform_changes(playbook: Playbook) -> Iterable[Found]:
    """Whoever means it says so by noqa."""
    for call in playbook.calls:
        if call.values.get("allow_platform_changes") is True:
            yield Found(
                position=call.at("allow_platform_changes"),
                message="packages of the platform may be changed",
                cure="make an environment of your own (clone: begins as a copy), or say # noqa: platform-changes",
            )


@rule(
    "unpinned-source",
    "warning",
    "a repository without a commit or tag",
    "what is installed depends on the day",
)
def unpinned_source(playbook: Playbook) -> Iterable[Found]:
    """``git+https://host/path@REVISION``."""
    for call in playbook.of("ensure_pip_pkg"):
        for number, text in enumerate(call.strings("packages")):
            match = re.search(r"\b(?:git|hg|svn|bzr)\+[a-z]+://(?:[^/@\s]*@)?(?P<rest>[^\s#;]*)", text)
            if match is not None and "@" not in match["rest"]:
                yield Found(
                    position=call.entry("packages", number),
                    message="the repository is taken as it is on that day",
                    cure="write @TAG or @COMMIT behind the URL",
                )


@rule(
    "other-name",
    "warning",
    "a name that conda-forge or PyPI does not have: `torch` of conda, `pytorch` of pip, `sklearn` of either",
    "there is no package of this name, or only one that says what is meant",
)
def other_name(playbook: Playbook) -> Iterable[Found]:
    """Of pip whatever the index, for these are nobody's names; of conda only where conda-forge is what is asked."""
    for call in playbook.of("ensure_conda_env", "ensure_conda_pkg"):
        if call.values.get("state") == "absent":
            continue
        file = _environment_file(call)
        channels = (
            call.strings("channels") or (file.channels if file else ()) or playbook.machine.conda.condarc.channels
        )
        if not all(channel.rstrip("/").rpartition("/")[2] in _LIKE_CONDA_FORGE for channel in channels):
            continue
        written = [(call.entry("packages", number), text) for number, text in enumerate(call.strings("packages"))]
        written += [(call.at("file"), text) for text in (file.packages if file else ())]
        for position, text in written:
            spec = specs.parse(text)
            if spec is not None and spec.channel in (None, "conda-forge") and is_none(spec.name, "conda"):
                yield Found(
                    position=position,
                    message=f"conda-forge has no package '{spec.name}'",
                    cure=advice(spec.name, "conda"),
                )
    for call in playbook.of("ensure_pip_pkg", "ensure_venv"):
        if call.task is None or call.values.get("state") == "absent":
            continue
        for wanted, position in _requirements(call):
            yield from _no_package_of_pypi(wanted, position)
    for call in playbook.of("ensure_conda_env"):
        file = _environment_file(call)
        with contextlib.suppress(ProvisionError):
            for wanted in environment_file.pip_section(file, AnyVariable()).wanted if file else ():
                yield from _no_package_of_pypi(wanted, wanted.position or call.at("file"))


def _no_package_of_pypi(wanted: PipRequirement, position: Position) -> Iterable[Found]:
    if wanted.url is None and wanted.name is not None and is_none(wanted.name, "pip"):
        yield Found(
            position=position,
            message=f"PyPI has no package '{wanted.name}', or only a placeholder",
            cure=advice(wanted.name, "pip"),
        )


def _environment_file(call: Call) -> EnvironmentFile | None:
    for path in call.strings("file") if call.task is not None else ():
        with contextlib.suppress(ProvisionError):  # told by what reads the playbook
            return environment_file.read(Path(path))
    return None


def _requirements(call: Call) -> Iterable[tuple[PipRequirement, Position]]:
    """What a pip task asks for, each with its place: in the playbook, or in a requirements file."""
    for number, text in enumerate(call.strings("packages")):
        with contextlib.suppress(ProvisionError):
            yield requirements.parse(text), call.entry("packages", number)
    for number, text in enumerate(call.strings("requirements")):
        with contextlib.suppress(ProvisionError):
            for wanted in requirements_files.read((), [Path(text)], (), AnyVariable()).wanted:
                yield wanted, wanted.position or call.entry("requirements", number)


@rule(
    "plain-secret",
    "warning",
    "a password or token in the playbook's text",
    "who can read the playbook, its repository or a backup has it",
)
def plain_secret(playbook: Playbook) -> Iterable[Found]:
    """By the name of the key, or by its own form. The value itself is never shown."""
    for keys, value in playbook.scalars:
        secret = secret_as(keys[-1].text if keys else "", value.value) if isinstance(value.value, str) else None
        if secret is not None:
            yield Found(
                position=value.position,
                message=f"{secret.what} is written out",
                cure=f"hand it over in an environment variable: {{{{ lookup('env', '{secret.name}') }}}}",
            )


def _is_public(url: str) -> bool:
    return (urlsplit(url).hostname or "") in _PUBLIC


def _is_here(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
