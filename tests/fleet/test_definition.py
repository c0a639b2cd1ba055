"""The file of a fleet: each mistake has its place, and says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.fleet import definition, instances
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.model.errors import InvalidPlaybook, UsageError
from nbprovision.playbook.faults import single_faults
from tests.fleet.conftest import FLEET


def read(folder: Path, text: str) -> Fleet:
    file = folder / "fleet.yml"
    file.write_text(text)
    return definition.read(file)


def test_a_whole_file(tmp_path: Path) -> None:
    fleet = read(
        tmp_path,
        FLEET.replace("need: 2", "soak: 2h, need: 2") + "region: eu-west-1\nscript: {deadline: 120, env: {A: '1'}}\n",
    )
    assert (fleet.name, fleet.bucket, fleet.prefix, fleet.url) == (
        "fraud", "acme-notebooks", "fraud/", "s3://acme-notebooks/fraud",
    )  # fmt: skip
    assert fleet.rings == (
        Ring(name="canary", tags={"ring": "canary"}, soak=7200, need=2),
        Ring(name="early", share=0.1),
        Ring(name="stable"),
    )
    assert (fleet.stop_when.failed, fleet.stop_when.silent, fleet.restart) == (1, 1800, "never")
    assert (fleet.playbook, fleet.region, fleet.script.deadline) == (tmp_path / "team.yml", "eu-west-1", 120)


def test_a_small_file_has_defaults(tmp_path: Path) -> None:
    fleet = read(tmp_path, "fleet: a\nbucket: s3://abc\nplaybook: t.yml\nrings: [{name: all}]\n")
    assert (fleet.prefix, fleet.url, fleet.restart, fleet.rings[0].need) == ("", "s3://abc", "never", 1)


SMALL = "fleet: a\nbucket: s3://abc/x\nplaybook: t.yml\nrings: [{name: all}]\n"
WRONG = {
    "empty": ("", 1, "a fleet file is a mapping, not nothing"),
    "list": ("- a\n", 1, "a fleet file is a mapping, not a list"),
    "unknown key": (SMALL + "ring: 1\n", 5, "has no key 'ring'; did you mean 'rings'?"),
    "missing": ("fleet: a\nplaybook: t.yml\nrings: [{name: all}]\n", 1, "needs 'bucket'"),
    "name": (SMALL.replace("fleet: a", "fleet: Fraud_Team"), 1, "cannot be a name here"),
    "bucket": (SMALL.replace("s3://abc/x", "abc/x"), 2, "is not a URL of the form s3://BUCKET/PREFIX"),
    "prefix": (SMALL.replace("s3://abc/x", "'s3://abc/x y'"), 2, "the prefix 'x y' cannot be used"),
    "playbook": (SMALL.replace("t.yml", "s3://abc/t.yml"), 3, "is not a path of this machine"),
    "no rings": (SMALL.replace("[{name: all}]", "[]"), 4, "a list of rings is needed here, not a list"),
    "ring without name": (SMALL.replace("{name: all}", "{need: 1}"), 4, "a ring needs 'name'"),
    "ring's key": (SMALL.replace("{name: all}", "{name: all, soakk: 2h}"), 4, "a ring has no key 'soakk'; did you mean 'soak'?"),
    "duplicate ring": (SMALL.replace("{name: all}", "{name: b, share: 1%}, {name: b}"), 4, "the ring 'b' is a duplicate"),
    "rest in the middle": (SMALL.replace("{name: all}", "{name: b}, {name: c, share: 1%}"), 4, "and is not the last"),
    "shares": (SMALL.replace("{name: all}", "{name: b, share: 60%}, {name: c, share: 50%}"), 4, "add up to 110%"),
    "both": (SMALL.replace("{name: all}", "{name: b, share: 1%, match: {tags: {a: b}}}"), 4, "'match' or 'share', not both"),
    "share": (SMALL.replace("{name: all}", "{name: b, share: 10}"), 4, "a percentage"),
    "duration": (SMALL.replace("{name: all}", "{name: b, soak: 90}"), 4, "a duration is needed here, not '90'"),
    "duration of base 60": (SMALL.replace("{name: all}", "{name: b, soak: 1:30}"), 4, "a duration is needed here, not '1:30'"),
    "count": (SMALL.replace("{name: all}", "{name: b, need: yes}"), 4, "a whole number"),
    "failed": (SMALL + "stop_when: {failed: 0}\n", 5, "a whole number from 1"),
    "restart": (SMALL + "restart: stoped\n", 5, "'restart' cannot be 'stoped'; did you mean 'stopped'?"),
    "deadline": (SMALL + "script: {deadline: 1000}\n", 5, "a whole number from 30 to 290"),
    "variable": (SMALL + "script:\n  deadline: 100\n  env: {A B: x}\n", 7, "this variable cannot be set"),
    "variable of two lines": (SMALL + 'script: {env: {A: "x\\ny"}}\n', 5, "cannot be part of a lifecycle script"),
    "index": (SMALL + "script:\n  index_url: ftp://x\n", 6, "is not a URL"),
    "user's playbook": (SMALL + "script:\n  user_playbook: ../x\n", 6, "is not an absolute path"),
    "match": (SMALL + "match: {team: fraud}\n", 5, "match has no key 'team'"),
    "long name": (SMALL.replace("{name: all}", "{name: " + "b" * 60 + "}"), 4, "the ring's name has 60 characters"),
    "match as text": (SMALL + "match: fraud\n", 5, "match is a mapping, not text"),
    "no tags": (SMALL + "match: {tags: {}}\n", 5, "a mapping of names to texts is needed here, not a mapping"),
    "a tag that is a list": (SMALL + "match: {tags: {a: [b]}}\n", 5, "text is needed here, not a list"),
    "a tag of AWS's own": (SMALL + "match: {tags: {'aws:x': b}}\n", 5, "'aws:x: b' cannot be a tag of AWS"),
    "a template in a tag": (SMALL + "match: {tags: {a: '{{ b }}'}}\n", 5, "'a: {{ b }}' cannot be a tag of AWS"),
    "a long tag": (SMALL + "match: {tags: {a: " + "b" * 257 + "}}\n", 5, "cannot be a tag of AWS"),
    "ring as text": (SMALL.replace("{name: all}", "all"), 4, "a ring is a mapping, not text"),
    "playbook as a list": (SMALL.replace("t.yml", "[t.yml]"), 3, "text is needed here, not a list"),
    "no YAML": ("fleet: [\n", 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_has_its_place(case: str, tmp_path: Path) -> None:
    text, line, message = WRONG[case]
    with pytest.raises(InvalidPlaybook) as caught:
        read(tmp_path, text)
    fault = single_faults(caught.value)[0]
    assert fault.exit_status == 4
    assert fault.position is not None
    assert (fault.position.file, fault.position.line) == (str(tmp_path / "fleet.yml"), line)
    assert message in str(fault)


def test_all_mistakes_are_shown_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        read(tmp_path, "fleet: A\nbucket: x\nplaybok: t.yml\nrings: [{name: all, need: -1}]\n")
    assert len(single_faults(caught.value)) == 5


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleets.yml").write_text(FLEET)
    with pytest.raises(InvalidPlaybook, match=r"fleet.yml does not exist; did you mean 'fleets.yml'\?"):
        definition.read(tmp_path / "fleet.yml")


def test_an_unknown_ring_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no ring 'canari'; did you mean 'canary'"):
        read(tmp_path, FLEET).ring("canari")


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("fraud-canary-r1", ("canary", 1)), ("fraud-stable-r12", ("stable", 12)), ("fraud-canary-r0", None),
        ("fraud-canary", None), ("fraud-canary-r1-old", None), ("", None), ("fraud-other-r1", None),
        ("afraud-canary-r1", None), ("fraud-canary-r01", None),
    ],
)  # fmt: skip
def test_the_configuration_names_the_ring(configuration: str, expected: tuple[str, int] | None, tmp_path: Path) -> None:
    member = read(tmp_path, FLEET).membership(configuration)
    assert (None if member is None else (member[0].name, member[1])) == expected


@given(st.text(alphabet="abc-0", max_size=63), st.floats(0.001, 0.5), st.floats(0, 0.4))
def test_a_growing_share_takes_no_instance_back(name: str, share: float, more: float) -> None:
    """An instance that a ring has taken stays in it, or comes earlier, when shares grow."""

    def number(first: float) -> int:
        rings = (Ring(name="early", share=first), Ring(name="mid", share=0.1), Ring(name="stable"))
        fleet = Fleet(name="f", bucket="b", prefix="", playbook=Path("t"), rings=rings)
        ring = instances.ring_for(fleet, name, {})
        assert ring is not None
        return rings.index(ring)

    assert number(share + more) <= number(share)


def test_shares_are_what_they_say() -> None:
    rings = (Ring(name="early", share=0.1), Ring(name="stable"))
    fleet = Fleet(name="f", bucket="b", prefix="", playbook=Path("t"), rings=rings)
    taken = [instances.ring_for(fleet, f"instance-{number}", {}) for number in range(5000)]
    assert 400 < taken.count(rings[0]) < 600


def test_tags_decide_before_shares() -> None:
    rings = (Ring(name="canary", tags={"ring": "canary"}), Ring(name="stable"))
    fleet = Fleet(name="f", bucket="b", prefix="", playbook=Path("t"), tags={"team": "fraud"}, rings=rings)
    assert instances.ring_for(fleet, "a", {"team": "fraud", "ring": "canary"}) == rings[0]
    assert instances.ring_for(fleet, "a", {"team": "fraud"}) == rings[1]
    assert instances.ring_for(fleet, "a", {"ring": "canary"}) is None
