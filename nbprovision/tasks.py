"""The API for tasks of your own: all that a file ``ensure_NAME.py`` of ``task_folders``, or a package's task, imports.

These names stay; everything else of nbprovision may change with any version. docs/own-tasks.md explains their use.
"""

from __future__ import annotations

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed
from nbprovision.model.relations import AnyOf, Excludes, Needs, OneOf, Requires
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Input, Resource, Strings, Task, as_list, parameter
from nbprovision.system.commands import run
from nbprovision.system.files import make_folder, read_text, remove, write_atomically
from nbprovision.system.reading import read_bytes

__all__ = [
    "AnyOf",
    "Change",
    "Duration",
    "Excludes",
    "Input",
    "Machine",
    "Needs",
    "OneOf",
    "ParameterError",
    "Plan",
    "ProvisionError",
    "Requires",
    "Resource",
    "Strings",
    "Task",
    "TaskFailed",
    "as_list",
    "make_folder",
    "parameter",
    "read_bytes",
    "read_text",
    "remove",
    "run",
    "write_atomically",
]
