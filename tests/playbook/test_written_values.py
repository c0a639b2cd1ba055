"""Values are what was written: numbers that YAML 1.1 changes, as text and through variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.conda import environment_file
from nbprovision.lifecycle.playbook import handed_on
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.extra_vars import parse_extra_vars
from nbprovision.playbook.read import read_playbook
from nbprovision.playbook.written import FormLost
from tests.support.linting import linted

assert linted  # a fixture

LOSSY = ("010", "12:30", "3.10", "1_0", "0x1F", "0b11", "1:30:00.5", "1.0e+3", ".5", "+5", "-017", "1_000.5", ".inf")
PLAIN = ("8", "0", "-3", "3.11", "1.0", "1e3", "0o17", "2024-01-02", "2001-12-14 21:59:43")


def _read(tmp_path: Path, text: str, **options: Any) -> list[Any]:
    path = tmp_path / "play.yml"
    path.write_text(text)
    return [call.task for play in read_playbook(path, Catalogue(), env={}, **options).plays for call in play.calls]


@pytest.mark.parametrize("text", [*LOSSY, *PLAIN])
def test_text_is_what_stands_in_the_file(tmp_path: Path, text: str) -> None:
    """Wherever a task takes text: alone, in a list, in a mapping, beside numbers, and in `environment`."""
    variable, several, kernel, command, git, file = _read(
        tmp_path,
        f"""
- tasks:
    - ensure_env_var: {{name: A, value: {text}}}
    - ensure_env_var: {{vars: {{A: {text}}}}}
    - ensure_kernel: {{argv: [a, {text}, "{{connection_file}}"], name: k, display_name: {text}, environment: {{A: {text}}}}}
    - ensure_command: {{argv: [a, {text}], environment: {{A: {text}}}, stdin: {text}}}
    - ensure_git_config: {{name: user.name, value: [{text}, b]}}
    - ensure_file: {{path: /x, content: {text}}}
""",
    )
    assert variable.value == several.vars["A"] == text
    assert kernel.environment["A"] == kernel.display_name == kernel.argv[1] == text
    assert command.environment["A"] == command.argv[1] == command.stdin == text
    assert git.value == [text, "b"]
    assert file.content == text


@pytest.mark.parametrize("name", ["NO", "on", "Yes", "OFF"])
def test_a_word_of_yaml_names_a_variable(tmp_path: Path, name: str) -> None:
    """YAML 1.1 reads these keys as booleans, two of them as the same one."""
    variable, kernel, file = _read(
        tmp_path,
        f"""
- vars: {{m: {{{name}: a, "true": b}}}}
  tasks:
    - ensure_env_var: {{vars: {{{name}: a}}}}
    - ensure_kernel: {{argv: [a, "{{connection_file}}"], name: k, environment: {{{name}: a, other: b}}}}
    - ensure_file: {{path: /x, content: "{{{{ m.{name} }}}}"}}
""",
    )
    assert variable.vars == {name: "a"}
    assert kernel.environment == {name: "a", "other": "b"}
    assert file.content == "a"


@pytest.mark.parametrize("text", LOSSY)
def test_the_keyword_environment_takes_it_too(tmp_path: Path, text: str) -> None:
    """The variables of a task's work."""
    path = tmp_path / "play.yml"
    path.write_text(f"- tasks:\n    - ensure_command: {{argv: [a]}}\n      environment: {{A: {text}}}\n")
    assert read_playbook(path, Catalogue(), env={}).plays[0].calls[0].environment == {"A": text}


MADE_OF = (
    "{{ v }}",
    "python={{ v }}",
    "{{ v ~ '' }}",
    "{{ v | string }}",
    "{{ [v, 1] | join('.') }}",
    "{{ '%s' | format(v) }}",
    "{{ '{}'.format(v) }}",
    "{{ {'a': v} | to_json }}",
    "{{ {'a': v} | to_nice_yaml }}",
    "{{ v | quote }}",
    "{{ other }}",
)


@pytest.mark.parametrize("made", MADE_OF)
@pytest.mark.parametrize("text", LOSSY)
def test_what_a_variable_has_lost_is_an_error(tmp_path: Path, text: str, made: str) -> None:
    """It names the place where the number stands, and says to quote it."""
    play = (
        f'- vars: {{other: "{{{{ v }}}}", v: {text}}}\n  tasks:\n    - ensure_file: {{path: /x, content: "{made}"}}\n'
    )
    with pytest.raises(FormLost) as caught:
        _read(tmp_path, play)
    assert caught.value.exit_status == 4
    assert f'write it in quotes: "{text}"' in caught.value.cure
    assert caught.value.position is not None
    assert caught.value.position.line == 1


