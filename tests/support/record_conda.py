"""Record anew what a real conda answers: ``NBPROVISION_TEST_CONDA=/path/to/conda python -m tests.support.record_conda``.

It runs the tests that are replayed elsewhere on the real one, and writes ``tests/data/conda-output``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    if not os.environ.get("NBPROVISION_TEST_CONDA"):
        raise SystemExit("say by NBPROVISION_TEST_CONDA which conda to record")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    words += ["tests/conda/test_conda_command.py", "tests/reliability/test_network_conda.py"]
    variables = {**os.environ, "NBPROVISION_RECORD_CONDA": "1"}
    raise SystemExit(subprocess.run(words, env=variables, cwd=Path(__file__).parents[2], check=False).returncode)
