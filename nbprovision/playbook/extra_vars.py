"""Reads the options ``-e``: variables of the command line, which win over all others."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nbprovision.model.errors import InvalidPlaybook, UsageError
from nbprovision.playbook.template_names import variable_problem
from nbprovision.playbook.written import as_flow
from nbprovision.playbook.yaml_nodes import Files, MapNode, Node, decode, parse_nodes, plain
from nbprovision.system.secrets import remember, remember_if_secret

INPUT = "@-"  # the argument for variables on standard input


class ExtraVars(dict[str, Any]):
    """Names and values; ``files`` records the files that they come from."""

    def __init__(self, files: Files | None = None) -> None:
        super().__init__()
        self.files = Files() if files is None else files


def parse_extra_vars(
    arguments: Iterable[str],
    kept: Mapping[Path, bytes] | None = None,
    judge: Callable[[Path], None] = lambda path: None,
) -> ExtraVars:
    """Return the variables of the options ``-e``; later ones win.

    Args:
        arguments: Each is ``KEY=VALUE``, ``@FILE`` (a mapping in YAML or JSON), or the mapping itself (``{...}``). One
            argument may have several pairs with spaces between them; quotes enclose values with spaces. The values of
            pairs are strings.
        kept: Contents that replace files, see `Files`.
        judge: Called before a file is read; raises `InvalidPlaybook` for one not to obey.

    Raises:
        UsageError: an argument has none of these forms, a name is invalid, or the file is missing.
        InvalidPlaybook: a file or a mapping is not YAML.

    """
    variables = ExtraVars(Files(kept, judge))
    for argument in arguments:
        text = argument.strip()
        if text.startswith("@"):
            path = Path(text[1:]).expanduser()
            if not (variables.files.is_kept(path) or path.is_file()):
                raise UsageError(
                    f"-e: {path} does not exist", cure="-e @FILE takes a file with a mapping in YAML or JSON"
                )
            given = _mapping(variables.files.nodes(path, "file of variables"), f"-e {text}")
        elif text.startswith(("{", "[")):
            try:
                given = _mapping(parse_nodes(text, "-e"), "-e")
            except InvalidPlaybook as error:
                raise UsageError(f"-e: {error.message}", cause=error.cause, cure=error.cure) from None
        else:
            given = _pairs(text)
        for name, value in given.items():
            problem = variable_problem(name)
            if problem:
                raise UsageError(f"-e: {problem}")
            remember_if_secret(name, value)
            variables[name] = value
    return variables


def read_input(stream: BinaryIO) -> str:
    """Return the mapping in YAML or JSON on a stream as an argument of ``-e``.

    Raises:
        UsageError: it is not a mapping.
        InvalidPlaybook: it is not YAML.

    """
    name = "<stdin>"
    return as_flow(_mapping(parse_nodes(decode(stream.read(), name, "variables"), name), "-e @-"))


def mask_all(value: Any) -> None:
    """Mask every text in the values of variables from now on in this run, whatever their names are."""
    if isinstance(value, str):
        remember(value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        mask_all(part)


def _mapping(node: Node | None, where: str) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, MapNode):
        raise UsageError(f"{where}: expected a mapping of names to values", cure='write KEY: VALUE, or {"KEY": VALUE}')
    data: dict[str, Any] = plain(node)
    return data


def _pairs(text: str) -> dict[str, str]:
    """Split ``a=1 b="two words"``; a backslash has no meaning, since passwords contain some."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError:
        raise UsageError("-e: a quote is opened and never closed", cure=_CURE) from None
    pairs = {}
    for number, word in enumerate(words, 1):
        name, equals, value = word.partition("=")
        if not equals:  # never show the word itself: it may be half of a password
            raise UsageError(f"-e: word {number} of '{words[0].partition('=')[0]}...' has no '='", cure=_CURE)
        pairs[name] = value
    if not pairs:
        raise UsageError("-e: the argument is empty", cure=_CURE)
    return pairs


_CURE = "write -e KEY=VALUE, -e 'KEY=\"words with spaces\"', -e '{\"KEY\": [1, 2]}' or -e @FILE"
