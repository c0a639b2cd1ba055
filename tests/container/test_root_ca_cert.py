"""`ensure_ca_cert: scope: system` on an instance: Debian's own `update-ca-certificates`, by the rendered script.

`update-ca-trust` of Amazon Linux is a stand-in, which joins the anchors: docs/promises.md.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.lifecycle.render import ScriptRequest, render
from nbprovision.lifecycle.root_part import root_part
from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels
from tests.services.certificates import certificate
from tests.support.file_server import make_authority

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

SCRIPT = "/usr/bin/env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin /var/lib/lifecycle/on-start"
PLAYBOOK = """\
- root_tasks:
    - name: The company
      ensure_ca_cert: {path: company.pem, scope: system, timeout: 20s}
  tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ANCHOR = "/usr/local/share/ca-certificates/company.crt"
STAND_IN = r"""mkdir -p /etc/pki/ca-trust/source/anchors /etc/pki/ca-trust/extracted/pem
cat >/usr/bin/update-ca-trust <<'END'
#!/bin/sh
cat /etc/pki/ca-trust/source/anchors/* >/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem 2>/dev/null || :>/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
END
chmod 755 /usr/bin/update-ca-trust
"""


def script(instance: Instance, folder: Path, text: str = PLAYBOOK) -> str:
    """The script that the administrator renders of a playbook; the user has a copy of it on the volume."""
    path = folder / "team.yml"
    path.write_text(text)
    instance.write(f"{VOLUME}/team.yml", text)
    calls = root_calls(path, assumed("notebook-instance", {}, Path("/")), Catalogue(), {})
    tool = f"{VOLUME}/wheels"
    return render(ScriptRequest(playbook=f"{VOLUME}/team.yml", tool=tool, root=root_part(calls), seconds=120))


def report(instance: Instance) -> dict[str, tuple[str, str]]:
    """Status and reason of root's tasks at their last run."""
    text = instance.run("cat", "/run/nbprovision/root.json")
    return {task["name"]: (task["status"], task["why"]) for task in json.loads(text)["tasks"]}


def again(instance: Instance, text: str = "") -> str:
    """Run the script, or another, as the platform does."""
    if text:
        instance.run("/bin/sh", "-c", "cat >/var/lib/lifecycle/on-start", user="root", stdin=text)
    return instance.shell(f"{SCRIPT} </dev/null 2>&1; echo status $?", user="root")


def is_trusted(instance: Instance, certificate: str, bundle: str = BUNDLE) -> bool:
    """Ask openssl."""
    words = ["-no-CApath", "-CAfile", bundle, certificate]
    return instance.run("openssl", "verify", *words, ok=False).endswith("OK\n")


