"""Refuses secrets in the contents of a rendered script: options, the playbook, and its files.

Everybody who may call DescribeNotebookInstanceLifecycleConfig can read the script:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeNotebookInstanceLifecycleConfig.html
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbprovision.model.errors import InvalidPlaybook, Position, UsageError
from nbprovision.playbook.written import shown
from nbprovision.playbook.yaml_nodes import ListNode, Node, Scalar, parse_nodes
from nbprovision.system.plain_secrets import PlainSecret, secret_as, secret_in, secret_in_command, secrets_in_lines

WHY = "everybody who may describe the lifecycle configuration can read it"
_YAML = (".yml", ".yaml")
_PROGRAMS = (".py", ".r", ".js", ".ts", ".ipynb")
_PROSE = ("name", "display_name", "msg")  # text for people, which may mention --password
_QUIET = re.compile(r"#\s*noqa(:[^#]*\bplain-secret\b|\s*$)")
# A user in the URL of an index is refused whatever it looks like, since it is a password or a token.
_USER = re.compile(r"\bhttps?://[^/\s]*@", re.IGNORECASE)


def refuse_in_option(option: str, value: str, name: str = "") -> None:
    """Refuse an option that holds a secret.

    Args:
        option: The option: ``--env``, ``--index-url``.
        value: Its value, or that of the variable that it sets.
        name: The variable that it sets; empty if it sets none. Then no URL in the value may have a user.

    Raises:
        UsageError: the value holds a secret, which is not in the message.

    """
    if name:
        secret = secret_as(name, value) or secret_in_command(value)
    else:
        user = PlainSecret("a URL with a user", "TOKEN") if _USER.search(value) else None
        secret = user or next((secret for _, secret in secrets_in_lines(value)), None)
    if secret is not None:
        raise UsageError(
            f"{option} {name}".rstrip() + f": {secret.what} would be part of the script",
            cause=WHY,
            cure=_OPTION_CURES.get(option, _OPTION_CURE),
        )


_OPTION_CURE = (
    "leave it out, and have the machine itself fetch it: from AWS Secrets Manager, or from a file on its volume"
)
_OPTION_CURES = {
    "-e": "let the playbook read it on the machine: {{ lookup('file', '/home/ec2-user/SageMaker/...') }}, "
    "or pass the secret's ARN (NAME_ARN=...) and fetch it there",
    "--index-url": "let the playbook's ensure_pip_index read it from its place",
    "--env": "name a proxy without a password, or pass the place of the secret (NAME_FILE=...)",
}


def refuse_in_variables(variables: Mapping[str, Any]) -> None:
    """Refuse secrets in variables of ``-e``, at any depth.

    Raises:
        UsageError: a variable holds a secret.

    """
    for name, value in variables.items():
        for key, text in _texts(value, name):
            refuse_in_option("-e", text, key)


def refuse_in_file(name: str, text: str, into: str = "the script") -> None:
    """Refuse secrets in a playbook or in one of its files.

    A line with the comment ``# noqa: plain-secret`` is accepted, as in `nbprovision lint`.

    Args:
        name: The file, for messages.
        text: Its text.
        into: What the file would be part of.

    Raises:
        InvalidPlaybook: the text holds a secret; the error has its position, but not its value.

    """
    lines = text.splitlines()
    for position, secret in _secrets(name, text):
        line = lines[position.line - 1] if position.line <= len(lines) else ""
        if not _QUIET.search(line):
            raise InvalidPlaybook(
                f"{secret.what} would be part of {into}",
                cause=WHY if into == "the script" else f"everybody who may read {into} can read it",
                cure="keep it on the volume or in AWS Secrets Manager, and write "
                f"{{{{ lookup('file', PATH) }}}} or {{{{ lookup('env', '{secret.name}') }}}} in the playbook; "
                "if it is not a secret, end the line with # noqa: plain-secret",
                position=position,
            )


def _secrets(name: str, text: str) -> Iterator[tuple[Position, PlainSecret]]:
    node, is_yaml = None, name.endswith(_YAML)
    if is_yaml:
        try:
            node = parse_nodes(text, name)
        except InvalidPlaybook:  # a template of such a file
            is_yaml = False
    if is_yaml:
        if node is not None:
            yield from _in_node(node, "")
        for number, line in enumerate(text.splitlines(), 1):  # comments as well
            if (secret := secret_in(line)) is not None:
                yield Position(name, number, secret.start + 1), secret
    else:
        for number, secret in secrets_in_lines(text, quoted=name.lower().endswith(_PROGRAMS)):
            yield Position(name, number + 1, secret.start + 1), secret


def _in_node(node: Node, key: str) -> Iterator[tuple[Position, PlainSecret]]:
    if isinstance(node, Scalar):
        if isinstance(node.value, bool) or node.value is None:
            return
        secret = secret_as(key, node.text)
        if secret is None and isinstance(node.value, str) and key not in _PROSE:  # a command, a file's content
            secret = secret_in_command(node.text)
        if secret is not None:
            yield node.position, secret
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from _in_node(item, key)
        yield from _in_words(node.items)
    else:
        called = node.get("name")  # name: TOKEN, value: ...
        for name, value in node.pairs:
            named = called.text if name.value == "value" and isinstance(called, Scalar) else name.text
            yield from _in_node(value, named)


def _in_words(items: Sequence[Node]) -> Iterator[tuple[Position, PlainSecret]]:
    """Find a secret that is split over the words of a command: ``[curl, --user, 'me:...']``."""
    words = [item.text if isinstance(item, Scalar) else "" for item in items]
    if any(word.startswith("-") for word in words):
        for number in range(2, len(words) + 1):
            secret = secret_in_command(" ".join(map(shlex.quote, words[:number])))
            if secret is not None:
                yield items[number - 1].position, secret
                return


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _texts(entry, str(name))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry, key)
    elif not isinstance(value, bool) and value is not None:
        yield key, value if isinstance(value, str) else str(shown(value))
