"""The rule about settings that a task of their own sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import Playbook

# The name of a file, its keys (the outermost first), and the task.
_OWN_TASKS: dict[str, list[tuple[str, tuple[str, ...], str]]] = {
    "ensure_ini": [
        ("pip.conf", ("global", option), "ensure_pip_index: {url: ...}")
        for option in ("index-url", "extra-index-url", "trusted-host", "find-links")
    ],
    "ensure_json": [
        ("kernel.json", (), "ensure_kernel, or ensure_env_var for variables"),
        ("page_config.json", ("disabledExtensions",), "ensure_jupyter_extension: {lab: {NAME: false}}"),
        (
            "jupyter_server_config.json",
            ("ServerApp", "jpserverextensions"),
            "ensure_jupyter_extension: {server: {MODULE: true}}",
        ),
    ],
}


@rule("warning", "that task checks more, and covers every program that needs the setting")
def task_of_its_own(playbook: Playbook) -> Iterable[Problem]:
    """Settings in an INI or JSON file that a task of their own sets: pip's indexes, kernels, Jupyter's extensions."""
    for kind, settings in _OWN_TASKS.items():
        for call in playbook.of(kind):
            for name, keys, task in settings:
                value = call.values.get("values")
                for key in keys:
                    value = value.get(key) if isinstance(value, dict) else None
                if value is not None and any(Path(path).name == name for path in call.strings("path")):
                    what = f"'{keys[-1]}' in {name}" if keys else name
                    yield Problem(call.at("values"), f"{what} has a task of its own", f"write {task}")
                    break
