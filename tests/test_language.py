"""The English of the project: what reads as if translated may only become rarer (docs/contributing.md, "Habits").

``python -m tests.test_language`` writes the counts again after some have fallen.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COUNTS = ROOT / "tests/data/language.json"
PATTERNS = {
    "anew": r"\banew\b",
    "is no X": r"\b(?:is|are|was|were) no (?!longer\b|more\b|one\b)",
    "tell, told": r"\b(?:tells?|told)\b",
    "that is there": r"\bthat (?:is|are) (?:not )?there\b",
    "who, what, of, without or where at the beginning": r"(?:^|[.!?] )(?:Who|What|Of|Without|Where) ",
    "a lock that is had": r"\b(?:is|was|were|be|not) had\b",
}
NAMES = frozenset(["one", "found", "told", "there", "asked", "known"])


def texts(place: str) -> str:
    """What stands in a place for people to read: of code its comments, docstrings and messages."""
    if place != "nbprovision":
        paths = [ROOT / place] if place.endswith(".md") else sorted((ROOT / place).glob("*.md"))
        return "\n".join(re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE) for path in paths)
    return "\n".join(path.read_text() for path in sorted((ROOT / place).rglob("*.py")))


def counted() -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for place in ("README.md", "docs", "nbprovision"):
        text = texts(place)
        counts[place] = {name: len(re.findall(pattern, text, re.MULTILINE)) for name, pattern in PATTERNS.items()}
    counts["names of variables"] = dict(sorted(variables().items()))
    return counts


def variables() -> Counter[str]:
    """How often each name of `NAMES` is given a value."""
    names: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
    for path in (ROOT / "nbprovision").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NAMES:
                names[node.id] += 1
    return names


@pytest.mark.parametrize("place", ["README.md", "docs", "nbprovision", "names of variables"])
def test_patterns_of_translated_english_become_rarer(place: str) -> None:
    allowed = json.loads(COUNTS.read_text())[place]
    more = {name: (count, allowed[name]) for name, count in counted()[place].items() if count > allowed[name]}
    assert more == {}, f"more than before in {place}: say it in plain English"


if __name__ == "__main__":
    COUNTS.write_text(json.dumps(counted(), indent=1) + "\n")
