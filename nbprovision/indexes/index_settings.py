"""Where packages come from: pip's configuration read as pip reads it, uv's where pip's says nothing, handed to both.

Sources: https://pip.pypa.io/en/stable/topics/configuration/ (files, their order, sections, variables) and
https://docs.astral.sh/uv/concepts/configuration-files/ and https://docs.astral.sh/uv/concepts/indexes/.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.indexes import index_url
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets, trust
from nbprovision.system.files import read_text

PIP_CONF = "pip.conf"
UV_TOML = "uv.toml"
# A section of pip.conf that pip passes over (it reads [global] and those named like its commands): what uv needs to
# know about an environment's own index, for which uv has no configuration file.
OWN_SECTION = "nbprovision"

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

FIRST_INDEX = "first-index"
BEST_MATCH = "unsafe-best-match"

# pip's option (every spelling that it takes in a file or a variable) to the field that keeps it.
_PIP_OPTIONS = {
    "index-url": "index_url",
    "pypi-url": "index_url",
    "extra-index-url": "extra_urls",
    "find-links": "find_links",
    "no-index": "no_index",
    "trusted-host": "trusted_hosts",
    "cert": "cert",
    "client-cert": "client_cert",
    "proxy": "proxy",
    "timeout": "timeout",
    "default-timeout": "timeout",
    "retries": "retries",
}
_LISTS = ("extra_urls", "find_links", "trusted_hosts")
_TRUE = ("y", "yes", "t", "true", "on", "1")


class IndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where an interpreter's packages come from, and how they are fetched.

    Attributes:
        index_url: The main index (PEP 503), None for PyPI. May hold a password, as may all URLs here.
        extra_urls: Further indexes. pip takes the best version of all of them; uv looks into them before the main one.
        find_links: Folders and pages with files beside the indexes.
        no_index: Only ``find_links`` are looked at.
        trusted_hosts: ``host`` or ``host:port`` whose certificate is not checked.
        cert: File (or folder) of the certificate authorities to trust, None for the system's.
        client_cert: File with a certificate and its key, shown to the index.
        proxy: URL of a proxy.
        timeout: Seconds that one answer may take, as written.
        retries: How often a failed request is tried again, as written.
        index_strategy: uv's word: ``first-index``, ``unsafe-best-match`` or ``unsafe-first-match``.
        origins: Which file and section, or which variable, gave each value.
        disagreements: What uv is told otherwise by its own configuration; pip's is followed.
    """

    index_url: str | None = None
    extra_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: str | None = None
    retries: str | None = None
    index_strategy: str = FIRST_INDEX
    origins: dict[str, str] = {}
    disagreements: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without passwords: a traceback prints it."""
        return f"IndexSettings({secrets.mask(repr(msgspec.structs.asdict(self)))})"


class Found(NamedTuple):
    """A value of the field's type, and where it was found."""

    value: Any
    origin: str


Values = dict[str, Found]
Reader = Callable[[Path], str | None]


