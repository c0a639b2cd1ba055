"""`fleet publish`, `promote` and `back`: the pointer comes last, and only a well ring hands a release on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.client
import botocore.exceptions
import pytest

from nbprovision import __version__
from nbprovision.fleet import definition
from nbprovision.fleet.bucket import Bucket, Stored
from nbprovision.fleet.cloud import Cloud
from nbprovision.lifecycle.render import BOOTSTRAP_NAME
from tests.fleet.conftest import BUCKET, FLEET, PREFIX, Team, deny

WHEEL = f"wheels/nbprovision-{__version__}-py3-none-any.whl"


def test_the_first_publication_has_everything(team: Team, tmp_path: Path) -> None:
    out = team.run("publish")
    digest = team.release()
    archive = team.content(f"releases/{digest}/release.tar")
    assert hashlib.sha256(archive).hexdigest() == digest
    assert team.objects() == sorted(
        [
            f"releases/{digest}/release.tar", "rings/canary", "scripts/canary-r1.sh", "scripts/early-r1.sh",
            "scripts/stable-r1.sh", f"wheels/{BOOTSTRAP_NAME}", WHEEL,
        ]
    )  # fmt: skip
    (tmp_path / "x.whl").write_bytes(team.content(WHEEL))
    with zipfile.ZipFile(tmp_path / "x.whl") as wheel:
        assert wheel.read("nbprovision/lifecycle/bootstrap.sh") == team.content(f"wheels/{BOOTSTRAP_NAME}")
    pointer = team.pointer("canary")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", pointer["since"])
    assert pointer["before"] == ""
    assert pointer["by"]
    assert f"rings/canary  nothing -> {digest[:12]}" in out


def test_a_ring_has_its_own_configuration(team: Team) -> None:
    team.run("publish")
    for ring in ("canary", "early", "stable"):
        answer = team.sagemaker.describe_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=f"fraud-{ring}-r1"
        )
        script = base64.b64decode(answer["OnStart"][0]["Content"])
        assert script == team.content(f"scripts/{ring}-r1.sh")
        assert f"ring:s3://acme-notebooks/fraud/rings/{ring}".encode() in script
        tags = team.sagemaker.list_tags(ResourceArn=answer["NotebookInstanceLifecycleConfigArn"])["Tags"]
        assert tags == [{"Key": "team", "Value": "fraud"}]


def test_a_second_publication_changes_nothing(team: Team) -> None:
    team.run("publish")
    before = {key: team.content(key) for key in team.objects()}
    out = team.run("publish")
    assert "nothing to do: canary points to" in out
    assert {operation.split(":")[1] for operation in team.operations} <= {"ListObjectsV2", "GetObject"}
    assert {key: team.content(key) for key in team.objects()} == before
    assert team.json("publish")["changed"] is False


def test_a_release_is_calls_of_s3_only(team: Team) -> None:
    team.run("publish")
    old = team.release()
    team.change()
    team.run("publish")
    assert {operation.split(":")[0] for operation in team.operations} == {"s3", "sts"}
    assert team.operations[-1] == "s3:PutObject"
    assert team.calls[-1][2]["Key"] == f"{PREFIX}rings/canary"
    assert team.pointer("canary")["before"] == old
    assert "rings/early" not in team.objects()


def test_check_changes_nothing(team: Team) -> None:
    out = team.run("publish", "--check")
    assert "would point" in out
    assert team.objects() == []
    document = team.json("publish", "--check")
    assert [step["action"] for step in document["steps"]] == ["upload"] * 3 + ["create"] * 3 + ["point"]
    team.run("publish")
    team.change()
    before = {key: team.content(key) for key in team.objects()}
    assert team.json("publish", "--check")["changed"]
    assert {key: team.content(key) for key in team.objects()} == before


def test_an_invalid_playbook_reaches_nobody(team: Team) -> None:
    (team.folder / "team.yml").write_text("- tasks:\n    - ensure_fil: {path: ~/x}\n")
    out = team.run("publish", status=4)
    assert f"{team.folder}/team.yml:2:7" in out
    assert team.operations == []


def test_an_invalid_fleet_file_names_its_line(team: Team) -> None:
    team.file.write_text(FLEET.replace("restart: never", "restart: nevr"))
    out = team.run("publish", status=4)
    assert f"error: {team.file}:10:10: 'restart' cannot be 'nevr'; did you mean 'never'?" in out
    assert "fix: write one of: never, stopped, all" in out


class Killed(BaseException):
    """The publisher's process ends here."""


