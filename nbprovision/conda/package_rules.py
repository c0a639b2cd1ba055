"""Rules about the sources of packages, their names, and secrets in the playbook's text."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from nbprovision.conda import environment_file, specs
from nbprovision.conda.environment_file import EnvironmentFile
from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.machine.package_names import advice, is_missing
from nbprovision.model.errors import Position, ProvisionError
from nbprovision.pip import requirements, requirements_files
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.requirements_files import AnyVariable
from nbprovision.system.plain_secrets import secret_as

_PUBLIC = ("pypi.org", "pypi.python.org", "test.pypi.org", "files.pythonhosted.org")
_ANACONDA = re.compile(r"(defaults|anaconda|main|r|pkgs/(main|r|msys2))|https?://repo\.anaconda\.com/.*")
# Channels without other names of packages than conda-forge's.
_LIKE_CONDA_FORGE = ("conda-forge", "bioconda", "nvidia", "pytorch")
_EXTRA_INDEX = re.compile(r"\s*--extra-index-url[\s=]")


@rule("warning", "anybody can put a package of that name on the public index, and it is installed here")
def dependency_confusion(playbook: Playbook) -> Iterable[Problem]:
    """A private index beside a public one that can have packages of the same names.

    In ensure_pip_index, and by ``--extra-index-url`` in requirements files. uv takes a name from the first index that
    has it, extra indexes first; pip takes the best version of all indexes.
    """
    for call in playbook.of("ensure_pip_index"):
        extra = call.strings("extra_urls")
        urls = call.strings("url", "extra_urls")
        private = bool(call.values.get("codeartifact")) or not all(map(_is_public, urls))
        if not (extra and private and any(map(_is_public, urls))):
            continue
        strategy = call.values.get("index_strategy")
        if strategy == "best-match":
            effect = "the best version of all indexes is taken"
            cure = "write index_strategy: first-index, with the public index as `url` and your own in `extra_urls`"
        elif any(map(_is_public, extra)):
            effect = "uv searches `extra_urls` first, and so the public index"
            cure = "name the public index by `url` and your own by `extra_urls`"
        elif strategy is None:
            effect = "uv prefers your own index, but pip takes the best version of both"
            cure = "write index_strategy: first-index, if nobody installs by pip"
        else:
            continue
        yield Problem(
            call.at("extra_urls"),
            f"packages of the own index may come from the public one: {effect}",
            f"let one index serve both (CodeArtifact with an upstream, devpi), or {cure}",
        )
    for call in playbook.of("ensure_pip_pkg"):
        by_pip = call.values.get("engine") == "pip"
        effect = "pip takes the best version of both indexes" if by_pip else "uv prefers this index for any version"
        for name, position in call.entries("requirements"):
            path = Path(name)
            for number, line in enumerate(_lines(path), 1):
                if _EXTRA_INDEX.match(line):
                    yield Problem(
                        Position(name, number, 1) if path.is_file() else position,
                        f"--extra-index-url: {effect}",
                        "let one index serve both, and name it by ensure_pip_index",
                    )


@rule("warning", "an attacker on the network can replace the packages")
def unchecked_index(playbook: Playbook) -> Iterable[Problem]:
    """An index by http, or a host whose certificate is not checked; loopback addresses are not reported."""
    for call in playbook.of("ensure_pip_index"):
        for url, position in call.entries("url", "extra_urls"):
            if url.startswith("http://") and not _is_loopback(urlsplit(url).hostname or ""):
                cure = "write https://, with `cert` for an authority of your own"
                yield Problem(position, "packages are fetched by http", cure)
        for host, position in call.entries("trusted_hosts"):
            if not _is_loopback(host.partition(":")[0]):
                message = f"the certificate of {host} is not checked"
                yield Problem(position, message, "name the certificate authority by `cert` instead")


@rule("warning", "organisations pay for them by Anaconda's terms of service, and conda stops until these are accepted")
def defaults_channel(playbook: Playbook) -> Iterable[Problem]:
    """Anaconda's own channels."""
    for call in playbook.of("ensure_conda_env", "ensure_conda_pkg", "ensure_condarc"):
        for channel, position in call.entries("channels") if call.state != "absent" else ():
            if _ANACONDA.fullmatch(channel):
                cure = "write conda-forge, which has the same packages"
                yield Problem(position, f"the channel '{channel}' is Anaconda's", cure)


