"""The markers that git leaves in a file that it could not merge.

Source: https://git-scm.com/docs/git-merge, "How conflicts are presented".
"""

from __future__ import annotations

import re

CAUSE = "it has the conflict markers of a merge"
CURE = "take one side (git checkout --ours, or --theirs), then lock again"
_MARKER = re.compile(rb"^<{7}(?: [^\n]*)?$", re.MULTILINE)


def line(content: bytes) -> int | None:
    """The line of the first conflict, from 1; None without any."""
    marker = _MARKER.search(content)
    return None if marker is None else content.count(b"\n", 0, marker.start()) + 1
