"""The losses against the paper's equations, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stlm_hub.training.losses import FOCAL_GAMMA, cosine_distillation, focal, l1, mask_on_grid


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over batch and positions of 1 - a.b / |a||b| (equation 2)."""
    distances = [
        1 - a[n, :, y, x] @ b[n, :, y, x] / (np.linalg.norm(a[n, :, y, x]) * np.linalg.norm(b[n, :, y, x]))
        for n in range(a.shape[0])
        for y in range(a.shape[2])
        for x in range(a.shape[3])
    ]
    return float(np.mean(distances))


def test_cosine_distillation_is_the_sum_over_levels_of_the_mean_distance() -> None:
    student = {"stage1": random(2, 5, 4, 6), "decoder": random(2, 3, 2, 3, seed=1)}
    teacher = {
        "decoder": random(2, 3, 2, 3, seed=2),
        "stage1": 7 * random(2, 5, 4, 6, seed=3),
        "other": random(1, 1, 1, 1),
    }
    expected = sum(cosine_distance(f.double().numpy(), teacher[level].double().numpy()) for level, f in student.items())
    assert cosine_distillation(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_the_hardest_positions_of_each_image_are_what_the_losses_average() -> None:
    student, teacher = random(2, 8, 4, 5), random(2, 8, 4, 5, seed=1)
    distances = (1 - torch.nn.functional.cosine_similarity(student, teacher, dim=1)).flatten(1).sort(dim=1).values
    for share, n in ((0.25, 5), (0.001, 1), (1.0, 20)):
        with_gradient = student.clone().requires_grad_()
        loss = cosine_distillation({"a": with_gradient}, {"a": teacher}, share)
        assert loss.item() == pytest.approx(distances[:, -n:].mean().item(), rel=1e-5)
        loss.backward()
        assert with_gradient.grad is not None
        assert (with_gradient.grad.abs().amax(1) > 0).flatten(1).sum(1).tolist() == [n, n]
    logits, mask = random(2, 1, 4, 5), torch.zeros(2, 1, 4, 5)
    mask[:, :, 0, 0] = 1
    each = torch.stack(
        [focal(logits[i, :, y, x], mask[i, :, y, x]) for i in range(2) for y in range(4) for x in range(5)]
    )
    worst = each.reshape(2, 20).sort(dim=1).values[:, -2:].mean().item()
    assert focal(logits, mask, hardest_share=0.1).item() == pytest.approx(worst, rel=1e-5)


def test_cosine_distillation_ends_at_0_and_2() -> None:
    feature = random(2, 8, 3, 3)
    assert cosine_distillation({"a": feature}, {"a": 3 * feature}).item() == pytest.approx(0, abs=1e-6)
    assert cosine_distillation({"a": feature}, {"a": -feature}).item() == pytest.approx(2, rel=1e-6)


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    student, teacher = random(1, 4, 2, 2).requires_grad_(), random(1, 4, 2, 2, seed=1).requires_grad_()
    cosine_distillation({"a": student}, {"a": teacher}).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


def test_half_precision_features_are_compared_in_float32() -> None:
    feature = random(1, 256, 4, 4)
    loss = cosine_distillation({"a": feature.bfloat16()}, {"a": feature.bfloat16()})
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gamma", [FOCAL_GAMMA, 2.0, 0.0])
def test_focal_is_equation_6_of_the_paper(gamma: float) -> None:
    logits, mask = 3 * random(2, 1, 5, 4), (random(2, 1, 5, 4, seed=1) > 0).float()
    output, m = torch.sigmoid(logits.double()), mask.double()
    p = m * output + (1 - m) * (1 - output)  # equation 5
    expected = -((1 - p) ** gamma * torch.log(p)).mean()
    assert focal(logits, mask, gamma).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gamma_is_4() -> None:
    logits, mask = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    assert focal(logits, mask).item() == pytest.approx(0.5**4 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_focal_and_l1_stay_finite_where_the_logits_are_extreme(value: float) -> None:
    logits = torch.full((1, 1, 2, 2), value, requires_grad=True)
    mask = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    loss = focal(logits, mask)
    assert loss.item() == pytest.approx(50, rel=1e-5)  # half of the pixels are wrong by 100 nats, half are right
    (loss + l1(logits, mask)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_l1_is_the_mean_absolute_error_of_the_probability() -> None:
    logits = torch.tensor([[[[0.0, math.log(3)], [-math.log(3), 100.0]]]])  # probabilities 1/2, 3/4, 1/4, 1
    mask = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]])
    assert l1(logits, mask).item() == pytest.approx((0.5 + 0.25 + 0.75 + 0.0) / 4, rel=1e-6)


def test_a_cell_is_anomalous_where_at_least_half_of_its_middle_is() -> None:
    mask = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)
    mask[..., :2, :4] = 1  # 2 of the 4 middle pixels of cell (0, 0)
    mask[..., :2, 4:6] = 1  # 1 of 4 in cell (0, 1)
    mask[..., 4:, 12:] = 1  # all of cell (1, 3)
    expected = torch.tensor([[[[1.0, 0, 0, 0], [0, 0, 0, 1]]]])
    assert torch.equal(mask_on_grid(mask, (2, 4)), expected)
    assert torch.equal(mask_on_grid(mask, (8, 16)), mask.float())


def test_thin_anomalies_keep_their_area_on_the_grid() -> None:
    """A line 4 px wide, a quarter of a cell, at every offset: asking for half of a cell would lose all of it."""
    masks = torch.zeros(64, 1, 256, 256)
    for offset in range(64):
        masks[offset, 0, :, offset : offset + 4] = 1
    kept = mask_on_grid(masks, (16, 16)).mean() / masks.mean()
    assert kept.item() == pytest.approx(1, abs=0.3)
