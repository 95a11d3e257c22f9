"""How far a whole photograph is from those that a model learned from, by what it holds and by where it holds it."""

from __future__ import annotations

import pytest
import torch
from drawn import normal
from torch import Tensor

from stlm_hub.models.familiarity import COMPONENTS, Familiarity, NormalDistribution, describe

SIZE = 24
DIRECTIONS = normal(2, SIZE, seed=9)


def samples(n: int, seed: int) -> Tensor:
    """Numbers that differ much in two directions and a little in all others."""
    return 5 + 4 * normal(n, 2, seed=seed) @ DIRECTIONS + 0.3 * normal(n, SIZE, seed=seed + 1)


def fitted(seen: Tensor) -> NormalDistribution:
    distribution = NormalDistribution(seen.shape[1])
    distribution.fit(seen)
    return distribution


# ---------------------------------------------------------------- the distance


def test_typical_samples_are_about_1_away_and_others_far() -> None:
    distribution = fitted(samples(200, seed=0))
    typical = distribution(samples(100, seed=2))
    assert 0.7 < typical.mean() < 1.3 and typical.max() < 2.5
    # as far in the directions that never vary as usual in those that do
    assert distribution(5 + 4 * normal(20, SIZE, seed=4)).min() > 3 * typical.max()
    assert distribution(samples(20, seed=6) + 100).min() > 10 * typical.max()


def test_the_distance_does_not_depend_on_the_unit_of_the_features() -> None:
    one, thousand = (fitted(unit * samples(60, seed=0))(unit * samples(9, seed=2)) for unit in (1, 1000))
    torch.testing.assert_close(one, thousand, rtol=1e-3, atol=1e-3)


def test_four_samples_are_enough_to_tell_what_is_none_of_them() -> None:
    seen = samples(4, seed=0)
    distribution = fitted(seen)
    assert torch.count_nonzero(distribution.variances) == 1  # no more directions than a quarter of them
    distances = distribution(seen)
    assert torch.isfinite(distances).all() and distances.max() < 3
    assert distribution(seen[:1] + 500) > 10 * distances.max()


def test_of_many_samples_there_are_no_more_than_eight_directions() -> None:
    distribution = fitted(normal(100, SIZE))
    assert torch.count_nonzero(distribution.variances) == COMPONENTS == 8
    torch.testing.assert_close(distribution.components.T @ distribution.components, torch.eye(8), rtol=0, atol=1e-4)


def test_copies_of_one_sample_leave_a_finite_distance() -> None:
    distribution = fitted(samples(1, seed=0).expand(5, -1))
    assert distribution(samples(1, seed=0)).item() < 1
    assert torch.isfinite(distribution(samples(3, seed=2))).all()


@pytest.mark.parametrize("n", [4, 5, 7, 9])
def test_few_samples_never_yield_what_is_no_number(n: int) -> None:
    assert all(torch.isfinite(buffer).all() for buffer in fitted(samples(n, seed=n)).state_dict().values())


def test_a_fit_is_forgotten_at_the_next_and_carried_by_the_state() -> None:
    distribution, again, loaded = fitted(samples(100, seed=0)), fitted(normal(50, SIZE)), NormalDistribution(SIZE)
    again.fit(samples(100, seed=0))
    loaded.load_state_dict(distribution.state_dict())
    for other in (again, loaded):
        torch.testing.assert_close(other(samples(5, seed=3)), distribution(samples(5, seed=3)))


# ---------------------------------------------------------------- photographs


def test_content_is_mean_and_spread_of_each_feature_wherever_it_is() -> None:
    patches = normal(2, 6, 9, 5)
    content, _ = describe(patches)
    assert content.shape == (2, 10) and content.dtype == torch.float32
    torch.testing.assert_close(content[1, 2], patches[1, :, :, 2].mean())
    torch.testing.assert_close(content[1, 7], patches[1, :, :, 2].std())
    torch.testing.assert_close(describe(patches.flip(1, 2)).content, content)


def test_layout_is_the_mean_of_each_feature_in_each_of_nine_places() -> None:
    patches = normal(2, 6, 9, 5)
    layout = describe(patches).layout
    assert layout.shape == (2, 45)
    torch.testing.assert_close(layout[1].view(5, 3, 3)[4, 2, 0], patches[1, 4:, :3, 4].mean())
    assert not torch.allclose(describe(patches.flip(1, 2)).layout, layout)


def part(seed: int) -> Tensor:
    """Patches of a part that is bright above and dark below."""
    return torch.linspace(2, -2, 8)[:, None, None] + 0.3 * normal(8, 8, 6, seed=seed) + 0.2 * normal(6, seed=seed + 500)


def test_a_part_upside_down_is_known_by_its_content_and_not_by_its_layout() -> None:
    seen = torch.stack([part(seed) for seed in range(40)])
    familiarity = Familiarity(6).fit(describe(seen))
    new = torch.stack([part(seed) for seed in range(100, 120)])
    usual, turned = familiarity(describe(new)), familiarity(describe(new.flip(1)))
    assert usual.shape == (20, 2) and 0.6 < usual.mean() < 1.5
    torch.testing.assert_close(turned[:, 0], usual[:, 0], rtol=1e-3, atol=1e-3)
    assert turned[:, 1].min() > 3 * usual[:, 1].max()


def test_something_else_is_far_by_its_content() -> None:
    familiarity = Familiarity(6).fit(describe(torch.stack([part(seed) for seed in range(40)])))
    usual = familiarity(describe(torch.stack([part(seed) for seed in range(100, 120)])))
    assert familiarity(describe(3 + normal(5, 8, 8, 6)))[:, 0].min() > 3 * usual.max()
