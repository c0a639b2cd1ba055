"""Gathers the faults of a playbook, so that one reading reports all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from nbprovision.model.errors import InvalidPlaybook, ProvisionError

_SHOWN = 20


class SeveralFaults(InvalidPlaybook):
    """More than one fault: shown as the first of them, with the others below it.

    Attributes:
        faults: Each by itself.

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


class Faults:
    """The faults that were found so far."""

    def __init__(self) -> None:
        self._found: dict[str, ProvisionError] = {}  # by text: a wrong variable shows up wherever it is used
        self._noted = 0

    def __len__(self) -> int:
        """The number of notes; a fault that was noted twice counts twice, although it is shown once."""
        return self._noted

    def add(self, fault: ProvisionError) -> None:
        """Note one more, unless it is known."""
        self._noted += 1
        self._found.setdefault(str(fault), fault)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Note what the body raises, and go on after it."""
        try:
            yield
        except InvalidPlaybook as fault:
            self.add(fault)

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop the faults that the body raises, which something else makes irrelevant."""
        with contextlib.suppress(InvalidPlaybook):
            yield

    def raise_any(self) -> None:
        """Raise the faults: one as it is; several as the first of them, with the others below it."""
        faults = list(self._found.values())
        if not faults:
            return
        raise faults[0] if len(faults) == 1 else SeveralFaults(faults)
