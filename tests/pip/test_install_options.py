"""The table of options is complete, says what pip and uv themselves say, and is what the docs show."""

from __future__ import annotations

import optparse
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import TaskFailed
from nbprovision.pip.install_options import BY_NAME, PIP, UV_BY_NAME, UV_PIP_BY_NAME, tables
from nbprovision.pip.install_settings import configured
from nbprovision.pip.requirements_files import _OPTIONS

PAGE = Path(__file__).parents[2] / "docs/pip-options.md"
BEGIN, END = "<!-- made by: python -m tests.pip.test_install_options -->\n", "<!-- end -->\n"


def page() -> str:
    """The page with the tables as they are."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{head}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


def test_the_page_shows_the_tables() -> None:
    """``python -m tests.pip.test_install_options`` writes it anew."""
    assert PAGE.read_text() == page()


def of_pip() -> list[optparse.Option]:
    """The options of the ``pip install`` that is installed here."""
    from pip._internal.commands import create_command

    return [option for option in create_command("install").parser.option_list_all if option._long_opts]


@pytest.mark.parametrize("option", of_pip(), ids=str)
def test_every_option_of_the_installed_pip_stands_in_the_table(option: Any) -> None:
    names = [name.removeprefix("--") for name in option._long_opts]
    assert [name for name in names if name not in BY_NAME] == []
    kind = BY_NAME[names[0]].kind
    if option.action in ("store_true", "store_false"):
        inverse = option.action == "store_false" and names[0] != "no-user"
        assert kind == ("unset" if inverse else "flag")
    elif option.action == "append":
        assert kind == "words"


def test_every_option_of_requirements_files_is_read() -> None:
    from pip._internal.req import req_file

    names = {name for made in req_file.SUPPORTED_OPTIONS for name in made()._long_opts}
    assert names == {f"--{name}" for option in PIP if option.file for name in option.names}
    assert names - {"--editable"} == {name for name in _OPTIONS if name.startswith("--")}
    assert [made()._long_opts for made in req_file.SUPPORTED_OPTIONS_REQ] == [["--hash"], ["--config-settings"]]


@pytest.mark.parametrize(("head", "known"), [("", UV_BY_NAME), ("[pip]\n", UV_PIP_BY_NAME)], ids=["top", "pip"])
def test_every_key_of_the_installed_uv_stands_in_the_table(head: str, known: dict[str, Any], tmp_path: Path) -> None:
    """uv names them all where it meets one that it does not know."""
    (tmp_path / "uv.toml").write_text(f"{head}no-such-key = 1\n")
    uv = Path(sysconfig.get_paths()["scripts"]) / "uv"
    said = subprocess.run(
        [uv, "--config-file", tmp_path / "uv.toml", "pip", "list"], capture_output=True, text=True, check=False
    ).stderr
    keys = re.findall(r"`([a-z-]+)`", said.partition("expected one of")[2])
    assert len(keys) > 20
    assert [key for key in keys if key not in known] == []


@pytest.mark.parametrize(
    "values",
    [
        ["--no-binary=numpy,scipy", "--only-binary=:all:"],
        ["--only-binary=:all:", "--no-binary=Num_Py"],
        ["--no-binary=:all:", "--only-binary=numpy", "--no-binary=:none:"],
        ["--only-binary=a,b", "--no-binary=b,:all:,:none:,c", "--only-binary=c"],
    ],
)
def test_later_formats_take_back_earlier_ones_as_for_pip(values: list[str], tmp_path: Path) -> None:
    from pip._internal.commands import create_command

    from nbprovision.pip import requirements_files

    options, _ = create_command("install").parser.parse_args(values)
    (tmp_path / "r.txt").write_text("\n".join(values) + "\n")
    asked = requirements_files.read((), [tmp_path / "r.txt"], (), {}).options
    assert set(asked.no_binary) == options.format_control.no_binary
    assert set(asked.only_binary) == options.format_control.only_binary


def settings(tmp_path: Path, text: str, **env: str) -> Any:
    (tmp_path / "pip.conf").write_text(text)
    return configured({**env, "XDG_CONFIG_DIRS": str(tmp_path / "none")}, tmp_path, tmp_path, root=tmp_path)


def test_sections_and_variables_are_read_in_pip_s_order(tmp_path: Path) -> None:
    """[install] before [global], a variable before both; each in all of pip's spellings."""
    text = "[install]\nconstraint = /b.txt\nno_binary = b\n[global]\nConstraint = /a.txt\npre = yes\n--no-binary = a\n"
    made = settings(tmp_path, text)
    assert made.constraints == ("/b.txt",)
    assert made.no_binary == ("a", "b")
    assert made.all_releases == (":all:",)
    made = settings(
        tmp_path, text, PIP_CONSTRAINT="/c.txt https://h.example/d.txt", PIP_PRE="0", PIP_NO_BINARY=":none:"
    )
    assert made.constraints == ("/c.txt", "https://h.example/d.txt")
    assert (made.all_releases, made.no_binary) == ((), ())


def test_what_a_flag_that_switches_off_takes(tmp_path: Path) -> None:
    assert not settings(tmp_path, "[global]\nno-build-isolation = false\n").build_isolation
    assert settings(tmp_path, "[global]\nno-build-isolation = true\n").build_isolation


def test_a_later_no_takes_back_what_only_pip_can(tmp_path: Path) -> None:
    text = "[global]\nprefer-binary = true\nno-deps = on\n[install]\nno-deps = off\n"
    made = settings(tmp_path, text, PIP_PREFER_BINARY="no")
    assert (made.without_uv, made.refused, made.prefer_binary) == ((), (), False)
    assert settings(tmp_path, text).without_uv == (f"prefer-binary ({tmp_path}/pip.conf [global])",)
    assert settings(tmp_path, text.replace("off", "yes")).refused != ()


@pytest.mark.parametrize("text", ["prefer-binary = perhaps", "uploaded-prior-to = soon"])
def test_a_value_that_pip_does_not_take_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match=r"pip\.conf \[global\]: '\w+' is not a value for"):
        settings(tmp_path, f"[global]\n{text}\n")


if __name__ == "__main__":
    PAGE.write_text(page())
