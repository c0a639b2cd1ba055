#!/bin/sh
# Make the test environment (once, and again when pyproject.toml changes), then run the default tests that this machine
# can run. Arguments go to pytest: sh tests/run.sh -k kernel -x
#
#   sh tests/run.sh -m 'not campaign'    the proofs as well: containers, systemd, slow integration (docs/contributing.md)
#
#   NBPROVISION_TEST_VENV      the environment; default .venv-test in the checkout
#   NBPROVISION_TEST_WORKERS   tests side by side; default one more than processors, 5 at most, as many of them wait
#   NBPROVISION_PYTHON         the Python to test with; default as bootstrap.sh finds it

set -eu
cd "$(dirname "$0")/.."
venv=${NBPROVISION_TEST_VENV:-$PWD/.venv-test}
made_from=$(cat pyproject.toml scripts/* | cksum)

if [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$made_from ${NBPROVISION_PYTHON-}" ] || ! "$venv/bin/python" -c ''; then
    # Only what this script has made is made anew.
    if [ -e "$venv" ] && [ -n "${NBPROVISION_TEST_VENV-}" ] && [ ! -e "$venv/.made-from" ]; then
        echo "$venv is there already and not made by this script: name another NBPROVISION_TEST_VENV" >&2
        exit 5
    fi
    echo "making the test environment in $venv" >&2
    # Not a copy of the code but the code itself: what is tested is what is in the checkout.
    sh bootstrap.sh --make-venv "$venv" --editable "${PWD}[test,lint]"
    # Programs that are not measured: to trace the process in which py-rattler's threads call Python has crashed it, and
    # AWS's command and moto's server are none of the project's, and take half as long again. Coverage's own file comes
    # after this one by its name, and looks whether it should measure.
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo 'import os, sys; {"nbprovision.conda.rattler_child", "aws", "moto_server", "tests.support.sagemaker_states"}.isdisjoint(a.rpartition("/")[2] for a in sys.orig_argv[:4]) or os.environ.pop("COVERAGE_PROCESS_CONFIG", None)' \
        >"$packages/a0_not_measured.pth"
    printf '%s\n' "$made_from ${NBPROVISION_PYTHON-}" >"$venv/.made-from"
fi

workers=${NBPROVISION_TEST_WORKERS:-$(($(getconf _NPROCESSORS_ONLN) + 1))}
[ "$workers" -le 5 ] || workers=5

# Every skipped test is listed with its reason at the end (-ra in pyproject.toml). Files stay on one worker, so that
# what a file prepares at some cost is prepared once.
exec "$venv/bin/python" -m pytest --numprocesses "$workers" --dist loadfile "$@"
