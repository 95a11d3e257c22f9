"""Learning rates and precision of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.step import learning_rate_factor, mixed_precision


def test_learning_rates_warm_up_and_fall_along_half_a_cosine() -> None:
    def factors(total: int, **fields: Any) -> list[float]:
        return [learning_rate_factor(step, total, TrainingConfig(**fields)) for step in range(total)]

    assert factors(5) == [1.0] * 5
    assert factors(6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    falling = factors(1000, final_learning_rate=0.1)
    assert falling[0] == 1 and falling[500] == pytest.approx(0.55) and falling[999] == pytest.approx(0.1, abs=1e-5)
    assert falling == sorted(falling, reverse=True)
    both = factors(1000, final_learning_rate=0.1, warmup_steps=10)
    assert both[:10] == pytest.approx([(i + 1) / 10 * falling[i] for i in range(10)]) and both[10:] == falling[10:]


def test_auto_precision_asks_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for able, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert mixed_precision("auto") == expected
        assert (mixed_precision("no"), mixed_precision("bf16")) == ("no", "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # another kind of processor
    assert mixed_precision("auto") == "no"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for able, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert mixed_precision("auto") == expected
