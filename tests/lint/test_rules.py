"""Every rule of the lint: what it finds, and what it leaves in peace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lint.check import check
from nbprovision.lint.finding import all_rules
from tests.lint.script_cases import SCRIPT_CASES, Case, script
from tests.support.linting import ROOT, tasks

FRAUD = "ensure_conda_env: {name: fraud, packages: [python=3.12, ipykernel]}"
ARGV = 'argv: [/bin/cat, "{connection_file}"]'
SPACE = ("ensure_file: {path: /home/sagemaker-user/a, content: a}",)  # of which Studio has the user
CASES: dict[str, Case | list[Case]] = {
    "invalid-playbook": [
        Case("- tasks:\n\t- a\n", "\t-", tasks(FRAUD)),
        Case(tasks("ensure_kernl: {env: fraud}"), "ensure_kernl", tasks(FRAUD, "ensure_kernel: {env: fraud}")),
    ],
    "unknown-parameter": Case(
        tasks("ensure_kernel: {argvv: [a]}"), "argvv", tasks(f"ensure_kernel: {{{ARGV}, name: a}}")
    ),
    "unresolved-template": Case(
        tasks("ensure_conda_env: {name: '{{ nmae }}'}"),
        "'{{ nmae",
        "- vars: {name: fraud}\n  tasks:\n    - ensure_conda_env: {name: '{{ name }}'}\n",
    ),
    "unknown-environment": Case(
        tasks("ensure_kernel: {env: fruad}", FRAUD), "fruad}", tasks(FRAUD, "ensure_kernel: {env: fraud}")
    ),
    "no-task": [
        Case("- tasks: []\n", "tasks", tasks(FRAUD)),
        Case("- hosts: localhost\n", "hosts", "- hosts: localhost\n  pre_tasks:\n    - " + FRAUD + "\n"),
        Case(tasks(FRAUD) + "- name: later\n  tasks:\n", "name: later", tasks(FRAUD)),
        Case("- tasks: [import_tasks: more.yml]\n", "tasks: [", tasks("include_tasks: wanted.yml")),
    ],
    "unknown-noqa": Case(tasks(f"{FRAUD}  # noqa: truhty"), "truhty", tasks(f"{FRAUD}  # noqa: truthy, crlf")),
    "crlf": Case(tasks(FRAUD).replace("\n", "\r\n"), "- tasks", tasks(FRAUD)),
    "truthy": Case(
        tasks("ensure_conda_env: {name: a, exact: yes}"), "yes}", tasks("ensure_conda_env: {name: 'yes', exact: true}")
    ),
    "unquoted-number": Case(tasks("ensure_env_var: {name: A, value: 010}"), "010", tasks("ensure_env_var: {name: A, value: '010'}")),
    "braces-in-condition": Case(
        tasks(f"{{when: '{{{{ nb.gpu }}}}', {FRAUD}}}"), "'{{ nb.gpu", tasks(f"{{when: nb.gpu, {FRAUD}}}")
    ),
    "long-name": Case(
        tasks("ansible.builtin.import_tasks: more.yml"), "ansible.builtin", tasks("import_tasks: more.yml")
    ),
    "hard-coded-environment": Case(
        tasks("ensure_pip_pkg: {envs: [pytorch_p310], allow_empty: true, packages: [a]}"),
        "pytorch_p310",
        tasks("ensure_pip_pkg: {envs: [pytorch*], allow_empty: true, packages: [a]}"),
    ),
    "environment-outside-volume": [
        Case(
            tasks("ensure_conda_env: {prefix: /home/ec2-user/anaconda3/envs/fraud}"),
            "/home/ec2-user/anaconda3",
            tasks("ensure_conda_env: {prefix: /home/ec2-user/SageMaker/envs/fraud}"),
        ),
        Case(
            tasks("ensure_condarc: {envs_dirs: [/home/ec2-user/SageMaker/envs, /tmp/envs]}"),
            "/tmp/envs",
            tasks("ensure_condarc: {envs_dirs: [/home/ec2-user/SageMaker/envs]}"),
        ),
    ],
    "jupyter-server-environment": Case(
        tasks("ensure_pip_pkg: {env: JupyterSystemEnv, jupyter_server: true, packages: [a]}"),
        "JupyterSystemEnv",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a]}"),
    ),
    "kernel-without-ipykernel": Case(
        tasks("ensure_conda_env: {name: a, packages: [python]}", "ensure_kernel: {env: a, install_ipykernel: false}"),
        "false}",
        tasks(FRAUD, "ensure_kernel: {env: fraud, install_ipykernel: false}"),
    ),
    "dependency-confusion": [
        Case(
            tasks("ensure_pip_index: {url: https://pypi.team.example/simple, extra_urls: [https://pypi.org/simple]}"),
            "[https://pypi.org",
            tasks("ensure_pip_index: {url: https://a.team.example/simple, extra_urls: [https://b.team.example/simple]}"),
        ),
        Case(  # uv looks into the extra indexes first, so that this order protects from nothing
            tasks(
                "ensure_pip_index: {url: https://pypi.team.example/simple, index_strategy: first-index, "
                "extra_urls: [https://pypi.org/simple]}"
            ),
            "[https://pypi.org",
            tasks(
                "ensure_pip_index: {url: https://pypi.org/simple, index_strategy: first-index, "
                "extra_urls: [https://pypi.team.example/simple]}"
            ),
        ),
        Case(
            tasks(
                "ensure_pip_index: {url: https://pypi.org/simple, index_strategy: best-match, "
                "extra_urls: [https://pypi.team.example/simple]}"
            ),
            "[https://pypi.team",
            tasks("ensure_pip_index: {url: https://pypi.team.example/simple, index_strategy: best-match}"),
        ),
    ],
    "unchecked-index": [
        Case(
            tasks("ensure_pip_index: {url: http://pypi.team.example/simple}"),
            "http://pypi",
            tasks("ensure_pip_index: {url: http://127.0.0.1:3141/simple, trusted_hosts: [127.0.0.1]}"),
        ),
        Case(
            tasks("ensure_pip_index: {url: https://a.example/simple, trusted_hosts: [a.example]}"),
            "a.example]",
            tasks("ensure_pip_index: {url: https://a.example/simple, cert: /etc/ssl/team.pem}"),
        ),
    ],
    "defaults-channel": Case(
        tasks("ensure_conda_env: {name: a, channels: [conda-forge, defaults]}"),
        "defaults]",
        tasks("ensure_conda_env: {name: a, channels: [conda-forge]}"),
    ),
    "platform-changes": Case(
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a], allow_platform_changes: true}"),
        "true}",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a]}"),
    ),
    "unpinned-source": Case(
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: ['git+https://git.example/team/a']}"),
        "'git+",
        tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: ['git+https://git.example/team/a@v1']}"),
    ),
    "other-name": [
        Case(
            tasks("ensure_conda_env: {name: a, channels: [conda-forge], packages: [numpy, 'torch>=2']}"),
            "'torch",
            tasks("ensure_conda_env: {name: a, channels: [conda-forge], packages: [numpy, 'pytorch>=2', graphviz]}"),
        ),
        Case(
            tasks("ensure_conda_env: {name: a, packages: [sklearn]}"),
            "sklearn",
            tasks("ensure_conda_env: {name: a, channels: [team], packages: [torch]}"),
        ),
        Case(
            tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [a, opencv]}"),
            "opencv",
            tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [bs4, docker-py, 'opencv @ file:///o.whl']}"),
        ),
        Case(
            tasks("ensure_venv: {path: ./v, packages: [PIL]}"),
            "PIL",
            tasks("ensure_pip_pkg: {envs: all, allow_empty: true, packages: [sklearn], state: absent}"),
        ),
    ],
    "plain-secret": [
        Case(
            "- vars:\n    index_password: hunter22\n",
            "hunter22",
            "- vars:\n    index_password: \"{{ lookup('env', 'INDEX_PASSWORD') }}\"\n    use_token: true\n",
        ),
        Case(
            tasks("ensure_pip_index: {url: 'https://reader:hunter22@pypi.example/simple'}"),
            "'https://reader",
            tasks("ensure_pip_index: {url: \"https://reader:{{ lookup('env', 'X') }}@pypi.example/simple\"}"),
        ),
    ],
    "conflicting-tasks": [
        Case(
            tasks(f"ensure_kernel: {{name: a, {ARGV}, display_name: A}}", f"ensure_kernel: {{name: a, {ARGV}, display_name: B}}"),
            "ensure_kernel",
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"ensure_kernel: {{name: b, {ARGV}}}"),
        ),
        Case(
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"ensure_kernel: {{name: a, {ARGV}, state: absent}}"),
            "ensure_kernel",
            tasks(f"ensure_kernel: {{name: a, {ARGV}}}", f"{{when: nb.gpu and not nb.gpu, ensure_kernel: {{name: a, {ARGV}, state: absent}}}}"),
        ),
        Case(
            tasks("ensure_conda_env: {name: a, packages: [python=3.12]}", "ensure_conda_pkg: {env: a, packages: ['python<3.12']}"),
            "ensure_conda_pkg",
            tasks("ensure_conda_env: {name: a, packages: [python=3.12]}", "ensure_conda_pkg: {env: a, packages: ['python>=3.10']}"),
        ),
        Case(
            tasks(FRAUD, "ensure_pip_pkg: {env: fraud, packages: [a==1]}", "ensure_pip_pkg: {env: fraud, packages: ['a>=2']}"),
            "ensure_pip_pkg",
            tasks(FRAUD, "ensure_pip_pkg: {env: fraud, packages: [a==1]}", "ensure_pip_pkg: {env: fraud, packages: ['a>=1']}"),
        ),
        Case(
            tasks("ensure_pip_index: {url: https://a.example/simple}", "ensure_pip_index: {url: https://b.example/simple}"),
            "ensure_pip_index",
            tasks("ensure_pip_index: {url: https://a.example/simple}"),
        ),
        Case(
            tasks("ensure_env_var: {vars: {A: 1, B: 1}}", "ensure_env_var: {name: A, value: 2}"),
            "ensure_env_var",
            tasks("ensure_env_var: {vars: {A: 1, B: 1}}", "ensure_env_var: {vars: {C: 2, B: 1}}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_line: {path: /x/a, line: b}"),
            "ensure_line",
            tasks("ensure_line: {path: /x/a, line: a}", "ensure_line: {path: /x/a, line: b, state: absent}"),
        ),
        Case(
            tasks("ensure_git_config: {name: a.b, value: c}", "ensure_git_config: {name: a.b, state: absent}"),
            "ensure_git_config",
            tasks("ensure_git_config: {name: a.b, value: c}", "ensure_git_config: {name: a.d, value: e}"),
        ),
        Case(
            tasks("ensure_condarc: {channels: [a, b]}", "ensure_condarc: {channels: [b], state: absent}"),
            "ensure_condarc",
            tasks("ensure_condarc: {channels: [a, b]}", "ensure_condarc: {channels: [c], state: absent}"),
        ),
        Case(
            tasks("ensure_condarc: {ssl_verify: true}", "ensure_condarc: {ssl_verify: false}"),
            "ensure_condarc",
            tasks("ensure_condarc: {ssl_verify: true}", "ensure_condarc: {channels: [c]}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_file: {path: /x/a, content: b}"),
            "ensure_file",
            tasks("ensure_file: {path: /x/a, content: a}", "ensure_file: {path: /x/a, mode: '0600'}"),
        ),
        Case(
            tasks("ensure_file: {path: /x/a, state: directory}", "ensure_file: {path: /x/a, state: absent}"),
            "ensure_file",
            f"- tasks:\n    - block:\n        - {FRAUD}\n        - ensure_file: {{path: /x/a, content: a}}\n"
            "      rescue:\n        - ensure_file: {path: /x/a, state: absent}\n",
        ),
        Case(
            tasks("ensure_conda_env: {name: a, packages: [numpy=1]}", "ensure_pip_pkg: {env: a, packages: [numpy>=2]}"),
            "ensure_pip_pkg",
            tasks("ensure_conda_env: {name: a, packages: [numpy=1]}", "ensure_pip_pkg: {env: a, packages: [numpy<2]}"),
        ),
    ],
    "task-of-its-own": [
        Case(
            tasks("ensure_ini: {path: ~/.config/pip/pip.conf, values: {global: {index-url: x}}}"),
            "{global",
            tasks("ensure_ini: {path: ~/.config/pip/pip.conf, values: {global: {timeout: 60}}}"),
        ),
        Case(
            tasks("ensure_json: {path: ~/.jupyter/labconfig/page_config.json, values: {disabledExtensions: {x: true}}}"),
            "{disabledExtensions",
            tasks("ensure_json: {path: ~/.jupyter/labconfig/page_config.json, values: {notebookStartsKernel: false}}"),
        ),
    ],
    "unchecked-owner": Case(
        tasks("ensure_s3_sync: {source: s3://backups/a, path: work, direction: up}"),
        "s3://backups",
        tasks(
            "ensure_s3_sync: {source: s3://backups/a, path: work, direction: up, expected_owner: '123456789012'}",
            "ensure_s3_sync: {source: s3://backups/a, path: work}",
        ),
    ),
    "missing-file": Case(
        tasks(FRAUD, "ensure_pip_pkg: {env: fraud, requirements: nope.txt}"),
        "nope.txt",
        tasks(FRAUD, "ensure_pip_pkg: {env: fraud, requirements: wanted.txt}"),
    ),
    "ignored-selector": Case(
        tasks("ensure_conda_env: {name: a, file: selectors.yml}"),
        "selectors",
        tasks("ensure_conda_env: {name: a, file: plain.yml}"),
    ),
    "unused-handler": Case(
        f"- tasks:\n    - {FRAUD}\n  handlers:\n    - name: tell\n      {FRAUD}\n",
        "ensure_conda_env",
        f"- tasks:\n    - {FRAUD}\n      notify: tell\n  handlers:\n    - name: tell\n      {FRAUD}\n",
    ),
    "root-needed": [
        Case(
            tasks("ensure_command: {argv: [sudo, yum, install, jq], creates: /x}"),
            "[sudo",
            tasks("ensure_command: {argv: [echo, sudo], creates: /x}"),
        ),
        Case(
            tasks("ensure_command: {shell: 'cd x && loginctl enable-linger', creates: /x}"),
            "'cd x",
            tasks("ensure_command: {shell: 'systemctl is-active a || systemctl --user start a', creates: /x}"),
        ),
        Case(
            tasks("ensure_json: {path: /etc/x.json, values: {a: 1}}"),
            "/etc",
            "- root_tasks:\n    - ensure_json: {path: /etc/x.json, values: {a: 1}, scope: system}\n",
        ),
        Case(
            tasks("ensure_command: {argv: [systemd-run, date], creates: /x}"),
            "[systemd-run",
            tasks("ensure_command: {shell: 'rpm -q jq && mount && echo $(timedatectl)', creates: /x}"),
        ),
        Case(
            tasks("ensure_command: {shell: 'curl -fsSLo /usr/local/bin/a https://x.example/a', creates: /x}"),
            "'curl",
            tasks("ensure_command: {shell: 'cp /etc/hosts ~/hosts && echo a > /dev/null', creates: /x}"),
        ),
        Case(
            tasks("ensure_file: {path: /mnt/data, state: directory}"),
            "/mnt",
            tasks("ensure_file: {path: /mnt/data/team/a, content: a}", "ensure_file: {path: /var/tmp/a, content: a}"),
        ),
        Case(tasks("ensure_file: {path: /opt/a, content: a}"), "/opt", tasks("ensure_file: {path: /x/opt, content: a}")),
        Case(
            tasks(*SPACE, "ensure_command: {argv: [apt-get, install, jq], creates: /x}"),
            "[apt-get",
            tasks(
                *SPACE,
                "ensure_command: {shell: 'sudo apt-get install -y jq', creates: /x}",
                "ensure_file: {path: /opt/conda/etc/a, content: a}",
            ),
        ),
        Case(
            tasks(*SPACE, "ensure_command: {argv: [sudo, yum, install, jq], creates: /x}"),
            "[sudo",
            tasks(*SPACE, "ensure_command: {argv: [sudo, touch, /etc/a], creates: /x}"),
        ),
        Case(
            tasks("ensure_json: {path: /etc/docker/daemon.json, values: {a: 1}}"),
            "/etc",
            tasks("ensure_ini: {path: ~/etc/openssl.cnf, values: {a: {b: 1}}}"),
        ),
    ],
    "no-cron": Case(
        tasks("ensure_command: {shell: 'crontab -l | cat', creates: /x}"),
        "'crontab",
        tasks("ensure_command: {shell: 'echo crontab', creates: /x}"),
    ),
    "restart-at-boot": [Case(
        f"{tasks(FRAUD)}  handlers:\n    - restart_jupyter: {{at_boot: true}}\n",
        "true",
        f"{tasks(FRAUD)}  handlers:\n    - restart_jupyter: {{scope: user}}\n",
    ), Case(
        tasks("ensure_command: {shell: systemctl restart jupyter-server, creates: /x}"),
        "systemctl",
        tasks("ensure_command: {shell: systemctl --user restart team, creates: /x}"),
    )],
    "shell-words-in-argv": Case(
        tasks("ensure_command: {argv: [echo, a, '&&', ls], creates: /x}"),
        "'&&",
        tasks("ensure_command: {argv: [echo, 'a && b'], creates: /x}"),
    ),
    "unknown-platform": [Case(
        tasks("{when: nb.platform == 'notebook_instance', ensure_command: {argv: [date], creates: /x}}"),
        "nb.platform",
        tasks("{when: nb.platform == 'notebook-instance', ensure_command: {argv: [date], creates: /x}}"),
    ), Case(
        tasks("{when: \"nb.platform not in ['studio', 'laptop']\", ensure_command: {argv: [date], creates: /x}}"),
        '"nb.platform',
        tasks("{when: \"nb.platform not in ['studio', 'other']\", ensure_command: {argv: [date], creates: /x}}"),
    )],
    "command-always-runs": Case(
        tasks("ensure_command: {argv: [date], background: true}"),
        "ensure_command",
        tasks("ensure_command: {argv: [date], creates: /x}", "ensure_command: {argv: [date], once_per: boot}"),
    ),
    "unresolved-elsewhere": Case(
        tasks("{when: nb.platform == 'studio', ensure_conda_env: {name: '{{ nope }}'}}"),
        "'{{ nope",
        tasks("{when: nope is defined, ensure_conda_env: {name: '{{ nope }}'}}"),
    ),
    **SCRIPT_CASES,
}  # fmt: skip
EACH = [(name, case) for name, cases in CASES.items() for case in (cases if isinstance(cases, list) else [cases])]


def file_of(rule: str) -> str:
    return "start.sh" if rule.startswith("script-") else "p.yml"


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EACH)])
def test_a_rule_finds_what_is_bad_and_leaves_what_is_good(rule: str, case: Case, linted: Any) -> None:
    found = [one for one in linted(case.bad, file_of(rule)) if one.rule == rule]
    assert [one.position[1:] for one in found] == [case.place]
    assert found[0].message
    assert found[0].why
    assert "hunter22" not in repr(found)
    assert [one for one in linted(case.good, file_of(rule)) if one.rule == rule] == []


def test_every_rule_has_its_case() -> None:
    tested = {name for name, _ in EACH}
    assert tested == {one.name for one in all_rules()}


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EACH)])
def test_what_is_good_is_clean(rule: str, case: Case, linted: Any) -> None:
    """The good ones are examples to follow: no other rule has a word about them that would be an error."""
    assert [one for one in linted(case.good, file_of(rule)) if one.severity == "error"] == []


def test_a_comment_keeps_a_rule_quiet_in_its_line(linted: Any) -> None:
    """By name, or all of them; not what a run would refuse."""
    line = "ensure_conda_env: {name: a, exact: yes, channels: [defaults]}"
    assert {one.rule for one in linted(tasks(line))} == {"truthy", "defaults-channel"}
    assert {one.rule for one in linted(tasks(f"{line}  # noqa: truthy"))} == {"defaults-channel"}
    assert linted(tasks(f"{line}  # noqa: truthy, defaults-channel")) == []
    assert linted(tasks(f"{line}  # why not  # noqa")) == []
    assert {one.rule for one in linted(tasks(f"ensure_kernel: {{{ARGV}, name: a, nam: a}}  # noqa"))} == {
        "unknown-parameter"
    }


def test_a_word_of_yaml_where_text_is_wanted_is_told_once(linted: Any) -> None:
    """`--fix` would write `true` for what is text."""
    (found,) = linted(tasks("ensure_env_var: {name: A, value: off}"))
    assert (found.rule, found.cure, found.edits) == ("invalid-playbook", 'write it in quotes: "off"', ())


def test_all_faults_of_a_wrong_playbook_are_told_each_in_its_place(linted: Any) -> None:
    found = linted(
        tasks(
            f"ensure_kernel: {{{ARGV}, name: a, nam: a}}",
            "ensure_pip_pkg: {env: '{{ nope }}', packages: [a]}",
            "ensure_x: {}",
        )
    )
    assert [(one.rule, one.position.line) for one in found] == [
        ("unknown-parameter", 2),
        ("unresolved-template", 3),
        ("invalid-playbook", 4),
    ]


def test_rules_look_at_a_wrong_playbook_too(linted: Any) -> None:
    """As far as it can be read: one look is to tell as much as it can."""
    found = linted(
        tasks(f"ensure_kernel: {{{ARGV}, name: a, nam: a}}", "ensure_conda_env: {name: a, channels: [defaults]}")
    )
    assert {one.rule for one in found} == {"unknown-parameter", "defaults-channel"}


def test_what_is_known_only_where_it_runs_is_no_fault(linted: Any) -> None:
    """The result of a task; a task for another machine."""
    later = (
        "- tasks:\n    - ensure_file: {path: /x/a, content: a}\n      register: made\n"
        "    - ensure_conda_env: {name: later, packages: '{{ made.changes }}'}\n    - ensure_kernel: {env: later}\n"
    )
    assert linted(later) == []
    assert linted(tasks("{when: nb.platform == 'studio', ensure_kernel: {env: of_studio}}")) == []


@pytest.mark.parametrize(
    ("engine", "happens"), [("auto", "uv prefers this index"), ("pip", "pip takes the best version")]
)
def test_an_extra_index_of_a_requirements_file(linted: Any, tmp_path: Path, engine: str, happens: str) -> None:
    """What the engine does with it, which is not the same for both."""
    (tmp_path / "r.txt").write_text("--extra-index-url https://pypi.team.example/simple\na\n")
    [found] = linted(tasks(f"ensure_pip_pkg: {{env: /x, requirements: {tmp_path}/r.txt, engine: {engine}}}"))
    assert happens in found.message


MADE = "{ensure_file: {path: /x/a, content: a}, register: made}"
ASKED = "{ensure_command: {argv: [a]}, register: made, changed_when: false, failed_when: false}"
LOOPED = "{ensure_file: {path: '/x/{{ item }}', content: a}, loop: [a, b], register: made}"
COMMAND = "{ensure_command: {argv: [a]}, MORE}"

# What stands before a command and beside it, and whether it runs each time.
COMMANDS = {
    "after a change": (MADE, "when: made is changed", False),
    "after a change, with another condition": (MADE, "when: [made is changed, nb.gpu]", False),
    "after a change, by the value": (MADE, "when: made.changed", False),
    "after a change, by the key": (MADE, "when: \"made['changed']\"", False),
    "after a change, by a variable": (MADE, "when: go, vars: {go: '{{ made is changed }}'}", False),
    "after a change of one turn": (LOOPED, "when: \"made.results | selectattr('changed') | list\"", False),
    "by an answer": (ASKED, "when: made.rc != 0", False),
    "by the words of an answer": (ASKED, "when: \"'x' not in made.stdout\"", False),
    "a question": (ASKED, "register: more, changed_when: \"'x' in more.stdout\"", False),
    "where it is asked for by its tag": (MADE, "tags: [never, x]", False),
    "where nothing failed": (MADE, "when: made is not failed", True),
    "where nothing changed": (MADE, "when: made is not changed", True),
    "where nothing changed, by the value": (MADE, "when: not made.changed", True),
    "on every machine of a kind": (MADE, "when: nb.gpu or not nb.gpu", True),
    "always": (MADE, "name: x", True),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_something_keeps_from_running_is_no_false_alarm(linted: Any, name: str) -> None:
    """Whatever the words: it is worked out with what the tasks before report where nothing is to be done."""
    before, more, runs = COMMANDS[name]
    found = linted(tasks(before, COMMAND.replace("MORE", more)))
    assert [one.rule for one in found] == ["command-always-runs"] * runs


def test_a_command_of_a_rescue_is_no_false_alarm(linted: Any) -> None:
    """It runs after a failure; one of `always` does each time."""
    block = "{block: [{ensure_file: {path: /x/a, content: a}}], PART: [{ensure_command: {argv: [a]}}]}"
    assert linted(tasks(block.replace("PART", "rescue"))) == []
    assert [one.rule for one in linted(tasks(block.replace("PART", "always")))] == ["command-always-runs"]


UNDEFINED = {
    "a parameter": "{ensure_file: {path: TMP/a, content: '{{ nope }}'}}",
    "a condition": "{ensure_file: {path: TMP/a, content: x}, when: nope == 1}",
    "a loop": "{ensure_file: {path: 'TMP/{{ item }}', content: x}, loop: '{{ nope }}'}",
    "a variable": "{ensure_file: {path: TMP/a, content: '{{ a }}'}, vars: {a: '{{ nope }}'}}",
    "a variable that nobody uses": "{ensure_file: {path: TMP/a, content: x}, vars: {a: '{{ nope }}'}}",
    "a default": "{ensure_file: {path: TMP/a, content: '{{ nope | default(1) }}'}}",
    "a name": "{ensure_file: {path: TMP/a, content: x}, name: '{{ nope }}'}",
    "a variable of the environment": "{ensure_file: {path: TMP/a, content: \"{{ lookup('env', 'NOPE') }}\"}}",
    "what is judged": "{ensure_command: {argv: ['true']}, changed_when: nope}",
    "what is known late": "{ensure_file: {path: TMP/a, content: '{{ made.msg }}{{ nope }}'}, when: made is changed}",
    "what is registered later": "{ensure_file: {path: TMP/a, content: '{{ later.msg }}'}}",
    "an included file": "{include_tasks: '{{ nope }}.yml'}",
    "a rescue": "{block: [{ensure_file: {path: TMP/a, content: x}}], rescue: [{ensure_file: {path: TMP/b, content: '{{ nope }}'}}]}",
    "what is left out here": "{ensure_file: {path: TMP/a, content: '{{ nope }}'}, when: false}",
}  # fmt: skip


@pytest.mark.parametrize("name", UNDEFINED)
def test_lint_gives_the_answer_of_the_run_to_a_variable_that_is_not_defined(
    name: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same status, and where that is 4 the same place and words."""
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    made, later = "{ensure_file: {path: TMP/m, content: x}, register: MADE}".replace("TMP", str(tmp_path)), "later"
    path = tmp_path / "p.yml"
    entry = UNDEFINED[name].replace("TMP", str(tmp_path))
    path.write_text(tasks(made.replace("MADE", "made"), entry, made.replace("MADE", later)))
    said = []
    for words in (["lint", str(path)], ["run", str(path), "--check"], ["run", str(path)]):
        status = main(words)
        told = "".join(capsys.readouterr())
        match = re.search(r"p\.yml:\d+:\d+: (?:error: )?(?P<words>.* is not (?:defined|set))", told) if status else None
        said.append((status, match and match.group().replace("error: ", "")))
    assert said[0] == said[1] == said[2]
    assert said[0][0] == (0 if name in ("a default", "a variable that nobody uses", "what is left out here") else 4)


