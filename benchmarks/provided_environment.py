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

# The command line knows no root but the machine's, and this instance lies in a folder.
RUN = """
import sys
from pathlib import Path
from nbprovision.engine.run import Listener
from nbprovision.engine.session import Request, Session
from nbprovision.facts.machine import Machine
from nbprovision.reporters.document import Silent
from nbprovision.tasks import Catalogue
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
        shutil.copytree(prefix, image, symlinks=True)
        book = it.playbook([f"ensure_conda_pkg: {{env: python3, packages: [extra], channels: ['{channel}']}}"])

        def as_the_image_was() -> None:
            shutil.rmtree(prefix)
            shutil.copytree(image, prefix, symlinks=True)

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
    """A channel of 400 packages, each of which needs the one before it, and one more."""
    from tests.conda_packages import TinyChannel

    channel = TinyChannel(it.folder / "channel")
    for number in range(PACKAGES):
        channel.add(f"part{number:03}", "1.0", depends=[f"part{number - 1:03} >=1"] if number else [])
    channel.add("extra", "1.0", depends=["part100 >=1"])
    return channel.path


if __name__ == "__main__":
    main()
