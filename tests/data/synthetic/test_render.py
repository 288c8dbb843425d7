"""Grey levels against the formulas of transmitted and emitted light, and noise against its variance."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.synthetic.karyotype import ideogram
from kemr_lightning.data.synthetic.render import Optics, Texture, blurred, expose, field, stack, texture
from kemr_lightning.data.synthetic.shape import Footprint
from tests.data.synthetic.helpers import drawn, full, rod


def flat(stain: float) -> Texture:
    return Texture(np.full(512, stain))


def test_crossing_chromosomes_multiply_transmittance_and_add_light() -> None:
    size = (64, 64)
    across, along = rod((12, 32), (52, 32), 5), rod((32, 12), (32, 52), 5)
    rng = np.random.default_rng(0)

    def picture(optics: Optics, density: float | None) -> np.ndarray:
        layers = []
        for shape, stain in ((across, 0.3), (along, 0.5)):
            where = drawn(shape, size)
            layers.append((where.x0, where.y0, flat(stain).paint(where, shape.length, 5, density)))
        return expose(stack(layers, size), optics, 10, rng)

    image = picture(Optics("gband", background=200, gain=0.6, blur=0.4), 0.6)
    # 200, 200 x 10^-0.18, 200 x 10^-0.30, 200 x 10^-0.48
    assert [image[5, 5], image[32, 18], image[18, 32], image[32, 32]] == [200, 132, 100, 66]
    image = picture(Optics("fluorescence", background=10, gain=100, blur=0.4), None)
    assert [image[5, 5], image[32, 18], image[18, 32], image[32, 32]] == [10, 40, 60, 90]

    both = (drawn(across, size), drawn(along, size))
    shared = (full(both[0], size) >= 0.5) & (full(both[1], size) >= 0.5)
    assert shared.sum() == 100


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
@pytest.mark.parametrize("offset", [0.0, 0.2, 0.5, 0.7])
def test_image_edge_lies_on_the_mask_edge(look: str, offset: float) -> None:
    size = (64, 64)
    shape = rod((10, 32 + offset), (54, 32 + offset), 6)
    where = drawn(shape, size)
    density = 0.6 if look == "gband" else None
    layer = (where.x0, where.y0, flat(1.0).paint(where, shape.length, 6, density))
    optics = Optics(look, background=220 if density else 0, gain=density or 200, blur=1.3)
    profile = expose(stack([layer], size), optics, 12, np.random.default_rng(0))[:, 32].astype(float)
    half = (profile[4] + profile[32]) / 2
    for edge in (26 + offset, 38 + offset):
        near = np.arange(int(edge) - 4, int(edge) + 5)
        level = profile[near] - half
        change = np.nonzero(np.diff(np.sign(level)))[0][0]
        crossing = near[change] + 0.5 + level[change] / (level[change] - level[change + 1])
        assert crossing == pytest.approx(edge, abs=0.1)


def one_pixel(coverage: float, s: float, t: float) -> Footprint:
    return Footprint(0, 0, np.array([[coverage]]), np.array([[s]]), np.array([[t]]))


def test_partly_covered_pixels_pass_or_emit_their_share() -> None:
    # A quarter of a pixel of stain 0.5 at density 0.6: 3/4 + 1/4 x 10^-0.3 of the light passes.
    stain = flat(0.5).paint(one_pixel(0.25, 1.0, 0.0), 10, 5, 0.6)[0, 0]
    assert 10 ** (-0.6 * stain) == pytest.approx(0.75 + 0.25 * 10**-0.3)
    assert flat(0.5).paint(one_pixel(0.25, 1.0, 0.0), 10, 5)[0, 0] == pytest.approx(0.125)


def test_bands_follow_the_profile_and_its_shifts() -> None:
    ramp = np.linspace(0, 1, 512)
    here = one_pixel(1.0, 4.0, 2.5)  # 4 of 10 along, half way to the side
    assert Texture(ramp).paint(here, 10, 5)[0, 0] == pytest.approx(0.4)
    assert Texture(ramp, slant=2.0).paint(here, 10, 5)[0, 0] == pytest.approx(0.45)
    assert Texture(ramp, bow=2.0).paint(here, 10, 5)[0, 0] == pytest.approx(0.45)
    assert Texture(ramp).paint(here, 10, 5, ragged=1.0)[0, 0] == pytest.approx(0.5)
    assert Texture(ramp, taper=0.4).paint(here, 10, 5)[0, 0] == pytest.approx(0.4 * (1 - 0.4 / 4))
    assert Texture(ramp, groove=0.3).paint(one_pixel(1.0, 4.0, 0.0), 10, 5)[0, 0] == pytest.approx(0.4 * 0.7)


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
def test_textures_show_the_bands_with_their_contrast(look: str) -> None:
    bands = ideogram("1")
    position = (np.arange(512) + 0.5) / 512
    band = np.clip(np.searchsorted(bands.edges, position) - 1, 0, len(bands.stains) - 1)
    graded = np.array([stain in "nabcd" for stain in bands.stains])[band]
    grade = np.array(["nabcd".find(stain) for stain in bands.stains])[band]
    rng = np.random.default_rng(2)
    full_map = texture(bands, look, 1.0, 0.0, 400, 20, rng).profile
    assert np.corrcoef(full_map[graded], grade[graded])[0, 1] > 0.8
    # Without contrast the unevenness of 6 % is all that is left.
    even = texture(bands, look, 0.0, 0.0, 400, 20, rng).profile
    assert even.std() / even.mean() == pytest.approx(0.06, rel=0.1)


def test_stack_sums_windows() -> None:
    total = stack([(1, 0, np.ones((2, 2))), (2, 1, np.full((1, 2), 0.5))], (3, 4))
    assert total.tolist() == [[0, 1, 1, 0], [0, 1, 1.5, 0.5], [0, 0, 0, 0]]
    assert stack([], (2, 2)).tolist() == [[0, 0], [0, 0]]


def test_blur_is_a_gaussian_that_continues_the_border() -> None:
    impulse = np.zeros((41, 41))
    impulse[20, 20] = 1
    spread = blurred(impulse, 3.0)
    rows, columns = np.mgrid[-20:21, -20:21]
    gaussian = np.exp(-(rows**2 + columns**2) / 18)
    np.testing.assert_allclose(spread, gaussian / gaussian.sum(), atol=1e-5)
    np.testing.assert_allclose(blurred(np.full((5, 5), 7.0), 3.0), 7.0)


def test_fields_vary_over_their_scale() -> None:
    values = field((400, 400), 12.0, np.random.default_rng(1))
    assert values.shape == (400, 400)
    assert values.std() == pytest.approx(1, abs=0.2)
    assert abs(values.mean()) < 0.15

    def correlation(shift: int) -> float:
        return float(np.corrcoef(values[:, shift:].ravel(), values[:, : 400 - shift].ravel())[0, 1])

    assert correlation(2) > 0.9
    assert abs(correlation(60)) < 0.15


@pytest.mark.parametrize(("read", "shot", "variance"), [(3.0, 0.0, 9.0), (0.0, 0.2, 20.0), (3.0, 0.2, 29.0)])
def test_noise_has_the_variance_of_its_parts(read: float, shot: float, variance: float) -> None:
    optics = Optics("gband", background=100, gain=0.5, blur=1.0, read_noise=read, shot_noise=shot)
    image = expose(np.zeros((300, 300)), optics, 12, np.random.default_rng(4)).astype(float)
    # The blur of 0.5 px leaves sum(k^2)^2 = 0.411 of white noise's variance; 1.6^2 restores it, to 1.053.
    kernel = np.exp(-2.0 * np.arange(-2, 3) ** 2)
    kernel /= kernel.sum()
    expected = variance * (1.6 * (kernel**2).sum()) ** 2 + 1 / 12
    assert image.mean() == pytest.approx(100, abs=0.2)
    assert image.var() == pytest.approx(expected, rel=0.05)


def test_microscopes_are_plausible() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        bright, dark = Optics.sample("gband", 12, rng), Optics.sample("fluorescence", 12, rng)
        assert bright.background > 200
        assert dark.background < 41
        assert 0.55 <= bright.blur <= 1.3
        assert bright.haze == 0
        # Stain 1 is clearly visible in both.
        assert bright.background * (1 - 10**-bright.gain) > 100
        assert dark.gain >= 80