@pytest.mark.proof
def test_a_killed_publication_leaves_nothing_half(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call is the last: a ring points to a whole release or does not point, and the next run completes it."""
    call = botocore.client.BaseClient._make_api_call
    changing = ("PutObject", "CreateNotebookInstanceLifecycleConfig")
    for last in range(20):
        for item in team.s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            team.s3.delete_object(Bucket=BUCKET, Key=item["Key"])
        for name in ("canary", "early", "stable"):
            with contextlib.suppress(botocore.exceptions.ClientError):
                team.sagemaker.delete_notebook_instance_lifecycle_config(
                    NotebookInstanceLifecycleConfigName=f"fraud-{name}-r1"
                )
        left = last

        def killed(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            nonlocal left
            if operation in changing:
                left -= 1
                if left < 0:
                    raise Killed
            return call(client, operation, parameters)

        with monkeypatch.context() as patch:
            patch.setattr(botocore.client.BaseClient, "_make_api_call", killed)
            try:
                team.run("publish")
            except Killed:
                complete = False
            else:
                complete = True
        if "rings/canary" in team.objects():
            assert complete
            assert f"releases/{team.release()}/release.tar" in team.objects()
        team.run("publish")
        assert len(team.objects()) == 7
        assert "nothing to do" in team.run("publish")
        if complete:
            assert last == 10  # three uploads, three configurations and scripts, the pointer
            return
    raise AssertionError("it never ended")


def test_a_version_of_the_tool_never_changes(team: Team) -> None:
    team.run("publish")
    team.put(f"wheels/{BOOTSTRAP_NAME}", b"#!/bin/sh\nanother\n")
    team.change()
    out = team.run("publish", status=2)
    assert "has another content than this nbprovision" in out
    assert team.pointer("canary")["before"] == ""


def test_a_wheel_that_was_compressed_otherwise_is_the_same(team: Team, tmp_path: Path) -> None:
    team.run("publish")
    with zipfile.ZipFile(tmp_path / "new.whl", "w", zipfile.ZIP_STORED) as new:
        (tmp_path / "old.whl").write_bytes(team.content(WHEEL))
        with zipfile.ZipFile(tmp_path / "old.whl") as old:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    team.put(WHEEL, (tmp_path / "new.whl").read_bytes())
    assert "nothing to do" in team.run("publish")


def interfering(team: Team, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Let another publisher do something just before this one writes its pointer."""
    point = Bucket.point

    def late(bucket: Bucket, *arguments: Any) -> None:
        monkeypatch.setattr(Bucket, "point", point)
        work()
        point(bucket, *arguments)

    monkeypatch.setattr(Bucket, "point", late)


@pytest.mark.parametrize("first", [True, False])
def test_of_two_publishers_one_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch, *, first: bool) -> None:
    """The pointer is new for both, or both replace it: the slower one learns who was faster, and changes nothing."""
    if not first:
        team.run("publish")
    team.change("of the slower one\n")
    other: dict[str, str] = {}

    def publish_another() -> None:
        team.change("of the faster one\n")
        team.run("publish")
        other.update(team.pointer("canary"))

    interfering(team, monkeypatch, publish_another)
    out = team.run("publish", status=2)
    assert "the pointer of the ring canary has changed meanwhile" in out
    assert f"{other['by']} set it to {other['release'][:12]} at {other['since']}" in out
    assert team.pointer("canary") == other
    team.change("of the slower one\n")
    team.run("publish")
    assert team.pointer("canary")["before"].split()[0] == other["release"]


def test_two_publishers_of_the_same_release_both_succeed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    interfering(team, monkeypatch, lambda: team.run("publish") and None)
    team.run("publish")
    assert len(team.objects()) == 7