def ran(instance: Instance) -> list[tuple[str, str]]:
    """Status and warnings of the tasks of the user's last run."""
    last = json.loads(instance.shell(f"cat {TOOL_HOME}/last-run.json"))
    return [(task["status"], " ".join(task["warnings"])) for task in last["tasks"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The administrator's folder."""
    folder = tmp_path_factory.mktemp("administrator")
    authority = make_authority(folder / "authority")
    (folder / "company.pem").write_bytes(authority.bundle.read_bytes())
    return folder


@pytest.fixture(scope="module")
def machine(new_instance: Callable[[], Instance], folder: Path) -> Instance:
    instance = new_instance().start()
    bring_wheels(instance)
    instance.write(f"{VOLUME}/server.pem", (folder / "authority/server.pem").read_text())
    assert not is_trusted(instance, f"{VOLUME}/server.pem")
    instance.hook("on-start", script(instance, folder))
    return instance.restart(seconds=280)


@pytest.fixture
def kept(machine: Instance, folder: Path) -> Instance:
    """The instance as its first start leaves it: tests run in any order."""
    machine.shell(f"rm -f {VOLUME}/company.pem {VOLUME}/evil.pem")
    again(machine, script(machine, folder))
    assert report(machine)["The company"][0] in ("ok", "changed")
    return machine


def of_root(instance: Instance) -> str:
    """The files of root's that a script could change, but for the one that names the command."""
    find = "find /etc /root /usr/local /usr/share/ca-certificates ! -type d ! -path /etc/profile.d/nbprovision.sh"
    return instance.shell(f"{find} -printf '%p %m %u %s %T@ %l\\n' | sort", user="root")


def test_the_machine_trusts_it_and_a_second_run_changes_nothing(kept: Instance, folder: Path) -> None:
    kept.shell(f"rm {ANCHOR}; update-ca-certificates", user="root")
    assert not is_trusted(kept, f"{VOLUME}/server.pem")
    again(kept)
    assert report(kept)["The company"] == ("changed", "install company.crt")
    assert is_trusted(kept, f"{VOLUME}/server.pem")
    assert kept.run("openssl", "verify", "-no-CAfile", "-CApath", "/etc/ssl/certs", f"{VOLUME}/server.pem").endswith(
        "OK\n"
    )
    assert kept.run("stat", "-c", "%U %a", ANCHOR).split() == ["root", "644"]
    first = ran(kept)[0]
    assert first[0] == "ok"
    assert "compared by its name alone" in first[1]
    before = of_root(kept)
    assert again(kept).splitlines()[-1] == "status 0"
    assert report(kept)["The company"] == ("ok", "")
    assert of_root(kept) == before


WON = 'if [ "$(/usr/bin/id -u)" = 0 ]; then /usr/bin/touch /root/won; fi'
PLANTS = {
    "programs": f"mkdir -p ~/bin ~/.local/bin {TOOL_HOME}/bin; for p in update-ca-certificates update-ca-trust openssl curl find sed run-parts python3; do for d in ~/bin ~/.local/bin {TOOL_HOME}/bin; do printf '%s\\n' '#!/bin/sh' '{WON}' >$d/$p; chmod 755 $d/$p; done; done",
    "settings": f"echo 'output = /root/won' >~/.curlrc; echo '{WON}' >~/.profile; echo 'export OPENSSL_CONF={VOLUME}/o.cnf PATH=~/bin:$PATH' >>~/.profile; echo rubbish >{VOLUME}/o.cnf",
    "another authority": f"cp {VOLUME}/evil.pem {VOLUME}/company.pem",
    "a link to the authority": f"ln -sf {VOLUME}/evil.pem {VOLUME}/company.pem",
    "the tool's folder, a link": f"mv {TOOL_HOME} {TOOL_HOME}.real; ln -s /usr/local/share/ca-certificates {TOOL_HOME}",
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_user_does_not_decide_whom_root_trusts(kept: Instance, name: str, tmp_path: Path) -> None:
    kept.write(f"{VOLUME}/evil.pem", certificate(tmp_path, "evil").read_text())
    kept.shell(PLANTS[name])
    kept.shell(f"rm -f {ANCHOR}", user="root")  # so that there is something to do
    try:
        output = again(kept)
        assert output.splitlines()[-1] == "status 0", output
        assert report(kept)["The company"] == ("changed", "install company.crt")
        assert is_trusted(kept, f"{VOLUME}/server.pem")
        assert not is_trusted(kept, f"{VOLUME}/evil.pem")
        assert kept.shell("ls -A /root/won 2>&1", user="root", ok=False).startswith("ls: cannot access")
        assert kept.run("ls", "/usr/local/share/ca-certificates") == "company.crt\n"
        if "another" in name:
            status, why = ran(kept)[0]
            assert (status, "install company.crt" in why) == ("skipped", True), "the run says that the script differs"
    finally:
        kept.shell(
            f"rm -rf ~/bin ~/.local/bin ~/.curlrc ~/.profile {TOOL_HOME}/bin {VOLUME}/company.pem; test ! -L {TOOL_HOME} || {{ rm {TOOL_HOME}; mv {TOOL_HOME}.real {TOOL_HOME}; }}"
        )


def test_a_link_in_the_place_of_the_certificate_is_not_followed(kept: Instance) -> None:
    kept.shell(f"rm {ANCHOR}; ln -s /etc/shadow {ANCHOR}", user="root")
    before = kept.shell("sha256sum /etc/shadow", user="root")
    output = again(kept)
    assert report(kept)["The company"] == ("failed", f"{ANCHOR} is a link")
    assert "status 0" in output, "the notebook starts"
    assert kept.shell("sha256sum /etc/shadow", user="root") == before
    kept.shell(f"rm {ANCHOR}", user="root")


def test_a_command_that_hangs_is_given_up(kept: Instance, folder: Path) -> None:
    hook = "/etc/ca-certificates/update.d/hang"
    kept.shell(f"printf '#!/bin/sh\\nsleep 1000\\n' >{hook}; chmod 755 {hook}; rm -f {ANCHOR}", user="root")
    output = again(kept, script(kept, folder, PLAYBOOK.replace("20s", "5s")))
    assert report(kept)["The company"][0] == "failed"
    assert "took more than 5 s" in report(kept)["The company"][1]
    assert output.splitlines()[-1] == "status 0"
    kept.shell(f"rm -f {hook}", user="root")
    again(kept)
    assert is_trusted(kept, f"{VOLUME}/server.pem")


def test_by_url_and_absent(kept: Instance, folder: Path, tmp_path: Path) -> None:
    """A real curl, of this machine's Debian, and openssl's server, whose authority the instance trusts by now."""
    data = certificate(tmp_path, "second").read_bytes()
    kept.shell("mkdir -p /srv/www", user="root")
    for name in ("server.pem", "server.key"):
        kept.write(f"/srv/www/{name}", (folder / "authority" / name).read_text(), user="root")
    kept.write("/srv/www/ca.crt", data.decode(), user="root")
    bring_curl(kept)
    kept.shell(
        "cd /srv/www && setsid openssl s_server -quiet -accept 8443 -cert server.pem -key server.key -WWW >/dev/null 2>&1 & echo $! >/srv/pid; sleep 1",
        user="root",
    )
    url = PLAYBOOK.replace(
        "path: company.pem",
        f"name: second, url: 'https://127.0.0.1:8443/ca.crt', sha256: {hashlib.sha256(data).hexdigest()}",
    )
    state = "find /usr/local/share/ca-certificates /etc/ssl/certs -printf '%p %m %u %s %T@ %l\\n' | sort"
    before = kept.shell(state)
    assert again(kept, script(kept, folder, url.replace("8443", "8444"))).splitlines()[-1] == "status 0"
    assert report(kept)["The company"][0] == "warning"
    again(kept, script(kept, folder, url.replace(hashlib.sha256(data).hexdigest(), "0" * 64)))
    assert report(kept)["The company"][0] == "failed"
    assert kept.shell(state) == before
    again(kept, script(kept, folder, url))
    assert report(kept)["The company"] == ("changed", "install second.crt")
    kept.write(f"{VOLUME}/second.pem", data.decode())
    assert is_trusted(kept, f"{VOLUME}/second.pem")
    assert ran(kept)[0][0] == "ok"
    kept.shell("kill $(cat /srv/pid)", user="root")
    again(kept)
    assert report(kept)["The company"] == ("ok", ""), "a second run fetches nothing"
    gone = PLAYBOOK.replace("path: company.pem", "name: NAME, state: absent")
    for name, path in (("second", "second.pem"), ("company", "server.pem")):
        again(kept, script(kept, folder, gone.replace("NAME", name)))
        assert report(kept)["The company"] == ("changed", f"remove {name}.crt")
        assert not is_trusted(kept, f"{VOLUME}/{path}")
        assert not kept.run(
            "openssl", "verify", "-no-CAfile", "-CApath", "/etc/ssl/certs", f"{VOLUME}/{path}", ok=False
        ).endswith("OK\n")
        again(kept)
        assert report(kept)["The company"] == ("ok", "")
    assert kept.run("ls", "/usr/local/share/ca-certificates") == ""


def bring_curl(instance: Instance) -> None:
    """Copy this machine's curl with the libraries that the instance lacks; both have the same release of Debian."""
    listed = subprocess.run(["ldd", "/usr/bin/curl"], capture_output=True, text=True, check=True).stdout
    paths = [word for word in listed.split() if word.startswith("/")]
    for path in [*paths, "/usr/bin/curl"]:
        if "cannot" in instance.shell(f"ls {path} 2>&1", ok=False):
            subprocess.run(
                ["docker", "cp", "-L", path, f"{instance.container}:{path}"], check=True, capture_output=True
            )


def test_amazon_linux(new_instance: Callable[[], Instance], folder: Path) -> None:
    """With the stand-in; the certificate is where Amazon Linux has it, and nothing of Debian's changes."""
    instance = new_instance().start()
    bring_wheels(instance)
    head, rest = script(instance, folder).split("\n", 1)
    instance.hook("on-start", f"{head}\n{STAND_IN}\n{rest}")
    instance.restart(seconds=280)
    instance.write(f"{VOLUME}/server.pem", (folder / "authority/server.pem").read_text())
    assert report(instance)["The company"] == ("changed", "install company.crt")
    assert is_trusted(instance, f"{VOLUME}/server.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
    assert not is_trusted(instance, f"{VOLUME}/server.pem")
