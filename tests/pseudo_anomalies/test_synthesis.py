"""Pseudo anomalies: what is damaged, where, how often, and that the mask tells the truth about it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.pseudo_anomalies import cutpaste, nsa
from stlm_hub.pseudo_anomalies.cutpaste import cutpaste_patch, cutpaste_scar, cutpaste_union
from stlm_hub.pseudo_anomalies.erase import erase
from stlm_hub.pseudo_anomalies.foreground import foreground
from stlm_hub.pseudo_anomalies.perlin import perlin_mask, perlin_noise, rotated_perlin_noise
from stlm_hub.pseudo_anomalies.synthesis import FAMILIES, SynthesisConfig, blend, synthesize
from stlm_hub.pseudo_anomalies.texture_looks import LOOKS
from stlm_hub.pseudo_anomalies.textures import TextureSource

Paste = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
TEXTURES = TextureSource(looks=tuple(LOOKS))


def part(size: int, seed: int = 0) -> np.ndarray:
    """A normal photograph with edges and gradients everywhere, so that every paste shows."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(40, 216, (9, 9, 3)).astype(np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    stripes = 25.0 * np.sin(np.arange(size) * 40.0 / size)[None, :, None]
    return np.clip(smooth + stripes + rng.normal(0.0, 3.0, (size, size, 3)), 0, 255).astype(np.uint8)


def always(family: str, beta_max: float = 0.8) -> SynthesisConfig:
    return SynthesisConfig(families=(family,), probability=1.0, beta_max=beta_max)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [64, 101, 320, 448, 512])
def test_mask_is_binary_nonempty_and_tells_where_the_image_changed(family: str, size: int) -> None:
    image, other = part(size), part(size, seed=1)
    before = image.copy()
    rng = np.random.default_rng(size)
    for _ in range(3):
        result, mask = synthesize(image, rng, always(family), TEXTURES, other)
        assert result.shape == (size, size, 3) and result.dtype == np.uint8
        assert mask.shape == (size, size) and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        difference = cv2.absdiff(result, image)
        if family == "nsa":  # the solution of the Poisson equation fades out below the tolerance
            far = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
            assert difference.mean(axis=2)[far].max() <= nsa.TOLERANCE
        else:
            assert difference[mask == 0].max() == 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_most_pixels_inside_the_mask_differ_from_the_original(family: str) -> None:
    image, other = part(192), part(192, seed=1)
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(20):
        result, mask = synthesize(image, rng, always(family, beta_max=0.2), TEXTURES, other)
        shares.append((cv2.absdiff(result, image).max(axis=2)[mask == 1] > 0).mean())
    assert np.mean(shares) > 0.9
    assert min(shares) > 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_gives_the_same_anomaly_and_another_seed_another(family: str) -> None:
    image, other = part(128), part(128, seed=1)
    drawn = [synthesize(image, np.random.default_rng(s), always(family), TEXTURES, other) for s in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    assert (drawn[0][1] != drawn[2][1]).any()


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_probability_is_respected(probability: float) -> None:
    image, rng, draws = part(64), np.random.default_rng(11), 600
    config = SynthesisConfig(families=("cutpaste_scar",), probability=probability)
    anomalous = 0
    for _ in range(draws):
        result, mask = synthesize(image, rng, config, TEXTURES)
        anomalous += int(mask.any())
        if not mask.any():
            assert result is not image
            np.testing.assert_array_equal(result, image)
    deviation = (probability * (1 - probability) / draws) ** 0.5
    assert abs(anomalous / draws - probability) <= 4 * deviation


def test_a_mixture_draws_every_family_in_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"patch": 0, "scar": 0}

    def counted(name: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls[name] += 1
        return image, np.ones(image.shape[:2], np.uint8)

    monkeypatch.setattr(
        "stlm_hub.pseudo_anomalies.synthesis.cutpaste_patch", lambda image, rng: counted("patch", image)
    )
    monkeypatch.setattr("stlm_hub.pseudo_anomalies.synthesis.cutpaste_scar", lambda image, rng: counted("scar", image))
    config = SynthesisConfig(families=("cutpaste_patch", "cutpaste_scar"), probability=1.0)
    rng = np.random.default_rng(0)
    for _ in range(400):
        synthesize(part(64), rng, config, TEXTURES)
    assert sum(calls.values()) == 400
    assert abs(calls["patch"] - 200) < 4 * 10


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.6, 1.0])
def test_blend_is_equation_1(beta: float) -> None:
    rng = np.random.default_rng(2)
    normal, texture = (rng.integers(0, 256, (40, 50, 3)).astype(np.uint8) for _ in range(2))
    mask = rng.integers(0, 2, (40, 50)).astype(np.uint8)
    m = mask[..., None].astype(np.float64)
    expected = (1 - m) * normal + (1 - beta) * m * texture + beta * m * normal
    result = blend(normal, texture, mask, beta)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 0.5 + 1e-6
    np.testing.assert_array_equal(result[mask == 0], normal[mask == 0])