def test_a_configuration_of_the_same_name_is_never_overwritten(team: Team) -> None:
    script = base64.b64encode(b"#!/bin/sh\nexit 0\n").decode()
    team.sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="fraud-canary-r1", OnStart=[{"Content": script}]
    )
    out = team.run("publish", status=2)
    assert "fraud-canary-r1 exists with another script" in out
    assert "rings/canary" not in team.objects()


def test_a_publisher_who_may_not_create_scripts(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "CreateNotebookInstanceLifecycleConfig", "DescribeNotebookInstanceLifecycleConfig")
    out = team.run("publish", status=2)
    assert "sagemaker:CreateNotebookInstanceLifecycleConfig on fraud-canary-r1 is denied" in out
    assert "`nbprovision fleet policy publisher` prints a policy with it" in out
    assert "rings/canary" not in team.objects()


def test_a_damaged_wheel_in_the_bucket_is_another_one(team: Team) -> None:
    team.run("publish")
    content = team.content(WHEEL)
    for damaged in (content[:1000], content[:2000] + b"x" * 500 + content[2500:]):
        team.put(WHEEL, damaged)
        assert "has another content than this nbprovision" in team.run("publish", status=2)


def add_canaries(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    team.add("two", "canary")


def test_a_new_script_names_the_instances_to_move(team: Team) -> None:
    add_canaries(team)
    team.file.write_text(FLEET + "script: {deadline: 100}\n")
    out = team.run("publish")
    assert "create   fraud-canary-r2" in out
    assert "one (InService): fraud-canary-r1" in out
    assert "--lifecycle-config-name" in out
    assert team.json("publish")["changed"] is False
    assert b"--deadline 96" in team.content("scripts/canary-r2.sh")
    assert b"--deadline 236" in team.content("scripts/canary-r1.sh")


def test_restart_stopped_moves_the_stopped_ones(team: Team) -> None:
    add_canaries(team)
    team.sagemaker.stop_notebook_instance(NotebookInstanceName="two")
    assert team.settle("two") == "Stopped"
    team.file.write_text(FLEET.replace("restart: never", "restart: stopped") + "script: {deadline: 100}\n")
    assert "would update   two" in team.run("publish", "--check")
    out = team.run("publish")
    assert "update   two  fraud-canary-r1 -> fraud-canary-r2" in out
    assert "one (InService): fraud-canary-r1" in out
    names = {
        item["NotebookInstanceName"]: item["NotebookInstanceLifecycleConfigName"]
        for item in team.sagemaker.list_notebook_instances()["NotebookInstances"]
    }
    assert names == {"one": "fraud-canary-r1", "two": "fraud-canary-r2"}


def test_promote_moves_the_stopped_ones_of_its_ring_and_those_before(team: Team) -> None:
    add_canaries(team)
    team.file.write_text(FLEET.replace("restart: never", "restart: stopped") + "script: {deadline: 100}\n")
    team.change()
    team.run("publish")
    for name, ring in (("three", "early"), ("four", "stable")):
        team.add(name, ring)
    for name in ("two", "three", "four"):
        team.sagemaker.stop_notebook_instance(NotebookInstanceName=name)
        team.settle(name)
    team.report("one")
    assert "and 2 are needed" in team.run("promote", status=2)
    team.report("two")
    out = team.run("promote")
    assert "update   two  fraud-canary-r1 -> fraud-canary-r2" in out
    assert "update   three  fraud-early-r1 -> fraud-early-r2" in out
    assert "four" not in out
    assert "nothing to do: early has" in team.run("promote", "early")
    team.run("promote", "--force", "x")
    assert "nothing to promote: every ring has" in team.run("promote")


def test_a_release_goes_on_when_the_ring_before_is_well(team: Team) -> None:
    add_canaries(team)
    team.report("one")
    team.report("two")
    digest = team.release()
    out = team.run("promote", "--check")
    assert f"would point    rings/early  nothing -> {digest[:12]}" in out
    assert "rings/early" not in team.objects()
    team.run("promote")
    assert team.release("early") == digest
    assert "rings/stable" not in team.objects()


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ({"one": {}}, "1 good reports of {digest} from canary, and 2 are needed"),
        ({"one": {}, "two": {"status": 2, "failures": [{"task": "t", "why": "w"}]}}, "1 of canary failed (stop_when.failed: 1): two"),
        ({"one": {}, "two": {"status": 7}}, "1 good reports"),
        ({"one": {}, "two": {"release": "b" * 64, "fallback": "the digest differs", "wanted": None}}, "1 good reports"),
        ({"one": {}, "two": {"instance": "one"}}, "1 good reports of {digest} from canary, and 2 are needed; 1 broken reports"),
        ({"one": {}, "two": {"ring": "stable"}}, "1 good reports"),
    ],
)  # fmt: skip
def test_it_stays_otherwise(team: Team, reports: dict[str, dict[str, Any]], reason: str) -> None:
    add_canaries(team)
    for name, fields in reports.items():
        team.report(name, **fields)
    out = team.run("promote", status=2)
    digest = team.release()[:12]
    assert reason.format(digest=digest) in out
    assert f"error: {digest} stays in canary, and does not go to early" in out
    assert "rings/early" not in team.objects()


