"""Reads ``root_tasks``, which are known where the script is rendered: nothing of the machine has a say in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import keywords
from nbprovision.playbook.calls import Entry
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.task_lists import Inherited, TaskLists
from nbprovision.playbook.template import Templates
from nbprovision.playbook.template_names import FACTS
from nbprovision.playbook.values import Values
from nbprovision.playbook.yaml_nodes import MapNode, Node

_WHY = (
    "root's part of the script is made where the script is rendered, so that nothing that others can change on the "
    "machine decides what root does"
)
_CURE = "write the value, or a variable of `vars` or `-e`"


def _refuse(what: str) -> NoReturn:
    raise InvalidPlaybook(f"{what} in root_tasks", cause=_WHY, cure=_CURE)


class _NoFacts(dict[str, Any]):
    """The facts of an unknown machine."""

    def __getitem__(self, name: str) -> Any:
        _refuse(f"nb.{name} is not known")

    def get(self, name: str, default: Any = None) -> Any:
        """Raise as ``[]`` does."""
        return self[name]


class _NoOutside(Outside):
    """Reads nothing of a machine."""

    def query(self, kind: str, *terms: Any, **options: Any) -> list[Any]:
        """Refuse every lookup."""
        _refuse(f"lookup('{str(kind)[:40]}') is not possible")

    def variable(self, name: str, default: Any = None) -> Any:
        """Refuse every environment variable."""
        _refuse(f"the environment variable {name[:40]} is not known")

    def path(self, text: Any) -> Path:
        """Refuse what asks for a path of the machine."""
        _refuse(f"nothing is known of the path {str(text)[:80]}")

    def expanded(self, text: str) -> str:
        """Refuse somebody's home folder."""
        _refuse(f"the home folder in {text[:80]} is not known")

    def globbed(self, pattern: str) -> list[Path]:
        """Refuse a pattern for paths."""
        _refuse(f"nothing is known of the paths {pattern[:80]}")


class RootTasks(TaskLists):
    """Reads the lists ``root_tasks`` of plays.

    Args:
        lists: Reads the other lists of the same playbook.
        folder: The folder of the playbook.

    """

    of_root = True

    def __init__(self, lists: TaskLists, folder: Path) -> None:
        files = lists.templates.files
        templates = Templates(folder, {}, files, _NoOutside)
        super().__init__(Values(templates, lists.faults), lists.extra, lists.is_chosen)
        self._folder = folder

    def read(self, nodes: Collection[Node], outer: Inherited) -> tuple[Entry, ...]:
        """Read one list.

        Args:
            nodes: Its entries.
            outer: What the tasks inherit of the play; of this they take the variables and the tags.

        """
        facts: Mapping[str, Any] = {FACTS: _NoFacts(), "playbook_dir": str(self._folder)}
        scope = outer.scope.apart(self.templates, facts)
        own = Inherited(
            scope=scope, extra=outer.extra, file=outer.file, within=outer.within, kinds=outer.kinds, tags=outer.tags
        )
        return self.entries(nodes, own)

    def _entry(self, node: Node, outer: Inherited) -> Collection[Entry]:
        if isinstance(node, MapNode):
            refused = [key for key, _ in node.pairs if _is_refused(key.text.removeprefix("ansible.builtin."))]
            for key in refused:
                self.values.fault(
                    f"'{key.text[:40]}' is refused in root_tasks",
                    key,
                    cure=f"a task there has its own key and {', '.join(sorted(keywords.ROOT_TASK))}",
                    cause=_WHY,
                )
            if refused:
                return []
        return super()._entry(node, outer)


def _is_refused(key: str) -> bool:
    """Whether a key has a meaning in other lists of tasks, and none here."""
    elsewhere = keywords.is_ansible(key) or key in keywords.INCLUDE or key == "meta"
    return elsewhere and key not in keywords.ROOT_TASK
