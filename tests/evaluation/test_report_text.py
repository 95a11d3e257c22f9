"""Sections of a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from stlm_hub.evaluation import report_text
from stlm_hub.evaluation.test_folder import read_test_set
from stlm_hub.files.fingerprint import fingerprint
from stlm_hub.model_folder.provenance import DatasetFacts, Split, TestPhotographs
from stlm_hub.model_folder.results import Results
from stlm_hub.samples.parts import write_samples


def test_only_results_of_these_photographs_know_their_split(tmp_path: Path) -> None:
    data = write_samples(tmp_path, n_train=0, n_good=2, n_defect_each=1, size=64)
    test = read_test_set(data)
    ours = TestPhotographs(2, 5, fingerprint(test.photographs + test.masks))
    split = Split(False, "3 good test photographs")
    (told,) = report_text.split(Results(dataset=DatasetFacts(split=split, test=ours)), test)
    assert told.startswith("**The split: not")
    for dataset in (
        DatasetFacts(split=Split(True), test=ours),
        DatasetFacts(split=split, test=dataclasses.replace(ours, sha256="0")),
        DatasetFacts(split=split),
        DatasetFacts(test=ours),
    ):
        assert report_text.split(Results(dataset=dataset), test) == []
    assert report_text.split(None, test) == []