def test_beta_max_bounds_the_opacity_of_the_normal_image() -> None:
    normal = np.zeros((64, 64, 3), np.uint8)

    class White(TextureSource):
        def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
            return np.full((size, size, 3), 255, np.uint8)

    rng, levels = np.random.default_rng(1), []
    for _ in range(300):
        result, mask = synthesize(normal, rng, always("perlin", beta_max=0.8), White(looks=("grid",)))
        assert len(np.unique(result[mask == 1])) == 1  # one beta for the whole anomaly
        levels.append(1 - result[mask == 1].max() / 255.0)
    assert 0.0 <= min(levels) < 0.05 and 0.75 < max(levels) <= 0.8 + 0.5 / 255
    assert abs(np.mean(levels) - 0.4) < 0.06


def test_perlin_noise_spans_about_minus_one_to_one() -> None:
    rng = np.random.default_rng(0)
    drawn = [perlin_noise(200, (float(rng.uniform(2, 30)), float(rng.uniform(2, 30))), rng) for _ in range(30)]
    noise = np.stack(drawn)
    assert noise.dtype == np.float32 and noise.shape == (30, 200, 200)
    assert abs(noise.mean()) < 0.03
    assert 0.8 < noise.max() <= 1.001 and -1.001 <= noise.min() < -0.8
    assert 0.25 < noise.std() < 0.45


def test_perlin_noise_is_zero_with_slope_of_its_gradient_on_lattice_points() -> None:
    # 5 cells on 500 pixels with a half-pixel shift: pixel 100 k lies exactly on lattice point k.
    noise = perlin_noise(500, (5.0, 5.0), np.random.default_rng(3), offset=(1 - 0.5 / 100, 1 - 0.5 / 100))
    lattice = noise[::100, ::100]
    assert np.abs(lattice).max() < 1e-4
    inner = slice(100, None, 100)
    down = (noise[101::100, inner][: lattice.shape[0] - 1] - noise[99::100, inner][: lattice.shape[0] - 1]) * 50
    right = (noise[inner, 101::100][:, : lattice.shape[1] - 1] - noise[inner, 99::100][:, : lattice.shape[1] - 1]) * 50
    np.testing.assert_allclose(np.hypot(down, right), np.sqrt(2.0), rtol=0.01)  # unit gradients, times sqrt(2)


def test_more_cells_make_rougher_noise() -> None:
    steps = [np.abs(np.diff(perlin_noise(256, (c, c), np.random.default_rng(1)), axis=0)).mean() for c in (2, 8, 32)]
    assert steps[1] > 3 * steps[0] and steps[2] > 3 * steps[1]


def orientation(noise: np.ndarray) -> float:
    """Angle of the strongest change in degrees, from the structure tensor."""
    dy, dx = np.gradient(noise)
    return float(np.degrees(0.5 * np.arctan2(2 * (dx * dy).mean(), (dx * dx - dy * dy).mean())))


@pytest.mark.parametrize("degrees", [-60.0, 0.0, 35.0])
def test_rotation_turns_the_noise(degrees: float) -> None:
    noise = rotated_perlin_noise(256, (2, 32), degrees, np.random.default_rng(4))  # changes across x at 0 degrees
    off = (orientation(noise) + degrees + 90.0) % 180.0 - 90.0  # rows count downwards, angles counter-clockwise
    assert abs(off) < 4.0


def test_masks_are_turned_in_all_directions() -> None:
    rng = np.random.default_rng(9)
    angles: dict[float, list[float]] = {0.0: [], 90.0: []}
    for rotation, found in angles.items():
        for _ in range(60):
            mask = perlin_mask(128, rng, max_exponent=5, rotation=rotation, threshold=0.5)
            found.append(orientation(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2)))
    slanted = {rotation: np.mean([30 < abs(a) < 60 for a in found]) for rotation, found in angles.items()}
    assert slanted[90.0] > 0.2 > 2 * slanted[0.0]


