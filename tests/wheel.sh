#!/usr/bin/env bash
# Builds the sdist and from it the wheel, and installs that into empty environments outside the checkout, as a user would:
# one judges a photograph with PyTorch and exports the model, one judges it with the export and has no PyTorch.
set -euo pipefail
python=${1:-python3}
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$python" -m venv "$work/light"
"$work/env/bin/pip" install --quiet build
"$work/env/bin/python" -m build --outdir "$work" "$checkout" > "$work/build.log" || { cat "$work/build.log"; exit 1; }
wheel=$(echo "$work"/stlm_hub-*.whl)
"$work/env/bin/pip" install --quiet "$wheel[export]"
"$work/light/bin/pip" install --quiet "$wheel[runtime]"
cd "$work"  # so that nothing of the checkout is imported
env/bin/stlm zoo list
env/bin/python - <<'END'
import numpy, PIL.Image, stlm_hub
assert "env/lib" in stlm_hub.__file__.replace("\\", "/"), stlm_hub.__file__
PIL.Image.fromarray(numpy.random.default_rng(0).integers(90, 110, (300, 400, 3), "uint8")).save("part.png")
END
env/bin/stlm predict part.png --model "$checkout/model_cards/sample-brick" --json --output panels > torch.json
test -s panels/*.png
if env/bin/stlm predict missing.png --model "$checkout/model_cards/sample-brick"; then
  echo "A photograph that is missing must be an error." && exit 1
fi
echo "The wheel works in an empty environment: $("$work/env/bin/python" --version)."

env/bin/stlm export "$checkout/model_cards/sample-brick" --output exported
light/bin/stlm predict part.png --model exported --json --output light_panels > light.json
test -s light_panels/*.png
light/bin/python - <<'END'
import importlib.util, json, pathlib, subprocess, sys, sysconfig, time

for name in ("torch", "torchvision", "timm", "scipy", "huggingface_hub"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed"
ours, theirs = (json.loads(pathlib.Path(name).read_text()) for name in ("light.json", "torch.json"))
assert (ours["backend"], theirs["backend"]) == ("onnxruntime fp32", "torch"), (ours, theirs)
assert ours["verdict"] == theirs["verdict"] and abs(ours["score"] - theirs["score"]) < 1e-4, (ours, theirs)

site = pathlib.Path(sysconfig.get_path("purelib"))
tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")  # of venv itself
files = [p for p in site.rglob("*") if p.is_file() and not p.relative_to(site).parts[0].split("-")[0] in tools]
size = sum(p.stat().st_size for p in files) / 2**20
assert size < 300 or sys.version_info < (3, 11), f"{size:.0f} MB are installed"  # before 3.11 ONNX Runtime needs sympy

def seconds(*command):
    """The least of three runs: another process may have the processor."""
    taken = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.monotonic() - started)
    return min(taken)

loading = seconds(sys.executable, "-c", "import stlm_hub; stlm_hub.load('exported')")
judging = seconds(str(pathlib.Path(sys.executable).with_name("stlm")), "predict", "part.png", "--model", "exported")
assert loading < 5 and judging < 8, (loading, judging)  # 1 s and 1.5 s are the aim; a busy machine takes its time
print(f"Without PyTorch: {size:.0f} MB, loads in {loading:.2f} s, judges one photograph in {judging:.2f} s.")
END
light/bin/pip install --quiet "$wheel[runtime,line]"
mkdir arriving && cp part.png arriving
light/bin/stlm watch arriving --model exported --output verdicts --rejects rejects --threshold 0 --once
light/bin/python - <<'END'
import importlib.util, json, pathlib

assert importlib.util.find_spec("torch") is None, "torch is installed"
(row,) = map(json.loads, pathlib.Path("verdicts/verdicts.jsonl").read_text().splitlines())
assert row["verdict"] in ("reject", "unfamiliar") and row["error"] is None, row
assert pathlib.Path(row["picture"]).parent.name == "rejects" and pathlib.Path(row["picture"]).is_file(), row
END
if light/bin/stlm predict part.png --model "$checkout/model_cards/sample-brick" 2> refused.txt; then
  echo "A model that needs PyTorch must be an error without it." && exit 1
fi
grep -q 'needs PyTorch: pip install "stlm_hub\[torch\]"' refused.txt
