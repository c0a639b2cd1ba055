"""Options that people write from habit, and what is said of them here: option -> (why it is none, what to do).

Source of Ansible's: https://docs.ansible.com/ansible/latest/cli/ansible-playbook.html
"""

from __future__ import annotations

from collections.abc import Mapping

Answer = tuple[str, str]

_LOCAL = ("a playbook is for the machine that it is run on", "leave it out")
_AS_USER = (
    "every task runs as the user who starts it: root never does what a playbook says",
    "leave it out; what needs root belongs into the image or the lifecycle script",
)
_NO_VAULT = (
    "there is no vault",
    "keep the secret in an environment variable, and write \"{{ lookup('env', 'NAME') }}\" in the playbook",
)
_CHECK = ("that is called otherwise here", "write --check")

_RUN: dict[str, Answer] = {
    **dict.fromkeys(("-i", "--inventory", "--inventory-file", "-l", "--limit", "--list-hosts"), _LOCAL),
    **dict.fromkeys(("-u", "--user", "-c", "--connection", "--private-key", "--key-file"), _LOCAL),
    **dict.fromkeys(("--ssh-common-args", "--ssh-extra-args", "--sftp-extra-args", "--scp-extra-args"), _LOCAL),
    **dict.fromkeys(("-b", "--become", "--become-user", "--become-method", "-K", "--ask-become-pass"), _AS_USER),
    **dict.fromkeys(("-k", "--ask-pass", "--become-password-file", "--connection-password-file"), _AS_USER),
    **dict.fromkeys(
        ("-J", "--ask-vault-pass", "--ask-vault-password", "--vault-id", "--vault-password-file"), _NO_VAULT
    ),
    **dict.fromkeys(("-n", "--dry-run", "--dryrun"), _CHECK),
    "-f": ("tasks that do not depend on each other are run side by side anyway", "leave it out"),
    "--forks": ("tasks that do not depend on each other are run side by side anyway", "leave it out"),
    "-M": ("every kind of task comes with the tool", "leave it out; `nbprovision doc` lists them"),
    "--module-path": ("every kind of task comes with the tool", "leave it out; `nbprovision doc` lists them"),
    "--syntax-check": ("that is a command of its own", "write: nbprovision lint PLAYBOOK"),
    "--flush-cache": ("facts are never kept", "leave it out; --no-witness looks at everything anew"),
    "--force-handlers": ("a failure loses no handler: the next run that succeeds runs it", "leave it out"),
    "-T": ("that is called otherwise here", "write --deadline SECONDS"),
    "--timeout": ("that is called otherwise here", "write --deadline SECONDS"),
    "-y": ("nothing is asked", "leave it out"),
    "--yes": ("nothing is asked", "leave it out"),
    "-q": ("a run prints a line a task", "send standard output elsewhere: >/dev/null"),
    "--quiet": ("a run prints a line a task", "send standard output elsewhere: >/dev/null"),
    "--json": ("that is called otherwise here", "write --format json"),
}
_OF_COMMANDS: dict[str, dict[str, Answer]] = {"run": _RUN}


def of(command: str) -> Mapping[str, Answer]:
    """The options that people write for a command, and that it has not."""
    return _OF_COMMANDS.get(command, {})