def test_corners_are_as_likely_anomalous_as_the_middle() -> None:
    rng = np.random.default_rng(6)
    total = np.zeros((96, 96))
    for _ in range(1500):
        total += perlin_mask(96, rng, max_exponent=5, rotation=90.0, threshold=0.5)
    corners = np.mean([total[:24, :24], total[:24, -24:], total[-24:, :24], total[-24:, -24:]])
    assert 0.75 < corners / total[36:60, 36:60].mean() < 1.33


def test_perlin_mask_is_never_empty_even_where_the_threshold_is_out_of_reach() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert perlin_mask(64, rng, max_exponent=0, rotation=90.0, threshold=0.5).sum() >= 2
    mask = perlin_mask(64, rng, max_exponent=0, rotation=90.0, threshold=0.99)
    assert 0 < mask.sum() <= 0.05 * mask.size


def test_cutpaste_patch_is_an_upright_rectangle_of_the_papers_area_and_aspect() -> None:
    rng, image, areas, aspects = np.random.default_rng(0), part(256), [], []
    for _ in range(200):
        _, mask = cutpaste_patch(image, rng)
        _, _, width, height = cv2.boundingRect(mask)
        assert mask.sum() == width * height
        areas.append(mask.mean())
        aspects.append(width / height)
    assert 0.019 < min(areas) < 0.03 and 0.13 < max(areas) < 0.152
    assert 0.29 < min(aspects) < 0.5 and 2.0 < max(aspects) < 3.4


def test_cutpaste_scar_is_thin_turned_and_scales_with_the_image() -> None:
    for size in (256, 512):
        rng, image, scale = np.random.default_rng(0), part(size), size / 256
        shorts, longs, fills = [], [], []
        for _ in range(200):
            _, mask = cutpaste_scar(image, rng)
            assert cv2.connectedComponents(mask)[0] == 2
            _, sides, _ = cv2.minAreaRect(cv2.findNonZero(mask))
            shorts.append(min(sides) + 1)
            longs.append(max(sides) + 1)
            _, _, width, height = cv2.boundingRect(mask)
            fills.append(mask.sum() / (width * height))
        assert max(shorts) < 17 * scale + 2 and max(longs) < 25 * scale + 3
        assert min(shorts) < 5 * scale and max(longs) > 22 * scale
        assert np.median(np.divide(longs, shorts)) > 1.6
        assert min(fills) < 0.5  # turned: the upright box around it is mostly empty


def test_cutpaste_pastes_jittered_pixels_of_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutpaste, "JITTER", 0.0)
    image = part(128)
    result, mask = cutpaste_patch(image, np.random.default_rng(8))
    x, y, width, height = cv2.boundingRect(mask)
    match = cv2.matchTemplate(image, result[y : y + height, x : x + width], cv2.TM_SQDIFF)
    assert match.min() / (width * height) < 1.0  # the piece is somewhere in the image, almost to the grey level
    _, _, (found_x, found_y), _ = cv2.minMaxLoc(match)
    assert (found_x, found_y) != (x, y)


def test_cutpaste_jitter_changes_the_colours_but_not_much() -> None:
    image, rng = part(64), np.random.default_rng(1)
    changes = [np.abs(cutpaste.jitter_colours(image, rng).astype(int) - image).mean() for _ in range(40)]
    assert 3 < np.mean(changes) < 40
    assert cutpaste.jitter_colours(image, rng).dtype == np.uint8


@pytest.mark.parametrize("paste", [cutpaste_patch, cutpaste_scar])
def test_cutpaste_jitters_what_it_pastes(paste: Paste, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutpaste, "jitter_colours", lambda piece, rng: np.full_like(piece, 7))
    result, mask = paste(part(128), np.random.default_rng(0))
    assert (result[mask == 1] == 7).all()


def test_cutpaste_union_gives_both_kinds() -> None:
    rng, image = np.random.default_rng(0), part(128)
    large = sum(cutpaste_union(image, rng)[1].mean() > 0.018 for _ in range(200))
    assert 72 < large < 128


def test_cutpaste_prefers_places_where_the_paste_shows() -> None:
    image = np.full((128, 128, 3), 255, np.uint8)  # a small part on a blank background
    image[40:90, 40:90] = part(50)
    rng, visible = np.random.default_rng(0), 0
    for _ in range(50):
        result, mask = cutpaste_scar(image, rng)
        visible += (cv2.absdiff(result, image).max(axis=2)[mask == 1] > 3).mean() > 0.5
    assert visible >= 40


