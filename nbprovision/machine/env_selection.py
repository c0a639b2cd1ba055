"""The parameters of tasks that work on one environment or on several."""

from __future__ import annotations

from typing import Annotated, ClassVar, Generic

import msgspec

from nbprovision.model.relations import Needs, Relation
from nbprovision.model.task import State, Strings, Task, parameter


class EnvSelection(Task[State], Generic[State], frozen=True, kw_only=True):
    """A task on the environment ``env``, or on several: ``envs`` without ``except``."""

    relations: ClassVar[tuple[Relation, ...]] = (Needs("except", ("envs",)), Needs("allow_empty", ("envs",)))

    env: Annotated[str | None, parameter("The environment, by name or path.", extra={"path": "if-slash"})] = None
    envs: Annotated[
        Strings | None,
        parameter(
            "Several environments: names, globs (`pytorch*`, `/path/envs/*`), paths, `all` (never the Jupyter "
            "server's own). `all` and globs leave out environments without a Python if one is needed.",
            extra={"path": "if-slash"},
        ),
    ] = None
    except_: Annotated[
        Strings | None, parameter("Exceptions from `envs`: names, globs, paths.", extra={"path": "if-slash"})
    ] = msgspec.field(default=None, name="except")
    allow_empty: Annotated[bool, parameter("Whether `envs` may match no environment.")] = False
