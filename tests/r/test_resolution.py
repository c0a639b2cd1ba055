"""Which packages have to be installed, as a table of installed and available packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import TaskFailed
from nbprovision.r.description import Dependency, Description, descriptions, numbers, series
from nbprovision.r.installation import Owner, Package
from nbprovision.r.resolution import resolve


def offers(*texts: str) -> list[Description]:
    """Packages of a repository: ``apple 1.0`` or ``apple 1.0: pear (>= 2), R (>= 4.0)``."""
    records = []
    for text in texts:
        package, _, imports = text.partition(":")
        name, version = package.split()
        records.append(f"Package: {name}\nVersion: {version}\nImports: {imports.strip()}\n")
    return list(descriptions("\n".join(records)))


def installed(*texts: str, owner: Owner = "", built: str = "4.2.2") -> dict[str, Package]:
    packages = {}
    for description in offers(*texts):
        record = next(
            descriptions(
                f"Package: {description.name}\nVersion: {description.version}\nBuilt: R {built}; ; ; unix\n"
                f"Depends: {', '.join(f'{n.name} ({n.comparison} {n.version})' if n.version else n.name for n in description.to_load)}"
            )
        )
        packages[record.name] = Package(description=record, path=Path("/lib") / record.name, owner=owner)
    return packages


def request(text: str) -> Dependency:
    for comparison in (">=", "=="):
        if comparison in text:
            name, _, version = text.partition(comparison)
            return Dependency(name, comparison, version)
    return Dependency(text)


def solved(wanted: str, present: dict[str, Package], repository: list[Description] | None, **options: Any) -> list[str]:
    """The steps as ``name before after``."""
    steps = resolve([request(text) for text in wanted.split()], present, repository, version="4.2.2", **options)
    return [f"{step.name} {step.before or '-'} {step.source.version if step.source else '?'}" for step in steps]


@pytest.mark.parametrize(
    ("wanted", "present", "repository", "steps"),
    [
        ("apple", [], ["apple 1.0"], ["apple - 1.0"]),
        ("apple", ["apple 1.0"], ["apple 2.0"], []),
        ("apple>=1.0", ["apple 1.0"], [], []),
        ("apple>=1.10", ["apple 1.9"], ["apple 1.9", "apple 1.10"], ["apple 1.9 1.10"]),
        ("apple==1.0", ["apple 2.0"], ["apple 1.0", "apple 2.0"], ["apple 2.0 1.0"]),
        ("apple==1.0-1", ["apple 1.0.1"], [], []),
        ("apple", [], ["apple 1.0: pear", "pear 3.0"], ["pear - 3.0", "apple - 1.0"]),
        ("apple", [], ["apple 1.0: pear", "pear 3.0: plum (>= 1)", "plum 1.0"], ["plum - 1.0", "pear - 3.0", "apple - 1.0"]),
        ("apple", ["pear 1.0"], ["apple 1.0: pear (>= 2.0)", "pear 2.0"], ["pear 1.0 2.0", "apple - 1.0"]),
        ("apple", ["apple 1.0: pear"], ["pear 2.0"], ["pear - 2.0"]),
        ("apple", [], ["apple 2.0: R (>= 4.3)", "apple 1.0: R (>= 3.5)"], ["apple - 1.0"]),
        ("pear apple", [], ["apple 1.0: pear (>= 1.0)", "pear 2.0"], ["pear - 2.0", "apple - 1.0"]),
        ("apple pear==1.0", [], ["apple 1.0: pear", "pear 1.0", "pear 2.0"], ["pear - 1.0", "apple - 1.0"]),
        ("apple", [], ["apple 1.0: pear", "pear 1.0: apple"], ["pear - 1.0", "apple - 1.0"]),
    ],
)  # fmt: skip
def test_steps(wanted: str, present: list[str], repository: list[str], steps: list[str]) -> None:
    assert solved(wanted, installed(*present), offers(*repository)) == steps


def test_without_an_answer_of_a_repository_the_names_are_known() -> None:
    assert solved("apple pear", installed("pear 1.0"), None) == ["apple - ?"]
    assert solved("pear", installed("pear 1.0: plum"), None) == ["plum - ?"]


def test_the_newest_version_of_what_is_requested_alone() -> None:
    repository = offers("apple 2.0: pear", "pear 2.0")
    assert solved("apple", installed("apple 1.0: pear", "pear 1.0"), repository, latest=True) == ["apple 1.0 2.0"]
    assert solved("apple", installed("apple 2.0: pear", "pear 1.0"), repository, latest=True) == []
    assert solved("apple", installed("apple 3.0"), repository, latest=True) == []


def test_a_package_for_another_r_or_that_cannot_be_loaded_is_built_again() -> None:
    (step,) = resolve([request("apple")], installed("apple 1.0", built="4.1.3"), offers("apple 1.0"), version="4.2.2")
    assert step.reason == "built for R 4.1.3"
    (step,) = resolve(
        [request("apple")], installed("apple 1.0"), offers("apple 1.0"), version="4.2.2", broken={"apple": "no libx"}
    )
    assert step.reason == "it cannot be loaded: no libx"
    assert solved("apple", installed("apple 1.0", built="4.1.3", owner="conda"), []) == []


@pytest.mark.parametrize(
    ("wanted", "present", "owner", "repository", "message"),
    [
        ("apple", [], "", [], "no repository has the package apple"),
        ("apple==1.0", [], "", ["apple 2.0"], "it has apple 2.0; a repository of CRAN has the current version only"),
        ("apple>=3", [], "", ["apple 2.0"], "no repository has the package apple>=3"),
        ("apple", [], "", ["apple 1.0: R (>= 9.0)"], "it needs R>=9.0, and this is R 4.2.2"),
        ("apple", [], "", ["apple 1.0: pear"], "no repository has the package pear, which apple 1.0 needs"),
        ("apple pear==1.0", [], "", ["apple 1.0: pear (>= 2.0)", "pear 1.0", "pear 2.0"], "the requested packages are incompatible"),
        ("apple>=2", ["apple 1.0"], "conda", ["apple 2.0"], "conda brought it"),
        ("apple>=2", ["apple 1.0"], "conda", ["apple 2.0"], "packages: [r-apple]"),
        ("apple>=2", ["apple 1.0"], "image", ["apple 2.0"], "the platform's image brought it"),
        ("apple>=2", ["apple 1.0"], "R", ["apple 2.0"], "it is a part of R"),
        ("pear", ["apple 1.0"], "image", ["apple 2.0", "pear 1.0: apple (>= 2)"], "apple 1.0 is not replaced by another version, which pear 1.0 needs"),
    ],
)  # fmt: skip
def test_refusals(wanted: str, present: list[str], owner: Owner, repository: list[str], message: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        solved(wanted, installed(*present, owner=owner), offers(*repository))
    assert message in caught.value.text
    assert caught.value.cure


def test_a_newer_version_hides_one_in_another_library() -> None:
    assert solved("apple>=2", installed("apple 1.0", owner="another library"), offers("apple 2.0")) == ["apple - 2.0"]


def test_an_endless_chain_is_an_error() -> None:
    repository = offers(*(f"a{number} 1.0: a{number + 1}" for number in range(3000)))
    with pytest.raises(TaskFailed, match="cannot be followed"):
        solved("a0", {}, repository)


def test_records() -> None:
    text = (
        "Package: apple\nVersion: 1.0-2\nDepends: R (>= 3.5),\n  pear (>= 1.0)\nImports: plum , fig(< 3)\nLinkingTo: Rcpp\n"
        "Built: R 4.2.2; x86_64; 2023; unix\nPriority: base\n \t \n"
        "Package: ../up\nVersion: 1\n\nPackage: b2\nVersion: rm -rf\n\nnothing\n\n  continued\n\nPackage: b2\r\nVersion: 1\r\n"
    )
    apple, other = descriptions(text)
    assert apple.to_load == (
        Dependency("R", ">=", "3.5"), Dependency("pear", ">=", "1.0"), Dependency("plum"), Dependency("fig", "<", "3"),
    )  # fmt: skip
    assert apple.to_build == (*apple.to_load, Dependency("Rcpp"))
    assert (apple.built, apple.priority) == ("4.2.2", "base")
    assert (other.name, other.version) == ("b2", "1")


def test_versions_compare_as_in_r() -> None:
    assert numbers("1.10") > numbers("1.9") > numbers("1.2-3")
    assert numbers("1.2-3") == numbers("1.2.3")
    assert numbers("1.0") < numbers("1.0.0")
    assert series("4.2.2") == "4.2"