def scene(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A round part with a hole, off the middle of an unevenly lit background; its mask."""
    rng = np.random.default_rng(5)
    image = np.repeat((np.linspace(20, 32, size)[:, None, None] + rng.normal(0, 2, (size, size, 1))), 3, axis=2)
    part = np.zeros((size, size), np.uint8)
    cv2.circle(part, (size // 3, size // 2), size // 5, 1, -1)
    image[part > 0] = 150 + rng.normal(0, 8, (part.sum(), 3))
    cv2.circle(image, (size // 3, size // 2), size // 16, (26, 26, 26), -1)
    return image.clip(0, 255).astype(np.uint8), part > 0


def test_the_foreground_is_the_part_with_its_holes_and_a_margin() -> None:
    image, part = scene()
    found = foreground(image)
    assert found[part].all()
    wide = cv2.dilate(part.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert not found[~wide].any()
    white = foreground(255 - image)
    assert white[part].all() and not white[~wide].any()


def test_without_a_plain_background_everything_is_foreground() -> None:
    rng = np.random.default_rng(0)
    stripes = np.repeat(np.repeat((np.arange(128) // 8 % 2 * 120 + 60)[None, :, None], 128, 0), 3, 2).astype(np.uint8)
    for image in (
        stripes,
        rng.integers(0, 256, (128, 128, 3), np.uint8),
        np.full((128, 128, 3), 90, np.uint8),
        rng.integers(80, 100, (128, 128, 3), np.uint8),
    ):
        assert foreground(image).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_anomalies_lie_on_the_part_where_that_is_asked(family: str) -> None:
    image, _ = scene()
    found = foreground(image)
    config = SynthesisConfig(families=(family,), probability=1.0, on_part=True)
    for seed in range(10):
        result, mask = synthesize(image, np.random.default_rng(seed), config, TEXTURES)
        assert mask.any() and found[mask > 0].all()
        assert np.array_equal(result[mask == 0], image[mask == 0])


def test_erase_leaves_what_the_surroundings_suggest() -> None:
    """A bright dot on a grey part is gone where the mask covers it, whatever it was."""
    rng, erased = np.random.default_rng(3), 0
    for _ in range(60):
        image = np.full((128, 128, 3), 120, np.uint8)
        cv2.circle(image, (64, 64), 30, (250, 40, 40), -1)
        result, mask = erase(image, rng)
        assert 0.0002 * 128**2 < mask.sum() < 0.025 * 128**2
        assert np.array_equal(result[mask == 0], image[mask == 0])
        outline = cv2.dilate(mask, np.ones((5, 5), np.uint8)) - mask
        around = image[outline > 0]
        if np.ptp(around, axis=0).max() == 0:  # surroundings of one colour: inside is that colour, but for the jitter
            assert np.abs(result[mask > 0].mean(axis=0) - around[0]).max() < 60
        dot = (image[..., 0] == 250) & (mask > 0)
        erased += bool(dot.any() and (np.abs(result[dot].astype(int) - image[dot]).max(axis=1) > 3).mean() > 0.9)
    assert erased > 5


def test_erase_prefers_places_where_something_is() -> None:
    """A part fills a tenth of the picture; on its empty background there is nothing to lose."""
    rng = np.random.default_rng(0)
    image = np.zeros((128, 128, 3), np.uint8)
    image[40:80, 40:80] = np.random.default_rng(1).integers(60, 250, (40, 40, 3))
    hit = [(erase(image, rng)[1][40:80, 40:80]).any() for _ in range(40)]
    assert np.mean(hit) > 0.8


def test_nsa_takes_its_patches_from_the_other_image() -> None:
    flat = np.full((192, 192, 3), 120, np.uint8)
    striped = flat.copy()
    striped[:, ::8] = (250, 20, 20)
    striped[:, 1::8] = (250, 20, 20)
    result, mask = nsa.nsa(flat, striped, np.random.default_rng(0))
    steps = np.abs(np.diff(result.astype(int), axis=1)).max(axis=2)
    assert mask.any() and steps.max() > 30  # edges that the image itself does not have
    unchanged, empty = nsa.nsa(flat, flat, np.random.default_rng(0))
    assert not empty.any()
    np.testing.assert_array_equal(unchanged, flat)


def test_nsa_masks_are_without_specks() -> None:
    rng, specks = np.random.default_rng(0), 0
    for seed in range(20):
        _, mask = nsa.nsa(part(192, seed), part(192, seed + 50), rng)
        specks += sum(cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA] <= 3)
    assert specks <= 4


def test_nsa_without_another_image_uses_the_image_itself() -> None:
    image = part(128)
    own = synthesize(image, np.random.default_rng(2), always("nsa"), TEXTURES)
    same = synthesize(image, np.random.default_rng(2), always("nsa"), TEXTURES, other=image)
    np.testing.assert_array_equal(own[0], same[0])
    different = synthesize(image, np.random.default_rng(2), always("nsa"), TEXTURES, other=part(128, seed=1))
    assert (own[0] != different[0]).any()


def test_nsa_on_blank_images_still_gives_an_anomalous_draw() -> None:
    blank = np.full((96, 96, 3), 90, np.uint8)
    _, mask = synthesize(blank, np.random.default_rng(0), always("nsa"), TEXTURES, other=blank)
    assert mask.any()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (30, 17), (64, 56), (0, 56), (64, 0)])
def test_poisson_blend_puts_a_patch_exactly_where_it_came_from(top: int, left: int, mixed: bool) -> None:
    image = part(96)
    height, width = 32, 40
    patch = image[top : top + height, left : left + width]
    full = np.full((height, width), 255, np.uint8)
    result = nsa.poisson_blend(image, patch, full, top=top, left=left, mixed=mixed)
    assert np.abs(result.astype(int) - image).max() <= 4  # a shift by one pixel would change far more
    moved = nsa.poisson_blend(image, np.roll(patch, 1, axis=1), full, top=top, left=left, mixed=mixed)
    assert np.abs(moved.astype(int) - image).max() > 12


def test_poisson_blend_fades_into_the_image_instead_of_leaving_a_step() -> None:
    image = np.full((96, 96, 3), 60, np.uint8)
    patch = np.full((40, 40, 3), 200, np.uint8)  # brighter, but without any gradient
    result = nsa.poisson_blend(image, patch, np.full((40, 40), 255, np.uint8), top=20, left=20, mixed=False)
    assert np.abs(result.astype(int) - image).max() <= 2


def test_mixed_poisson_blend_keeps_the_stronger_gradient() -> None:
    image, patch = part(96), np.full((40, 40, 3), 128, np.uint8)
    full = np.full((40, 40), 255, np.uint8)
    mixed, plain = (nsa.poisson_blend(image, patch, full, top=20, left=20, mixed=m) for m in (True, False))
    inside = (slice(26, 54), slice(26, 54))
    roughness = [np.abs(np.diff(x[inside].astype(int), axis=1)).mean() for x in (image, mixed, plain)]
    assert roughness[1] > 0.9 * roughness[0] > 2 * roughness[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"families": ()},
        {"families": ("perlin", "cutout")},
        {"families": 3},
        {"on_part": 1},
        {"probability": 1.5},
        {"probability": True},
        {"beta_max": -0.1},
        {"beta_max": 1.0},
        {"perlin_scale_max_exponent": 2.5},
        {"perlin_scale_max_exponent": 30},
        {"rotation": 360.0},
        {"threshold": float("nan")},
    ],
)
def test_config_refuses_values_out_of_range(changes: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        SynthesisConfig(**changes)


def test_config_defaults_are_the_papers_and_a_single_name_is_a_family() -> None:
    config = SynthesisConfig()
    assert (config.families, config.probability, config.beta_max) == (("perlin",), 0.5, 0.8)
    assert (config.perlin_scale_max_exponent, config.rotation, config.threshold) == (5, 90.0, 0.5)
    assert SynthesisConfig(families="nsa").families == ("nsa",)  # type: ignore[arg-type]


def test_synthesize_refuses_images_it_cannot_damage() -> None:
    rng, config = np.random.default_rng(0), SynthesisConfig()
    for bad in (np.zeros((64, 64), np.uint8), np.zeros((64, 48, 4), np.uint8), np.zeros((64, 64, 3), np.float32)):
        with pytest.raises(ImageError, match="image must be an RGB"):
            synthesize(bad, rng, config, TEXTURES)
    with pytest.raises(ImageError, match="other must have the shape"):
        synthesize(part(64), rng, config, TEXTURES, other=part(72))


@pytest.mark.parametrize("shape", [(64, 160), (160, 64)])
def test_a_frame_that_is_no_square_is_damaged_on_one(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    textures, places = TextureSource.builtin(), []
    for family in FAMILIES:
        config = SynthesisConfig(families=(family,), probability=1.0)
        for seed in range(6):
            result, mask = synthesize(image, np.random.default_rng(seed), config, textures)
            assert result.shape == image.shape and mask.shape == shape
            changed = (result != image).any(2) | (mask > 0)
            if changed.any():
                rows, columns = np.nonzero(changed)
                assert np.ptp(rows) < 64 and np.ptp(columns) < 64
                places.append((columns if shape[1] > 64 else rows).mean())
    assert min(places) < 50 and max(places) > 110, "anywhere along the longer side"
