"""Drawn images, their labels and their descriptions."""

import colorsys
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tl_lightning.pretraining import fractals, noise
from tl_lightning.pretraining.description import CELLS, LENGTH, ORIENTATIONS, describe
from tl_lightning.pretraining.scenes import Artist, Stream


def test_every_system_is_contractive_and_spends_its_sum():
    systems = fractals.sample(500, 3)
    maps = (systems.probabilities > 0).sum(1)
    assert set(maps.tolist()) == {2, 3, 4}
    np.testing.assert_allclose(systems.probabilities.sum(1), 1, rtol=1e-5)
    singular = np.linalg.svd(systems.matrices, compute_uv=False)
    assert singular.max() < 1
    spent = (singular @ np.array([1.0, 2.0]) * (systems.probabilities > 0)).sum(1)
    assert (spent <= 3 + maps / 2 + 1e-5).all()
    assert (spent >= 2.5 + maps / 2 - 0.005 * maps - 1e-5).all()  # values are cut just below 1
    assert np.array_equal(systems.matrices, fractals.sample(500, 3).matrices)
    assert not np.array_equal(systems.matrices, fractals.sample(500, 4).matrices)


def test_points_lie_on_a_known_attractor():
    """Sierpinski's triangle: the points of the unit square whose binary digits never share a one."""
    half = np.zeros((1, 4, 2, 2), np.float32)
    half[0, :3] = np.eye(2) / 2
    offsets = np.array([[[0, 0], [0.5, 0], [0, 0.5], [0, 0]]], np.float32)
    triangle = fractals.Systems(half, offsets, np.array([[1, 1, 1, 0]], np.float32) / 3)
    points = fractals.orbit(triangle, 0, np.random.default_rng(0), 512, 4)
    digits = np.floor(points.astype(np.float64) * 2**7).astype(int)
    inside = (digits >= 0).all(1) & (digits < 2**7).all(1)
    assert inside.mean() > 0.99
    assert (digits[inside, 0] & digits[inside, 1] == 0).mean() > 0.998  # a last digit may be carried
    coarse, hits = np.unique(digits[inside] // 2**3, axis=0, return_counts=True)
    assert (hits > 2).sum() == 81  # of 16 x 16 cells, 3^4 belong to it
    assert len(coarse) < 90
    box = fractals.cloud(triangle, 0, np.random.default_rng(0))
    assert np.abs(np.quantile(box, (0.01, 0.99), axis=0)).max() < 1.01


def test_fields_are_even_and_rough_at_every_scale():
    even = noise.Materials(*(np.array([v], np.float32) for v in (1.5, 1, 0, 0, 0, 0, 0, 1)))
    field = noise.field(even, 0, 64, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(field.ravel()), np.linspace(0, 1, 64 * 64), atol=1e-6)
    power = np.abs(np.fft.fft2(field - field.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    bands = [power[(radius >= low) & (radius < 2 * low)].mean() for low in (1 / 64, 1 / 32, 1 / 16, 1 / 8)]
    assert bands == sorted(bands, reverse=True)
    long = dataclasses.replace(even, stretch=np.array([4], np.float32))  # from left to right
    field = noise.field(long, 0, 64, np.random.default_rng(0))
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5 * np.abs(np.diff(field, axis=0)).mean()


@pytest.mark.parametrize("hsv", [(0.0, 1.0, 1.0), (0.3, 0.5, 0.8), (0.65, 0.2, 0.4), (0.9, 1.0, 0.6)])
def test_colours_are_those_of_the_standard_library(hsv):
    hue, saturation, value = hsv
    found = noise.palette(hue, 0, saturation, value, value)[100]
    np.testing.assert_allclose(found, 255 * np.array(colorsys.hsv_to_rgb(*hsv)), atol=1)


def stream(**changes):
    values = {"size": 32, "batches": 4, "batch_size": 6, "difficulty": 0.5, "seed": (0, 1, 2)} | changes
    return Stream(fractals.sample(20, 0), noise.sample(5, 0), **values)


def images(source, workers=0):
    return torch.cat([batch for batch, _ in DataLoader(source, batch_size=None, num_workers=workers)])


def test_a_stream_is_a_function_of_its_seeds():
    assert torch.equal(images(stream()), images(stream()))
    assert images(stream()).shape == (24, 3, 32, 32)
    assert not torch.equal(images(stream()), images(stream(seed=(0, 2, 2))))
    shared = images(stream(), workers=2)
    assert torch.equal(shared, images(stream(), workers=2))
    assert len(shared) == len(shared.flatten(1).unique(dim=0)) == 24  # workers draw different images


@pytest.mark.parametrize(("difficulty", "most"), [(0.0, 1), (1.0, 4)])
def test_labels_say_what_was_drawn(difficulty, most):
    artist = Artist(fractals.sample(50, 0), noise.sample(5, 0), 48, np.random.default_rng(0), difficulty)
    drawn = [artist.scene() for _ in range(200)]
    assert {len(present) for _, present in drawn} == set(range(1, most + 1))
    assert 40 <= len({i for _, present in drawn for i in present}) <= 50
    if difficulty == 0:  # one colour around one attractor
        corners = np.stack([image[:, [0, 0, -1, -1], [0, -1, 0, -1]] for image, _ in drawn])
        plain = (np.ptp(corners.astype(int), axis=2) == 0).all(1)
        assert plain.mean() > 0.8
    _, present = next(iter(Stream(fractals.sample(50, 0), noise.sample(5, 0), 48, 1, 64, difficulty, (0,))))
    assert present.shape == (64, 50)
    assert present.sum(1).max() == most


def test_one_picture_is_as_its_parts_say():
    """A system's attractor fills the pixels where its points fall, and no others."""
    artist = Artist(fractals.sample(5, 0), noise.sample(5, 0), 32, np.random.default_rng(0), 0.0, pool=8)
    canvas = np.zeros((3, 32, 32), np.uint8)
    corner = np.array([[-0.5, -0.5], [0.5, 0.5]], np.float32)
    artist._put(canvas, corner, 0, np.zeros((32, 32), np.float32))
    rows, columns = canvas.any(0).nonzero()
    assert len(rows) == 2
    assert rows[0] < rows[1]
    assert columns[0] < columns[1]
    assert 0.35 * 32 - 1 <= rows[1] - rows[0] <= 17


def test_a_description_says_where_edges_and_colours_are():
    """Two flat pictures and one of upright bars in its upper left quarter."""
    red, blue, bars = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    red[0], blue[2] = 200, 200
    bars[:, :32, :32] = 200 * (torch.arange(32) // 4 % 2)
    said = describe(torch.stack([red, blue, bars])).view(3, ORIENTATIONS + 3, CELLS, CELLS)
    edges, colours = said[:, :ORIENTATIONS], said[:, ORIENTATIONS:]
    assert (edges[2, 0, :2, :2] > 1).all()  # the gradient is level
    assert edges[2, 1:, 0, 0].abs().max() == 0  # no other orientation anywhere: nothing to tell pictures apart
    assert edges[2, :, 3, 3].abs().max() == 0
    assert (edges[0] == edges[1]).all()
    assert (colours[0, 0] > 0.9).all()
    assert (colours[1, 2] > 0.9).all()
    many = describe(torch.randint(0, 255, (64, 3, 32, 32), dtype=torch.uint8))
    assert many.shape == (64, LENGTH)
    torch.testing.assert_close(many.mean(0), torch.zeros(LENGTH), rtol=0, atol=1e-5)
