"""What an install has to heed beside where packages come from: pip's configuration and uv's, by `install_options`.

Source of how pip reads its options (order, sections, variables, values): ``pip._internal.cli.parser`` and
https://pip.pypa.io/en/stable/topics/configuration/.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.install_options import BY_NAME, UV_BY_NAME, UV_PIP_BY_NAME, Option, UvOption
from nbprovision.system import secrets

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")
_ALL, _NONE = ":all:", ":none:"
_PRE = ("all_releases", _ALL)

Uses = tuple[tuple[str, str], ...]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options for a whole install: of requirements files, and of the configuration.

    Attributes:
        index_url: The main index; this and the next four of requirements files only (see `indexes.effective`).
        extra_urls: Further indexes.
        find_links: Folders and pages with files.
        trusted_hosts: Hosts whose certificate is not checked.
        no_index: Only ``find_links`` are looked at.
        constraints: Constraints files of the configuration: absolute paths, URLs.
        build_constraints: The same for what builds packages.
        formats: Each ``no_binary`` and ``only_binary`` with its value, in order: a later one changes what was before.
        releases: The same of ``all_releases`` and ``only_final``.
        require_hashes: Every file must have a digest that is named.
        no_require_hashes: One line with a digest does not ask for digests of all.
        prefer_binary: An older version with a wheel is better than a newer one without.
        build_isolation: Packages are built in an environment of their own.
        config_settings: ``KEY=VALUE`` for what builds packages.
        uploaded_prior_to: Later files do not count: a time, or days.
        refresh: Names whose index pages are asked for again; ``:all:``.
        keyring: Who is asked for passwords.
        only_pip: What uv cannot do, each with where it is said.
        refused: What no task can heed, each with where it is said, and why.
        for_pip: pip's configuration as variables, but for what stands in the fields above and what a task decides.
        for_uv: What uv's configuration says, but for indexes, proxies and what a task decides.
        uv_proxies: Proxies of uv's configuration, by variable.
        uv_binding: What of ``for_uv`` says which packages may be installed, each with where it is said.
    """

    index_url: str | None = None
    extra_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    constraints: tuple[str, ...] = ()
    build_constraints: tuple[str, ...] = ()
    formats: Uses = ()
    releases: Uses = ()
    require_hashes: bool = False
    no_require_hashes: bool = False
    prefer_binary: bool = False
    build_isolation: bool = True
    config_settings: tuple[str, ...] = ()
    uploaded_prior_to: str | None = None
    refresh: tuple[str, ...] = ()
    keyring: str | None = None
    only_pip: tuple[str, ...] = ()
    refused: Uses = ()
    for_pip: dict[str, str] = {}
    for_uv: dict[str, Any] = {}
    uv_proxies: dict[str, str] = {}
    uv_binding: tuple[str, ...] = ()

    @property
    def no_binary(self) -> tuple[str, ...]:
        """Names that are built from source; ``:all:``."""
        return _exclusive(self.formats, "no_binary", "only_binary")

    @property
    def only_binary(self) -> tuple[str, ...]:
        """Names that are not built from source; ``:all:``."""
        return _exclusive(self.formats, "only_binary", "no_binary")

    @property
    def all_releases(self) -> tuple[str, ...]:
        """Names whose pre-releases count; ``:all:``."""
        return _exclusive(self.releases, "all_releases", "only_final")

    @property
    def only_final(self) -> tuple[str, ...]:
        """Names whose pre-releases do not count, whatever else; ``:all:``."""
        return _exclusive(self.releases, "only_final", "all_releases")

    @property
    def without_uv(self) -> tuple[str, ...]:
        """Everything that uv cannot do."""
        said = list(self.only_pip)
        if self.prefer_binary and not any(text.startswith("prefer-binary") for text in said):
            said.append("prefer-binary (a requirements file)")
        if {*self.all_releases, *self.only_final} - {_ALL} or (self.all_releases and self.only_final):
            said.append("all-releases or only-final for single packages")
        return tuple(said)

    def after(self, configured: Options) -> Options:
        """These of requirements files with those of the configuration before them."""
        return msgspec.structs.replace(
            configured,
            index_url=self.index_url,
            extra_urls=self.extra_urls,
            find_links=self.find_links,
            trusted_hosts=self.trusted_hosts,
            no_index=self.no_index,
            formats=(*configured.formats, *self.formats),
            releases=(*configured.releases, *self.releases),
            require_hashes=configured.require_hashes or self.require_hashes,
            no_require_hashes=configured.no_require_hashes or self.no_require_hashes,
            prefer_binary=configured.prefer_binary or self.prefer_binary,
            only_pip=(*configured.only_pip, *self.only_pip),
        )

    def __repr__(self) -> str:
        """Without passwords: a traceback prints it."""
        return f"Options({secrets.mask(repr(msgspec.structs.asdict(self)))})"