def test_a_failed_instance_keeps_it(team: Team) -> None:
    add_canaries(team)
    team.report("one")
    team.report("two")
    team.add_failed("three")
    assert "1 of canary failed (stop_when.failed: 1): three" in team.run("promote", status=2)
    team.file.write_text(FLEET.replace("failed: 1", "failed: 2"))
    team.run("promote")


def test_soak_and_silence_keep_it(team: Team) -> None:
    add_canaries(team)
    team.report("one")
    team.age("two", 1860)
    team.file.write_text(FLEET.replace("need: 2", "need: 1, soak: 2h"))
    out = team.run("promote", status=2)
    assert "1 of canary silent for more than 30m (stop_when.silent): two" in out
    assert re.search(r"canary has it for \d+s, and soak is 2h", out)


def test_force_is_kept_in_the_pointer(team: Team) -> None:
    add_canaries(team)
    out = team.json("promote", "early", "--force", "the canaries are on holiday")
    assert out["forced"]
    assert team.pointer("early")["reason"] == "the canaries are on holiday"
    assert "promoted by --force: the canaries are on holiday" in team.run("status")


def test_promote_names_what_it_cannot_do(team: Team) -> None:
    assert "canary has no release yet" in team.run("promote", "early", status=2)
    assert "canary is the first ring" in team.run("promote", "canary", status=5)
    assert "did you mean 'early'?" in team.run("promote", "earli", status=5)
    add_canaries(team)
    assert "early has no release yet" in team.run("promote", "stable", status=2)
    team.run("promote", "--force", "x")
    assert "nothing to do: early has" in team.run("promote", "early")


