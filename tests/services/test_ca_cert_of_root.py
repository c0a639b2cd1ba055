"""`ensure_ca_cert: scope: system`: root's part of the script, and the comparison of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli import main
from nbprovision.engine.session import Request, Session
from nbprovision.lifecycle.render import MAX_BYTES, ScriptRequest, render
from nbprovision.lifecycle.root_part import RootPart, root_part
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.playbook.read import read_playbook
from nbprovision.report.document import Silent
from nbprovision.root import ca_cert
from nbprovision.services.ensure_ca_cert import EnsureCaCert
from tests.root.test_ca_cert import System
from tests.services.certificates import certificate

PLAYBOOK = "- root_tasks:\n    - ensure_ca_cert: {path: company-ca.pem, scope: system}\n"


def part(folder: Path, text: str = PLAYBOOK) -> RootPart:
    path = folder / "playbook.yml"
    path.write_text(text)
    (play,) = read_playbook(path, Catalogue(), {}, {"platform": "notebook-instance"}, env={}).plays
    made = root_part(play.root_calls)
    assert made is not None
    return made


def test_the_command_renders_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the playbook is a relative path, and where the folder has the program's file."""
    data = certificate(tmp_path, "company-ca", rsa=True)
    data.write_text(data.read_text() * 9 + certificate(tmp_path, "other", rsa=True).read_text())
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    options = ["--tool", "s3://team-bucket/nbprovision", "--root-tasks", str(tmp_path / "playbook.yml")]
    render_command = ["lifecycle", "render", "s3://team-bucket/playbook.yml", *options]
    assert main(render_command) == 5
    assert "--assets" in capsys.readouterr().err
    assets = ["--assets", str(tmp_path / "out"), "--assets-url", "s3://team-bucket/nbprovision"]
    assert main([*render_command, *assets]) == 0
    (program,) = (tmp_path / "out").glob("root-*")
    assert program.read_text().count("BEGIN CERTIFICATE") == 2, "the same certificate counts once"
    assert program.name.removeprefix("root-") in capsys.readouterr().out
    data.unlink()
    assert main(render_command) == 4
    assert f"{data} does not exist" in capsys.readouterr().err


def result(folder: Path, machine: Machine) -> tuple[str, tuple[str, ...]]:
    session = Session(Request(playbook=folder / "playbook.yml"), machine, Catalogue())
    (done,), _ = session.perform(Silent(), lambda _text: None)
    assert done.error is None
    return done.status, done.warnings


def test_the_certificate_is_part_of_a_script_that_fits(tmp_path: Path) -> None:
    data = certificate(tmp_path, "company-ca", rsa=True).read_bytes()
    made = part(tmp_path)
    for wheels in ("/home/ec2-user/SageMaker/wheels", "s3://team-bucket/nbprovision"):
        script = render(
            ScriptRequest(playbook="s3://team-bucket/books/team.yml", tool=wheels, root=made),
        )
        assert len(script) <= MAX_BYTES, "it stands in the script itself"
    assert data.decode().splitlines()[1] in made.content.decode()
    assert part(tmp_path) == made, "reproducible"


def test_a_file_that_is_missing_or_has_a_key_is_refused_where_the_script_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook, match="does not exist"):
        part(tmp_path)
    path = certificate(tmp_path, "company-ca")
    path.write_text(path.read_text() + path.with_suffix(".key").read_text())
    with pytest.raises(TaskFailed, match="not the certificate of an authority") as caught:
        part(tmp_path)
    assert path.with_suffix(".key").read_text().splitlines()[1] not in caught.value.text


def test_it_stands_where_its_scope_belongs(tmp_path: Path) -> None:
    for text in (PLAYBOOK.replace("root_tasks", "tasks"), PLAYBOOK.replace(", scope: system", "")):
        (tmp_path / "playbook.yml").write_text(text)
        with pytest.raises(InvalidPlaybook, match="root_tasks"):
            read_playbook(tmp_path / "playbook.yml", Catalogue(), {}, {}, env={})


@pytest.mark.parametrize("name", ["debian", "amazon"])
def test_a_run_compares(name: str, env: dict[str, str], tmp_path: Path) -> None:
    system = System(tmp_path / "root", name)
    machine = lambda: Machine(env, root=system.folder)  # noqa: E731
    path = certificate(tmp_path, "company-ca")
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    status, warnings = result(tmp_path, machine())
    assert (status, warnings[1:]) == ("skipped", ("the certificate company-ca: install company-ca.crt",))
    wanted = EnsureCaCert(path=str(path), scope="system").wanted()
    for file, text in ca_cert._texts(dict(wanted)).items():
        (system.anchors / file).write_text(text)
    status, warnings = result(tmp_path, machine())
    assert (status, warnings[1:]) == (
        "skipped",
        (f"the certificate company-ca: update /{system.bundle.relative_to(system.folder)}",),
    )
    system.update()
    assert result(tmp_path, machine()) == ("ok", ())
    assert result(tmp_path, machine()) == ("ok", ())
    path.write_bytes(certificate(tmp_path / "new", "company-ca").read_bytes())
    assert result(tmp_path, machine())[0] == "skipped"
    path.unlink()
    status, warnings = result(tmp_path, machine())
    assert status == "ok"
    assert "compared by its name alone" in warnings[0]
    (system.anchors / "company-ca.crt").unlink()
    assert result(tmp_path, machine())[0] == "skipped"


def test_a_machine_that_cannot_be_compared_fails_nothing(machine: Machine, tmp_path: Path) -> None:
    certificate(tmp_path, "company-ca")
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    status, warnings = result(tmp_path, machine)
    assert status == "skipped"
    assert "ca-certificates is not installed" in " ".join(warnings)