def configured(env: Mapping[str, str], user_home: Path, prefix: Path | None, *, root: Path = Path("/")) -> Options:
    """What the configuration says of every install into ``prefix``.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        prefix: The environment; None for no environment in particular.
        root: Where the system's ``/etc`` is looked for.

    Raises:
        TaskFailed: a configuration file is none, or has a value that pip does not take.
    """
    fields: dict[str, Any] = {"for_pip": {}}
    for name, value, origin in index_settings.pip_items(env, user_home, prefix, root=root):
        option = BY_NAME.get(name)
        if option is not None:
            _take(fields, option, value, origin, user_home)
    document: dict[str, Any] = {}
    proxies: dict[str, str] = {}
    for path, content in index_settings.uv_documents(env, user_home, root=root):
        _take_uv(fields, document, proxies, content, str(path))
    return Options(**fields, for_uv=document, uv_proxies=proxies)


def _take(fields: dict[str, Any], option: Option, value: str, origin: str, user_home: Path) -> None:
    name = option.names[0]
    said = f"{name} ({origin})"
    if option.here in ("task", "index"):
        return
    if option.kind in ("flag", "unset") and name != "no-cache-dir":
        on = _truth(name, value, origin)
        if option.kind == "unset":  # pip gives the value to what the option switches off
            if name == "no-build-isolation":
                fields["build_isolation"] = on
                return
        elif not on:
            # A later `no` takes back an earlier `yes`.
            fields.pop(name.replace("-", "_"), None)
            fields["for_pip"].pop(_variable(name), None)
            if name == "pre":
                fields["releases"] = tuple(use for use in fields.get("releases", ()) if use != _PRE)
            for kept in ("only_pip", "refused"):
                fields[kept] = tuple(entry for entry in fields.get(kept, ()) if not _about(entry, name))
            return
    if option.here == "refused":
        fields["refused"] = (*fields.get("refused", ()), (said, option.note))
    elif option.here in ("pip", "none"):
        fields["for_pip"][_variable(name)] = value
        if name == "prefer-binary":
            fields["prefer_binary"] = True
        if option.here == "pip":
            fields["only_pip"] = (*fields.get("only_pip", ()), said)
    elif name in ("constraint", "build-constraint"):
        fields[f"{name.replace('-', '_')}s"] = tuple(_place(word, user_home) for word in value.split())
    elif name in ("no-binary", "only-binary"):
        fields["formats"] = (*fields.get("formats", ()), (name.replace("-", "_"), value))
    elif name in ("all-releases", "only-final", "pre"):
        use = _PRE if name == "pre" else (name.replace("-", "_"), value)
        fields["releases"] = (*fields.get("releases", ()), use)
    elif name in ("require-hashes", "no-require-hashes"):
        fields[name.replace("-", "_")] = True
    elif name == "config-settings":
        fields["config_settings"] = (*fields.get("config_settings", ()), value)
    elif name == "uploaded-prior-to":
        fields["uploaded_prior_to"] = _time(value, origin)
    elif name == "refresh-package":
        fields["refresh"] = tuple(word.strip() for word in value.split(",") if word.strip())
    elif name == "keyring-provider":
        fields["keyring"] = value.strip()
        if value.strip() == "import":
            fields["only_pip"] = (*fields.get("only_pip", ()), said)


