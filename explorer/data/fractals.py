"""Formula-driven images: fractals of iterated function systems, so that harder data than digits needs no download.

After FractalDB (Kataoka et al., "Pre-training without Natural Images", ACCV 2020): a class is a random iterated function
system (IFS), an image is its attractor drawn by the chaos game, and the instances of a class are perturbed variants of its
system. This project deviates in three ways: only contracting maps are drawn, so that no attractor diverges; all coefficients
are perturbed at once instead of one at a time; brightness is the logarithm of the number of visits to a pixel, not a patch at
each point.

Shapes: N images, K maps, W points that walk at the same time, S side in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from explorer.data.resident import SPLITS, ResidentData
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec, FractalSpec

MAX_MAPS = 8
"""A class has 2 to 8 maps, as in FractalDB."""
MIN_FILLED = 0.2
"""A class is kept when its attractor visits at least this fraction of the pixels (FractalDB's threshold)."""
FILL_SIDE = 64
"""Side in pixels of the image on which that fraction is measured."""
MAX_NORM = 0.95
"""Largest spectral norm of the linear part of a map, perturbed or not: all maps contract."""
WALKERS = 64
"""Points that walk through an attractor at the same time."""
BURN_IN = 12
"""Number of first positions of each point that are not drawn."""
MIN_POINTS = 4096
"""Smallest number of points drawn in an image."""
TABLE_SIZE = 256
"""Maps are drawn from a table with this many entries per image; the number of entries of a map stands for its probability."""
PIXELS_AT_ONCE = 1 << 22
"""Pixels that are rendered together."""
MAX_GIBIBYTES = 16
"""Largest size of all images in memory."""
MAX_DRAWS = 10_000
"""Random systems tried for one class."""

Floats = NDArray[np.float32]


def open_fractals(spec: DataSpec) -> ResidentData:
    """The fractals that `spec.fractals` describes, at `spec.image_size`. They do not depend on the training seed.

    Raises:
        InvalidInput: when the images would take more than 16 GiB of memory, or the seed gives no classes.
    """
    images, labels = fractal_images(spec.fractals, spec.side)
    return ResidentData(
        {split: torch.from_numpy(array) for split, array in images.items()},
        {split: torch.from_numpy(array) for split, array in labels.items()},
        classes=spec.fractals.classes,
    )


def fractal_images(spec: FractalSpec, side: int) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.int64]]]:
    """Render all images of a data set, grouped by class.

    Args:
        spec: number and difficulty of the fractals.
        side: height and width of an image, in pixels.

    Returns:
        Images uint8 (N, 1, S, S) and labels int64 (N,) by split. The same arguments give the same images.

    Raises:
        InvalidInput: when the images would take more than 16 GiB of memory, or the seed gives no classes.
    """
    counts = dict(zip(SPLITS, (spec.instances, spec.held_out, spec.held_out), strict=True))
    gibibytes = spec.classes * sum(counts.values()) * side**2 / 2**30
    if gibibytes > MAX_GIBIBYTES:
        allowed = f"images are kept in memory; must be at most {MAX_GIBIBYTES} GiB"
        raise InvalidInput("data.fractals", f"{gibibytes:.0f} GiB", allowed)
    systems = [class_system(spec.seed, label) for label in range(spec.classes)]
    images: dict[str, NDArray[np.uint8]] = {}
    for number, (split, count) in enumerate(counts.items()):
        parts = [
            _instances(system, count, spec, side, np.random.default_rng([spec.seed, 1 + number, label]))
            for label, system in enumerate(systems)
        ]
        images[split] = np.concatenate(parts)[:, None]
    labels = {split: np.repeat(np.arange(spec.classes), count) for split, count in counts.items()}
    return images, labels


def class_system(seed: int, label: int) -> Floats:
    """The iterated function system of a class: the first random one whose attractor fills enough of its bounding box.

    Returns:
        (K, 6): rows a, b, c, d, e, f of maps (x, y) -> (a x + b y + e, c x + d y + f).
    """
    rng = np.random.default_rng([seed, 0, label])
    for _ in range(MAX_DRAWS):
        maps_K6 = rng.uniform(-1, 1, (rng.integers(2, MAX_MAPS + 1), 6)).astype(np.float32)
        contracting_K6 = maps_K6[_norms(maps_K6) < MAX_NORM]
        if len(contracting_K6) < 2:
            continue
        image_SS = render(contracting_K6[None], FILL_SIDE, rng)[0]
        if (image_SS > 0).mean() >= MIN_FILLED:
            return contracting_K6
    allowed = f"none of {MAX_DRAWS} systems for class {label} fills an image; use another seed"
    raise InvalidInput("data.fractals.seed", seed, allowed)


