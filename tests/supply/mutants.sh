#!/usr/bin/env bash
# Changes a file of the library in many small ways (mutmut) and tells which of them its tests do not notice. A sample,
# the same every time; a tenth of a second to a second for each.
#   tests/supply/mutants.sh stlm_hub/predict/images.py 120 tests/predict/test_images.py
# Needs on the PATH an environment with stlm_hub[dev] and `pip install "mutmut>=3.8,<4"`.
set -euo pipefail
file=$1 count=$2
shift 2
checkout=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
git -C "$checkout" archive HEAD stlm_hub tests pyproject.toml | tar -x
mkdir mutants
for beside in model_cards docs space benchmarks train README.md; do  # what tests read and mutmut does not copy
  ln -s "$checkout/$beside" "$beside"
  ln -s "$checkout/$beside" "mutants/$beside"
done
tests=$(printf '"%s", ' "$@")
cat >> pyproject.toml <<END

[tool.mutmut]
source_paths = ["stlm_hub"]
only_mutate = ["$file"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:timeout", "-o", "addopts=--import-mode=importlib --strict-markers"]
pytest_add_cli_args_test_selection = [$tests]
track_dependencies = false
use_git_change_detection = false
timeout_constant = 5.0
timeout_multiplier = 4.0
END
mutmut run --max-children 1 "nothing*" > generated.log 2>&1 || true  # makes the mutants, then finds none of this name
python - "$count" > names <<'END'
import json, pathlib, random, sys

found = [name for path in pathlib.Path("mutants").rglob("*.meta") for name in json.loads(path.read_text())["exit_code_by_key"]]
print(f"{len(found)} mutants", file=sys.stderr)
print(*random.Random(0).sample(sorted(found), min(int(sys.argv[1]), len(found))), sep="\n")
END
xargs mutmut run --max-children 1 < names > tried.log 2>&1 || { tail -n 30 tried.log; exit 1; }
sed -n '/^Mutant results/,$p' tried.log > results
{ grep '^🙁\|^🫥\|^⏰\|^🤔' results || true; } | cut -d ' ' -f 2 | while read -r name; do
  mutmut show "$name" | grep '^[-+#]' | grep -v '^---\|^+++' || true
done
echo "$(wc -l < names) tried, $(grep -c '^🎉' results) noticed."