def test_the_page_tells_of_every_rule() -> None:
    """``python -m tests.lint.test_rules`` writes it anew."""
    assert PAGE.read_text() == page()


PAGE = ROOT / "docs" / "lint.md"
BEGIN, END = "<!-- made by: python -m tests.lint.test_rules -->\n", "<!-- end -->\n"


def page() -> str:
    """The page with its rules as they are defined."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    parts = []
    for about, title in (("playbook", "Rules about playbooks"), ("script", "Rules about lifecycle scripts")):
        rows = [
            f"| `{one.name}` | {one.severity} | {'yes' if one.fixes else ''} | {one.finds} | {one.why} |"
            for one in all_rules()
            if one.about == about
        ]
        parts += ["", f"## {title}", "", "| rule | | `--fix` | finds | why |", "|---|---|---|---|---|", *rows]
    return head + BEGIN + "\n".join(parts) + "\n\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(page())


def test_a_module_of_ansible_by_its_long_name_has_one_fix(linted: Any) -> None:
    """The task that replaces it is the fix; the short name is as unknown as the long one."""
    [finding] = linted(tasks("ansible.builtin.pip: {name: flask}"))
    assert "ensure_pip_pkg" in finding.cure


def test_an_entry_after_a_template_has_its_own_position(linted: Any) -> None:
    """In a playbook with faults, parameters are not evaluated."""
    text = tasks("ensure_conda_env: {name: a, channels: ['{{ channel }}', defaults]}")
    [finding] = [finding for finding in linted(text) if finding.rule == "defaults-channel"]
    assert finding.position.column == text.splitlines()[1].index("defaults") + 1


@pytest.mark.parametrize("platform", ["notebook-instance", "studio"])
def test_what_relies_on_cron_has_a_task_in_its_place(linted: Any, platform: str) -> None:
    """It names a task that does it, not a service that the user would have to write."""
    playbook = tasks("ensure_command: {shell: 'crontab -l | cat', creates: /x}", "cron: {name: x, job: y}")
    if platform == "studio":
        playbook = playbook.replace("- tasks:", "- tasks:\n    - ensure_file: {path: /home/sagemaker-user/a}", 1)
    lines = script("(crontab -l; echo '0 * * * * /home/ec2-user/a.sh') | crontab -")
    findings = [*linted(playbook), *linted(lines, "start.sh")]
    rules = ("no-cron", "script-cron", "script-root-runs-user-files")
    cures = {finding.rule: finding.cure for finding in findings if finding.rule in rules}
    assert set(cures) == set(rules)
    for cure in (*cures.values(), *(finding.cure for finding in findings if "cron" in finding.message)):
        assert "ensure_schedule" in cure
        assert "systemd-run" not in cure


def test_the_folder_of_a_mount_has_the_same_fix_in_each_command(linted: Any) -> None:
    """A user who makes the folder by `sudo -u ec2-user` would still have root mount on it."""
    folder = "/home/ec2-user/SageMaker/efs"
    text = script(f"mkdir -p {folder}", f"mount -t nfs4 fs.example:/ {folder}", f"chmod go+rw {folder}")
    fixes = {finding.cure for finding in linted(text, "start.sh") if finding.rule == "script-root-in-home"}
    assert len(fixes) == 1
    assert "/mnt/NAME" in fixes.pop()


def test_the_shell_line_below_others_is_to_be_moved(linted: Any) -> None:
    """As in AWS's samples that begin with a comment: to the kernel it is a comment too."""
    [finding] = [finding for finding in linted("# a\n\n#!/bin/bash\necho\n", "start.sh") if "shebang" in finding.rule]
    assert (finding.severity, finding.cure) == ("warning", "move line 3 to the top")


def test_a_loop_without_an_entry_has_no_undefined_item(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text(
        "- vars: {files: []}\n  tasks:\n    - ensure_file: {path: '{{ item }}'}\n      loop: '{{ files }}'\n"
    )
    machine = assumed("notebook-instance", env, tmp_path)
    assert check(path, machine, Catalogue(), {}) == []