def _norms(maps_K6: Floats) -> Floats:
    """Spectral norms of the linear parts of maps: (..., K)."""
    norms: Floats = np.linalg.norm(maps_K6[..., :4].reshape(*maps_K6.shape[:-1], 2, 2), ord=2, axis=(-2, -1))
    return norms


def _instances(system_K6: Floats, count: int, spec: FractalSpec, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images of one class: uint8 (count, S, S)."""
    factors = rng.uniform(1 - spec.variation, 1 + spec.variation, (count, *system_K6.shape))
    maps_NK6 = (system_K6 * factors).astype(np.float32)
    maps_NK6[..., :4] *= np.minimum(1, MAX_NORM / _norms(maps_NK6))[..., None]
    flipped_N2 = rng.random((count, 2)) < 0.5
    step = max(1, PIXELS_AT_ONCE // side**2)
    images_NSS = np.concatenate([render(maps_NK6[start : start + step], side, rng) for start in range(0, count, step)])
    if spec.flips:
        for axis in (0, 1):
            chosen = flipped_N2[:, axis]
            images_NSS[chosen] = np.flip(images_NSS[chosen], axis + 1)
    return images_NSS


def render(maps_NK6: Floats, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw attractors by the chaos game, each scaled to fill its image.

    Maps are chosen with probabilities proportional to their determinants, which spreads points evenly. The number of points is
    half the number of pixels, but at least `MIN_POINTS`.

    Args:
        maps_NK6: one system per image; all maps contract.
        side: height and width of the images, in pixels.
        rng: random numbers of the walk.

    Returns:
        Brightness uint8 (N, S, S).
    """
    images, maps, _ = maps_NK6.shape
    steps = -(-max(side**2 // 2, MIN_POINTS) // WALKERS)
    weights_NK = np.abs(maps_NK6[..., 0] * maps_NK6[..., 3] - maps_NK6[..., 1] * maps_NK6[..., 2]) + 1e-3
    ends_NK = np.cumsum(weights_NK, axis=1) / weights_NK.sum(axis=1, keepdims=True)
    quantiles_T = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE
    table_NT = (quantiles_T[None, :, None] > ends_NK[:, None, :]).sum(axis=2).clip(max=maps - 1)
    table = (table_NT + maps * np.arange(images)[:, None]).astype(np.int32).ravel()
    a, b, c, d, e, f = np.ascontiguousarray(maps_NK6.reshape(-1, 6).T)
    offsets_N1 = (TABLE_SIZE * np.arange(images, dtype=np.int32))[:, None]
    x_NW = np.zeros((images, WALKERS), np.float32)
    y_NW = np.zeros_like(x_NW)
    places = np.empty((2, steps, images, WALKERS), np.float32)
    for step in range(-BURN_IN, steps):
        chosen = table[offsets_N1 + rng.integers(0, TABLE_SIZE, x_NW.shape, np.uint8)]
        x_NW, y_NW = a[chosen] * x_NW + b[chosen] * y_NW + e[chosen], c[chosen] * x_NW + d[chosen] * y_NW + f[chosen]
        if step >= 0:
            places[:, step] = x_NW, y_NW
    low = places.min(axis=(1, 3), keepdims=True)
    span = np.maximum(places.max(axis=(1, 3), keepdims=True) - low, 1e-6)
    column, row = ((places - low) * (side * (1 - 1e-6) / span)).astype(np.int64).clip(max=side - 1)
    pixel = (np.arange(images)[:, None] * side + row) * side + column
    visits_NSS = np.bincount(pixel.ravel(), minlength=images * side**2).reshape(images, side, side)
    bright_NSS = np.log1p(visits_NSS)
    scaled: NDArray[np.uint8] = (255 * bright_NSS / bright_NSS.max(axis=(1, 2), keepdims=True)).round().astype(np.uint8)
    return scaled
