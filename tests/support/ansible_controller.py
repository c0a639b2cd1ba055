"""Runs Ansible's own commands, with this machine as the target."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "nbprovision.notebook"


class Controller:
    """A controller.

    Args:
        commands: The folder of Ansible's commands.
        folder: The folder of its playbooks.
        env: Its environment variables, which a local target has as well.

    Attributes:
        output: What the last command printed.

    """

    def __init__(self, commands: Path, folder: Path, env: Mapping[str, str]) -> None:
        self.commands, self.folder = commands, folder
        self.env = {
            **env,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            "LC_ALL": "C.UTF-8",
        }
        self.output = ""

    def galaxy(self, *words: str) -> None:
        """Call ``ansible-galaxy collection``."""
        done = self._call("ansible-galaxy", "collection", *words)
        assert done.returncode == 0, self.output

    def inventory(self, path: Path, *words: str) -> dict[str, Any]:
        """The hosts of an inventory, and their groups, as ``ansible-inventory`` lists them."""
        done = self._call("ansible-inventory", "--inventory", str(path), "--list", *words)
        assert done.returncode == 0, self.output
        # Newer cores mark each text that is not to be templated.
        document: dict[str, Any] = json.loads(done.stdout, object_hook=lambda read: read.get("__ansible_unsafe", read))
        return document

    def doc(self, module: str, kind: str = "module") -> dict[str, Any]:
        """The documentation of a module or of another plugin as ``ansible-doc`` reads it."""
        done = self._call("ansible-doc", "--json", "--type", kind, f"{NAMESPACE}.{module}")
        assert done.returncode == 0, self.output
        document: dict[str, Any] = json.loads(done.stdout)[f"{NAMESPACE}.{module}"]
        return document

    def vault(self, name: str, value: str) -> tuple[str, ...]:
        """Encrypt a variable with ``ansible-vault``.

        Returns:
            The options of ``ansible-playbook`` that set it.

        """
        password, variables = self.folder / "vault-password", self.folder / "vault.yml"
        password.write_text("of a test")
        options = ("--vault-password-file", str(password))
        done = self._call("ansible-vault", "encrypt_string", *options, "--name", name, value)
        assert done.returncode == 0, self.output
        variables.write_text(done.stdout)
        return *options, "--extra-vars", f"@{variables}"

    def play(self, tasks: Sequence[Mapping[str, Any]], *words: str, **keywords: Any) -> list[dict[str, Any]]:
        """Run tasks, failed ones as well.

        Args:
            tasks: The tasks, of the modules of this collection by their short names.
            words: Options of ``ansible-playbook``.
            keywords: Keywords of the play.

        Returns:
            The result of each task, as ``register`` has it.

        """
        results = self.folder / "results.json"
        results.unlink(missing_ok=True)
        listed = [
            {
                f"{NAMESPACE}.{key}"
                if key.startswith(("ensure_", "restart_", "playbook", "task", "wave"))
                else key: value
                for key, value in task.items()
            }
            | {"register": f"result_{number}", "ignore_errors": True}
            for number, task in enumerate(tasks)
        ]
        written = {
            "ansible.builtin.copy": {
                "dest": str(results),
                "content": f"{{{{ [{', '.join(f'result_{number}' for number in range(len(tasks)))}] | to_json }}}}",
            },
            "check_mode": False,
            "diff": False,
            "no_log": True,
            "delegate_to": "localhost",
            "vars": {"ansible_python_interpreter": sys.executable, "ansible_connection": "local"},
        }
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            **keywords,
            "tasks": [*listed, written],
        }
        # What runs on the target is nbprovision alone, never a module of Ansible's that logs its arguments.
        play["vars"] = {"ansible_python_interpreter": "/no-such-python", **keywords.get("vars", {})}
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([play], sort_keys=False))
        done = self._call("ansible-playbook", str(path), *words)
        assert done.returncode == 0, self.output
        assert "DEPRECAT" not in self.output, self.output
        content: list[dict[str, Any]] = json.loads(results.read_text())
        return content

    def playbook(self, path: Path, *words: str) -> bool:
        """Run a playbook of Ansible's.

        Returns:
            Whether it succeeded.

        """
        return self._call("ansible-playbook", str(path), *words).returncode == 0

    def _call(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self.commands / command), *words]
        done = subprocess.run(argv, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=300)
        self.output = done.stdout + done.stderr
        return done