@rule("warning", "the image's packages are tested together in the image's versions only")
def platform_changes(playbook: Playbook) -> Iterable[Problem]:
    """`allow_platform_changes: true`."""
    for call in playbook.calls:
        if call.values.get("allow_platform_changes") is True:
            cure = "make an environment of your own (clone: begins as a copy), or write # noqa: platform-changes"
            yield Problem(call.at("allow_platform_changes"), "packages of the platform may be changed", cure)


@rule("warning", "the installed version depends on the day")
def unpinned_source(playbook: Playbook) -> Iterable[Problem]:
    """A repository without a commit or tag: ``git+https://host/path@REVISION`` has one."""
    for call in playbook.of("ensure_pip_pkg"):
        for text, position in call.entries("packages"):
            match = re.search(r"\b(?:git|hg|svn|bzr)\+[a-z]+://(?:[^/@\s]*@)?(?P<rest>[^\s#;]*)", text)
            if match is not None and "@" not in match["rest"]:
                yield Problem(position, "the repository has no fixed revision", "write @TAG or @COMMIT behind the URL")


@rule("warning", "this name has no package, or only a placeholder")
def other_name(playbook: Playbook) -> Iterable[Problem]:
    """A name that conda-forge or PyPI lacks: `torch` of conda, `pytorch` of pip, `sklearn` of either.

    pip's names are checked for any index. conda's names are checked only if all channels are like conda-forge.
    """
    for call in playbook.of("ensure_conda_env", "ensure_conda_pkg"):
        if call.state != "absent":
            yield from _names_of_conda(playbook, call)
    for call in playbook.of("ensure_pip_pkg", "ensure_venv"):
        if call.task is not None and call.state != "absent":
            for requirement, position in _requirements(call):
                yield from _name_of_pypi(requirement, position)
    for call in playbook.of("ensure_conda_env"):
        file = _environment_file(call)
        with contextlib.suppress(ProvisionError):
            for requirement in environment_file.pip_section(file, AnyVariable()).wanted if file else ():
                yield from _name_of_pypi(requirement, requirement.position or call.at("file"))


def _names_of_conda(playbook: Playbook, call: Call) -> Iterator[Problem]:
    file = _environment_file(call)
    channels = call.strings("channels") or (file.channels if file else ()) or playbook.machine.conda.condarc.channels
    if not all(channel.rstrip("/").rpartition("/")[2] in _LIKE_CONDA_FORGE for channel in channels):
        return
    texts = [*call.entries("packages"), *((text, call.at("file")) for text in (file.packages if file else ()))]
    for text, position in texts:
        spec = specs.parse(text)
        if spec is not None and spec.channel in (None, "conda-forge") and is_missing(spec.name, "conda"):
            yield Problem(position, f"conda-forge has no package '{spec.name}'", advice(spec.name, "conda"))


def _name_of_pypi(requirement: PipRequirement, position: Position) -> Iterator[Problem]:
    name = requirement.name
    if requirement.url is None and name is not None and is_missing(name, "pip"):
        yield Problem(position, f"PyPI has no package '{name}', or only a placeholder", advice(name, "pip"))


def _environment_file(call: Call) -> EnvironmentFile | None:
    for path in call.strings("file") if call.task is not None else ():
        with contextlib.suppress(ProvisionError):  # reading the playbook reports it
            return environment_file.read(Path(path))
    return None


def _requirements(call: Call) -> Iterator[tuple[PipRequirement, Position]]:
    """The requirements of a pip task, each with its position in the playbook or in a requirements file."""
    for text, position in call.entries("packages"):
        with contextlib.suppress(ProvisionError):
            yield requirements.parse(text), position
    for text, position in call.entries("requirements"):
        with contextlib.suppress(ProvisionError):
            for requirement in requirements_files.read((), [Path(text)], (), AnyVariable()).wanted:
                yield requirement, requirement.position or position


@rule("warning", "everybody who can read the playbook, its repository or a backup can read the secret")
def plain_secret(playbook: Playbook) -> Iterable[Problem]:
    """A password or token in the playbook's text.

    Recognised by the name of its key, or by its own form. The message never shows the value.
    """
    for keys, value in playbook.scalars:
        secret = secret_as(keys[-1].text if keys else "", value.value) if isinstance(value.value, str) else None
        if secret is not None:
            cure = f"hand it over in an environment variable: {{{{ lookup('env', '{secret.name}') }}}}"
            yield Problem(value.position, f"{secret.what} is in plain text", cure)


def _is_public(url: str) -> bool:
    return (urlsplit(url).hostname or "") in _PUBLIC


def _is_loopback(host: str) -> bool:
    try:
        return host in ("localhost", "") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
