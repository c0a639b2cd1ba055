"""``ensure_ini``: keys in the sections of an INI file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from nbprovision.files import ini_text
from nbprovision.files.edited_settings import EditedSettings, refuse_both, remember_secrets
from nbprovision.files.ini_text import OPENSSL, PYTHON, Dialect, Wanted
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Setting, parameter

Word = str | int | float | bool
Value = Word | list[Word] | dict[str, Word]

# Files in other notations, by their last suffix or their name; each with the task that edits it.
_OTHER_NOTATIONS = {
    ".condarc": ("is YAML", "ensure_condarc: {channels: [...]}"),
    "condarc": ("is YAML", "ensure_condarc: {channels: [...]}"),
    **dict.fromkeys((".yml", ".yaml"), ("is YAML", "ensure_line or ensure_block")),
    **dict.fromkeys(
        (".json", ".jupyterlab-settings", ".ipynb"), ("is JSON", "ensure_json: {path: ..., values: {...}}")
    ),
    ".toml": ("is TOML", "ensure_line or ensure_block"),
    ".gitconfig": ("has git's own quoting", "ensure_git_config: {name: SECTION.KEY, value: ...}"),
    ".gitmodules": ("has git's own quoting", "an ensure_command with git"),
}
# Files whose program refuses a repeated key (configparser.DuplicateOptionError).
_NEVER_REPEATED = frozenset(("pip.conf", ".pypirc", "setup.cfg", "tox.ini", ".coveragerc"))


class EnsureIni(EditedSettings, frozen=True, kw_only=True):
    """Set and remove keys in the sections of an INI file, such as `~/.aws/config`, `openssl.cnf` or `setup.cfg`.

    A section is never written twice: keys are merged into the existing one, and a missing section comes at the end of
    the file. All other lines stay unchanged to the last byte, including comments, blank lines and their order. A new
    key has the indentation and the spaces around `=` of its neighbours. A value is written as given: quotes and escapes
    are those of the program that reads the file.

    A repeated section counts as one. A key that is repeated in it keeps one line, unless `values` has a list.
    A new file has the mode 0644, and a file for which `values` contains a secret gets the mode 0600.
    """

    examples: ClassVar[str] = """
- name: A profile of AWS, and more requests at once to S3
  ensure_ini:
    path: ~/.aws/config
    values:
      profile team:
        region: eu-central-1
        s3: {max_concurrent_requests: 20}
- name: openssl uses a provider, which is named above the first section
  ensure_ini:
    path: ~/openssl.cnf
    values:
      "": {openssl_conf: openssl_init}
      openssl_init: {providers: provider_sect}
      provider_sect: {default: default_sect}
      default_sect: {activate: 1}
- name: A key and a section that are gone
  ensure_ini:
    path: ~/.pypirc
    remove: [old-index, [pypi, repository]]
