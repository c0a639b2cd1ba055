"""``ensure_json``: keys in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from nbprovision.files import json_text
from nbprovision.files.edited_settings import EditedSettings, refuse_both, remember_secrets
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Setting, parameter

_NULL = ("null",)  # in `shared_values`, where None stands for a missing key


class EnsureJson(EditedSettings, frozen=True, kw_only=True):
    """Set and remove keys in a JSON file, such as the settings of JupyterLab or VS Code.

    Objects are merged key by key; lists and all other values are replaced as a whole. All other keys stay unchanged to
    the last byte, including comments (`//`, `/* */`), their order and the notation of numbers. New keys have the
    indentation of the file. A file that is not valid JSON, apart from comments and trailing commas, is not changed.

    A new file has the mode 0644, and a file for which `values` contains a secret gets the mode 0600.
    """

    examples: ClassVar[str] = """
- name: JupyterLab starts no kernel when a notebook is opened
  ensure_json:
    path: ~/.jupyter/labconfig/page_config.json
    values: {notebookStartsKernel: false}
- name: Settings of the code editor
  ensure_json:
    path: ~/.local/share/code-server/User/settings.json
    values:
      editor.fontSize: 14
      "[python]": {editor.rulers: [120]}
    remove: [editor.tabSize, ["[python]", editor.wordWrap]]
- name: A setting of Docker, judged before the file is replaced
  ensure_json:
    path: ~/.config/docker/daemon.json
    values: {data-root: /tmp/docker}
    validate: python3 -m json.tool %s
"""
    habits: ClassVar[dict[str, str]] = {
        **EditedSettings.habits,
        **dict.fromkeys(("key", "keys", "value", "content", "data"), "write values: {KEY: VALUE}"),
        "delete": "write remove:",
    }

    values: Annotated[
        dict[str, Any],
        parameter(
            "Keys with their values; a mapping within it stands for keys of an object within the file.",
            extra={"numbers": True},
        ),
    ] = msgspec.field(default_factory=dict)
    remove: Annotated[
        list[str | list[str]],
        parameter(
            "Keys that must be missing. A list of keys leads to a key within objects: `[theme, [editor, font]]` "
            "removes `theme`, and `font` in `editor`."
        ),
    ] = []

    def check(self) -> None:
        """Check the parameters without looking at the file."""
        super().check()
        self._data  # noqa: B018 - raises for values that JSON does not have
        if any(not path for path in self._removed):
            raise ParameterError("remove", "an entry of `remove` is an empty list", cure="write [KEY, KEY WITHIN IT]")
        refuse_both((path for path, _ in _leaves(self.values)), self._removed)

    @property
    def _data(self) -> dict[str, Any]:
        try:
            data: dict[str, Any] = json_text.data_of(self.values)
        except ValueError as error:
            raise ParameterError(
                "values", "a value cannot be written as JSON", cause=str(error), cure="write it as text, in quotes"
            ) from None
        return data

    @property
    def _removed(self) -> list[list[str]]:
        return [[entry] if isinstance(entry, str) else entry for entry in self.remove]

    def wanted_of_root(self) -> dict[str, Any]:
        """What root's program gets beside the path."""
        return {"form": "json", "values": json.loads(json.dumps(self.values)), "remove": self._removed}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """Each wanted value by the keys that lead to it, and each key to remove."""
        file = str(self.target(machine))
        for path, value in _leaves(self.values):
            if value != {}:
                yield Setting(file, path, _NULL if value is None else value)
        for keys in self._removed:
            yield Setting(file, tuple(keys), None)

    def edit(self, path: Path, text: str | None) -> str | None:
        """Merge the values.

        Raises:
            TaskFailed: the file is not JSON, or a comment would be lost.

        """
        remember_secrets("", json_text.settings(path, text))
        return json_text.edited(path, text, self._data, self._removed)

    def wanted_secrets(self) -> bool:
        """Whether a wanted value is a secret; every secret value is masked from now on."""
        return remember_secrets("", self.values)


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value that is not a mapping, or an empty one, with the keys that lead to it."""
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
