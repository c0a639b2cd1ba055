"""A space of Studio in the layout of its image: JupyterLab in /opt/conda, a Code Editor, sudo and apt, no systemd.

The lifecycle script runs as the user. The home survives a restart, all else is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbprovision import __version__
from nbprovision.lifecycle.render import ScriptRequest, render
from tests.container.conftest import Space
from tests.container.test_lifecycle_script import state_of
from tests.support.at_work import until
from tests.support.wheels import make_wheel

SAMPLES = Path(__file__).parents[2] / "playbooks/samples"
HOME = "/home/sagemaker-user"
TOOL_HOME = f"{HOME}/.local/state/nbprovision"
NBPROVISION = f"{TOOL_HOME}/bin/nbprovision"
ENVIRONMENT = f"{HOME}/.conda/envs/team"
PLAYBOOK = """\
- name: Team
  tasks:
    - ensure_conda_env:
        name: team
        channels: [file:///srv/channel]
        packages: [python, pip, ipykernel]
    - ensure_pip_pkg:
        env: team
        packages: ["cowsay @ file:///srv/wheels/cowsay-6.1-py3-none-any.whl"]
    - ensure_kernel:
        env: team
        display_name: Team
        environment: {GREETING: hello}
    - ensure_file:
        path: ~/space.txt
        content: "{{ nb.platform }} {{ nb.instance.domain }} {{ nb.instance.space }} {{ lookup('env', 'AWS_REGION') }}"
    - ensure_command:
        shell: sudo apt-get install -y ~/team-hello.deb
        creates: /usr/bin/team-hello
"""
CODE = "import os, sys, cowsay; print(sys.prefix, 1 + 1, os.environ['GREETING'])"
# A package that apt can install without any repository.
DEB = """
mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin
printf 'Package: team-hello\\nVersion: 1\\nArchitecture: all\\nMaintainer: a@example.org\\nDescription: a\\n' >/tmp/deb/DEBIAN/control
printf '#!/bin/sh\\necho hello from apt\\n' >/tmp/deb/usr/bin/team-hello
chmod 755 /tmp/deb/usr/bin/team-hello
dpkg-deb --root-owner-group --build /tmp/deb ~/team-hello.deb
"""


def script(payload: dict[str, str], **wanted: object) -> str:
    """A lifecycle script for Studio with these playbooks in it and the tool from the home."""
    files = {name: text.encode() for name, text in payload.items()}
    request = {"playbook": next(iter(files)), "payload": files, "tool": f"{HOME}/wheels", "platform": "studio"}
    return render(ScriptRequest(**{**request, **wanted}))  # type: ignore[arg-type]


def begun(space: Space) -> Space:
    """A first start without a script, and the wheels that a user without internet access uploads."""
    space.start()
    space.shell(f"mkdir -p {HOME}/wheels; cp /srv/wheels/*.whl /srv/tool/*.whl {HOME}/wheels/")
    return space


def result(space: Space) -> str:
    """The last line of the lifecycle script of this start."""
    (line,) = re.findall("^nbprovision: .* hook=on-start$", space.output(), re.MULTILINE)
    return str(line)


def again(space: Space) -> str:
    """Run the script once more, as the space's next start would."""
    return space.shell("sh /opt/lifecycle/on-start 2>&1")


def changed(space: Space) -> set[str]:
    """The kinds of the tasks that the last run changed."""
    last = json.loads(space.shell(f"cat {TOOL_HOME}/last-run.json"))
    return {task["task"] for task in last["tasks"] if task["status"] == "changed"}


# ------------------------------------------------------------------------------------------------------- environments


def look_at_team(space: Space) -> None:
    """The end state of the team's playbook, as Jupyter, a terminal and the system see it."""
    assert space.kernels()["team"] == "Team"
    assert space.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]
    assert space.run("team-hello") == "hello from apt\n"
    assert "nbprovision 0" in space.terminal("nbprovision --version")
    assert space.run("find", HOME, "!", "-user", "sagemaker-user", user="root") == ""


def test_a_space_is_provisioned_at_every_start(new_space: Callable[[], Space]) -> None:
    space = begun(new_space())
    space.shell(DEB)
    space.hook("on-start", script({"team.yml": PLAYBOOK}))
    space.restart()
    assert re.fullmatch(
        rf"nbprovision: done status=0 seconds=\d+\.\d changed=5 failed=0 version={__version__} hook=on-start",
        result(space),
    )
    look_at_team(space)
    assert space.shell("cat ~/space.txt") == "studio d-abcdefghijkl fraud eu-west-1"
    look_at_facts(space)

    before = state_of(space, ENVIRONMENT)
    assert " changed=0 failed=0 " in again(space)

    space.restart()
    assert result(space).startswith("nbprovision: done status=0 ")
    assert changed(space) == {"ensure_command"}, "apt's package is lost with the image's file system"
    look_at_team(space)
    assert state_of(space, ENVIRONMENT) == before

    space.hook("on-start", script({"team.yml": "- tasks: [{ensure_nothing: {}}]\n"}))
    space.restart()
    assert result(space).startswith("nbprovision: failed status=4 fallback=playbook ")
    look_at_team(space)


