#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment outside the checkout, and judges a photograph with it.
set -euo pipefail
python=${1:-python3}
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" wheel --quiet --no-deps --wheel-dir "$work" "$checkout"
"$work/env/bin/pip" install --quiet "$work"/stlm_hub-*.whl
cd "$work"  # so that nothing of the checkout is imported
env/bin/stlm zoo list
env/bin/python - <<'END'
import numpy, PIL.Image, stlm_hub
assert "env/lib" in stlm_hub.__file__.replace("\\", "/"), stlm_hub.__file__
PIL.Image.fromarray(numpy.random.default_rng(0).integers(90, 110, (300, 400, 3), "uint8")).save("part.png")
END
env/bin/stlm predict part.png --model "$checkout/model_cards/sample-brick" --json --output panels
test -s panels/*.png
if env/bin/stlm predict missing.png --model "$checkout/model_cards/sample-brick"; then
  echo "A photograph that is missing must be an error." && exit 1
fi
echo "The wheel works in an empty environment: $("$work/env/bin/python" --version)."
