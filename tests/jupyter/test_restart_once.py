"""`restart_jupyter` has nothing to do where the server has started since the change; and in Studio, it restarts it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.notices import Notice, Notices, path_of
from nbprovision.engine.session import Request, Session
from nbprovision.jupyter.restart_jupyter import RestartJupyter
from nbprovision.jupyter.server import server_prefix
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import PHASE
from nbprovision.model.errors import TaskFailed
from nbprovision.report.document import Silent
from tests.support.at_work import until
from tests.support.jupyter_server import OPTIONS, Server, server_environment

__all__ = ["server_environment"]
PLAYBOOK = """\
- tasks:
    - ensure_env_var: {where: server, name: FRUIT, value: VALUE}
      notify: restart_jupyter
"""
SHOWN = "LoadState=%s\\nActiveState=%s\\nActiveEnterTimestampMonotonic=%d\\n"


class User:
    """Runs the playbook in this process."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.playbook = folder / "p.yml"
        self.write("pear")
        self.pending = path_of(machine.home, str(self.playbook))

    def write(self, value: str) -> None:
        self.playbook.write_text(PLAYBOOK.replace("VALUE", value))

    def run(self) -> list[str]:
        """The status of each task that ran, with its warnings or its error."""
        fresh = Machine(self.machine.env, home=self.machine.home, root=self.machine.root)
        results, _ = Session(Request(playbook=self.playbook), fresh, Catalogue()).perform(Silent(), lambda _: None)
        texts = [result.error.message if result.error else "; ".join(result.warnings) for result in results]
        return [f"{result.status} {text}".strip() for result, text in zip(results, texts, strict=True)]


