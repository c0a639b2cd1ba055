"""Collects the faults of a playbook, so that one reading reports all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from nbprovision.model.errors import InvalidPlaybook, ProvisionError

_SHOWN = 20


class SeveralFaults(InvalidPlaybook):
    """More than one fault: shown as the first, with the others below it.

    Attributes:
        faults: The faults.

    """

    def __init__(self, faults: Sequence[ProvisionError]) -> None:
        first, others = faults[0], [str(fault) for fault in faults[1:]]
        if len(others) > _SHOWN:
            others[_SHOWN:] = [f"and {len(others) - _SHOWN} more"]
        cure = "\n".join(part for part in (first.cure, *others) if part)
        super().__init__(first.message, cause=first.cause, cure=cure, position=first.position)
        self.faults = tuple(faults)
        self._others = others

    @property
    def blocks(self) -> tuple[str, ...]:
        """Each fault by itself."""
        return (*self.faults[0].blocks, *self._others)


def single_faults(error: ProvisionError) -> tuple[ProvisionError, ...]:
    """Return the faults in an error, each by itself."""
    return error.faults if isinstance(error, SeveralFaults) else (error,)


class Faults:
    """The faults of a playbook."""

    def __init__(self) -> None:
        self._faults: dict[str, ProvisionError] = {}  # by text: each use of a wrong variable is the same fault
        self._added = 0

    def __len__(self) -> int:
        """Count the added faults; a fault that was added twice counts twice, although it is shown once."""
        return self._added

    def add(self, fault: ProvisionError) -> None:
        """Add a fault."""
        self._added += 1
        self._faults.setdefault(str(fault), fault)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Add the fault that the body raises, and continue after the body."""
        try:
            yield
        except InvalidPlaybook as fault:
            self.add(fault)

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop the fault that the body raises."""
        with contextlib.suppress(InvalidPlaybook):
            yield

    def raise_any(self) -> None:
        """Raise the faults, if there are any: several as `SeveralFaults`."""
        faults = list(self._faults.values())
        if faults:
            raise faults[0] if len(faults) == 1 else SeveralFaults(faults)
