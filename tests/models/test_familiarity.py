"""How far a whole photograph is from those that a model learned from."""

from __future__ import annotations

import pytest
import torch
from drawn import normal
from torch import Tensor

from stlm_hub.models.familiarity import COMPONENTS, Familiarity, describe

CHANNELS = 12
DIRECTIONS = normal(2, 2 * CHANNELS, seed=9)


def photographs(n: int, seed: int) -> Tensor:
    """Descriptions that differ much in two directions and a little in all others."""
    return 5 + 4 * normal(n, 2, seed=seed) @ DIRECTIONS + 0.3 * normal(n, 2 * CHANNELS, seed=seed + 1)


def test_a_photograph_is_described_by_mean_and_spread_of_each_feature() -> None:
    patches = normal(2, 3, 4, 5)
    described = describe(patches)
    assert described.shape == (2, 10) and described.dtype == torch.float32
    torch.testing.assert_close(described[1, 2], patches[1, :, :, 2].mean())
    torch.testing.assert_close(described[1, 7], patches[1, :, :, 2].std())
    where_does_not_matter = patches.flatten(1, 2)[:, torch.randperm(12)].reshape(2, 3, 4, 5)
    torch.testing.assert_close(describe(where_does_not_matter), described)


def test_typical_photographs_are_about_1_away_and_others_far() -> None:
    familiarity = Familiarity(CHANNELS).fit(photographs(200, seed=0))
    typical = familiarity.distance(photographs(100, seed=2))
    assert 0.7 < typical.mean() < 1.3 and typical.max() < 2.5
    # as far in the directions that never vary as usual in those that do
    assert familiarity.distance(5 + 4 * normal(20, 2 * CHANNELS, seed=4)).min() > 3 * typical.max()
    assert familiarity.distance(photographs(20, seed=6) + 100).min() > 10 * typical.max()


def test_the_distance_does_not_depend_on_the_unit_of_the_features() -> None:
    fitted = [Familiarity(CHANNELS).fit(unit * photographs(60, seed=0)) for unit in (1, 1000)]
    one, thousand = (f.distance(unit * photographs(9, seed=2)) for f, unit in zip(fitted, (1, 1000), strict=True))
    torch.testing.assert_close(one, thousand, rtol=1e-3, atol=1e-3)


def test_four_photographs_are_enough_to_tell_another_part() -> None:
    seen = photographs(4, seed=0)
    familiarity = Familiarity(CHANNELS).fit(seen)
    assert torch.count_nonzero(familiarity.variances) == 1  # no more directions than a quarter of them
    distances = familiarity.distance(seen)
    assert torch.isfinite(distances).all() and distances.max() < 3
    assert familiarity.distance(seen[:1] + 500) > 10 * distances.max()


def test_of_many_photographs_there_are_no_more_than_eight_directions() -> None:
    familiarity = Familiarity(CHANNELS).fit(normal(100, 2 * CHANNELS))
    assert torch.count_nonzero(familiarity.variances) == COMPONENTS == 8
    torch.testing.assert_close(familiarity.components.T @ familiarity.components, torch.eye(8), rtol=0, atol=1e-4)


def test_copies_of_one_photograph_leave_a_finite_distance() -> None:
    familiarity = Familiarity(CHANNELS).fit(photographs(1, seed=0).expand(5, -1))
    assert familiarity.distance(photographs(1, seed=0)).item() < 1
    assert torch.isfinite(familiarity.distance(photographs(3, seed=2))).all()


def test_a_fit_is_forgotten_at_the_next_and_carried_by_the_state() -> None:
    familiarity = Familiarity(CHANNELS).fit(photographs(100, seed=0))
    again = Familiarity(CHANNELS).fit(normal(50, 2 * CHANNELS)).fit(photographs(100, seed=0))
    loaded = Familiarity(CHANNELS)
    loaded.load_state_dict(familiarity.state_dict())
    asked = photographs(5, seed=3)
    for other in (again, loaded):
        torch.testing.assert_close(other.distance(asked), familiarity.distance(asked))


def test_patches_are_described_before_they_are_compared() -> None:
    patches = normal(6, 8, 8, CHANNELS) + normal(6, 1, 1, CHANNELS, seed=1)
    familiarity = Familiarity(CHANNELS).fit(describe(patches))
    assert familiarity(patches).shape == (6,)
    torch.testing.assert_close(familiarity(patches), familiarity.distance(describe(patches)))


@pytest.mark.parametrize("n", [4, 5, 7, 9])
def test_few_photographs_never_yield_what_is_no_number(n: int) -> None:
    familiarity = Familiarity(CHANNELS).fit(photographs(n, seed=n))
    assert all(torch.isfinite(buffer).all() for buffer in familiarity.state_dict().values())