@pytest.fixture
def user(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user without root, on whose PATH is nothing that manages services."""
    programs = tmp_path / "programs"
    programs.mkdir()
    machine.env["PATH"] = str(programs)
    monkeypatch.setattr("nbprovision.jupyter.restart_jupyter._started_process", lambda: None)
    return User(machine, tmp_path)


def systemctl(tmp_path: Path, load: str, active: str, entered: float) -> None:
    """A stand-in that says when the unit was started."""
    program = tmp_path / "programs/systemctl"
    program.write_text(f"#!/bin/sh\nprintf '{SHOWN % (load, active, entered * 1e6)}'\n")
    program.chmod(0o755)


NEEDS_ROOT = "failed restarting jupyter-server.service needs root"
DONE = "ok Jupyter has started since the change, so it is not restarted again"


def test_a_restart_by_hand_ends_the_notice(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then each run fails, and says what to type."""
    monkeypatch.setattr("nbprovision.jupyter.restart_jupyter.os.geteuid", lambda: 1000)
    systemctl(tmp_path, "loaded", "active", time.monotonic() - 100)
    assert user.run() == ["changed", NEEDS_ROOT]
    assert user.run() == ["ok", NEEDS_ROOT]
    assert user.pending.exists()
    systemctl(tmp_path, "loaded", "active", time.monotonic() + 5)
    assert user.run() == ["ok", DONE]
    assert not user.pending.exists()
    assert user.run() == ["ok"]


def test_a_new_change_needs_a_new_restart(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbprovision.jupyter.restart_jupyter.os.geteuid", lambda: 1000)
    systemctl(tmp_path, "loaded", "active", time.monotonic() - 100)
    user.run()
    systemctl(tmp_path, "loaded", "active", time.monotonic())  # a restart between the two changes
    user.write("plum")
    assert user.run() == ["changed", NEEDS_ROOT]


def test_a_service_that_does_not_run_needs_no_restart(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbprovision.jupyter.restart_jupyter.os.geteuid", lambda: 1000)
    systemctl(tmp_path, "loaded", "inactive", 0)
    (_, handler) = user.run()
    assert handler.startswith("ok nothing is restarted: jupyter-server.service does not run")
    assert not user.pending.exists()


def test_a_process_counts_where_no_service_does(machine: Machine, tmp_path: Path) -> None:
    """A real process with the name of the server's; another one proves nothing."""
    machine.env["PATH"] = str(tmp_path)
    user = User(machine, tmp_path)
    program = tmp_path / "jupyter-lab"
    program.write_text("#!/bin/sh\nsleep 600; exit\n")
    program.chmod(0o755)
    first = "failed Jupyter cannot be restarted from here"
    processes = []
    try:
        processes.append(subprocess.Popen([program], start_new_session=True))
        time.sleep(1.5)  # the time that two clocks may differ
        assert user.run() == ["changed", first]
        os.killpg(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        time.sleep(1.5)
        processes.append(subprocess.Popen([program], start_new_session=True))
        if any(_is_another(path, program) for path in Path("/proc").glob("[0-9]*/cmdline")):
            pytest.skip("another Jupyter server of this user runs, and may be older")
        assert user.run() == ["ok", DONE]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_another(cmdline: Path, program: Path) -> bool:
    with contextlib.suppress(OSError):
        words = cmdline.read_bytes().split(b"\0")[:4]
        return b"jupyter-" in b" ".join(words) and os.fsencode(program) not in words
    return False


def test_a_notice_is_the_same_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "pending/x.json"
    notices = Notices(path)
    (first,) = notices.add([Notice("play", "handler", "task")])
    assert first == Notice("play", "handler", "task")
    assert notices.add([Notice("play", "handler", "task")]) == []
    (later,) = Notices(path).waiting("play")
    assert later.when >= first.when > 0
    notices.remove([first])
    assert not path.exists()


def test_a_notice_of_an_older_version_has_the_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"play": "play", "handler": "handler", "task": "task"}]')
    os.utime(path, (1000, 1000))
    (notice,) = Notices(path).waiting("play")
    assert notice.when == 1000


# ------------------------------------------------------------------------------------------------------------- Studio


@pytest.fixture
def studio(machine: Machine, tmp_path: Path) -> Machine:
    """A JupyterLab space as the image lays it out; its programs are stand-ins."""
    metadata = machine.root / "opt/ml/metadata"
    metadata.mkdir(parents=True)
    describe(machine, "JupyterLab")
    for program in ("opt/conda/bin/jupyter-lab", "opt/conda/bin/supervisorctl", "usr/local/bin/restart-jupyter-server"):
        path = machine.root / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {path.name} >> {tmp_path}/called\n")
        path.chmod(0o755)
    (machine.root / "opt/conda/conda-meta").mkdir()
    folder = machine.root / "var/run/supervisord"
    folder.mkdir(parents=True)
    (folder / "supervisor.sock").touch()
    machine.env["PATH"] = "/usr/bin:/bin"
    return machine


def describe(machine: Machine, kind: str) -> None:
    content = {
        "AppType": kind,
        "DomainId": "d-1",
        "SpaceName": "fraud",
        "ResourceArn": "arn:x",
        "ResourceName": "default",
    }
    (machine.root / "opt/ml/metadata/resource-metadata.json").write_text(json.dumps(content))


def restart(machine: Machine) -> tuple[str, ...]:
    task = RestartJupyter()
    plan = task.plan(task.read(machine))
    if plan:
        task.apply(plan, machine)
    return plan.warnings


def test_the_server_of_studio_is_in_its_base(studio: Machine) -> None:
    """A lifecycle script's PATH does not lead there."""
    assert server_prefix(studio) == studio.root / "opt/conda"


def test_in_studio_the_images_own_command_is_used(studio: Machine, tmp_path: Path) -> None:
    assert restart(studio) == ()
    assert (tmp_path / "called").read_text() == "restart-jupyter-server\n"


def test_a_code_editor_has_no_jupyter(studio: Machine, tmp_path: Path) -> None:
    describe(studio, "CodeEditor")
    assert restart(studio) == ("nothing is restarted: a Code Editor space has no Jupyter server",)
    assert not (tmp_path / "called").exists()


def test_a_lifecycle_script_of_studio_restarts_nothing(studio: Machine, tmp_path: Path) -> None:
    studio.env[PHASE] = "on-start"
    (note,) = restart(studio)
    assert "it starts after the script" in note
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("missing", "cause"),
    [
        ("usr/local/bin/restart-jupyter-server", "this image has no restart-jupyter-server"),
        ("opt/conda/bin/supervisorctl", "supervisorctl is not on the PATH"),
        ("var/run/supervisord/supervisor.sock", "no supervisord manages the server"),
    ],
)
def test_what_cannot_work_is_not_called_done(studio: Machine, tmp_path: Path, missing: str, cause: str) -> None:
    """The image's command succeeds whatever comes of it."""
    (studio.root / missing).unlink()
    if missing.endswith("ctl") and shutil.which("supervisorctl", path=studio.env["PATH"]):
        pytest.skip("this machine has one")
    with pytest.raises(TaskFailed, match="cannot be restarted from here") as caught:
        restart(studio)
    assert caught.value.cause == cause
    assert "stop and run the space" in caught.value.cure
    assert not (tmp_path / "called").exists()


SUPERVISED = """\
[supervisord]
nodaemon=true
pidfile={folder}/supervisord.pid
logfile=/dev/null
logfile_maxbytes=0
[unix_http_server]
file={socket}
chmod=0700
[supervisorctl]
serverurl=unix://{socket}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:jupyterlabserver]
directory={home}
command={server} {options}
stopasgroup=true
stdout_logfile=/dev/null
stderr_logfile=/dev/null
"""
# As in the image, but for the place of the configuration.
RESTART = """\
#!/bin/bash
set -e
echo "Restarting now..."
nohup supervisorctl -c {folder}/supervisord.conf restart jupyterlabserver > /dev/null 2>&1 &
"""


@pytest.fixture
def supervised(
    studio: Machine, server_environment: Path, home: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A real Jupyter server under a real supervisor, as in the image."""
    conda = studio.root / "opt/conda/bin"
    shutil.rmtree(conda)
    conda.symlink_to(server_environment / "bin")
    path = Path("/tmp") / f"nbprovision-{os.getpid()}.sock"  # a longer path than 107 bytes is no socket's
    place = studio.root / "var/run/supervisord/supervisor.sock"
    place.unlink()
    place.symlink_to(path)
    text = SUPERVISED.format(
        folder=tmp_path, socket=path, home=home, server=conda / "jupyter-server", options=" ".join(OPTIONS)
    )
    (tmp_path / "supervisord.conf").write_text(text)
    script = studio.root / "usr/local/bin/restart-jupyter-server"
    script.write_text(RESTART.format(folder=tmp_path))
    env = {"HOME": str(home), "PATH": f"{conda}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    argv = [conda / "supervisord", "-c", tmp_path / "supervisord.conf", "-n"]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    yield process
    process.terminate()
    process.wait(60)
    path.unlink(missing_ok=True)


def _server_of(home: Path, but: int = 0) -> Server:
    """The running server; not the one with the process ``but``."""
    pids: list[int] = []

    def look() -> list[int]:
        records = (home / ".local/share/jupyter/runtime").glob("jpserver-*.json")
        pids[:] = [int(json.loads(record.read_text())["pid"]) for record in records]
        pids[:] = [pid for pid in pids if pid != but and Path(f"/proc/{pid}").exists()]
        return pids

    until(look)
    return Server(home, pids[0])


@pytest.mark.network
@pytest.mark.kernel
def test_a_variable_reaches_the_images_kernel_in_studio(
    studio: Machine, supervised: subprocess.Popen[bytes], home: Path, tmp_path: Path
) -> None:
    """Change, restart by the real supervisor, and a second run with nothing to do."""
    before = _server_of(home)
    time.sleep(1.5)
    user = User(studio, tmp_path)
    assert user.run() == ["changed", "changed"]
    after = _server_of(home, but=before.pid)
    assert after.kernel("python3")["FRUIT"] == "pear"
    assert user.run() == ["ok"]
    assert not user.pending.exists()
