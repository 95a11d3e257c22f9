"""The models that tests share are of the streams that they say, whichever module of tests asks for them first."""

from __future__ import annotations

import pytest
from made_models import make_memory_model, make_model
from toy_streams import ToyBackbone, ToyEncoder

from stlm_hub.stlm import STLM


def is_toy(model: STLM) -> bool:
    assert model.network is not None
    return any(isinstance(module, (ToyEncoder, ToyBackbone)) for module in model.modules())


@pytest.mark.usefixtures("toy_streams")
def test_a_module_with_toys_gets_the_real_models_too() -> None:
    assert is_toy(make_model(toy=True)) and is_toy(make_memory_model(toy=True))
    assert is_toy(STLM(make_model(toy=True).config))  # what the module itself makes
    assert not is_toy(make_model()) and not is_toy(make_memory_model())
