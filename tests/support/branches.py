"""Whether the tests have run enough of the code's branches: ``python -m tests.support.branches 92``.

Reads what ``sh tests/run.sh --cov`` has measured, in the tests' own processes and in those that they start; not in the one in
which py-rattler works, as tests/run.sh says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(least: float) -> int:
    """Tell the share of branches, and of each file that has the most of what is missing; 1 where it is too little."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        ours = Path(__file__).parents[2] / "nbprovision"  # some tests work on copies of it
        argv = [sys.executable, "-m", "coverage", "json", "--quiet", f"--include={ours}/*", "-o", report]
        subprocess.run(argv, check=True)
        measured = json.loads(report.read_text())
    worst = sorted(measured["files"].items(), key=lambda file: -file[1]["summary"]["missing_branches"])
    for name, file in worst[:10]:
        print(f"{name}: {file['summary']['missing_branches']} of {file['summary']['num_branches']} branches not run")
    totals = measured["totals"]
    share = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"branches: {share:.1f} % of {totals['num_branches']}, at least {least:.0f} % wanted")
    return 0 if share >= least else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
