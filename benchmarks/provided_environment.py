"""One package into a provided environment of 400 packages, the guard's work included, beside ``conda install``.

The peer is the conda that NBPROVISION_TEST_CONDA names, else the one on the PATH; without one our time is told alone.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from measure import once, paired
from scene import Scene, arguments, scene

PROMISE = 1 / 5
PACKAGES = 400
VERSIONS = 50  # of each in the channel: 20,000 records, which is less than Anaconda's main channel has
FILES = 50  # of each: fewer than a package of conda-forge has on the average

# The command line knows no root but the machine's, and this instance lies in a folder.
RUN = """
import sys
from pathlib import Path
from nbprovision.engine.run import Listener
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.report.document import Silent
from nbprovision.catalogue import Catalogue
session = Session(Request(playbook=Path(sys.argv[2])), Machine(root=Path(sys.argv[1])), Catalogue())
[result] = session.perform(Silent(), print)[0]
assert result.status == "changed", result.error
"""


def main() -> None:
    """Measure, and end with 1 where the promise is not kept."""
    options = arguments(__doc__, runs=5)
    with scene(options) as it:
        channel = made_up_channel(it)
        root = it.folder / "root"
        anaconda = root / "home/ec2-user/anaconda3"
        prefix = anaconda / "envs/python3"
        (root / "home/ec2-user/SageMaker").mkdir(parents=True)
        (anaconda / "conda-meta").mkdir(parents=True)
        everything = ", ".join(f"part{number:03}" for number in range(PACKAGES))
        made = f"ensure_conda_env: {{prefix: '{prefix}', packages: [{everything}], channels: ['{channel}']}}"
        it.run(it.playbook([made], "made.yml"))
        (prefix / "conda-meta/nbprovision").unlink()  # as if the image had brought it
        image = it.folder / "image"
        shutil.copytree(prefix / "conda-meta", image)
        book = it.playbook([f"ensure_conda_pkg: {{env: python3, packages: [extra], channels: ['{channel}']}}"])

        def as_the_image_was() -> None:
            shutil.rmtree(prefix / "conda-meta")
            shutil.copytree(image, prefix / "conda-meta")
            (prefix / "share/extra.txt").unlink(missing_ok=True)

        name = f"one package into a provided environment of {PACKAGES} packages"
        ours = [it.python, "-c", RUN, str(root), str(book)]
        conda = os.environ.get("NBPROVISION_TEST_CONDA") or shutil.which("conda")
        if conda is None:
            seconds = [once(ours, it.env, as_the_image_was).seconds for _ in range(options.runs)]
            print(f"{name}: {1000 * statistics.median(seconds):.1f} ms; there is no conda to compare with")
            return
        peer = [conda, "install", "--yes", "--quiet", "--prefix", str(prefix), "--override-channels"]
        ratio = paired(
            name,
            ours,
            [*peer, "--channel", channel.as_uri(), "extra"],
            it.env,
            runs=options.runs,
            before_ours=as_the_image_was,
            before_peer=as_the_image_was,
            peer_name=subprocess.run([conda, "--version"], check=True, capture_output=True, text=True).stdout.strip(),
        )
    print(f"promised: at most {PROMISE}; {'kept' if ratio <= PROMISE else 'NOT KEPT'}")
    sys.exit(ratio > PROMISE)


def made_up_channel(it: Scene) -> Path:
    """A channel of the usual size of things: 400 packages of 50 files that need one another, in 50 versions."""
    from tests.support.conda_packages import TinyChannel

    class Channel(TinyChannel):
        def write(self) -> None:
            super()._write()

        def mention(self, name: str, version: str, depends: list[str]) -> None:
            """An older version, which nobody fetches."""
            index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends}
            more = {"subdir": "noarch", "noarch": "generic", "size": 1, "md5": "0" * 32, "sha256": "0" * 64}
            self._index["noarch"][f"{name}-{version}-0.tar.bz2"] = {**index, **more}

        def _write(self) -> None:
            """Not after each package."""

    channel = Channel(it.folder / "channel")
    channel.write()
    for number in range(PACKAGES):
        name = f"part{number:03}"
        depends = [f"part{other:03} >=1,<2" for other in {number - 1, number // 2, number // 3} if 0 <= other < number]
        files = {f"lib/{name}/module{file:02}.py": f"# {name} {file}\n" * 20 for file in range(FILES)}
        channel.add(name, "1.99", depends=depends, files=files)
        for older in range(VERSIONS):
            channel.mention(name, f"1.{older}", depends)
    channel.add("extra", "1.0", depends=["part100 >=1"])
    channel.write()
    return channel.path


if __name__ == "__main__":
    main()
