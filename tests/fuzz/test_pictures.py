"""Damaged pictures by the thousand: `make fuzz` reads 20,000 and more, `make test` a few hundred of the same."""

from __future__ import annotations

import os

import pytest
from fuzz.mutations import mutated, truncations
from fuzz.outcome import MAX_MORE_MEMORY, judged, peak_memory
from fuzz.seeds import seed_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

COUNT = int(os.environ.get("STLM_FUZZ", "400"))
MADE_TEST = COUNT <= 400
"""Whether this is a part of `make test`."""
PICTURES = seed_pictures()


def test_the_pictures_themselves_are_read_but_for_the_bomb() -> None:
    refused = [name for name, data in PICTURES.items() if not judged(data)]
    assert refused == ["bomb.png"]


def test_mutations_are_read_or_refused_with_a_sentence() -> None:
    before, read = peak_memory(), 0
    for number in range(COUNT):
        name, data = mutated(PICTURES, number)
        try:
            read += judged(data)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {name}: {error!r}") from error
    assert peak_memory() - before < MAX_MORE_MEMORY
    assert 0 < read < COUNT  # damage is neither always nor never noticed
    print(f"{COUNT} mutations: {read} read, {COUNT - read} refused.")


@pytest.mark.parametrize("name", PICTURES)
def test_beginnings_are_read_or_refused_with_a_sentence(name: str) -> None:
    for beginning in truncations(PICTURES[name]):
        judged(beginning, name)


@settings(max_examples=max(50, COUNT // 20), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(start=st.sampled_from([data[:12] for data in PICTURES.values()]), rest=st.binary(max_size=400))
def test_a_right_start_with_anything_behind_it(start: bytes, rest: bytes) -> None:
    judged(start + rest)


def test_the_same_number_is_the_same_file() -> None:
    assert all(mutated(PICTURES, number) == mutated(PICTURES, number) for number in range(50))
    assert len({mutated(PICTURES, number)[1] for number in range(200)}) > 180
