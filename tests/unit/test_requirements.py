"""A requirement that is understood without the library is understood as the library understands it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from nbprovision.facts import requirements

_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_VERSIONS = st.from_regex(r"(==[0-9]{1,3}(\.[0-9]{1,3}){0,4})?", fullmatch=True)


@given(_NAMES, _VERSIONS)
def test_simple_requirements(name: str, version: str) -> None:
    wanted, library = requirements.parse(name + version), Requirement(name + version)
    assert wanted.line == str(library)
    assert wanted.specifier == str(library.specifier)
    assert (wanted.extras, wanted.marker, wanted.url) == ((), "", None)
