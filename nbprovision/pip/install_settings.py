"""The options that pip's configuration and uv's set for each install, apart from indexes, by `install_options`.

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

_FALSE = ("n", "no", "f", "false", "off", "0")
ALL, _NONE = ":all:", ":none:"

Uses = tuple[tuple[str, str], ...]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options for a whole install, from requirements files and from the configuration.

    Attributes:
        index_url: The main index. This field and the next four come from requirements files only; for the
            configuration see `index_settings.effective`.
        extra_urls: Further indexes.
        find_links: Folders and pages with files.
        trusted_hosts: Hosts whose certificate is not checked.
        no_index: Use ``find_links`` only.
        constraints: Constraints files of the configuration: absolute paths, URLs.
        build_constraints: Constraints files for build dependencies.
        formats: Each ``no_binary`` and ``only_binary`` with its value. Their order counts: a later one changes the
            earlier ones.
        releases: Each ``all_releases`` and ``only_final``, in the same form.
        require_hashes: Every file must have a listed digest.
        no_require_hashes: One requirement with a digest does not make digests mandatory for all.
        prefer_binary: Prefer an older version with a wheel to a newer one without.
        build_isolation: Build packages in an environment of their own.
        config_settings: ``KEY=VALUE`` for the build backend.
        uploaded_prior_to: Ignore files that were uploaded later: a time, or days.
        refresh: Names whose index pages are fetched again; ``:all:``.
        keyring: The keyring provider that supplies passwords.
        only_pip: Options that uv does not support, each with the place that sets it.
        refused: Options that no task can follow: each with the place that sets it, and the reason.
        for_pip: The rest of pip's configuration as variables, except options that a task decides.
        for_uv: uv's configuration, except indexes, proxies and options that a task decides.
        uv_proxies: Proxies of uv's configuration, by variable.
        uv_binding: The keys of ``for_uv`` that restrict which packages may be installed, each with its place.
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
        """Names to build from source; ``:all:``."""
        return _exclusive(self.formats, "no_binary", "only_binary")

    @property
    def only_binary(self) -> tuple[str, ...]:
        """Names to install from wheels only; ``:all:``."""
        return _exclusive(self.formats, "only_binary", "no_binary")

    @property
    def all_releases(self) -> tuple[str, ...]:
        """Names whose pre-releases are candidates; ``:all:``."""
        return _exclusive(self.releases, "all_releases", "only_final")

    @property
    def only_final(self) -> tuple[str, ...]:
        """Names whose pre-releases are never candidates; ``:all:``."""
        return _exclusive(self.releases, "only_final", "all_releases")

    @property
    def without_uv(self) -> tuple[str, ...]:
        """Every option that uv does not support."""
        options = list(self.only_pip)
        if self.prefer_binary and not any(text.startswith("prefer-binary") for text in options):
            options.append("prefer-binary (a requirements file)")
        if {*self.all_releases, *self.only_final} - {ALL} or (self.all_releases and self.only_final):
            options.append("all-releases or only-final for single packages")
        return tuple(options)

    @property
    def format_arguments(self) -> list[str]:
        """``--no-binary`` and ``--only-binary``; ``:all:`` comes first, as it would undo single names before it."""
        pairs = [("--no-binary", name) for name in self.no_binary]
        pairs += [("--only-binary", name) for name in self.only_binary]
        return [word for pair in sorted(pairs, key=lambda pair: pair[1] != ALL) for word in pair]

    @property
    def remote_constraints(self) -> tuple[str, ...]:
        """The constraints given by URL. The task adds those that are local files."""
        return tuple(place for place in self.constraints if "://" in place)

    def after(self, configured: Options) -> Options:
        """These options of requirements files, combined with the weaker ones of the configuration."""
        own = ("index_url", "extra_urls", "find_links", "trusted_hosts", "no_index")
        flags = ("require_hashes", "no_require_hashes", "prefer_binary")
        joined = ("formats", "releases", "only_pip")
        return msgspec.structs.replace(
            configured,
            **{field: getattr(self, field) for field in own},
            **{field: getattr(configured, field) or getattr(self, field) for field in flags},
            **{field: (*getattr(configured, field), *getattr(self, field)) for field in joined},
        )

    def __repr__(self) -> str:
        """Without passwords: a traceback prints it."""
        return f"Options({secrets.mask(repr(msgspec.structs.asdict(self)))})"


def configured(env: Mapping[str, str], user_home: Path, prefix: Path | None, *, root: Path = Path("/")) -> Options:
    """The options that the configuration sets for each install into ``prefix``.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        prefix: The environment; None for no environment in particular.
        root: The folder that contains the system's ``/etc``.

    Raises:
        TaskFailed: a configuration file is not valid, or has a value that pip does not accept.
    """
    fields: dict[str, Any] = {"for_pip": {}, "for_uv": {}, "uv_proxies": {}}
    for option, value, origin in _options_in_force(index_settings.pip_items(env, user_home, prefix, root=root)):
        _take(fields, option, value, origin, user_home)
    for path, content in index_settings.uv_documents(env, user_home, root=root):
        _take_uv(fields, content, str(path))
    return Options(**fields)


def _options_in_force(items: Iterable[tuple[str, str, str]]) -> list[tuple[Option, str, str]]:
    """The options that count here, each with value and origin, without flags that a later ``no`` switches off."""
    options: list[tuple[Option, str, str]] = []
    for name, value, origin in items:
        option = BY_NAME.get(name)
        if option is None or option.here in ("task", "index"):
            continue
        is_truth = option.kind in ("flag", "unset") and option.names[0] != "no-cache-dir"
        if is_truth and not _truth(option.names[0], value, origin) and option.kind == "flag":
            options = [entry for entry in options if entry[0] is not option]
        else:
            options.append((option, value, origin))
    return options


def _take(fields: dict[str, Any], option: Option, value: str, origin: str, user_home: Path) -> None:
    name = option.names[0]
    field, place = name.replace("-", "_"), f"{name} ({origin})"

    def append(key: str, entry: object) -> None:
        fields[key] = (*fields.get(key, ()), entry)

    if option.here == "pip" or (name, value.strip()) == ("keyring-provider", "import"):
        append("only_pip", place)
    if option.here == "refused":
        append("refused", (place, option.note))
    elif option.here in ("pip", "none"):
        fields["for_pip"][f"PIP_{field.upper()}"] = value
        if name == "prefer-binary":
            fields["prefer_binary"] = True
    elif name in ("constraint", "build-constraint"):
        fields[f"{field}s"] = tuple(_absolute(word, user_home) for word in value.split())
    elif name in ("no-binary", "only-binary"):
        append("formats", (field, value))
    elif name in ("all-releases", "only-final"):
        append("releases", (field, value))
    elif name == "pre":
        append("releases", ("all_releases", ALL))
    elif name in ("require-hashes", "no-require-hashes"):
        fields[field] = True
    elif name == "no-build-isolation":
        fields["build_isolation"] = _truth(name, value, origin)  # pip's configuration takes the negated value
    elif name == "config-settings":
        append("config_settings", value)
    elif name == "uploaded-prior-to":
        fields["uploaded_prior_to"] = _time(value, origin)
    elif name == "refresh-package":
        fields["refresh"] = tuple(word.strip() for word in value.split(",") if word.strip())
    elif name == "keyring-provider":
        fields["keyring"] = value.strip()


def _take_uv(fields: dict[str, Any], content: Mapping[str, Any], origin: str) -> None:
    """Add a uv.toml, the stronger ones first. As in uv, the first single value counts, and lists are joined."""
    document = fields["for_uv"]
    table = content.get("pip")
    for options, keys, target in (
        (UV_BY_NAME, content, document),
        (UV_PIP_BY_NAME, table if isinstance(table, dict) else {}, document.setdefault("pip", {})),
    ):
        for key, value in keys.items():
            # uv itself judges a key that is newer than the table.
            option = options.get(key, UvOption((key,), "passed", binding=True))
            place = f"{key} ({origin})"
            if option.here == "refused" and value:
                fields["refused"] = (*fields.get("refused", ()), (place, option.note))
            if option.here != "passed" or key == "pip":
                continue
            if key.endswith("-proxy"):
                proxy = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                secrets.remember_url(proxy)
                fields["uv_proxies"].setdefault(key.replace("-", "_").upper(), proxy)
                continue
            target[key] = _combined(target[key], value) if key in target else value
            if option.binding:
                fields["uv_binding"] = (*fields.get("uv_binding", ()), place)
    if not document["pip"]:
        del document["pip"]


def _combined(stronger: Any, weaker: Any) -> Any:
    if isinstance(stronger, list) and isinstance(weaker, list):
        return [*stronger, *weaker]
    if isinstance(stronger, dict) and isinstance(weaker, dict):
        return {**weaker, **stronger}
    return stronger


def _truth(name: str, value: str, origin: str) -> bool:
    if value.strip().lower() in index_settings.TRUE:
        return True
    if value.strip().lower() in _FALSE:
        return False
    raise TaskFailed(
        f"{origin}: '{secrets.mask(value)}' is not a value for {name}",
        cause="pip accepts yes and no, true and false, on and off, 1 and 0, and fails here as well",
        cure=f"correct {name} there, or remove it",
    )


def _absolute(text: str, user_home: Path) -> str:
    """The absolute path of a constraints file, as engines run in another folder."""
    secrets.remember_url(text)
    if text.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(text).path)
    if "://" in text:
        return text
    return os.path.abspath(user_home / text[2:] if text.startswith("~/") else text)


def _time(value: str, origin: str) -> str:
    """A time with its zone. For a time without one, pip assumes the machine's zone, and uv the end of the day."""
    text = value.strip()
    if re.fullmatch(r"P[0-9]+D", text):
        return text
    try:
        time = dt.datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError as error:
        raise TaskFailed(
            f"{origin}: '{text}' is not a value for uploaded-prior-to",
            cause="pip accepts a time (2026-01-31T00:00:00Z) or days (P3D), and fails here as well",
            cure="correct it there, or remove it",
        ) from error
    return (time if time.tzinfo is not None else time.astimezone()).isoformat()


def _exclusive(uses: Iterable[tuple[str, str]], mine: str, other: str) -> tuple[str, ...]:
    """The names under ``mine`` after all uses. As in pip, a name is under one of the two only."""
    names: dict[str, dict[str, None]] = {mine: {}, other: {}}
    for kind, value in uses:
        target, against = names[kind], names[other if kind == mine else mine]
        for name in _effective(value, target, against):
            against.pop(name, None)
            target[name] = None
    return tuple(names[mine])


def _effective(value: str, target: dict[str, None], against: dict[str, None]) -> Iterator[str]:
    words = value.split(",")
    while ALL in words:
        target.clear()
        against.clear()
        target[ALL] = None
        del words[: words.index(ALL) + 1]
        if _NONE not in words:
            return
    for word in words:
        if word == _NONE:
            target.clear()
        elif word.strip():
            yield normalized(word.strip())
