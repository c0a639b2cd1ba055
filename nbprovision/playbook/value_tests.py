"""Ansible's tests (the words after ``is``) that Jinja2 lacks.

Names and meaning: https://docs.ansible.com/ansible/latest/collections/ansible/builtin/index.html#test-plugins
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import patterns, versions
from nbprovision.playbook.filters import boolean

if TYPE_CHECKING:
    from nbprovision.playbook.outside import Outside

Test = Callable[..., bool]


def tests(outside: Outside) -> dict[str, Test]:
    """Return the supported tests of Ansible, by name.

    Args:
        outside: The machine, for tests that read it.

    """

    def exists(path: Any) -> bool:
        return outside.status(outside.path(path)) is not None

    def link_exists(path: Any) -> bool:
        return outside.status(outside.path(path), follow=False) is not None

    def is_kind(kind: Callable[[int], bool], *, follow: bool = True) -> Test:
        def test(path: Any) -> bool:
            status = outside.status(outside.path(path), follow=follow)
            return status is not None and kind(status.st_mode)

        return test

    def same_file(path: Any, other: Any) -> bool:
        first, second = outside.status(outside.path(path)), outside.status(outside.path(other))
        return first is not None and second is not None and os.path.samestat(first, second)

    return _PURE | {
        "directory": is_kind(stat.S_ISDIR),
        "exists": exists,
        "file": is_kind(stat.S_ISREG),
        "link": is_kind(stat.S_ISLNK, follow=False),
        "link_exists": link_exists,
        "same_file": same_file,
    }


def _of_result(name: str) -> Test:
    """A test of what ``register`` keeps of a task."""

    def test(result: Any) -> bool:
        if not isinstance(result, Mapping):
            raise InvalidPlaybook(
                "the test needs the result of a task", cure="name the variable that `register` gives the result to"
            )
        return bool(result.get(name, False))

    return test


def _succeeded(result: Any) -> bool:
    return not _of_result("failed")(result)


def _contains(container: Any, value: Any) -> bool:
    return value in container


def _subset(value: Any, other: Any) -> bool:
    return all(entry in other for entry in value)


def _superset(value: Any, other: Any) -> bool:
    return all(entry in value for entry in other)


def _truthy(value: Any, convert_bool: bool = False) -> bool:
    return boolean(value) if convert_bool and isinstance(value, str) else bool(value)


def _falsy(value: Any, convert_bool: bool = False) -> bool:
    return not _truthy(value, convert_bool)


def _url(value: Any, schemes: Any = None) -> bool:
    try:
        parts = urlsplit(str(value))
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) and (schemes is None or parts.scheme in schemes)


_PURE: dict[str, Test] = {
    **dict.fromkeys(("abs", "is_abs"), lambda path: os.path.isabs(str(path))),
    "all": all,
    "any": any,
    **dict.fromkeys(("change", "changed"), _of_result("changed")),
    "contains": _contains,
    **dict.fromkeys(("failed", "failure"), _of_result("failed")),
    "falsy": _falsy,
    **dict.fromkeys(("issubset", "subset"), _subset),
    **dict.fromkeys(("issuperset", "superset"), _superset),
    "match": patterns.matches,
    **dict.fromkeys(("nan", "isnan"), lambda value: isinstance(value, float) and math.isnan(value)),
    "regex": patterns.is_like,
    "search": patterns.is_in,
    **dict.fromkeys(("skip", "skipped"), _of_result("skipped")),
    **dict.fromkeys(("succeeded", "success", "successful"), _succeeded),
    "truthy": _truthy,
    "url": _url,
    **dict.fromkeys(("version", "version_compare"), versions.compare),
}
