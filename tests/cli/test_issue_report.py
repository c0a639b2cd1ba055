"""No traceback reaches a user, but with -vvv, and then there is a report to attach to an issue, with secrets masked."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.__main__ import main
from nbprovision.cli import issue_report
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine

ROOT = Path(__file__).parents[2]
CANARY = "canary-5Rq-7781"
PLAYBOOK = """\
- vars: {password: "{{ lookup('env', 'PASSWORD') }}"}
  tasks:
    - name: a kernel
      ensure_kernel:
        name: demo
        argv: [/bin/cat, "{connection_file}"]
        environment: {URL: "https://user:{{ password }}@host/"}
"""


@pytest.fixture
def playbook(env: dict[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A playbook whose one task fails: a file stands where the folder of kernels should be."""
    for name, value in {**env, "PASSWORD": CANARY}.items():
        monkeypatch.setenv(name, value)
    blocked = home / ".local/share/jupyter"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file\n")
    path = tmp_path / "playbook.yml"
    path.write_text(PLAYBOOK)
    return path


def reports(env: dict[str, str]) -> list[Path]:
    return sorted(Path(env["NBPROVISION_HOME"], "reports").glob("*"))


@pytest.mark.parametrize("options", [[], ["-v"], ["-vv"], ["--format", "json"]])
def test_no_traceback_without_vvv(
    options: list[str], playbook: Path, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(playbook), *options]) == 2
    told = "".join(capsys.readouterr())
    assert "Not a directory" in told
    assert "Traceback" not in told
    assert CANARY not in told
    assert not reports(env)


def test_a_failed_task(playbook: Path, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(playbook), "-vvv", "-e", f"token={CANARY}2", "--tags=all"]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out
    assert "Traceback" in err
    (written,) = reports(env)
    assert str(written) in err
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    text = written.read_text()
    for part in (f"{playbook}:4:", "nbprovision: 0.", "-vvv -e 'token=****' --tags=all", "Traceback", '"task failed"'):
        assert part in text
    assert CANARY not in text + out + err


@pytest.mark.parametrize("verbose", [True, False])
def test_a_defect(
    verbose: bool,
    playbook: Path,
    env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: EnsureKernel, machine: Machine) -> None:
        raise ZeroDivisionError(f"at {CANARY}")

    monkeypatch.setattr(EnsureKernel, "read", broken)
    assert main(["run", str(playbook), *(["-vvv"] if verbose else [])]) == 1
    out, err = capsys.readouterr()
    assert "defect of nbprovision" in err
    assert CANARY not in out + err
    assert ("Traceback" in err) == verbose
    if verbose:
        (written,) = reports(env)
        assert str(written) in err
        assert "ZeroDivisionError" in written.read_text()
        assert CANARY not in written.read_text()
    else:
        assert "run with -vvv, which writes a report" in err
        assert not reports(env)


def test_the_detached_process_reports_too(playbook: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbprovision", "run", str(playbook), "-vvv", "--deadline", "300"],
        env={**env, "PASSWORD": CANARY}, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (written,) = reports(env)
    assert done.stderr.count("a report to attach") == 1
    assert str(written) in done.stderr
    assert CANARY not in done.stdout + done.stderr + written.read_text()


def test_old_reports_go(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    for number in range(issue_report.KEPT + 3):
        (tmp_path / f"reports/20200101-0000{number:02}-1.txt").touch()
    newest = issue_report.write(["run", "x.yml"], [ValueError("x")], tmp_path)
    kept = sorted((tmp_path / "reports").iterdir())
    assert len(kept) == issue_report.KEPT
    assert kept[-1] == newest


def test_variables_are_named_and_never_told(tmp_path: Path) -> None:
    argv = ["run", "-e", "a=secret1 b=secret1", "-eb=secret1", "--extra-vars=c=secret1", "--extra-vars", "@vars.yml"]
    argv += ["-e", '{"d": "secret1"}']
    text = issue_report.write(argv, [ValueError()], tmp_path).read_text()
    assert "secret1" not in text
    assert "-e 'a=****' '-eb=****' '--extra-vars=c=****' --extra-vars @vars.yml -e '****'" in text
