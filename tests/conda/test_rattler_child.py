"""What the engine's own process does with each request, and what it says where that is not possible."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.query import Attempt, InstallRequest, RehearseRequest, SolveRequest
from nbprovision.model.errors import TaskFailed
from tests.support.conda_packages import TinyChannel
from tests.support.measured_engine import MeasuredEngine, measured_engine

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def process() -> Iterator[MeasuredEngine]:
    with measured_engine({"CONDA_OVERRIDE_CUDA": ""}) as engine:
        yield engine


class Engine:
    """Requests for one environment and one channel."""

    def __init__(self, process: MeasuredEngine, channel: TinyChannel, folder: Path) -> None:
        self.process = process
        self.channel = channel
        self.folder = folder
        self.prefix = folder / "env"
        (self.prefix / "conda-meta").mkdir(parents=True)

    @property
    def records(self) -> list[str]:
        return sorted(str(path) for path in self.prefix.glob("conda-meta/*.json"))

    @property
    def installed(self) -> set[str]:
        return {Path(path).name.removesuffix(".json") for path in self.records}

    def solve(self, *specs: str, attempts: list[Attempt] | None = None, **more: Any) -> Any:
        request: dict[str, Any] = {
            "channels": [self.channel.url],
            "shown": ["the channel"],
            "installed": self.records,
            "unlocked": [],
            "repodata": str(self.folder / "repodata"),
            "offline": False,
            "verify": True,
            "credentials": {},
            **more,
        }
        return self.process.work(
            SolveRequest(attempts=[Attempt(specs=list(specs))] if attempts is None else attempts, **request)
        )

    def install(self, solution: int, **more: Any) -> None:
        request: dict[str, Any] = {"reinstall": [], "requested": [], "verify": True, **more}
        self.process.work(
            InstallRequest(solution=solution, prefix=str(self.prefix), cache=str(self.folder / "pkgs"), **request)
        )

    def rehearse(self, solution: int) -> Path:
        scratch = self.folder / "scratch"
        (scratch / "conda-meta").mkdir(parents=True)
        self.process.work(
            RehearseRequest(
                solution=solution, prefix=str(self.prefix), installed=self.records, scratch=str(scratch),
                cache=str(self.folder / "pkgs"), verify=True,
            )
        )  # fmt: skip
        return scratch

    def refused(self, *specs: str, **more: Any) -> TaskFailed:
        with pytest.raises(TaskFailed) as caught:
            self.solve(*specs, **more)
        return caught.value


@pytest.fixture
def channel(tmp_path: Path) -> TinyChannel:
    made = TinyChannel(tmp_path / "channel")
    made.add("good", "1.0")
    made.add("good", "2.0", depends=["base >=1"])
    made.add("base", "1.0")
    made.add("python", "3.11.7", files={"bin/python3.11": "x"})
    made.add("pure", "1.0", files={"site-packages/pure.py": "x"}, noarch="python", depends=["python"])
    return made


@pytest.fixture
def engine(process: MeasuredEngine, channel: TinyChannel, tmp_path: Path) -> Engine:
    return Engine(process, channel, tmp_path)


def versions(answer: Any) -> dict[str, str]:
    return {package["name"]: package["version"] for package in answer["packages"]}


class TestSolving:
    def test_it_tells_what_comes_and_in_which_direction_it_goes(self, engine: Engine) -> None:
        engine.install(engine.solve("good=2.0", "pure")["solution"])
        answer = engine.solve("good=1.0", "pure", unlocked=["good"])
        assert versions(answer) == {"good": "1.0", "python": "3.11.7", "pure": "1.0"}
        told = {package["name"]: package for package in answer["packages"]}
        assert (told["good"]["order"], told["pure"]["order"]) == (-1, 0)
        assert told["good"]["size"] > 0
        assert len(told["good"]["sha256"]) == 64
        assert told["good"]["channel"].rstrip("/") == engine.channel.url
        assert told["pure"]["depends"] == []  # it is there by now
        engine.install(answer["solution"])
        (good,) = (one for one in engine.solve("good=2.0", "pure")["packages"] if one["name"] == "good")
        assert (good["order"], good["depends"]) == (1, ["base >=1"])

    def test_of_several_questions_the_first_with_an_answer_counts(self, engine: Engine) -> None:
        engine.install(engine.solve("good=1.0")["solution"])
        pinned = Attempt(specs=["good=2.0"], pinned=["good"])
        held = Attempt(specs=["good"], constraints=["good <1", "[["])
        free = Attempt(specs=["good"], keep=["base", "[["], constraints=["python >=3"])
        answer = engine.solve(attempts=[pinned, held, free], unlocked=[])
        assert answer["attempt"] == 2
        assert versions(answer) == {"good": "1.0", "base": "1.0"}

    def test_what_is_installed_may_lack_what_it_lacked_before(self, engine: Engine) -> None:
        engine.channel.add("odd", "1.0", depends=["base"])
        engine.install(engine.solve("odd")["solution"])
        record = engine.prefix / "conda-meta/odd-1.0-0.json"
        record.write_text(record.read_text().replace('"base"', '"gone >=7"'))
        engine.channel.drop("odd")
        with pytest.raises(TaskFailed):
            engine.solve("odd", "good=1.0")
        answer = engine.solve("odd", "good=1.0", unmet={"odd": ["gone >=7"]})
        assert versions(answer) == {"odd": "1.0", "good": "1.0"}

    def test_a_build_for_cuda_takes_the_place_of_the_same_version(self, engine: Engine, tmp_path: Path) -> None:
        engine.channel.add("torch", "2.0", build="cpu_0")
        engine.install(engine.solve("torch", "good=1.0")["solution"])
        engine.channel.add("torch", "2.0", build="cuda_0", build_number=200, depends=["__cuda >=12"])
        engine.channel.add("torch", "3.0", build="cpu_0")
        with measured_engine({"CONDA_OVERRIDE_CUDA": "12.4"}) as process:
            on_gpu = Engine.__new__(Engine)
            on_gpu.__dict__.update(engine.__dict__, process=process)
            for other_builds, build in ((False, "cpu_0"), (True, "cuda_0")):
                answer = on_gpu.solve("torch", "good", other_builds=other_builds)
                told = {one["name"]: (one["version"], one["build"]) for one in answer["packages"]}
                assert told == {"torch": ("2.0", build), "good": ("1.0", "0")}

    def test_a_channel_that_has_changed_is_read_again(self, engine: Engine) -> None:
        assert versions(engine.solve("good"))["good"] == "2.0"
        engine.channel.add("good", "3.0")
        assert versions(engine.solve("good"))["good"] == "3.0"

    def test_without_checks_of_certificates_it_works_as_well(self, engine: Engine) -> None:
        answer = engine.solve("good=1.0", verify=False)
        engine.install(answer["solution"], verify=False)
        assert engine.installed == {"good-1.0-0"}


class TestWhatHasNoAnswer:
    def test_a_name_that_no_channel_has(self, engine: Engine) -> None:
        error = engine.refused("goood")
        assert error.message == "no channel has a package 'goood'; did you mean 'good'?"
        assert error.cause == "looked in the channel"
        assert error.cure == "correct the name, or name the channel that has it"

    def test_a_version_that_no_channel_has(self, engine: Engine) -> None:
        error = engine.refused("good=7", "base", "good")
        assert error.message == "the requested packages are incompatible"
        assert error.cause.endswith("available versions of good: 1.0, 2.0")
        assert "available versions of base" not in error.cause  # any version of it would do
        assert error.cure == "loosen one of the specs, or name another channel than the channel"

    def test_of_many_versions_the_newest_are_named(self, engine: Engine) -> None:
        for number in range(3, 12):
            engine.channel.add("good", f"{number}.0")
        assert engine.refused("good=99").cause.endswith(
            "available versions of good: ... 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0"
        )

    def test_a_dependency_that_no_channel_has_is_not_taken_for_what_was_asked(self, engine: Engine) -> None:
        engine.channel.add("torn", "1.0", depends=["gone"])
        error = engine.refused("torn >=1")
        assert error.message == "the requested packages are incompatible"
        assert "gone" in error.cause
        assert error.cause.endswith("available versions of torn: 1.0")

    def test_what_is_no_spec(self, engine: Engine) -> None:
        error = engine.refused("good", "six >=[1")
        assert error.message == "'six >=[1' is not a match spec"
        assert error.cause
        assert "name>=1.2,<2" in error.cure

    def test_no_question_is_a_defect(self, engine: Engine) -> None:
        assert engine.refused(attempts=[]).message == "the solver got no query"

    def test_a_channel_that_is_not_there(self, engine: Engine, tmp_path: Path) -> None:
        error = engine.refused("good", channels=[(tmp_path / "nowhere").as_uri()], shown=["nowhere"])
        assert error.message == "cannot read the channel nowhere"
        assert error.cure == "correct the path of the channel, or build it first by ensure_conda_channel"

    def test_a_channel_that_is_not_in_the_cache_of_a_machine_without_network(self, engine: Engine) -> None:
        error = engine.refused("good", channels=["http://channel.invalid/x"], offline=True)
        assert "switch `offline` off" in error.cure

    def test_a_channel_that_nobody_answers_for(self, engine: Engine) -> None:
        error = engine.refused("good", channels=["http://127.0.0.1:9/x"], retries=0)
        assert "https_proxy" in error.cure
        assert "\nCaused by" not in error.cause


class TestInstalling:
    def test_a_new_environment_is_told_of_and_can_be_read_by_everybody(self, engine: Engine) -> None:
        engine.install(engine.solve("good", "pure")["solution"], requested=["good >=1", "[["])
        assert engine.installed == {"good-2.0-0", "base-1.0-0", "python-3.11.7-0", "pure-1.0-0"}
        assert (engine.prefix / "share/good.txt").read_text() == "good 2.0\n"
        assert (engine.prefix / "lib/python3.11/site-packages/pure.py").is_file()
        assert engine.process.told[0] == {"text": "linking", "done": 0, "total": 4, "unit": "packages"}
        assert engine.process.told[-1] == {"text": "linking", "done": 4, "total": 4, "unit": "packages"}
        for path in engine.records:
            assert os.stat(path).st_mode & 0o044 == 0o044
        specs = {
            name: json.loads((engine.prefix / f"conda-meta/{name}.json").read_text()).get("requested_specs")
            for name in engine.installed
        }
        assert specs["good-2.0-0"] == ["good >=1"]
        assert not specs["base-1.0-0"]

    def test_the_script_of_a_package_is_run_and_told_of(self, engine: Engine) -> None:
        script = '#!/bin/sh\necho done >"$PREFIX/share/by-the-script"\n'
        engine.channel.add("script", "1.0", files={"bin/.script-post-link.sh": script, "share/x": "x"})
        engine.install(engine.solve("script")["solution"])
        assert (engine.prefix / "share/by-the-script").read_text() == "done\n"
        assert "running the script of script" in [message["text"] for message in engine.process.told]

    def test_what_is_not_in_the_solution_goes(self, engine: Engine) -> None:
        engine.install(engine.solve("good=1.0", "base")["solution"])
        engine.install(engine.solve("base", installed=[])["solution"])
        assert engine.installed == {"base-1.0-0"}
        assert not (engine.prefix / "share/good.txt").exists()

    def test_what_is_harmed_is_put_in_place_anew(self, engine: Engine) -> None:
        engine.install(engine.solve("good=1.0")["solution"])
        (engine.prefix / "share/good.txt").unlink()
        engine.install(engine.solve("good=1.0")["solution"], reinstall=["good"])
        assert (engine.prefix / "share/good.txt").read_text() == "good 1.0\n"

    def test_a_rehearsal_brings_what_is_new_into_another_folder(self, engine: Engine) -> None:
        engine.install(engine.solve("good=1.0", "python")["solution"])
        before = {path: path.read_bytes() for path in engine.prefix.rglob("*") if path.is_file()}
        answer = engine.solve("good=2.0", "pure", "python", unlocked=["good"])
        scratch = engine.rehearse(answer["solution"])
        assert (scratch / "share/good.txt").read_text() == "good 2.0\n"
        assert (scratch / "lib/python3.11/site-packages/pure.py").is_file()
        assert {path: path.read_bytes() for path in engine.prefix.rglob("*") if path.is_file()} == before
        engine.install(answer["solution"])  # the solution is kept for it
        assert "good-2.0-0" in engine.installed

    @pytest.mark.parametrize("rehearsed", [False, True])
    def test_a_package_that_is_not_what_the_index_says(self, engine: Engine, rehearsed: bool) -> None:
        solution = engine.solve("good=1.0")["solution"]
        archive = engine.channel.path / "noarch/good-1.0-0.tar.bz2"
        archive.write_bytes(archive.read_bytes()[::-1])
        with pytest.raises(TaskFailed) as caught:
            engine.rehearse(solution) if rehearsed else engine.install(solution)
        assert caught.value.message == f"the packages could not be installed into {engine.prefix}"
        assert "good-1.0-0.tar.bz2" in caught.value.cause
        assert caught.value.cause.count(archive.as_uri()) == 1
        assert caught.value.cure == "run again: completed work is kept"
        assert engine.installed == set()