def look_at_facts(space: Space) -> None:
    facts: dict[str, Any] = json.loads(space.run(NBPROVISION, "facts", "--format", "json"))
    assert (facts["platform"]["kind"], facts["platform"]["volume"]) == ("studio", HOME)
    assert (facts["instance"]["domain"], facts["instance"]["space"]) == ("d-abcdefghijkl", "fraud")
    servers = {environment["name"]: environment["jupyter_server"] for environment in facts["environments"]}
    assert servers == {"base": True, "team": False}
    listed = {kernel["name"] for kernel in facts["kernels"] if not kernel["hidden_by"]}
    assert listed >= set(space.kernels())


# ------------------------------------------------------------------------------------------------------------ samples


PROXY = "http://proxy.example:3128"
HOST = "https://git.example"
# In place of AWS's own command: it knows one secret, and notes how it was called.
AWS = """\
#!/bin/sh
echo "$*" >>~/aws.log
case "$*" in *--secret-id\\ team-git*) echo '{"token": "hunter22-of-the-test"}' ;; *) exit 255 ;; esac
"""
IMPORTS: dict[str, dict[str, Any]] = {
    "disable-automatic-kernel-start.yml": {},
    "git-clone-repo.yml": {"repository": f"file://{HOME}/origin"},
    "proxy.yml": {"proxy": PROXY},
    "set-git-config.yml": {
        "author": "Ada's twin",
        "email": "ada@example.org",
        "git_host": "git.example",
        "git_user": "ada",
        "secret_id": "team-git",
        "secret_key": "token",
    },
    "install-pip-packages.yml": {"packages": ["cowsay @ file:///srv/wheels/cowsay-6.1-py3-none-any.whl"]},
    "install-extensions.yml": {
        "packages": ["team-tool @ file:///opt/lifecycle/team_tool-1.0-py3-none-any.whl"],
        "disabled": ["@team/other"],
    },
}


def with_samples(names: dict[str, dict[str, Any]]) -> str:
    """A script that plays these samples, each with its variables."""
    plays = [{"import_playbook": f"samples/{name}", "vars": values} for name, values in names.items()]
    payload = {"space.yml": json.dumps(plays)}
    payload |= {f"samples/{name}": (SAMPLES / name).read_text() for name in names}
    helper = "files/git-credential-aws-secret"
    payload[f"samples/{helper}"] = (SAMPLES / helper).read_text()
    return script(payload, executable=[f"samples/{helper}"])


