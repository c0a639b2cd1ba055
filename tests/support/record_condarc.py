"""Record anew how a real conda merges .condarc files: ``PYTHON_OF_CONDA -m tests.support.record_condarc > tests/data/condarc-merge.json``.

It needs an interpreter that can import conda, and nothing else of this project. The files come from a fixed seed, beside
those that people have published.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

PUBLISHED: list[list[str]] = [
    # An installer of a laboratory's software, whose base configuration is not to be changed; and a user's own.
    [
        "channels: #!final\n  - https://fsl.example/channel/ #!top\n  - conda-forge #!bottom\nchannel_priority: strict #!final\npkgs_dirs: #!final\n  - /packages/fsl/pkgs\n",
        "channels:\n  - defaults\n  - bioconda\npkgs_dirs:\n  - ~/pkgs\n",
    ],
    # A shared installation on a cluster.
    [
        "channels:\n- conda-forge\n- nodefaults\n- bioconda\nauto_update_conda: false #!final\nenvs_dirs: [/shared/$GROUP/envs] #!final\npkgs_dirs: [/shared/$GROUP/pkgs, /opt/pkgs] #!final\n",
        "envs_dirs:\n  - /home/user/envs\nchannels: [mine]\n",
    ],
    # conda's own documentation for administrators.
    [
        "channels: #!final\n  - admin\nchannel_alias: https://your.repo/conda #!final\ndefault_channels: #!final\n  - https://your.repo/pkgs/main\n",
        "channels:\n  - user\nchannel_alias: https://conda.anaconda.org\ndefault_channels:\n  - https://elsewhere.example/main\n",
    ],
    # A comment behind the flag's line belongs to the same comment for the parser, and so undoes the flag.
    ["offline: true #!final\n# the administrator\nssl_verify: false #!final\n", "offline: false\nssl_verify: true\n"],
    ["channels: # !final\n  - a\nssl_verify: '/etc' #final\n", "channels: [b]\nssl_verify: true\n"],
    ["proxy_servers: #!final\n  http: http://a:1\n", "proxy_servers:\n  https: http://b:2\n"],
    ["proxy_servers:\n  http: http://a:1 #!final\n  https: http://a:2\n", "proxy_servers:\n  http: http://b:1\n  https: http://b:2\n"],
    ["pinned_packages:\n  - python 3.10.*\n  - numpy<2 #!bottom\n", "pinned_packages: [openssl=3, numpy<2]\n"],
]  # fmt: skip
READ = {
    "channels": "_channels", "default_channels": "_default_channels", "envs_dirs": "_envs_dirs", "pkgs_dirs": "_pkgs_dirs",
    "pinned_packages": "pinned_packages", "custom_channels": "_custom_channels", "proxy_servers": "proxy_servers",
    "custom_multichannels": "_custom_multichannels", "channel_alias": "_channel_alias", "ssl_verify": "ssl_verify",
    "offline": "offline",
}  # fmt: skip
VARIABLES = {"GROUP": "team"}


def cases(count: int = 120) -> list[dict[str, Any]]:
    """Files, the one that wins last, and variables."""
    chance = random.Random(17)
    found = [{"files": files, "variables": {}} for files in PUBLISHED]
    for _ in range(count):
        files = [_file(chance) for _ in range(chance.randint(1, 4))]
        variables = {"CONDA_CHANNELS": "a,v"} if chance.random() < 0.2 else {}
        if chance.random() < 0.1:
            variables["CONDA_PINNED_PACKAGES"] = "x=1&y=2"
        found.append({"files": files, "variables": variables})
    return found


def _flag(chance: random.Random, *, entry: bool = False) -> str:
    kinds = ["", "", "", " #!final", "  # why", *([" #!top", " #!bottom"] if entry else [])]
    return chance.choice(kinds)


def _file(chance: random.Random) -> str:
    text = ""
    for name in chance.sample(["channels", "pinned_packages", "envs_dirs"], chance.randint(0, 3)):
        entries = chance.sample("abcde", chance.randint(1, 4))
        entries = [f"/{entry}" for entry in entries] if name == "envs_dirs" else entries
        if chance.random() < 0.3:
            text += f"{name}: [{', '.join(entries)}]{_flag(chance)}\n"
        else:
            dash = chance.choice(["- ", "  - "])
            text += f"{name}:{_flag(chance)}\n" + "".join(
                f"{dash}{entry}{_flag(chance, entry=True)}\n" for entry in entries
            )
    for name in chance.sample(["proxy_servers", "custom_channels"], chance.randint(0, 2)):
        keys = chance.sample(["http", "https", "lab"], chance.randint(1, 3))
        value = chance.randint(1, 99)
        text += f"{name}:{_flag(chance)}\n" + "".join(f"  {key}: http://h{value}{_flag(chance)}\n" for key in keys)
    if chance.random() < 0.3:
        text += f"custom_multichannels:{_flag(chance)}\n  m:{_flag(chance)}\n"
        text += "".join(
            f"    - {entry}{_flag(chance, entry=True)}\n" for entry in chance.sample("abc", chance.randint(1, 3))
        )
    if chance.random() < 0.4:
        text += f"ssl_verify: {chance.choice(['true', 'false', 'no', '/etc'])}{_flag(chance)}\n"
    if chance.random() < 0.4:
        text += f"offline: {chance.choice(['true', 'off', 'yes'])}{_flag(chance)}\n"
    return text or "# nothing\n"


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """What conda makes of it."""
    from conda.base.context import Context  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, text in enumerate(case["files"]):
            paths.append(Path(folder) / f"{number}.yml")
            paths[-1].write_text(text, encoding="utf-8")
        os.environ.update({**VARIABLES, **case["variables"]})
        try:
            context = Context(search_path=tuple(paths))
            return {name: _plain(getattr(context, field)) for name, field in READ.items()}
        finally:
            for name in case["variables"]:
                del os.environ[name]


def _plain(value: Any) -> Any:
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return value


if __name__ == "__main__":
    lines = [json.dumps({**case, "conda": answer(case)}) for case in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")
