#!/usr/bin/env bash
# Builds sdist and wheel once and installs each into an empty environment of every Python from 3.10 to 3.13 that this
# machine has: `python3.X` on the PATH, pyenv's or uv's. There they judge a photograph with an exported model.
#   tests/supply/pythons.sh PYTHON   (one with stlm_hub[export], which exports the model)
set -euo pipefail
python=$(command -v "${1:-python3}")
checkout=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find_python() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python \
    "$(uv python find --no-python-downloads "$1" 2>/dev/null || true)"; do
    if [ -n "$candidate" ] && [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]
    then
      echo "$candidate"
      return
    fi
  done
}

"$python" -m venv "$work/build"
"$work/build/bin/pip" install --quiet hatchling
(cd "$checkout" && "$work/build/bin/hatchling" build --directory "$work/dist" > /dev/null)
sdist=$(echo "$work"/dist/stlm_hub-*.tar.gz) wheel=$(echo "$work"/dist/stlm_hub-*.whl)
cd "$work"  # so that nothing of the checkout is imported
PYTHONPATH="$checkout" "$python" -m stlm_hub.cli.main export "$checkout/model_cards/sample-brick" --output exported > /dev/null
unset PYTHONPATH
"$python" -c '
import numpy, PIL.Image
PIL.Image.fromarray(numpy.random.default_rng(0).integers(90, 110, (300, 400, 3), "uint8")).save("part.png")'

judges() {
  "$1/bin/stlm" predict part.png --model exported --json | grep -q '"backend": "onnxruntime fp32"'
  "$1/bin/stlm" doctor > doctor.txt || { cat doctor.txt; return 1; }
}

tested=0
for version in 3.10 3.11 3.12 3.13; do
  interpreter=$(find_python $version)
  if [ -z "$interpreter" ]; then
    echo "Python $version is not here and was not tested."
    continue
  fi
  "$interpreter" -m venv "env$version"
  "env$version/bin/pip" install --quiet "$sdist[runtime]"
  judges "env$version"
  "env$version/bin/pip" install --quiet --no-deps --force-reinstall "$wheel"
  judges "env$version"
  "env$version/bin/pip" check > /dev/null
  echo "$("env$version/bin/python" --version): sdist and wheel install and judge a photograph."
  rm -r "env$version"
  tested=$((tested + 1))
done
test $tested -gt 0