def effective(
    env: Mapping[str, str],
    user_home: Path,
    prefix: Path | None = None,
    *,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> IndexSettings:
    """What pip of the interpreter in ``prefix`` uses, completed by uv's own configuration, for both engines.

    pip's configuration decides. A value that it leaves out is taken from uv's (variables, then ``uv.toml``), so that
    who has set one tool has set both; but where pip names its index, uv's further places are not added: they could
    bring packages of the same name from elsewhere. Where the two name different indexes, pip's is followed and
    ``disagreements`` says so. pip has no ``index_strategy``: a section ``[nbprovision]`` of its files (pip passes over
    it) has it, else uv's configuration. Every password met is masked from now on.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        prefix: The environment; None for no environment in particular.
        root: Where the system's ``/etc`` is looked for.
        instead: Texts to take for files, None for absent: to know what would be.

    Raises:
        TaskFailed: a configuration file is none (pip and uv themselves stop there).
    """
    read = _reader(instead or {})
    pip = _pip_values(env, user_home, prefix, root, read)
    uv = _uv_values(env, user_home, root, read)
    shut_out = ("extra_urls", "find_links", "no_index") if "index_url" in pip or "no_index" in pip else ()
    chosen = {**{field: found for field, found in uv.items() if field not in shut_out}, **pip}
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # heeded by the library that pip fetches with, not by uv
        if env.get(variable):
            chosen.setdefault("cert", Found(env[variable], variable))
    _remembered(chosen)
    return IndexSettings(
        **{field: found.value for field, found in chosen.items()},
        origins={field: found.origin for field, found in chosen.items()},
        disagreements=tuple(_disagreements(pip, uv)),
    )


def of_pip(env: Mapping[str, str], user_home: Path, root: Path = Path("/")) -> Values:
    """What pip's own configuration says, for no environment in particular. Every password met is masked from now on.

    Raises:
        TaskFailed: a file of it cannot be read as one.
    """
    return _remembered(_pip_values(env, user_home, None, root, _reader({})))


def of_uv(env: Mapping[str, str], user_home: Path, root: Path = Path("/")) -> Values:
    """What uv's own configuration says, which a uv goes by that is started by hand.

    Raises:
        TaskFailed: a file of it cannot be read as one.
    """
    return _remembered(_uv_values(env, user_home, root, _reader({})))


def pip_items(
    env: Mapping[str, str], user_home: Path, prefix: Path | None, *, root: Path = Path("/")
) -> Iterator[tuple[str, str, str]]:
    """Every option that pip's configuration gives to ``pip install``, the stronger ones last: name, value, origin.

    Raises:
        TaskFailed: a file of it cannot be read as one.
    """
    return _pip_items(env, user_home, prefix, root, _reader({}))


def uv_documents(
    env: Mapping[str, str], user_home: Path, *, root: Path = Path("/")
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read uv's own configuration files as plain data, the stronger ones first.

    Raises:
        TaskFailed: a file of it cannot be read as one.
    """
    read = _reader({})
    for path in _uv_tomls(env, user_home, root):
        text = read(path)
        if text:
            yield path, parse_uv_toml(path, text)


def uv_environment(settings: IndexSettings) -> dict[str, str]:
    """The variables that make uv fetch as ``settings`` say, to be laid over the environment it is started in.

    An empty value undoes what the environment had. uv's configuration files are shut out (``UV_NO_CONFIG``): their
    indexes would be added to these. Passwords travel here and never in the arguments, which ``ps`` shows; there is no
    variable for ``--no-index``, see `uv_arguments`.
    """
    variables = {
        "UV_NO_CONFIG": "1",
        "UV_CONFIG_FILE": os.devnull,
        "UV_INDEX_URL": "",
        "UV_EXTRA_INDEX_URL": "",
        "UV_DEFAULT_INDEX": settings.index_url or "",
        "UV_INDEX": " ".join(settings.extra_urls),
        "UV_FIND_LINKS": ",".join(as_url(place) for place in settings.find_links),
        "UV_INDEX_STRATEGY": settings.index_strategy,
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
    }
    if settings.cert:
        variables["SSL_CERT_DIR" if os.path.isdir(settings.cert) else "SSL_CERT_FILE"] = settings.cert
    if settings.client_cert:
        variables["SSL_CLIENT_CERT"] = settings.client_cert
    if settings.proxy:
        variables.update(dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), settings.proxy))
        variables.update(dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), settings.proxy))
    with contextlib.suppress(ValueError):
        variables["UV_HTTP_TIMEOUT"] = str(max(1, int(float(settings.timeout or ""))))
    with contextlib.suppress(ValueError):
        variables["UV_HTTP_RETRIES"] = str(int(settings.retries or ""))
    return variables


def uv_arguments(settings: IndexSettings) -> list[str]:
    """What of ``settings`` uv takes by argument only."""
    return ["--no-index"] if settings.no_index else []


def pip_environment(settings: IndexSettings) -> dict[str, str]:
    """The variables that make pip fetch as ``settings`` say, to be laid over the environment it is started in.

    pip's own files stay in force for all else (constraints, for example). pip knows no ``first-index``: it takes the
    best version of all indexes.
    """
    variables = {
        "PIP_INDEX_URL": settings.index_url,
        "PIP_EXTRA_INDEX_URL": " ".join(settings.extra_urls),
        "PIP_FIND_LINKS": " ".join(as_url(place) for place in settings.find_links),
        "PIP_NO_INDEX": "1" if settings.no_index else None,
        "PIP_TRUSTED_HOST": " ".join(settings.trusted_hosts),
        "PIP_CERT": settings.cert,
        "PIP_CLIENT_CERT": settings.client_cert,
        "PIP_PROXY": settings.proxy,
        "PIP_TIMEOUT": settings.timeout,
        "PIP_RETRIES": settings.retries,
    }
    return {name: value for name, value in variables.items() if value}


def user_pip_conf(env: Mapping[str, str], user_home: Path) -> Path:
    """The user's pip.conf that wins over the older ``~/.pip/pip.conf``."""
    return _user_config(env, user_home) / "pip" / PIP_CONF


def user_uv_toml(env: Mapping[str, str], user_home: Path) -> Path:
    """The user's uv.toml."""
    return _user_config(env, user_home) / "uv" / UV_TOML


def system_pip_conf(root: Path = Path("/")) -> Path:
    """The machine's pip.conf that wins over those in ``/etc/xdg/pip``."""
    return root / "etc" / PIP_CONF


def system_uv_toml(env: Mapping[str, str], root: Path = Path("/")) -> Path:
    """The machine's uv.toml: uv takes the first that is there, and does not merge them."""
    candidates = list(_system_uv_tomls(env, root))
    return next((path for path in candidates if os.path.lexists(path)), candidates[-1])


def pip_files(env: Mapping[str, str], user_home: Path, prefix: Path | None, root: Path) -> Iterator[Path]:
    """Every file that pip reads, the winning one last, whether it is there or not.

    ``PIP_CONFIG_FILE=/dev/null`` means no file at all; one that exists takes the place of the user's.
    """
    chosen = env.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return
    for folder in _system_config(env, root):
        yield folder / "pip" / PIP_CONF
    yield system_pip_conf(root)
    if not (chosen and os.path.exists(chosen)):
        yield user_home / ".pip" / PIP_CONF
        yield user_pip_conf(env, user_home)
    if prefix is not None:
        yield prefix / PIP_CONF
    if chosen:
        yield Path(chosen)


def parse_pip_conf(path: Path, text: str, *, defaults: bool = True) -> dict[str, dict[str, str]]:
    """Sections, options and values of a pip.conf, option names as pip makes them alike.

    Args:
        path: The file, for messages.
        text: Its content.
        defaults: Whether the options of ``[DEFAULT]`` count in every section, as for pip; otherwise it is a section.

    Raises:
        TaskFailed: it is not one; pip stops there as well.
    """
    import configparser

    parser = configparser.RawConfigParser(default_section="DEFAULT" if defaults else "\0")
    parser.optionxform = normalized  # type: ignore[method-assign, assignment]
    try:
        # pip opens the file as text: every kind of line end is one to it.
        parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"), str(path))
    except configparser.Error as error:
        raise TaskFailed(
            f"cannot read {path}",
            cause=secrets.mask(str(error).replace("\n", " ")),
            cure="pip stops at this file as well: correct it, or remove it",
        ) from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def normalized(option: str) -> str:
    """One spelling for ``Index_URL``, ``--index-url`` and ``index-url``."""
    return option.lower().replace("_", "-").removeprefix("--")


def parse_uv_toml(path: Path, text: str) -> dict[str, Any]:
    """A uv.toml as plain data.

    Raises:
        TaskFailed: it is no TOML.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)  # uv passes over it, Python's parsers do not
    try:
        if sys.version_info >= (3, 11):
            import tomllib

            return tomllib.loads(text)
        import tomlkit

        return tomlkit.parse(text).unwrap()
    except (ValueError, RecursionError) as error:
        raise TaskFailed(
            f"cannot read {path}",
            cause=secrets.mask(str(error)),
            cure="uv stops at this file as well: correct it, or remove it",
        ) from error


def place(url: str) -> str:
    """``url`` without user and password: what may be stored and compared."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


def same_place(one: str, other: str) -> bool:
    """Whether two URLs name one index; a slash at the end makes no difference."""
    return place(one).rstrip("/") == place(other).rstrip("/")


def _remembered(values: Values) -> Values:
    for field, (value, _) in values.items():
        for text in value if field in _LISTS else (value,):
            index_url.remember(str(text))
    return values


def _pip_values(env: Mapping[str, str], user_home: Path, prefix: Path | None, root: Path, read: Reader) -> Values:
    """In pip's order; a section of ours says what pip has no option for."""
    values: Values = {}
    for path in pip_files(env, user_home, prefix, root):
        text = read(path)
        own = parse_pip_conf(path, text).get(OWN_SECTION, {}) if text else {}
        if own.get("index-strategy"):
            values["index_strategy"] = Found(own["index-strategy"], f"{path} [{OWN_SECTION}]")
    for name, value, origin in _pip_items(env, user_home, prefix, root, read):
        field = _PIP_OPTIONS.get(name)
        if field is not None:
            values[field] = Found(_pip_value(field, value, user_home), origin)
    return {field: found for field, found in values.items() if found.value is not False}


def _pip_items(
    env: Mapping[str, str], user_home: Path, prefix: Path | None, root: Path, read: Reader
) -> Iterator[tuple[str, str, str]]:
    """[global] of all files, [install] of all files, variables; empty values count for nothing."""
    sections: dict[str, dict[str, tuple[str, str]]] = {"global": {}, "install": {}, "": {}}
    for path in pip_files(env, user_home, prefix, root):
        text = read(path)
        for section, options in parse_pip_conf(path, text).items() if text else ():
            if section in sections:
                sections[section].update({name: (value, f"{path} [{section}]") for name, value in options.items()})
    sections[""] = {normalized(name[4:]): (value, name) for name, value in env.items() if name.startswith("PIP_")}
    for entries in sections.values():
        for name, (value, origin) in entries.items():
            if value.strip():
                yield name, value, origin


def _pip_value(field: str, value: str, user_home: Path) -> Any:
    if field == "no_index":
        return value.strip().lower() in _TRUE
    if field in _LISTS:
        return tuple(_expanded(word, user_home) for word in value.split())
    return _expanded(value.strip(), user_home) if field in ("cert", "client_cert") else value.strip()


def _uv_values(env: Mapping[str, str], user_home: Path, root: Path, read: Reader) -> Values:
    """In uv's order for ``uv pip``: variables, the user's uv.toml, the machine's; lists of the two files are joined."""
    values: Values = {}
    for path in _uv_tomls(env, user_home, root):
        text = read(path)
        for field, found in _uv_toml_values(parse_uv_toml(path, text), str(path), env).items() if text else ():
            mine = values.get(field)
            if mine is None:
                values[field] = found
            elif field in _LISTS:
                values[field] = Found(mine.value + found.value, f"{mine.origin}, {found.origin}")
    for variable, field, separator in (
        ("UV_INDEX_URL", "index_url", None),
        ("UV_DEFAULT_INDEX", "index_url", None),
        ("UV_EXTRA_INDEX_URL", "extra_urls", " "),
        ("UV_INDEX", "extra_urls", " "),
        ("UV_FIND_LINKS", "find_links", ","),
        ("UV_INSECURE_HOST", "trusted_hosts", " "),
        ("UV_INDEX_STRATEGY", "index_strategy", None),
    ):
        text = env.get(variable, "").strip()
        if not text:
            continue
        if separator is None:
            value: Any = _unnamed(text, env) if field == "index_url" else text
        else:
            words = [word for word in text.replace("\n", " ").split(separator if separator == "," else None) if word]
            value = tuple(_unnamed(word, env) if field == "extra_urls" else word for word in words)
        values[field] = Found(value, variable)
    return values


def _uv_toml_values(document: dict[str, Any], origin: str, env: Mapping[str, str]) -> Values:
    """What one uv.toml says; its table ``[pip]`` is for ``uv pip`` and wins there."""
    settings = {**document, **_table(document.get("pip"))}
    found: dict[str, Any] = {}
    extra = [url for url in settings.get("extra-index-url", ()) if isinstance(url, str)]
    for index in settings.get("index", ()):
        entry = _table(index)
        if not isinstance(entry.get("url"), str) or entry.get("explicit"):
            continue
        url = _with_credentials(entry["url"], str(entry.get("name", "")), env)
        if entry.get("default"):
            found.setdefault("index_url", url)
        else:
            extra.append(url)
    found.setdefault("index_url", settings.get("index-url"))
    found["extra_urls"] = tuple(extra)
    found["find_links"] = tuple(map(str, settings.get("find-links", ())))
    found["trusted_hosts"] = tuple(map(str, document.get("allow-insecure-host", ())))
    found["no_index"] = settings.get("no-index") is True
    found["index_strategy"] = settings.get("index-strategy")
    return {field: Found(value, origin) for field, value in found.items() if value}


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _unnamed(text: str, env: Mapping[str, str]) -> str:
    """The URL of uv's ``name=url``, with the credentials that variables hold for that name."""
    name, equals, url = text.partition("=")
    if equals and all(letter.isalnum() or letter in "-_." for letter in name):
        return _with_credentials(url, name, env)
    return text


def _with_credentials(url: str, name: str, env: Mapping[str, str]) -> str:
    """``url`` with user and password from ``UV_INDEX_NAME_USERNAME`` and ``UV_INDEX_NAME_PASSWORD``."""
    from urllib.parse import quote

    stem = "UV_INDEX_" + "".join(letter if letter.isalnum() else "_" for letter in name.upper())
    user, password = env.get(f"{stem}_USERNAME", ""), env.get(f"{stem}_PASSWORD", "")
    scheme, separator, rest = url.partition("://")
    if not name or not separator or not (user or password) or "@" in rest.partition("/")[0]:
        return url
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _disagreements(pip: Values, uv: Values) -> Iterable[str]:
    ours, theirs = pip.get("index_url"), uv.get("index_url")
    if ours and theirs and not same_place(ours.value, theirs.value):
        yield (
            f"uv by itself would fetch from {secrets.mask(theirs.value)} ({theirs.origin}); "
            f"here both engines fetch from pip's {secrets.mask(ours.value)} ({ours.origin})"
        )


def _uv_tomls(env: Mapping[str, str], user_home: Path, root: Path) -> list[Path]:
    if env.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    if env.get("UV_CONFIG_FILE"):
        return [Path(env["UV_CONFIG_FILE"])]
    return [user_uv_toml(env, user_home), system_uv_toml(env, root)]


def _system_uv_tomls(env: Mapping[str, str], root: Path) -> Iterator[Path]:
    for folder in _system_config(env, root):
        yield folder / "uv" / UV_TOML
    yield root / "etc" / "uv" / UV_TOML


def _user_config(env: Mapping[str, str], user_home: Path) -> Path:
    configured = env.get("XDG_CONFIG_HOME", "").strip()
    return Path(configured) if os.path.isabs(configured) else user_home / ".config"


def _system_config(env: Mapping[str, str], root: Path) -> list[Path]:
    configured = [Path(folder) for folder in env.get("XDG_CONFIG_DIRS", "").split(os.pathsep) if folder.strip()]
    return configured or [root / "etc/xdg"]


def _expanded(text: str, user_home: Path) -> str:
    return f"{user_home}/{text[2:]}" if text.startswith("~/") else text


def as_url(place: str) -> str:
    """A path that holds a separator of the lists, as a URL in which it is quoted."""
    return Path(place).as_uri() if os.path.isabs(place) and ("," in place or " " in place) else place


def _reader(instead: Mapping[Path, str | None]) -> Reader:
    """Reads files as pip and uv do: what cannot be opened, or is not a file, counts for nothing.

    Without a file that somebody else can change root would install from another index than it says, and is refused.
    """

    def read(path: Path) -> str | None:
        if path in instead:
            return instead[path]
        with contextlib.suppress(OSError):
            if path.is_file():
                trust.obey(path, "take package indexes from")
                return read_text(path)
        return None

    return read
