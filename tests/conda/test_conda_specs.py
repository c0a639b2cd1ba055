"""Match specs: what is told without the library must be what the library says, and is never asked of two orders."""

from __future__ import annotations

from pathlib import Path

import pytest
import rattler
from hypothesis import example, given
from hypothesis import strategies as st
from rattler.exceptions import InvalidMatchSpecError
from rattler.package.build_string import BuildString

from nbprovision.conda.specs import allows, conflicts, parse

YES, NO, UNKNOWN = True, False, None


@pytest.mark.parametrize(
    ("text", "version", "build", "verdict"),
    [
        ("x", "1.2", "0", YES),
        ("x=1.2", "1.2.7", "0", YES),
        ("x=1.2", "1.20", "0", NO),
        ("x=1.2.*", "1.2", "0", YES),
        ("x 1.2", "1.2.0", "0", YES),
        ("x 1.2", "1.2.1", "0", NO),
        ("x==1.2", "1.2.1", "0", NO),
        ("x >=1.2, <2", "1.9", "0", YES),
        ("x>=1.2,<2", "2.0", "0", NO),
        ("x!=1.3", "1.3.0", "0", NO),
        ("x=1.2=py_0", "1.2", "py_0", YES),
        ("x=1.2=py_0", "1.2", "py_1", NO),
        ("x 1.2 py_0", "1.2", "py_0", YES),
        ("x *", "7", "0", YES),
        ("x=1.2=py*", "1.2", "py_0", YES),
        ("x>=1.2rc1", "1.2", "0", YES),
        ("x>=1.2", "1.2rc1", "0", NO),
        ("x~=1.2", "1.3", "0", YES),
        ("x>=1|<0.5", "0.7", "0", NO),
        ("x>=1.3.1,<2.0a0", "2.0", "0", NO),
        ("x>=1", "not a version", "0", UNKNOWN),
        ("x>=1", "", "", UNKNOWN),
        ("x>=1", "2", "a strange build", YES),
        ("x=1=py_0", "1", "", NO),
        ("x[version='>=1']", "1.3", "0", UNKNOWN),
    ],
)
def test_table(text: str, version: str, build: str, verdict: bool | None) -> None:
    spec = parse(text)
    assert spec is not None
    assert allows(spec, version, build) is verdict


@pytest.mark.parametrize("text", ["", " ", "=1.2", ">=3", "\n", "a\nb", "-x", "::x"])
def test_what_is_no_spec(text: str) -> None:
    assert parse(text) is None


def test_parts() -> None:
    spec = parse("conda-forge/linux-64::NumPy >=2 ")
    assert spec is not None
    assert (spec.channel, spec.name, spec.rest) == ("conda-forge/linux-64", "numpy", ">=2")


_numbers = st.lists(st.sampled_from(["0", "1", "2", "10"]), min_size=1, max_size=3).map(".".join)
_clauses = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "=", "==", "!=", ">=", "<=", ">", "<", "~="]),
    st.sampled_from(["", " "]),
    _numbers,
    st.sampled_from(["", "", ".*", "*", "rc1", "|2"]),
)
_specs = st.builds(
    "x{}{}{}".format,
    st.sampled_from(["", " "]),
    st.lists(_clauses, min_size=1, max_size=3).map(",".join),
    st.sampled_from(["", "", "=py_0", " py_0", "=py*"]),
).filter(lambda text: not text[1].isdigit())


@example("x==1.* py_0", "1.2", "py_0")
@given(_specs, _numbers, st.sampled_from(["py_0", "h1_2"]))
def test_as_the_library(text: str, version: str, build: str) -> None:
    try:
        wanted = rattler.MatchSpec(text)
    except InvalidMatchSpecError:
        return
    spec = parse(text)
    assert spec is not None
    record = rattler.PackageRecord("x", version, BuildString(build), 0, "noarch")
    assert allows(spec, version, build) == wanted.matches(record), text


@pytest.mark.parametrize(
    ("spec", "requirement", "verdict"),
    [
        ("packaging>=25", "packaging==24.0", True),
        ("packaging>=24,<25", "packaging==24.0", False),
        ("packaging=24", "packaging~=24.1", False),
        ("packaging=24", "packaging>=25", True),
        ("packaging<24", "packaging>=24", True),
        ("packaging<=24", "packaging>=24", False),
        ("packaging>1,<2", "packaging>1.5,<1.6", False),
        ("packaging==1.5", "packaging!=1.5", True),
        ("packaging", "packaging==24.0", False),
        ("packaging>=25", "other==24.0", False),
        ("Ruamel.Yaml>=1", "ruamel-yaml==0.5", True),
        ("packaging=25=py_0", "packaging==25.0", False),
        ("packaging=25=py_0", "packaging==24", True),
        ("packaging>=25", "packaging[extra]==24.0", True),
        ("packaging>=25", "packaging @ https://host/packaging-24.0.whl", False),
        ("packaging>=25", "packaging==24; python_version<'3'", False),
        ("packaging>=25rc1", "packaging==24", False),
        ("packaging<25", "packaging==25rc1", False),
        ("packaging~=24.1", "packaging==25", True),
        ("packaging~=24", "packaging==25", False),
        ("packaging>=25", "not a requirement at all", False),
    ],
)
def test_conflicts(spec: str, requirement: str, verdict: bool) -> None:
    parsed = parse(spec)
    assert parsed is not None
    assert conflicts(parsed, requirement) is verdict


def test_what_pip_removes_is_no_package_to_ask_for() -> None:
    parsed = parse("packaging")
    assert parsed is not None
    assert conflicts(parsed, "packaging", absent=True)


def run(code: str) -> str:
    import subprocess
    import sys

    code = "import sys\nfrom nbprovision.conda.specs import allows, parse\n" + code
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True).stdout


@pytest.mark.parametrize(
    ("text", "version"),
    [("x", "1"), ("x=1.2", "1.2.3"), ("x==1.2", "1.2"), ("x 1.2", "1.2"), ("x=1.2.*", "1.2.3"), ("x=1.2=0", "1.2")],
)
def test_what_the_text_tells_loads_nothing(text: str, version: str) -> None:
    """The run after a restart looks at every environment."""
    loaded = run(
        f"assert allows(parse({text!r}), {version!r}, '0')\nprint({{'rattler', 'packaging', 'asyncio'}} & set(sys.modules))"
    )
    assert loaded == "set()\n"


def test_without_the_library_a_range_is_an_error() -> None:
    told = run(
        "sys.modules['rattler'] = None\nassert allows(parse('x=1'), '1.2', '0')\n"
        "from nbprovision.model.errors import TaskFailed\n"
        "try:\n    allows(parse('x>=1,<2'), '1.5', '0')\nexcept TaskFailed as error:\n    print(error)"
    )
    assert "'x>=1,<2' cannot be compared with x 1.5" in told
    assert "name=1.2" in told
