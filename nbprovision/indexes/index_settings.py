"""The index settings of pip's configuration, completed by uv's own, in the form of each engine.

Sources: https://pip.pypa.io/en/stable/topics/configuration/ (files, their order, sections, variables) and
https://docs.astral.sh/uv/concepts/configuration-files/ and https://docs.astral.sh/uv/concepts/indexes/.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.indexes import index_url
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets, toml_document, trust
from nbprovision.system.files import read_text
from nbprovision.system.toml_document import NoToml

PIP_CONF = "pip.conf"
UV_TOML = "uv.toml"
# A section of pip.conf that pip ignores (it reads [global] and those named like its commands). It holds uv's settings
# for an environment's own index, as uv has no configuration file for an environment.
OWN_SECTION = "nbprovision"

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

FIRST_INDEX = "first-index"
BEST_MATCH = "unsafe-best-match"

# The field for each of pip's options, in every spelling that pip accepts.
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
TRUE = ("y", "yes", "t", "true", "on", "1")


class IndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The indexes of an interpreter, and how packages are downloaded.

    Attributes:
        index_url: The main index (PEP 503), None for PyPI. Each URL here may contain a password.
        extra_urls: Further indexes. pip takes the best version of all; uv searches them before the main index.
        find_links: Folders and pages with files, besides the indexes.
        no_index: Use ``find_links`` only.
        trusted_hosts: ``host`` or ``host:port`` whose certificate is not checked.
        cert: File or folder of the trusted certificate authorities, None for the system's.
        client_cert: File with a certificate and its key for the index.
        proxy: URL of a proxy.
        timeout: Seconds to wait for an answer, as written.
        retries: Number of retries of a failed request, as written.
        index_strategy: uv's index strategy: ``first-index``, ``unsafe-best-match`` or ``unsafe-first-match``.
        origins: The file and section, or the variable, of each value.
        disagreements: Settings of uv's own configuration that differ from pip's, which is followed.
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


class Setting(NamedTuple):
    """A value of the field's type, and its origin."""

    value: Any
    origin: str


Values = dict[str, Setting]
Reader = Callable[[Path], "str | None"]


def read_configuration(path: Path) -> str | None:
    """The text of a configuration file; as in pip and uv, a path that is not a readable file is ignored.

    root refuses a file that somebody else can change, and does not ignore it, as packages would come from another
    index.
    """
    with contextlib.suppress(OSError):
        if path.is_file():
            trust.obey(path, "take package indexes from")
            return read_text(path)
    return None


