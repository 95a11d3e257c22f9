"""Industrial anomaly detection from photographs of good parts.

>>> from stlm_hub import STLM
>>> STLM.from_pretrained("sample-brick").predict("part.png").is_anomalous

Names are imported when they are first used, so that `import stlm_hub` and `stlm --help` cost no second.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .detectors import load as load
    from .errors import STLMError as STLMError
    from .model_folder.zoo import list_models as list_models
    from .models.stlm.config import STLMConfig as STLMConfig
    from .predict.prediction import Prediction as Prediction
    from .stlm import STLM as STLM
    from .training.finetune import finetune as finetune
    from .zero_shot.detector import ZeroShot as ZeroShot

_WHERE = {
    "STLM": ".stlm",
    "STLMConfig": ".models.stlm.config",
    "STLMError": ".errors",
    "Prediction": ".predict.prediction",
    "finetune": ".training.finetune",
    "load": ".detectors",
    "list_models": ".model_folder.zoo",
    "ZeroShot": ".zero_shot.detector",
}
__all__ = [*_WHERE]

try:
    __version__ = version("stlm_hub")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
