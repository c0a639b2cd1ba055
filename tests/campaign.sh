#!/bin/sh
# The campaign: the long forms of tests and the large simulations, hours in all. Arguments go to pytest:
# sh tests/campaign.sh tests/reliability/test_kill.py
#
# Each variable gives the size of one simulation; set it to try another size. NBPROVISION_TEST_SEED repeats what a
# random one has tried.

set -eu
export NBPROVISION_TEST_SEQUENCES="${NBPROVISION_TEST_SEQUENCES:-2000}" # of runs and changes by hand
export NBPROVISION_TEST_NETWORK="${NBPROVISION_TEST_NETWORK:-100}"      # rounds of network faults
export NBPROVISION_TEST_RACES="${NBPROVISION_TEST_RACES:-20}"           # rounds of concurrent runs
export NBPROVISION_TEST_HOSTILE="${NBPROVISION_TEST_HOSTILE:-all}"      # values and files that harm
export NBPROVISION_TEST_CORPUS="${NBPROVISION_TEST_CORPUS:-all}"        # harms to each playbook of the repository
export NBPROVISION_TEST_LINTED="${NBPROVISION_TEST_LINTED:-20000}"      # files for the linter
exec sh "${0%/*}/run.sh" -m campaign "$@"
