"""What engines that were killed leave in the tool's caches: more with every kill, as they never take it away."""

from __future__ import annotations

from pathlib import Path

from nbprovision.system.files import remove

# By the names that both give to what is in the making (Rust's tempfile crate: `.tmp` and random letters). They are made
# at the top of a cache or of a part of it, so no folder of packages is looked into.
_PATTERNS = ("uv/.tmp*", "uv/*/.tmp*", "pkgs/.tmp*", "repodata/.tmp*")
PROBE = ".refprobe-"  # by which py-rattler tries whether the file system can share what files hold


def remove_probes(prefix: Path) -> None:
    """Remove what a killed py-rattler left in an environment; to be called when nobody is at work in it.

    Raises:
        TaskFailed: one cannot be removed.

    """
    for path in prefix.glob(f"{PROBE}*"):
        remove(path)


def remove_leftovers(cache: Path) -> None:
    """Remove them; to be called with the lock of the tool's home held, when no engine of ours is at work.

    Args:
        cache: The tool's own caches. One that the user has named is other programs' too, and is left alone.

    Raises:
        TaskFailed: one cannot be removed.

    """
    for pattern in _PATTERNS:
        for path in cache.glob(pattern):
            remove(path)