"""
    habits: ClassVar[dict[str, str]] = {
        **EditedSettings.habits,
        **dict.fromkeys(("section", "option", "value"), "write values: {SECTION: {OPTION: VALUE}}"),
        "no_extra_spaces": "remove it; a new key has the spaces of its neighbours",
        "ignore_spaces": "remove it; spaces around = never count",
        "exclusive": "remove it; a list in `values` has all values of the option",
        "allow_no_value": "write an empty text as the value: ''",
        "modify_inactive_option": "remove it; comments stay as they are",
        "section_has_values": "write the section's name as it stands in the file",
    }

    values: Annotated[
        dict[str, dict[str, Value]],
        parameter(
            'Values by section and key; the section `""` stands for keys above the first section. A truth value is '
            "written as `true` or `false`. A list repeats the key, for programs that read it several times; a mapping "
            "has lines of its own within the value, as `s3` in `~/.aws/config`; a text of several lines is indented."
        ),
    ] = msgspec.field(default_factory=dict)
    remove: Annotated[
        list[str | list[str]],
        parameter("What must be missing: a section, or a list of section and key: `[old, [pypi, repository]]`."),
    ] = []

    def check(self) -> None:
        """Check the parameters without looking at the file."""
        super().check()
        path = Path(self.path)
        in_git = path.name == "config" and path.parent.name in ("git", ".git")
        notation = _OTHER_NOTATIONS.get(path.suffix or path.name) or (
            _OTHER_NOTATIONS[".gitconfig"] if in_git else None
        )
        if notation is not None:
            raise ParameterError(
                "path", f"{self.path} is not an INI file: it {notation[0]}", cure=f"write {notation[1]}"
            )
        for section, keys in self.values.items():
            _check_section("values", section)
            for key, value in keys.items():
                self._check_key(key)
                self._check_value(key, value)
        for names in self._removed:
            if not 1 <= len(names) <= 3 or names == [""]:
                raise ParameterError(
                    "remove",
                    "an entry of `remove` is a section, or a list of section and key",
                    cure="write [SECTION, KEY]",
                )
            _check_section("remove", names[0])
        refuse_both(self._paths, self._removed)

    def _check_key(self, key: str) -> None:
        delimiters = self._dialect.delimiters
        if not key or key != key.strip() or key[0] in "[#;" or any(letter in key for letter in f"\r\n{delimiters}"):
            raise ParameterError(
                "values",
                f"{key[:60]!r} cannot be a key in {self.path}",
                cause=f"a key is one line without {' or '.join(delimiters)}, without blanks around it, and does not "
                "begin with [, # or ;",
            )

    def _check_value(self, key: str, value: Value) -> None:
        if isinstance(value, list | dict) and not value:
            raise ParameterError("values", f"'{key}' has an empty list or mapping", cure="name the key in `remove`")
        if isinstance(value, dict) and self._dialect != PYTHON:
            raise ParameterError("values", f"'{key}' cannot have keys of its own in {self.path}")
        if isinstance(value, list) and (
            Path(self.path).name in _NEVER_REPEATED or Path(self.path).parent.name == ".aws"
        ):
            raise ParameterError(
                "values",
                f"'{key}' cannot be repeated in {self.path}, as its program refuses such a file",
                cure="write one text; several lines as a block: `|`",
            )
        if isinstance(value, dict):
            for name, entry in value.items():
                self._check_key(name)
                _check_text(name, _word(entry), self._dialect, lines=False)
        for entry in value if isinstance(value, list) else [] if isinstance(value, dict) else [value]:
            _check_text(key, _word(entry), self._dialect, lines=self._dialect == PYTHON)

    @property
    def _dialect(self) -> Dialect:
        return ini_text.dialect_of(Path(self.path))

    @property
    def _wanted(self) -> dict[str, dict[str, Wanted]]:
        return {section: {key: _wanted(value) for key, value in keys.items()} for section, keys in self.values.items()}

    @property
    def _removed(self) -> list[list[str]]:
        return [[entry] if isinstance(entry, str) else entry for entry in self.remove]

    @property
    def _paths(self) -> Iterator[tuple[str, ...]]:
        for section, keys in self.values.items():
            for key, value in keys.items():
                if isinstance(value, dict):
                    yield from ((section, key, name) for name in value)
                else:
                    yield section, key

    def _check_system(self) -> None:
        super()._check_system()
        if any(
            not isinstance(value, str) or "\n" in value for keys in self._wanted.values() for value in keys.values()
        ):
            raise ParameterError("values", "a value of `scope: system` is one line of text")
        if any(len(names) > 2 for names in self._removed):
            raise ParameterError("remove", "an entry of `scope: system` is a section, or a list of section and key")

    def wanted_of_root(self) -> dict[str, Any]:
        """What root's program gets beside the path."""
        dialect = self._dialect
        return {
            "form": "ini",
            "values": self._wanted,
            "remove": self._removed,
            "equals": dialect.delimiter,
            "comment": dialect.inline,
        }

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """Each wanted value by section and key, and each key to remove."""
        file = str(self.target(machine))
        for section, keys in self._wanted.items():
            for key, value in keys.items():
                if isinstance(value, dict):
                    yield from (Setting(file, (section, key, name), entry) for name, entry in value.items())
                else:
                    yield Setting(file, (section, key), value)
        for names in self._removed:
            yield Setting(file, tuple(names), None)

    def edit(self, path: Path, text: str | None) -> str | None:
        """Merge the values.

        Raises:
            TaskFailed: the file is not an INI file, or a comment would be lost.

        """
        for keys in ini_text.settings(path, text).values():
            remember_secrets(
                "", {key: [*values, ini_text.lines_within("\n".join(values))] for key, values in keys.items()}
            )
        return ini_text.edited(path, text, self._wanted, self._removed)

    def wanted_secrets(self) -> bool:
        """Whether a wanted value is a secret; every secret value is masked from now on."""
        return remember_secrets("", self._wanted)


def _check_section(parameter_name: str, section: str) -> None:
    if section != section.strip() or any(letter in section for letter in "[]\r\n"):
        raise ParameterError(
            parameter_name, f"{section[:60]!r} cannot be a section", cure="write its name without brackets and blanks"
        )


def _check_text(key: str, text: str, dialect: Dialect, *, lines: bool) -> None:
    """Refuse a value that the file's program would read as another one."""
    parts = text.split("\n")
    problem = ""
    if len(parts) > 1 and not lines:
        problem = "it has several lines"
    elif "\r" in text or any(part != part.strip() or (not part and len(parts) > 1) for part in parts):
        problem = "it has blanks at an end, or a blank line"
    elif any(part[0] in "#;" for part in parts[1:]) or (len(parts) > 1 and parts[0][0] in "#;"):
        problem = "one of its lines would be a comment"
    elif dialect.inline and ini_text.has_comment(text):
        problem = f"{dialect.inline} begins a comment there"
    elif not dialect.indented and text.endswith("\\"):
        problem = "the backslash at its end would join the next line to it"
    if problem:
        cure = "put it into quotes, or escape it, as the program reads it" if dialect == OPENSSL else ""
        raise ParameterError("values", f"the value of '{key}' cannot be written: {problem}", cure=cure)


def _wanted(value: Value) -> Wanted:
    if isinstance(value, dict):
        return {name: _word(entry) for name, entry in value.items()}
    return [_word(entry) for entry in value] if isinstance(value, list) else _word(value)


def _word(value: Word) -> str:
    """A value as text; the line end behind a block of YAML's is not a part of it."""
    return str(value).lower() if isinstance(value, bool) else str(value).strip("\n")
