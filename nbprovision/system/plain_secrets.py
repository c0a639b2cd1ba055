"""Finds secrets in plain text that others may read: one rule for options, playbooks and their files.

A template or a variable is not a secret: ``{{ lookup('env', 'X') }}``, ``${X}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from nbprovision.system.secrets import SHAPES, is_secret, is_secret_name

_VARIABLE = re.compile(r"\{\{|\$\{|\$\(|\*\*\*|^\$|^`|^%\(|^<[^>]*>$|^arn:")
_SCHEME = r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://"
_TOKEN_LENGTH = 20  # characters; the shortest tokens of GitLab have as many
_CHANGES = 3  # between letters and digits, within words

# Values of these names may be the name of a secret in a store: words of which one says so.
_STORED = re.compile(r"(?:secret|credential)s?$", re.IGNORECASE)
_STORED_BY_ID = re.compile(r"(?:^|[_-])secret[_-]?id$", re.IGNORECASE)
_NAMED = re.compile(r"(?=.*(?:secret|credential|creds|password|token|key|login))[a-z]+(?:[-_/.][a-z]+)+")
_FILE = re.compile(r"(?:~|\.{1,2}|/[A-Za-z0-9._-]+)(?:/[A-Za-z0-9._-]+)+")
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev|cloud|aws|local|internal|example)")


class _Form(NamedTuple):
    """A notation of a secret of any shape: the group `value` is the secret, and `at`, if it exists, its position."""

    what: str
    pattern: str
    counts: Callable[[re.Match[str]], bool] = lambda match: True


def _is_random(text: str) -> bool:
    """Whether a text looks random: ``user-at-123456789012`` and ``the-team-of-fraud`` consist of words."""
    words = re.split(r"[^A-Za-z0-9]", text)
    changes = sum(len(re.findall(r"(?<=[A-Za-z])\d|(?<=\d)[A-Za-z]", word)) for word in words)
    return len(text) >= _TOKEN_LENGTH and (changes >= _CHANGES or any(len(word) >= _TOKEN_LENGTH for word in words))


def _is_token_of_url(match: re.Match[str]) -> bool:
    """Users of ssh are names, not tokens: ``ssh://APKA...@git-codecommit.eu-west-1.amazonaws.com``."""
    is_ssh = "ssh" in match["scheme"].lower() or match["scheme"].lower() == "sftp"
    return bool(match["colon"]) or (not is_ssh and _is_random(match["value"]))


def _is_secret_header(match: re.Match[str]) -> bool:
    name = match["name"].lower()
    return name in ("authorization", "proxy-authorization", "cookie") or is_secret_name(name)


# A variable with a default contains a colon that does not separate user and password: ${NAME:-DEFAULT}.
_EXPANSION = r"\$\{[^}\s]{0,100}\}|(?!\$\{)"
# The separators between the words of a command: spaces, and the quotes and commas of a list.
_BETWEEN = r"[\s\"',=\\]*"
# The rest of a command, up to the next one; quoted text does not end it.
_REST = r"(?:\"[^\"\n]*\"|'[^'\n]*'|\\\n|&(?!&)|[^\n;|&\"']){0,300}?"
_FORMS = (
    _Form("a URL with a password", rf"{_SCHEME}(?:{_EXPANSION}[^/\s:@'\"]){{0,300}}:(?P<value>[^/\s@'\"]+)@"),
    # A token in the place of the user.
    _Form("a URL with a token", rf"{_SCHEME}(?P<value>[^/\s:@'\"]{{1,2000}})(?P<colon>:?)@", _is_token_of_url),
    _Form("a URL with a token", rf"{_SCHEME}[^\s'\"]{{0,300}}?/t/(?P<value>[^/\s'\"]+)/"),
    _Form(
        "a signed URL",
        r"(?i)[?&](?:[a-z-]*token|api_?key|password|secret|sig|signature|x-amz-signature)=(?P<value>[^&\s'\"#]+)",
    ),
    _Form(
        "an Authorization header",
        r"(?i)authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+(?P<value>[^\s'\"]+)",
    ),
    # https://curl.se/docs/manpage.html#-H
    _Form(
        "a header with a secret",
        rf"(?<![^\s\"',\[])(?P<at>-H|--(?:proxy-)?header){_BETWEEN}(?P<name>[A-Za-z][A-Za-z0-9-]*):[ ]*"
        r"(?i:(?:basic|bearer|token|apikey)[ ]+)?(?P<value>[^\s\"']+)",
        _is_secret_header,
    ),
)
# These may span several lines.
_SPANNING = (
    # https://curl.se/docs/manpage.html#-u: user:password; without a colon curl asks for the password, and an empty
    # password is not a secret.
    _Form(
        "a password for curl",
        rf"\bcurl\b[\"']?{_REST}[\s,][\"']?(?P<at>-[fsSLkviIgGnNOqRJa#0-9]*[uU]|--(?:proxy-)?user){_BETWEEN}"
        rf"(?:{_EXPANSION}[^\s\"':,]){{0,300}}:(?P<value>[^\s\"',\]]+)",
    ),
    # https://everything.curl.dev/usingcurl/netrc.html
    _Form(
        "a password of a .netrc",
        r"(?<!\S)(?:machine\s+\S+|default)\s+(?:login\s+(?P<login>\S+)\s+(?:account\s+\S+\s+)?"
        r"(?P<at>password)\s+(?P<value>\S+)|password\s+(?P<first>\S+)\s+login\s)",
        lambda match: match["login"] != "anonymous",
    ),
)
# NAME=VALUE, NAME: VALUE and --name VALUE, the value in quotes or a bare word.
_VALUE = r"(?:\"(?P<double>[^\"\s]*)\"|'(?P<single>[^'\s]*)'|(?P<bare>[^\s\"'(){}\[\],;|&<>]+)(?=$|[\s,;|&}]))"
_ASSIGNED = re.compile(rf"(?P<name>[A-Za-z_][A-Za-z0-9_.-]{{0,100}})[\"']?\s*[:=]\s*{_VALUE}")
_OPTION = re.compile(rf"(?<!\S)--(?P<name>[a-z][a-z0-9-]*)\s+(?!-){_VALUE}")