def _take_uv(
    fields: dict[str, Any], document: dict[str, Any], proxies: dict[str, str], content: Mapping[str, Any], origin: str
) -> None:
    """Add a uv.toml, the stronger ones first: a single value stays, lists are joined, as uv joins its files."""
    table = content.get("pip")
    for known, keys, target in (
        (UV_BY_NAME, content, document),
        (UV_PIP_BY_NAME, table if isinstance(table, dict) else {}, document.setdefault("pip", {})),
    ):
        for key, value in keys.items():
            # A key that is newer than the table is for uv to judge.
            option = known.get(key, UvOption((key,), "passed", binding=True))
            if option.here == "refused" and value:
                fields["refused"] = (*fields.get("refused", ()), (f"{key} ({origin})", option.note))
            if option.here != "passed" or key == "pip":
                continue
            if key.endswith("-proxy"):
                proxies.setdefault(key.replace("-", "_").upper(), _proxy(value))
                continue
            target[key] = _combined(target[key], value) if key in target else value
            if option.binding:
                fields["uv_binding"] = (*fields.get("uv_binding", ()), f"{key} ({origin})")
    if not document["pip"]:
        del document["pip"]


def _proxy(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    secrets.remember_url(text)
    return text


def _combined(stronger: Any, weaker: Any) -> Any:
    if isinstance(stronger, list) and isinstance(weaker, list):
        return [*stronger, *weaker]
    if isinstance(stronger, dict) and isinstance(weaker, dict):
        return {**weaker, **stronger}
    return stronger


def _about(entry: Any, name: str) -> bool:
    return str(entry[0] if isinstance(entry, tuple) else entry).startswith(f"{name} (")


def _variable(name: str) -> str:
    return f"PIP_{name.replace('-', '_').upper()}"


def _truth(name: str, value: str, origin: str) -> bool:
    if value.strip().lower() in _TRUE:
        return True
    if value.strip().lower() in _FALSE:
        return False
    raise TaskFailed(
        f"{origin}: '{secrets.mask(value)}' is not a value for {name}",
        cause="pip takes yes and no, true and false, on and off, 1 and 0, and stops here as well",
        cure=f"correct {name} there, or remove it",
    )


def _place(text: str, user_home: Path) -> str:
    """A constraints file by its absolute path: engines are started elsewhere."""
    secrets.remember_url(text)
    if text.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(text).path)
    if "://" in text:
        return text
    return os.path.abspath(user_home / text[2:] if text.startswith("~/") else text)


def _time(value: str, origin: str) -> str:
    """A time with its zone: without one pip means that of the machine, and uv the end of the day."""
    text = value.strip()
    if re.fullmatch(r"P[0-9]+D", text):
        return text
    try:
        time = dt.datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError as error:
        raise TaskFailed(
            f"{origin}: '{text}' is not a value for uploaded-prior-to",
            cause="pip takes a time (2026-01-31T00:00:00Z) or days (P3D), and stops here as well",
            cure="correct it there, or remove it",
        ) from error
    return (time if time.tzinfo is not None else time.astimezone()).isoformat()


def _exclusive(uses: Iterable[tuple[str, str]], mine: str, other: str) -> tuple[str, ...]:
    """The names under ``mine`` after all uses: a name is under one of the two only, as pip keeps them."""
    names: dict[str, dict[str, None]] = {mine: {}, other: {}}
    for kind, value in uses:
        target, against = names[kind], names[other if kind == mine else mine]
        for name in _effective(value, target, against):
            against.pop(name, None)
            target[name] = None
    return tuple(names[mine])


def _effective(value: str, target: dict[str, None], against: dict[str, None]) -> Iterator[str]:
    words = value.split(",")
    while _ALL in words:
        target.clear()
        against.clear()
        target[_ALL] = None
        del words[: words.index(_ALL) + 1]
        if _NONE not in words:
            return
    for word in words:
        if word == _NONE:
            target.clear()
        elif word.strip():
            yield normalized(word.strip())