def effective(
    env: Mapping[str, str],
    user_home: Path,
    prefix: Path | None = None,
    *,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> IndexSettings:
    """The settings of the pip of the interpreter in ``prefix``, completed by uv's own configuration, for both engines.

    pip's configuration wins. A missing value comes from uv's variables, then from ``uv.toml``, so that configuring one
    tool configures both. If pip has an index, uv's further indexes and links are not added, as they might have other
    packages of the same names. If the two name different indexes, ``disagreements`` says so. pip has no
    ``index_strategy``: it comes from a section ``[nbprovision]`` of pip's files, which pip ignores, else from uv's
    configuration. Each password is masked from now on.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        prefix: The environment; None for no environment in particular.
        root: The folder that contains the system's ``/etc``.
        instead: Texts to use instead of the content of files, None for a missing file.

    Raises:
        TaskFailed: a configuration file is not valid; pip and uv themselves fail at it.
    """
    texts = {} if instead is None else instead

    def read(path: Path) -> str | None:
        return texts[path] if path in texts else read_configuration(path)

    pip = _pip_values(env, user_home, prefix, root, read)
    uv = _uv_values(env, user_home, root, read)
    ignored = ("extra_urls", "find_links", "no_index") if "index_url" in pip or "no_index" in pip else ()
    chosen = {**{field: setting for field, setting in uv.items() if field not in ignored}, **pip}
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # used by pip's HTTP library, not by uv
        if env.get(variable):
            chosen.setdefault("cert", Setting(env[variable], variable))
    _remembered(chosen)
    return IndexSettings(
        **{field: setting.value for field, setting in chosen.items()},
        origins={field: setting.origin for field, setting in chosen.items()},
        disagreements=tuple(_disagreements(pip, uv)),
    )


def of_pip(env: Mapping[str, str], user_home: Path, root: Path = Path("/")) -> Values:
    """The settings of pip's own configuration, without an environment's. Each password is masked from now on.

    Raises:
        TaskFailed: a configuration file is not valid.
    """
    return _remembered(_pip_values(env, user_home, None, root))


def of_uv(env: Mapping[str, str], user_home: Path, root: Path = Path("/")) -> Values:
    """The settings of uv's own configuration, for a uv that is started by hand. Each password is masked from now on.

    Raises:
        TaskFailed: a configuration file is not valid.
    """
    return _remembered(_uv_values(env, user_home, root))


def pip_items(
    env: Mapping[str, str],
    user_home: Path,
    prefix: Path | None,
    *,
    root: Path = Path("/"),
    read: Reader = read_configuration,
) -> Iterator[tuple[str, str, str]]:
    """Each option of pip's configuration that ``pip install`` uses, with value and origin; the stronger ones last.

    They come from [global] of all files, [install] of all files, and variables. Empty values do not count.

    Raises:
        TaskFailed: a configuration file is not valid.
    """
    sections: dict[str, dict[str, tuple[str, str]]] = {"global": {}, "install": {}}
    for path in pip_files(env, user_home, prefix, root):
        text = read(path)
        for section, options in parse_pip_conf(path, text).items() if text else ():
            if section in sections:
                sections[section].update({name: (value, f"{path} [{section}]") for name, value in options.items()})
    variables = {normalized(name[4:]): (value, name) for name, value in env.items() if name.startswith("PIP_")}
    for entries in (*sections.values(), variables):
        for name, (value, origin) in entries.items():
            if value.strip():
                yield name, value, origin


def uv_documents(
    env: Mapping[str, str], user_home: Path, *, root: Path = Path("/"), read: Reader = read_configuration
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The content of uv's own configuration files as plain data, the stronger ones first.

    Raises:
        TaskFailed: a configuration file is not valid.
    """
    paths = [user_uv_toml(env, user_home), system_uv_toml(env, root)]
    if env.get("UV_NO_CONFIG", "").lower() in TRUE:
        paths = []
    elif env.get("UV_CONFIG_FILE"):
        paths = [Path(env["UV_CONFIG_FILE"])]
    for path in paths:
        text = read(path)
        if text:
            yield path, parse_uv_toml(path, text)


def uv_environment(settings: IndexSettings) -> dict[str, str]:
    """The variables that give ``settings`` to uv, to be merged into its environment.

    An empty value replaces that of the environment. ``UV_NO_CONFIG`` keeps uv from its configuration files, whose
    indexes it would add. Passwords are in variables and never in the arguments, which ``ps`` shows. ``--no-index`` has
    no variable, see `uv_arguments`.
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
    """The ``settings`` that uv accepts as arguments only."""
    return ["--no-index"] if settings.no_index else []


def pip_environment(settings: IndexSettings) -> dict[str, str]:
    """The variables that give ``settings`` to pip, to be merged into its environment.

    pip has no ``first-index`` strategy: it takes the best version of all indexes.
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
    """The user's pip.conf, which is stronger than the older ``~/.pip/pip.conf``."""
    return _user_config(env, user_home) / "pip" / PIP_CONF


def user_uv_toml(env: Mapping[str, str], user_home: Path) -> Path:
    """The user's uv.toml."""
    return _user_config(env, user_home) / "uv" / UV_TOML


def system_pip_conf(root: Path = Path("/")) -> Path:
    """The machine's pip.conf, which is stronger than those in ``/etc/xdg/pip``."""
    return root / "etc" / PIP_CONF


def system_uv_toml(env: Mapping[str, str], root: Path = Path("/")) -> Path:
    """The machine's uv.toml: uv uses the first existing one, and does not merge them."""
    folders = [*_system_config(env, root), root / "etc"]
    candidates = [folder / "uv" / UV_TOML for folder in folders]
    return next((path for path in candidates if os.path.lexists(path)), candidates[-1])


def pip_files(env: Mapping[str, str], user_home: Path, prefix: Path | None, root: Path) -> Iterator[Path]:
    """Each file that pip reads, existing or not, the strongest last.

    ``PIP_CONFIG_FILE=/dev/null`` means no file at all. Another existing file replaces those of the user.
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
    """Sections, options and values of a pip.conf, with option names normalised as in pip.

    Args:
        path: The file, for messages.
        text: Its content.
        defaults: Whether the options of ``[DEFAULT]`` count in every section, as in pip; otherwise it is a section.

    Raises:
        TaskFailed: it is not valid; pip fails at it too.
    """
    import configparser

    try:
        return {section: dict(options) for section, options in _sections(str(path), text, defaults).items()}
    except configparser.Error as error:
        raise TaskFailed(
            f"cannot read {path}",
            cause=secrets.mask(str(error).replace("\n", " ")),
            cure="correct or remove the file; pip fails at it too",
        ) from error


@functools.lru_cache(maxsize=64)  # each environment asks for the same few files
def _sections(source: str, text: str, defaults: bool) -> dict[str, dict[str, str]]:
    import configparser

    parser = configparser.RawConfigParser(default_section="DEFAULT" if defaults else "\0")
    parser.optionxform = normalized  # type: ignore[method-assign, assignment]
    # pip opens the file as text, with any kind of line ends.
    parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"), source)
    return {section: dict(parser.items(section)) for section in parser.sections()}


def normalized(option: str) -> str:
    """One spelling for ``Index_URL``, ``--index-url`` and ``index-url``."""
    return option.lower().replace("_", "-").removeprefix("--")


def parse_uv_toml(path: Path, text: str) -> dict[str, Any]:
    """The content of a uv.toml as plain data.

    Raises:
        TaskFailed: it is not valid TOML.
    """
    try:
        return toml_document.load(text)
    except NoToml as error:
        raise TaskFailed(
            f"cannot read {path}",
            cause=secrets.mask(str(error)),
            cure="correct or remove the file; uv fails at it too",
        ) from error


def place(url: str) -> str:
    """``url`` without user and password, to be stored and compared."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


def _remembered(values: Values) -> Values:
    for field, (value, _) in values.items():
        for text in value if field in _LISTS else (value,):
            index_url.remember(str(text))
    return values


def _pip_values(
    env: Mapping[str, str], user_home: Path, prefix: Path | None, root: Path, read: Reader = read_configuration
) -> Values:
    """The values of pip's configuration, and the strategy of our own section."""
    values: Values = {}
    for path in pip_files(env, user_home, prefix, root):
        text = read(path)
        own = parse_pip_conf(path, text).get(OWN_SECTION, {}) if text else {}
        if own.get("index-strategy"):
            values["index_strategy"] = Setting(own["index-strategy"], f"{path} [{OWN_SECTION}]")
    for name, value, origin in pip_items(env, user_home, prefix, root=root, read=read):
        field = _PIP_OPTIONS.get(name)
        if field is not None:
            values[field] = Setting(_pip_value(field, value, user_home), origin)
    return {field: setting for field, setting in values.items() if setting.value is not False}


def _pip_value(field: str, value: str, user_home: Path) -> Any:
    if field == "no_index":
        return value.strip().lower() in TRUE
    if field in _LISTS:
        return tuple(_expanded(word, user_home) for word in value.split())
    return _expanded(value.strip(), user_home) if field in ("cert", "client_cert") else value.strip()


def _uv_values(env: Mapping[str, str], user_home: Path, root: Path, read: Reader = read_configuration) -> Values:
    """The values for ``uv pip`` in uv's order: variables, the user's uv.toml, the machine's; lists are joined."""
    values: Values = {}
    for path, document in uv_documents(env, user_home, root=root, read=read):
        for field, setting in _uv_toml_values(document, str(path), env).items():
            stronger = values.get(field)
            if stronger is None:
                values[field] = setting
            elif field in _LISTS:
                values[field] = Setting(stronger.value + setting.value, f"{stronger.origin}, {setting.origin}")
    for variable, field in (
        ("UV_INDEX_URL", "index_url"),
        ("UV_DEFAULT_INDEX", "index_url"),
        ("UV_EXTRA_INDEX_URL", "extra_urls"),
        ("UV_INDEX", "extra_urls"),
        ("UV_FIND_LINKS", "find_links"),
        ("UV_INSECURE_HOST", "trusted_hosts"),
        ("UV_INDEX_STRATEGY", "index_strategy"),
    ):
        text = env.get(variable, "").strip()
        if not text:
            continue
        value: Any = _without_name(text, env) if field == "index_url" else text
        if field in _LISTS:
            words = text.replace("\n", " ").split("," if field == "find_links" else None)
            value = tuple(_without_name(word, env) if field == "extra_urls" else word for word in words if word)
        values[field] = Setting(value, variable)
    return values


def _uv_toml_values(document: dict[str, Any], origin: str, env: Mapping[str, str]) -> Values:
    """The values of one uv.toml for ``uv pip``, for which its table ``[pip]`` is stronger."""
    settings = {**document, **_table(document.get("pip"))}
    index_url = None
    extra_urls = [url for url in settings.get("extra-index-url", ()) if isinstance(url, str)]
    for index in map(_table, settings.get("index", ())):
        if not isinstance(index.get("url"), str) or index.get("explicit"):
            continue
        url = _with_credentials(index["url"], str(index.get("name", "")), env)
        if not index.get("default"):
            extra_urls.append(url)
        elif index_url is None:
            index_url = url
    values = {
        "index_url": settings.get("index-url") if index_url is None else index_url,
        "extra_urls": tuple(extra_urls),
        "find_links": tuple(map(str, settings.get("find-links", ()))),
        "trusted_hosts": tuple(map(str, document.get("allow-insecure-host", ()))),
        "no_index": settings.get("no-index") is True,
        "index_strategy": settings.get("index-strategy"),
    }
    return {field: Setting(value, origin) for field, value in values.items() if value}


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _without_name(text: str, env: Mapping[str, str]) -> str:
    """The URL of uv's ``name=url``, with the credentials that variables have for that name."""
    name, equals, url = text.partition("=")
    is_name = equals and all(letter.isalnum() or letter in "-_." for letter in name)
    return _with_credentials(url, name, env) if is_name else text


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
    if ours and theirs and place(ours.value).rstrip("/") != place(theirs.value).rstrip("/"):
        yield (
            f"uv by itself would use {secrets.mask(theirs.value)} ({theirs.origin}); "
            f"here both engines use pip's {secrets.mask(ours.value)} ({ours.origin})"
        )


def _user_config(env: Mapping[str, str], user_home: Path) -> Path:
    configured = env.get("XDG_CONFIG_HOME", "").strip()
    return Path(configured) if os.path.isabs(configured) else user_home / ".config"


def _system_config(env: Mapping[str, str], root: Path) -> list[Path]:
    configured = [Path(folder) for folder in env.get("XDG_CONFIG_DIRS", "").split(os.pathsep) if folder.strip()]
    return configured or [root / "etc/xdg"]


def _expanded(text: str, user_home: Path) -> str:
    return f"{user_home}/{text[2:]}" if text.startswith("~/") else text


def as_url(place: str) -> str:
    """A path with a separator of lists in it, as a URL in which the separator is quoted."""
    return Path(place).as_uri() if os.path.isabs(place) and ("," in place or " " in place) else place
