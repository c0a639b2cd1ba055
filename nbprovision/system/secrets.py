"""Recognises and masks secrets: every text that leaves the tool goes through `mask`."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
from typing import Any
from urllib.parse import quote, unquote

from nbprovision.system.context import current

MASK = "****"
_SHORTEST = 3  # characters; a shorter text would be masked in every other word
_LONGEST_USER = 20  # characters of a user without a password; a longer one is a token
# Characters that a URL's user and password may contain unquoted (RFC 3986); some libraries quote them, others do not.
_UNQUOTED = "!$&'()*+,~"
# user:password@ of any URL, remembered as a secret or not. The length of a scheme is limited, so that a long word
# causes no quadratic search.
_URL_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)(?P<user>[^/\s:@'\"]*):(?P<password>[^/\s'\"]*)@"
)
# The words of a name: GITHUB_TOKEN, apiKey, index-password.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORD = re.compile(
    r".*(tokens?|secrets?|credentials?|passphrase|passcode|extraheader)|.*passw.*|pass|pat|jwt"
    r"|.*(access|api|auth|master|private|secret|signing|ssh)keys?"
)
_SHORT_WORD = "pwd"  # a password, unless it stands alone: the shell's folder
# Keys that are not secrets: those of tables, caches and mappings, and the public half of a pair.
_OPEN_KEYS = frozenset(
    ("primary", "foreign", "partition", "sort", "cache", "public", "group", "join", "hash", "object", "bucket", "row",
     "map", "dict", "lookup", "unique", "index",
     "idempotency")
)  # fmt: skip
_PLACES = ("file", "files", "path", "paths", "dir", "folder")
# Last words of names that describe a secret, such as its place, and are not its value.
_ABOUT = frozenset(
    (*_PLACES, "arn", "arns", "name", "names", "url", "uri", "endpoint", "env",
     "var", "variable", "ttl", "duration", "timeout", "expiry", "expires", "length", "type", "count", "limit", "helper",
     "source", "provider", "region", "version", "host", "seconds", "minutes", "hours", "days")
)  # fmt: skip
# Plurals; other kinds of keys are those of mappings.
_KEYS = frozenset(f"{kind}keys" for kind in ("access", "api", "auth", "private", "secret", "signing", "ssh"))
_LOOKS_LIKE_A_PLACE = re.compile(r"[/\\~]|^\$|\.[A-Za-z0-9]{1,6}$")
_COUNTED = frozenset(["max", "min", "num"])  # max_tokens: the longest answer of a model
NO_SECRETS = ("", "true", "false", "yes", "no", "none", "null", "omit")  # whatever the name
# A token may take the place of the user, alone or before an empty password.
_URL_LONE_TOKEN = re.compile(
    rf"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{{0,30}}://)(?:[^/\s:@'\"]{{{_LONGEST_USER + 1},2000}}(?=@)|[^/\s:@'\"]+:(?=@))"
)
# conda channels carry a token in the path.
_URL_TOKEN = re.compile(r"/t/[^/\s'\"]+/")
# Signed links, and the credentials in the headers of a request.
_QUERY = re.compile(
    r"(?P<name>[?&](?:[a-z-]*token|api_?key|password|secret|sig|signature|x-amz-(?:signature|credential)|key)=)"
    r"[^&\s'\"#]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+)[^\s'\"]+", re.IGNORECASE)

# Well-known issuers give their keys these forms, so that programs can recognise them. gitleaks uses the same:
# https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml
SHAPES = (
    ("an access key of AWS", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    ("a token of GitHub", r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("a token of GitLab", r"\bgl(?:pat|dt|rt|ft|oas|soat|ptt|cbt|imt|agent)-[A-Za-z0-9_-]{20,}"),
    ("a token of Slack", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    ("a token of PyPI", r"\bpypi-AgE[A-Za-z0-9_-]{20,}"),
    ("a token of npm", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a token of Docker Hub", r"\bdckr_pat_[A-Za-z0-9_-]{20,}"),
    ("a token of Databricks", r"\bdapi[0-9a-f]{32}\b"),
    ("a token of Hugging Face", r"\bhf_[A-Za-z0-9]{30,}"),
    ("a key of Google", r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),  # it may end in a dash
    ("a signed token (JWT)", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
)
# What each of them contains, so that most texts are not searched for them.
_OF_SHAPES = (
    "AKIA", "ASIA", "ABIA", "ACCA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "gl", "xox", "pypi-AgE",
    "npm_", "dckr_pat_", "dapi", "hf_", "AIza", "eyJ", "PRIVATE KEY",
)  # fmt: skip
# A text without any of these characters has no URL, header or query in it.
_MARKED = re.compile(r"[/:=]")
_SHORTEST_KEY = 15  # characters of the shortest of `SHAPES`, a token of Slack
# All of a private key, to the end of a text that is cut short.
_PRIVATE_KEY = (
    r"(?s)(?P<begin>-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----).*?"
    r"(?:(?P<end>-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)|\Z)"
)
_NETRC = r"(?P<entry>(?:machine\s+\S+|default)\s+login\s+\S+\s+(?:account\s+\S+\s+)?password\s+)\S+"


class _Secrets:
    """The secrets of a run."""

    def __init__(self) -> None:
        self.texts: set[str] = set()  # every notation of every secret
        self.kept_nowhere: dict[str, str] = {}  # notations that no digest may contain, and their replacements


def remember(secret: str) -> None:
    """Mask ``secret`` from now on in this run: as written, in base64, in URLs, JSON, Python, shells."""
    for text in (secret, unquote(secret)):
        if len(text) >= _SHORTEST:
            current(_Secrets).texts.update(_notations(text))


def _notations(text: str) -> tuple[str, ...]:
    return (
        text,
        quote(text, safe=""),
        quote(text, safe=_UNQUOTED),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        shlex.quote(text).strip("'"),
        _base64(text),
    )


def known() -> list[str]:
    """Every notation of every secret, for a child process that masks its own output (see `remember`)."""
    return sorted(current(_Secrets).texts)


def keep_nowhere(secret: str, name: str) -> None:
    """Exclude ``secret`` from digests from now on: the text of a short one can be guessed."""
    current(_Secrets).kept_nowhere.update(dict.fromkeys(_notations(secret), name))


def to_digest(text: str) -> str:
    """``text`` for a digest: with the names of the secrets that `keep_nowhere` excludes instead of their values."""
    names = current(_Secrets).kept_nowhere
    for secret in sorted(names, key=len, reverse=True):
        text = text.replace(secret, f"<{names[secret]}>")
    return text


def remember_url(url: str) -> None:
    """Mask the password of ``url`` from now on, alone and in the form of an HTTP header."""
    for match in _URL_CREDENTIALS.finditer(url):
        user, password = unquote(match["user"]), match["password"]
        if len(password) >= _SHORTEST:
            remember(password)
            pairs = (f"{user}:{password}", f"{user}:{unquote(password)}")
            current(_Secrets).texts.update(map(_base64, pairs))


def remember_userinfo(userinfo: str) -> None:
    """Mask what may be secret before the @ of a URL: the password; a long user, or one without a password."""
    user, colon, password = userinfo.partition(":")
    if colon:
        remember(password)
    if user != "git" and (len(user) > _LONGEST_USER or not password):
        remember(user)


def is_secret_name(name: str) -> bool:
    """Whether a variable, a key or an environment variable of this name is likely to hold a secret.

    The words of the name decide: ``PGPASSWORD``, ``apiKey`` and ``GITHUB_TOKEN`` are such names; ``tokenizer`` and
    ``partition_key`` are not, nor are names of a secret's place: ``TOKEN_FILE``, ``SECRET_ARN``.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _ABOUT or _COUNTED.intersection(words):
        return False
    keys = [before for before, word in itertools.pairwise(words) if word == "key"]
    plural = any(before + word in _KEYS for before, word in itertools.pairwise(words))
    secret = any(map(_SECRET_WORD.fullmatch, words)) or plural or _SHORT_WORD in words[1:]
    return secret or any(before not in _OPEN_KEYS for before in keys)