@pytest.mark.parametrize("text", LOSSY)
def test_however_the_variable_is_set(tmp_path: Path, text: str) -> None:
    """By a loop, a file, the command line, a text that is read as YAML, the variables of a task or an include."""
    task = 'ensure_file: {path: /x, content: "a{{ v }}"}'
    (tmp_path / "vars.yml").write_text(f"v: {text}\n")
    (tmp_path / "tasks.yml").write_text(f"- {task}\n")
    plays = (
        f"- tasks:\n    - {task}\n      loop: [{text}]\n      loop_control: {{loop_var: v}}\n",
        f"- vars_files: vars.yml\n  tasks:\n    - {task}\n",
        (
            "- vars: {v: \"{{ lookup('file', 'vars.yml') | from_yaml }}\"}\n  tasks:\n"
            "    - ensure_file: {path: /x, content: 'a{{ v.v }}'}\n"
        ),
        f"- tasks:\n    - {task}\n      vars: {{v: {text}}}\n",
        f"- tasks:\n    - include_tasks: tasks.yml\n      vars: {{v: {text}}}\n",
    )
    for play in plays:
        with pytest.raises(FormLost):
            _read(tmp_path, play)
    given = parse_extra_vars([f"{{v: {text}}}"])
    with pytest.raises(FormLost):
        _read(tmp_path, f"- tasks:\n    - {task}\n", extra_vars=given)


@pytest.mark.parametrize("text", [one for one in PLAIN if one not in ("1e3", "0o17")])
def test_what_has_lost_nothing_goes_through_a_variable(tmp_path: Path, text: str) -> None:
    """A number that YAML writes as it was written, and a date."""
    play = f'- vars: {{v: {text}}}\n  tasks:\n    - ensure_file: {{path: /x, content: "{{{{ v }}}}"}}\n'
    assert [task.content for task in _read(tmp_path, play)] == [text]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    """Arithmetic, comparisons, parameters and settings that take numbers, and loops over them."""
    (kernel, condarc) = _read(
        tmp_path,
        """
- vars: {v: 010, half: .50}
  tasks:
    - ensure_kernel: {argv: [a, "{connection_file}"], name: "k{{ v + 2 }}"}
      when: v == 8 and half * 2 == 1 and v is number and '%d' % v == '8' and half | round(1) == 0.5
    - ensure_condarc: {settings: {remote_max_retries: 5}}
""",
    )
    assert kernel.name == "k10"
    assert condarc.settings == {"remote_max_retries": 5}
    assert type(condarc.settings["remote_max_retries"]) is int


def test_what_may_be_either_is_an_error(tmp_path: Path) -> None:
    """A setting of conda, the metadata of a kernel: nobody can tell whether 010 is text."""
    for task in (
        "ensure_condarc: {settings: {x: 010}}",
        'ensure_kernel: {argv: [a, "{connection_file}"], name: k, metadata: {v: [3.10]}}',
    ):
        with pytest.raises(FormLost):
            _read(tmp_path, f"- tasks:\n    - {task}\n")


@pytest.mark.parametrize("kind", ["ensure_pip_pkg", "ensure_conda_pkg"])
def test_a_version_is_no_package(tmp_path: Path, kind: str) -> None:
    """``packages: [python, 3.10]`` does not look for a package that is called 3.10."""
    with pytest.raises(
        InvalidPlaybook, match=r"'3\.10' is (a version|not a match spec\n  why: it is a version), not a package"
    ):
        _read(tmp_path, f"- tasks:\n    - {kind}: {{env: base, packages: [numpy, 3.10]}}\n")


@pytest.mark.parametrize("made", ["a{{ v | default(3.10) }}", "{% if 3.10 %}{% endif %}"])
def test_a_number_in_a_template_that_reads_as_a_version(tmp_path: Path, made: str) -> None:
    """Jinja2 knows only the number."""
    with pytest.raises(InvalidPlaybook, match=r"3\.10 in a template is the number 3\.1"):
        _read(tmp_path, f'- tasks:\n    - ensure_file: {{path: /x, content: "{made}"}}\n')
    assert _read(tmp_path, "- tasks:\n    - ensure_file: {path: /x, content: \"{{ '3.10' ~ 0.5 ~ 1.0 }} 3.10\"}\n")


def test_an_environment_file_too(tmp_path: Path) -> None:
    """All that it holds is text."""
    path = tmp_path / "environment.yml"
    path.write_text(
        "name: 010\nchannels: [1_0]\ndependencies: [a=3.10, pip: [1.20]]\nvariables: {V: 3.10, T: 12:30, Y: on}\n"
    )
    found = environment_file.read(path)
    assert (found.name, found.channels, found.packages, found.pip) == ("010", ("1_0",), ("a=3.10",), ("1.20",))
    assert found.variables == {"V": "3.10", "T": "12:30", "Y": "on"}


def test_lint_names_each(linted: Any) -> None:
    """Also where the task gets the text: another reader need not."""
    text = "- vars: {py: 3.10, n: 8, q: '010'}\n  tasks:\n    - ensure_env_var: {name: A, value: 010}\n"
    found = [one for one in linted(text) if one.rule == "unquoted-number"]
    assert [(one.position.line, one.severity) for one in found] == [(1, "warning"), (3, "warning")]
    assert 'write "3.10" if it is text' in found[0].cure


@pytest.mark.parametrize("text", [*LOSSY, "8", "3.11", "'010'"])
def test_a_file_of_variables_goes_into_a_script_as_it_is(tmp_path: Path, text: str) -> None:
    """``lifecycle render -e @FILE``: on the other machine it is the same number, or an error again."""
    path = tmp_path / "vars.yml"
    path.write_text(f"v: [{text}, {{a: {text}}}]\n")
    (argument,) = handed_on([f"@{path}"]).arguments
    assert repr(parse_extra_vars([argument])) == repr(parse_extra_vars([f"@{path}"]))
