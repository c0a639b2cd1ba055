"""Rules about where packages come from, and about secrets on the way."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Playbook
from nbprovision.model.errors import Position
from nbprovision.playbook.secret_names import is_secret_name
from nbprovision.playbook.template import has_template

_PUBLIC = ("pypi.org", "pypi.python.org", "test.pypi.org", "files.pythonhosted.org")
_TERMS = re.compile(r"(defaults|anaconda|main|r|pkgs/(main|r|msys2))|https?://repo\.anaconda\.com/.*")
_CONFUSING = re.compile(r"\s*--extra-index-url[\s=]")
# user:password@ where the password is written out, and no variable of a template or of the shell.
URL_PASSWORD = re.compile(r"://[^/\s:@'\"]*:(?P<password>[^/\s@'\"]+)@")
_VARIABLE = re.compile(r"\{\{|\$\{?\w|\*\*\*")
_NO_SECRET = ("", "true", "false", "yes", "no", "none", "null", "omit")


@rule(
    "dependency-confusion",
    "warning",
    "an index of one's own beside the public one, and the best version of both is taken",
    "anybody can put a package of the same name and a higher version on the public index, and it is installed here",
)
def dependency_confusion(playbook: Playbook) -> Iterable[Found]:
    """In ensure_pip_index, and by ``--extra-index-url`` in requirements files."""
    for call in playbook.of("ensure_pip_index"):
        urls = [*call.strings("url"), *call.strings("extra_urls")]
        own = bool(call.values.get("codeartifact")) or any(not _is_public(url) for url in urls)
        mixed = bool(call.strings("extra_urls")) and own and any(map(_is_public, urls))
        if mixed and call.values.get("index_strategy") != "first-index":
            yield Found(
                position=call.at("extra_urls"),
                message="packages of the own index may come from the public one",
                cure="let one index serve both (CodeArtifact with an upstream, devpi), or say "
                "index_strategy: first-index, by which uv takes a name from the first index that has it",
            )
    for call in playbook.of("ensure_pip_pkg"):
        for number, name in enumerate(call.strings("requirements")):
            for line, text in enumerate(_lines(Path(name)), 1):
                if _CONFUSING.match(text):
                    yield Found(
                        position=Position(name, line, 1)
                        if Path(name).is_file()
                        else call.entry("requirements", number),
                        message="--extra-index-url takes the best version of both indexes",
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
    "plain-secret",
    "warning",
    "a password or token in the playbook's text",
    "who can read the playbook, its repository or a backup has it",
)
def plain_secret(playbook: Playbook) -> Iterable[Found]:
    """By the name of the key, or as the password in a URL. The value itself is never shown."""
    for keys, value in playbook.scalars:
        text = value.value if isinstance(value.value, str) else ""
        in_url = any(not _VARIABLE.search(match["password"]) for match in URL_PASSWORD.finditer(text))
        named = bool(keys) and is_secret_name(keys[-1].text) and not has_template(text) and not _VARIABLE.search(text)
        if in_url or (named and text.strip().lower() not in _NO_SECRET):
            what = "the URL holds a password" if in_url else f"'{keys[-1].text}' is written out"
            name = "INDEX_PASSWORD" if in_url else re.sub(r"\W", "_", keys[-1].text).upper()
            yield Found(
                position=value.position,
                message=what,
                cure=f"hand it over in an environment variable: {{{{ lookup('env', '{name}') }}}}",
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