def is_secret(name: str, value: str) -> bool:
    """Whether a value with that name must not be shown or stored; all code that shows or stores uses this rule.

    The value of a name such as ``TOKEN_FILE`` is a secret too, unless it is a path.
    """
    if value.strip().lower() in NO_SECRETS:
        return False
    *first, last = _WORDS.findall(name) or [""]
    return is_secret_name(name) or (
        last.lower() in _PLACES and is_secret_name("_".join(first)) and not _LOOKS_LIKE_A_PLACE.search(value)
    )


def remember_if_secret(name: str, value: object) -> bool:
    """Mask a text from now on if it `is_secret`, and the password of a URL in any case; return whether it is one."""
    if not isinstance(value, str):
        return False
    remember_url(value)
    if secret := is_secret(name, value):
        remember(value)
    return secret


def mask(text: str) -> str:
    """``text`` with every known secret, and every one that its form shows, replaced by ``****``."""
    if _MARKED.search(text):  # most texts of a run are the names and versions of packages
        text = _URL_LONE_TOKEN.sub(rf"\g<scheme>{MASK}", text)
        text = _URL_CREDENTIALS.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
        text = _URL_TOKEN.sub(f"/t/{MASK}/", text)
        text = _QUERY.sub(rf"\g<name>{MASK}", text)
        text = _HEADER.sub(rf"\g<name>{MASK}", text)
    if len(text) >= _SHORTEST_KEY and any(part in text for part in _OF_SHAPES):
        text = re.sub(_PRIVATE_KEY, rf"\g<begin>{MASK}\g<end>", text)
        for _, pattern in SHAPES[:-1]:
            text = re.sub(pattern, MASK, text)
    if "password" in text:
        text = re.sub(_NETRC, rf"\g<entry>{MASK}", text)
    for secret in sorted(current(_Secrets).texts, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def masked(value: Any) -> Any:
    """Plain data with the secrets in its texts masked; keys stay, so that a document keeps its form.

    Masking precedes encoding, since a document writes quotes and accented letters differently than the secret. Bytes of
    a file name that are not UTF-8 become question marks, as a document cannot contain them.
    """
    if isinstance(value, str):
        return mask(value.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        return {key: masked(entry) for key, entry in value.items()}
    return [masked(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def without_password(url: str) -> str:
    """``url`` with its user but without its password, to store and compare."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>\g<user>@", url)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode().rstrip("=")