class PlainSecret(msgspec.Struct, frozen=True):
    """A secret in a text, without its value.

    Attributes:
        what: Its kind: ``a URL with a password``, ``the value of 'api_key'``.
        name: Name of a variable that could replace it.
        start: Its start in the text, counted from 0.

    """

    what: str
    name: str
    start: int = 0


def secret_in(text: str) -> PlainSecret | None:
    """The first secret in a text, recognised by its form; None if there is none."""
    for what, pattern in SHAPES:
        if match := re.search(pattern, text):
            return PlainSecret(what, "SECRET", match.start())
    return next(_of_forms(text, (*_FORMS, *_SPANNING)), None)


def _refers_to_a_secret(name: str, value: str) -> bool:
    """Whether a value is the name of a secret in a store, its file, or the host that it is for.

    ``secret: my-git-credentials`` and ``--secret-id prod/db`` are such names; a value that looks random is a secret.
    """
    if _HOST.fullmatch(value) or (_FILE.fullmatch(value) and not _is_random(value)):
        return True
    if _STORED_BY_ID.search(name):
        return not _is_random(value)
    if not _STORED.search(name) or not _NAMED.fullmatch(value):
        return False
    return "/" in value or _STORED.fullmatch(name) is not None


def _of_forms(text: str, forms: Iterable[_Form]) -> Iterator[PlainSecret]:
    for form in forms:
        for match in re.finditer(form.pattern, text):
            parts = match.groupdict()
            value = parts["value"] or parts.get("first") or ""
            if form.counts(match) and not stands_for_another(value):
                name = "PASSWORD" if "password" in form.what else "TOKEN"
                yield PlainSecret(form.what, name, match.start("at") if parts.get("at") else match.start())


def secret_as(name: str, value: str) -> PlainSecret | None:
    """A secret in a named value, recognised by the name or by the value's form."""
    secret = is_secret_name(name) and is_secret(name, value)
    if secret and not stands_for_another(value) and not _refers_to_a_secret(name, value):
        return PlainSecret(f"the value of '{name}'", re.sub(r"\W", "_", name).upper())
    return secret_in(value)


def secret_in_command(text: str) -> PlainSecret | None:
    """A secret in a command or in the content of a file.

    It is recognised by its form or by the name of its option; in a text with an assignment also by any name.
    """
    if "=" in text:
        return next((secret for _, secret in secrets_in_lines(text)), None)
    return secret_in(text) or next(_by_name(text, (_OPTION,)), None)


def secrets_in_lines(text: str, *, quoted: bool = False) -> Iterator[tuple[int, PlainSecret]]:
    """Secrets in a file of settings or a script, each with the number of its line, counted from 0.

    Args:
        text: The file's text.
        quoted: Only quoted values count: ``token = get()`` in a program is not a secret.

    """
    by_line = {}
    for secret in _of_forms(text, _SPANNING):
        before = text[: secret.start + 1].splitlines()
        by_line[len(before) - 1] = msgspec.structs.replace(secret, start=len(before[-1]) - 1)
    for number, line in enumerate(text.splitlines()):
        in_line = secret_in(line) or next(_by_name(line, quoted=quoted), None) or by_line.get(number)
        if in_line is not None:
            yield number, in_line


def _by_name(
    line: str, patterns: Iterable[re.Pattern[str]] = (_ASSIGNED, _OPTION), *, quoted: bool = False
) -> Iterator[PlainSecret]:
    for pattern in patterns:
        for match in pattern.finditer(line):
            value = match["double"] or match["single"] or ("" if quoted else match["bare"]) or ""
            if line.endswith("${", 0, match.start("name")):  # ${NAME:-DEFAULT}, ${NAME:=DEFAULT}, ${NAME:?MESSAGE}
                value = value[1:] if value.startswith(("-", "=")) else ""
            secret = secret_as(match["name"], value)
            if secret is not None:
                yield msgspec.structs.replace(secret, start=match.start("name"))


def stands_for_another(value: str) -> bool:
    """Whether a value is a template, a variable or a placeholder, which is replaced at its use."""
    return bool(_VARIABLE.search(value.strip()))
