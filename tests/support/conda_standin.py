"""A ``conda`` for tests: the real one, the real one with a recorder, or what a real one once said and did.

`fake_conda` makes the command; as a program this file is that command. A recording is a JSON document with the version
of conda, the date, and each command with its exit status, its output (of tracebacks the last lines), and the files that it wrote or removed; paths of
the test's own folder stand in it as ``{here}``, the test's server as ``{server}``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parents[1] / "data/conda-output"
REAL = os.environ.get("NBPROVISION_TEST_CONDA", "")
_SERVER = re.compile(r"127\.0\.0\.1:\d+")
RECORDING = bool(os.environ.get("NBPROVISION_RECORD_CONDA"))


def fake_conda(folder: Path, story: str, *, recording: bool = RECORDING) -> Path:
    """A conda installation in ``folder`` whose command plays (or records) a story of that name; the command's path."""
    command = folder / "conda/bin/conda"
    command.parent.mkdir(parents=True, exist_ok=True)
    (folder / "conda/conda-meta").mkdir(exist_ok=True)
    path = RECORDINGS / f"{story}.json"
    if recording:
        path.unlink(missing_ok=True)
    mode = "record" if recording else "play"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {mode} {path} {folder} "{REAL}" "$@"\n')
    command.chmod(0o755)
    return command


def knows_terms() -> bool:
    """Whether the real conda has the plugin that asks for a channel's terms of service (conda-anaconda-tos)."""
    return bool(REAL) and subprocess.run([REAL, "tos", "--help"], capture_output=True).returncode == 0


def main(mode: str, story: str, here: str, real: str, *arguments: str) -> int:
    """Record what the real conda does with the arguments, or do it again."""
    wanted = [_portable(word, here) for word in arguments]
    if mode == "record":
        return _record(Path(story), Path(here), real, arguments, wanted)
    return _play(Path(story), Path(here), wanted)


def _record(story: Path, here: Path, real: str, arguments: tuple[str, ...], wanted: list[str]) -> int:
    before = _watched(here)
    done = subprocess.run([real, *arguments], capture_output=True, text=True)
    after = _watched(here)
    document: dict[str, Any] = {"exchanges": []}
    if story.exists():
        document = json.loads(story.read_text())
    version = subprocess.run([real, "--version"], capture_output=True, text=True).stdout.strip()
    document.update(program=version, date=time.strftime("%Y-%m-%d"))
    document["exchanges"].append(
        {
            "command": ["conda", *wanted],
            "status": done.returncode,
            "stdout": _told(done.stdout, real, here),
            "stderr": _told(_without_traceback(done.stderr), real, here),
            "wrote": {
                name: _told(text, real, here) for name, text in sorted(after.items()) if before.get(name) != text
            },
            "removed": sorted(before.keys() - after.keys()),
        }
    )
    story.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _play(story: Path, here: Path, wanted: list[str]) -> int:
    document = json.loads(story.read_text())
    server = next((found[0] for word in sys.argv for found in [_SERVER.search(word)] if found), "")
    used = here / "conda/used"
    gone = set(used.read_text().split()) if used.exists() else set()
    for number, exchange in enumerate(document["exchanges"]):
        if str(number) in gone or exchange["command"] != ["conda", *wanted]:
            continue
        with used.open("a") as numbers:
            numbers.write(f"{number}\n")
        for name, text in exchange["wrote"].items():
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text.replace("{here}", str(here)))
        for name in exchange["removed"]:
            (here / name).unlink(missing_ok=True)
        for stream, said in ((sys.stdout, exchange["stdout"]), (sys.stderr, exchange["stderr"])):
            stream.write(said.replace("{here}", str(here)).replace("{server}", server))
        return int(exchange["status"])
    sys.stderr.write(f"{story.name} has no answer for: {wanted}\n")
    return 97


def _watched(here: Path) -> dict[str, str]:
    """What a command may write that matters: environments, the registry, what the cache says of dependencies."""
    patterns = ("nbprovision/envs/**/*", "home/.conda/environments.txt", "pkgs/*/info/index.json")
    files = (path for pattern in patterns for path in here.glob(pattern) if path.is_file())
    return {str(path.relative_to(here)): path.read_text() for path in files}


def _without_traceback(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith((" ", "Traceback")))


def _told(text: str, real: str, here: Path) -> str:
    """Without a word of the machine that it was recorded on."""
    return _portable(text, str(here)).replace(str(Path(real).parents[1]), "/opt/conda")


def _portable(text: str, here: str) -> str:
    return _SERVER.sub("{server}", re.sub(r"/\.?shadow[-.][A-Za-z0-9_.-]+", "/shadow", text.replace(here, "{here}")))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
