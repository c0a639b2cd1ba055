"""Which tasks ``--tags`` and ``--skip-tags`` choose, as Ansible does.

Source: https://docs.ansible.com/ansible/latest/playbook_guide/playbooks_tags.html
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

SPECIAL_TAGS = ("all", "always", "never", "tagged", "untagged")  # they mean something whatever tasks have


class Tags(msgspec.Struct, frozen=True):
    """Tags alone."""

    tags: tuple[str, ...]


class Tagged(Protocol):
    """Anything with tags."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Return the tags without `always` and `never`."""


def selected(call: Tagged, tags: Collection[str] = (), skip_tags: Collection[str] = ()) -> bool:
    """Whether the tags choose a task.

    ``always`` is run unless it is skipped by that name, ``never`` only if one of its tags is asked for; ``all``,
    ``tagged`` and ``untagged`` may be asked for and skipped.

    Args:
        call: The task.
        tags: Those to run; empty for all.
        skip_tags: Those to leave out; they win.

    """
    own = set(call.tags) or {"untagged"}
    wanted = set(tags) or {"all"}
    skipped = set(skip_tags)
    tagged = own != {"untagged"}
    if "always" not in own:
        everything = "all" in wanted or ("tagged" in wanted and tagged)
        if not ((everything and "never" not in own) or own & wanted):
            return False
    if "all" in skipped and ("always" not in own or "always" in skipped):
        return False
    return not (own & skipped or ("tagged" in skipped and tagged))
