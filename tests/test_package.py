"""The package as a whole: what importing it costs, what it exports."""

from __future__ import annotations

import subprocess
import sys

import stlm_hub


def test_import_loads_nothing_heavy() -> None:
    script = "import stlm_hub, sys; print([m for m in ('torch', 'timm', 'cv2', 'huggingface_hub') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_exists() -> None:
    for name in stlm_hub.__all__:
        assert getattr(stlm_hub, name).__name__ == name
    assert set(stlm_hub.__all__) <= set(dir(stlm_hub))


def test_inference_needs_no_training_package() -> None:
    """The core install has no accelerate, scikit-learn or matplotlib."""
    script = (
        "import sys\n"
        "for name in ('accelerate', 'sklearn', 'skimage', 'matplotlib', 'onnx'): sys.modules[name] = None\n"
        "import stlm_hub.stlm, stlm_hub.predict.predictor, stlm_hub.drawing.heatmap, stlm_hub.cli.main\n"
        "import stlm_hub.model_folder.zoo, stlm_hub.calibration.threshold\n"
        "import stlm_hub.starting_weights.sources\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "fine", done.stderr