def page(space: Space) -> dict[str, Any]:
    """The configuration that JupyterLab's page brings to the browser."""
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8888/jupyterlab/default/lab?token=notebook').read().decode())"
    text = space.run("/opt/conda/bin/python", "-c", fetch)
    config: dict[str, Any] = json.loads(
        re.findall(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', text, re.DOTALL)[0]
    )
    return config


def look_at_samples(space: Space) -> None:
    """The end state of all samples, as other programs see it."""
    config = page(space)
    assert config["notebookStartsKernel"] is False
    assert {"@x/y", "@team/other"} <= set(config["disabledExtensions"])
    assert [extension["name"] for extension in config["federated_extensions"]].count("@team/tool") == 1
    assert re.search(r"@team/tool v1\.0 .*enabled.*OK", space.shell("jupyter labextension list 2>&1"))

    assert space.execute("python3", "import cowsay; print(cowsay.__file__)").startswith("/opt/conda/lib/")
    shown = space.execute("python3", "import os; print(os.environ['https_proxy'], os.environ['NO_PROXY'])").split()
    assert shown == [PROXY, "169.254.169.254,169.254.170.2,localhost,127.0.0.1,.amazonaws.com"]
    assert PROXY in space.terminal("echo $https_proxy")
    assert space.shell("bash -lc 'echo $https_proxy'").strip() == PROXY

    assert space.shell("git -C ~/models rev-parse HEAD") == space.shell("git -C ~/origin rev-parse HEAD")
    assert space.shell("git config user.name; git config user.email; git config core.editor").splitlines() == [
        "Ada's twin", "ada@example.org", "nano",
    ]  # fmt: skip
    ask = "printf 'protocol=https\\nhost=%s\\n\\n' {} | GIT_TERMINAL_PROMPT=0 git credential fill 2>&1 || true"
    assert space.shell(ask.format("git.example")).splitlines()[2:] == ["username=ada", "password=hunter22-of-the-test"]
    assert "hunter22" not in space.shell(ask.format("other.example"))
    assert "hunter22" not in space.shell("cat ~/aws.log ~/.gitconfig ~/.local/bin/git-credential-aws-secret")
    assert space.run("grep", "-rl", "hunter22", TOOL_HOME, ok=False) == ""


def test_the_samples_for_jupyterlab(new_space: Callable[[], Space]) -> None:
    """At the first start, in a second run, after a restart, and after a change by hand."""
    space = begun(new_space())
    data = "team_tool-1.0.data/data/share/jupyter/labextensions/@team/tool"
    package = {"name": "@team/tool", "version": "1.0", "jupyterlab": {"_build": {"load": "static/remoteEntry.js"}}}
    files = {f"{data}/package.json": json.dumps(package), f"{data}/static/remoteEntry.js": ""}
    make_wheel(space.folder / "lifecycle", "team-tool", "1.0", files=files)
    space.shell(
        "git init -q -b main ~/origin; cd ~/origin; echo a >a; git add a;"
        "git -c user.name=a -c user.email=a@example.org commit -qm a"
    )
    space.write(f"{HOME}/.local/bin/aws", AWS)
    space.run("chmod", "755", f"{HOME}/.local/bin/aws")
    # What the user had before stays.
    space.write(f"{HOME}/.jupyter/labconfig/page_config.json", '{"disabledExtensions": {"@x/y": true}}')
    space.write(f"{HOME}/.gitconfig", "[core]\n\teditor = nano\n")
    space.hook("on-start", with_samples(IMPORTS))
    space.restart()
    assert result(space).startswith("nbprovision: done status=0 "), space.output()
    look_at_samples(space)
    assert " changed=0 failed=0 " in again(space)

    space.restart()
    assert result(space).startswith("nbprovision: done status=0 ")
    assert changed(space) == {"ensure_pip_pkg", "ensure_jupyter_extension"}, "only what lies in the image is lost"
    look_at_samples(space)

    # No script runs now, so the handler does what the user may do in Studio.
    started = space.api("status")["started"]
    space.write(f"{HOME}/proxy.yml", (SAMPLES / "proxy.yml").read_text())
    output = space.shell(f"{NBPROVISION} run ~/proxy.yml -e proxy=http://other.example:1 2>&1")
    assert re.search(r"changed: +restart_jupyter", output), output
    until(lambda: space.answers() and space.api("status")["started"] != started)
    shown = space.execute("python3", "import os; print(os.environ['https_proxy'])")
    assert shown.strip() == "http://other.example:1"


# --------------------------------------------------------------------------------------------------------- Code Editor

KEPT = f"{HOME}/sagemaker-code-editor-server-data/data"
PYTHON = f"{ENVIRONMENT}/bin/python"


def test_the_settings_of_a_code_editor(new_space: Callable[[], Space]) -> None:
    """As its server reads them after each start: the image's, the team's and the user's own, each where it counts."""
    space = new_space()
    space.app_type = "CodeEditor"
    begun(space).shell(f"rm -r {KEPT}")  # as before the first start
    space.hook(
        "on-start", with_samples({"code-editor-settings.yml": {"python": PYTHON}, "proxy.yml": {"proxy": PROXY}})
    )
    for mine in ("", "// mine\n"):
        user = f"{KEPT}/User/settings.json"
        if mine:
            space.write(user, space.shell(f"cat {user}").replace("{", "{ " + mine, 1))
        space.restart()
        assert result(space).startswith("nbprovision: done status=0 "), space.output()
        assert " changed=0 failed=0 " in again(space)
        text = space.shell(f"cat {user}")
        assert mine in text
        settings = json.loads(text.replace("// mine", ""))
        assert settings["extensions.autoUpdate"] is False
        assert settings["[python]"] == {"editor.rulers": [120]}
        machine = json.loads(space.shell(f"cat {KEPT}/Machine/settings.json"))
        assert machine["python.defaultInterpreterPath"] == PYTHON
        assert machine["python.terminal.activateEnvironment"] is False
        assert space.shell("bash -lc 'echo $https_proxy'").strip() == PROXY

    facts: dict[str, Any] = json.loads(space.run(NBPROVISION, "facts", "--format", "json"))
    assert (facts["platform"]["kind"], facts["instance"]["app_type"]) == ("studio", "CodeEditor")
    space.write(f"{HOME}/proxy.yml", (SAMPLES / "proxy.yml").read_text())
    output = space.shell(f"{NBPROVISION} run ~/proxy.yml -e proxy=http://other.example:1 2>&1")
    assert "a Code Editor space has no Jupyter server" in output
