"""Figures of a model: which are known, and under which names."""

from __future__ import annotations

import dataclasses

from stlm_hub.model_folder.figures import METRICS, MapFigures, PaperFigures


def test_figures_name_what_is_known_alone() -> None:
    assert MapFigures(ap=0.5, fnr=0.0).to_dict() == {"ap": 0.5, "fnr": 0.0}
    assert PaperFigures(i_auroc=1.0, image_size=1024, teacher="SAM").to_dict() == {"i_auroc": 1.0}
    assert list(METRICS) == [field.name for field in dataclasses.fields(MapFigures)]
