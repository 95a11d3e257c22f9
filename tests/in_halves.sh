#!/usr/bin/env bash
# All tests in two processes of one thread each, which takes two cores little more than half the time of one process.
# Usage: tests/in_halves.sh FOLDER-OF-PYTEST [OPTIONS OF PYTEST]. What the first half says comes after the second. With
# --cov each leaves a .coverage file of its own, for `coverage combine`.
set -uo pipefail
pytest=$1/pytest
shift
export OMP_NUM_THREADS=1
said=$(mktemp)
COVERAGE_FILE=.coverage.first "$pytest" tests/space tests/training "$@" >"$said" 2>&1 &
first=$!
trap 'kill $first 2>/dev/null; rm -f "$said"' EXIT
COVERAGE_FILE=.coverage.second "$pytest" tests --ignore=tests/space --ignore=tests/training "$@"
second=$?
wait $first
code=$?
cat "$said"
exit $((second > code ? second : code))