def test_a_release_that_is_taken_back_meanwhile_goes_no_further(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    add_canaries(team)
    team.change()
    team.run("publish")
    team.report("one")
    team.report("two")
    require = Bucket.require_unchanged

    def late(bucket: Bucket, *arguments: Any) -> None:
        monkeypatch.setattr(Bucket, "require_unchanged", require)
        team.run("back")
        require(bucket, *arguments)

    monkeypatch.setattr(Bucket, "require_unchanged", late)
    out = team.run("promote", status=2)
    assert "the pointer of the ring canary has changed meanwhile" in out
    assert "rings/early" not in team.objects()


def test_the_mark_of_an_encrypted_object_is_not_its_digest(team: Team) -> None:
    """Then the content itself is compared."""
    team.run("publish")
    fleet = definition.read(team.file)
    bucket = Bucket(Cloud("us-east-1", "publisher"), fleet)
    script = team.content("scripts/canary-r1.sh")
    stored = Stored(name="scripts/canary-r1.sh", etag='"0123456789abcdef-2"', size=len(script), modified=0)
    assert bucket.has(stored, script)
    assert not bucket.has(stored, script[:-1] + b"#")
    assert not bucket.has(None, script)


def test_back_is_one_write_for_each_ring(team: Team) -> None:
    add_canaries(team)
    first = team.release()
    team.run("promote", "--force", "x")
    team.change()
    team.run("publish")
    team.run("promote", "--force", "x")
    assert team.release("early") != first
    assert "would point" in team.run("back", "--check")
    assert team.release("early") != first
    team.run("back")
    assert [operation for operation in team.operations if operation == "s3:PutObject"] == ["s3:PutObject"] * 2
    assert (team.release("canary"), team.release("early")) == (first, first)
    assert team.pointer("canary")["before"] == ""
    assert "canary, early has no earlier release" in team.run("back", status=2)


def test_back_of_one_ring(team: Team) -> None:
    add_canaries(team)
    first = team.release()
    team.change()
    team.run("publish")
    team.run("back", "canary")
    assert team.release() == first
    assert "early" in team.run("back", "early", status=2)


def test_back_warns_of_a_ring_without_an_earlier_release(team: Team) -> None:
    add_canaries(team)
    team.change()
    team.run("publish")
    team.run("promote", "--force", "x")
    assert "warning: early keeps" in team.run("back")


def test_a_damaged_pointer_is_named(team: Team) -> None:
    team.run("publish")
    team.put("rings/canary", b"<html>")
    for words in (["publish"], ["back"], ["back", "canary"], ["promote"], ["promote", "early"]):
        out = team.run(*words, status=2)
        assert "the pointer s3://acme-notebooks/fraud/rings/canary is damaged" in out
        assert "restore its last version" in out


def test_the_other_rings_are_seen_and_taken_back_beside_a_damaged_pointer(team: Team) -> None:
    add_canaries(team)
    for _ in range(2):
        team.run("publish")
        team.run("promote", "early", "--force", "x")
        team.change()
    team.put("rings/canary", b"<html>")
    status = team.run("status")
    assert re.search(r"^canary +damaged +- ", status, re.MULTILINE)
    assert "canary: the pointer s3://acme-notebooks/fraud/rings/canary is damaged" in status
    assert re.search(r"^early +[0-9a-f]{12} ", status, re.MULTILINE)
    assert "point    rings/early" in team.run("back", "early")


def root_tasks(count: int) -> str:
    tasks = "".join(
        f"    - ensure_mount: {{name: m{number}, source: 'fs-0123456789abcdef{number % 10}:/{hashlib.sha256(b'%d' % number).hexdigest()}'}}\n"
        for number in range(count)
    )  # fmt: skip
    return f"- root_tasks:\n{tasks}  tasks:\n    - ensure_file: {{path: ~/motd, src: motd}}\n"


def test_roots_part_is_in_the_script(team: Team) -> None:
    """A change of it is a new script: root obeys no release."""
    (team.folder / "team.yml").write_text(root_tasks(1))
    team.run("publish")
    assert b"NBPROVISION-END-OF-ROOT-PART" in team.content("scripts/canary-r1.sh")
    (team.folder / "team.yml").write_text(root_tasks(2))
    assert "create   fraud-canary-r2" in team.run("publish")


def test_a_large_part_of_root_lies_beside_the_wheels(team: Team) -> None:
    (team.folder / "team.yml").write_text(root_tasks(60))
    team.run("publish")
    name = next(name for name in team.objects("wheels/") if name.startswith("wheels/root-"))
    script = team.content("scripts/canary-r1.sh").decode()
    digest = hashlib.sha256(team.content(name)).hexdigest()
    assert f"s3://acme-notebooks/fraud/{name}" in script
    assert digest in script


def test_a_fleet_does_not_take_the_rings_of_another(team: Team) -> None:
    """Somebody copies a fleet file, and leaves `bucket` as it is."""
    team.run("publish")
    team.change()
    team.run("publish")
    before = team.pointer("canary")
    team.file.write_text(FLEET.replace("fleet: fraud", "fleet: risk"))
    for action in ("publish", "back", "promote"):
        out = team.run(action, *(["--force", "why not"] if action == "promote" else []), status=2)
        assert "error: s3://acme-notebooks/fraud/rings/canary is a ring of the fleet fraud, not of risk" in out
        assert "bucket: s3://acme-notebooks/risk" in out
    assert team.pointer("canary") == before


def test_commands_before_the_first_publication(team: Team) -> None:
    assert "error: nothing is published yet" in team.run("back", status=2)
    assert "error: canary has no release yet" in team.run("promote", status=2)


@pytest.mark.parametrize("reason", ["", " \n"])
def test_force_needs_a_reason(team: Team, reason: str) -> None:
    team.run("publish")
    assert "--force needs a reason" in team.run("promote", "--force", reason, status=5)
    assert "rings/early" not in team.objects()
