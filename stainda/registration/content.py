"""Typicality: whether the target image under a propagated object looks like its class.

No annotation of the target says what the kind looks like there. But most propagated objects lie right, so together they
show it: their contents are distinguished from those of random places on the same tissue by a linear discriminant, and
each object is scored by a discriminant that has not seen it. An object that ended before the target, or landed next to
its place, scores like a random place.
"""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from stainda.annotations.raster import PixelGrid, covered
from stainda.arrays import Array
from stainda.randomness import generator_for
from stainda.registration.affine import apply_affine
from stainda.registration.sections import SectionImage

CELLS = 24  # samples across an object and its surroundings
LEAST_OBJECTS = 6  # fewer show no kind
MOST_OBJECTS = 400  # that the discriminant learns from
PER_OBJECT = 3  # random places for each of them
FOLDS = 5
SHRINKAGE = 0.2  # of the covariance towards its diagonal
LUMEN = 0.08  # optical density below which a sample counts as empty
LIMIT = 6.0


def typicality(image: SectionImage, geometries: Array, seed_name: str, layers: Array | None = None) -> Array:
    """How much each area looks like the others rather than like a random place: log likelihood ratio, -6 to 6.

    Args:
        geometries: (n,) areas in level-0 pixels of the section, of one class.
        seed_name: names the random places.
        layers: :func:`layers_of` the image, where they were made before.

    Returns:
        float (n,); NaN for points and lines, and for all where there are fewer than :data:`LEAST_OBJECTS`.
    """
    out = np.full(len(geometries), np.nan)
    areas = np.flatnonzero((shapely.area(geometries) > 0) & shapely.is_valid(geometries))
    if len(areas) < LEAST_OBJECTS or not image.tissue.any():
        return out
    generator = generator_for(0, "content", seed_name)
    layers = layers_of(image) if layers is None else layers
    # in working pixels, so that sampling and tissue are on one grid
    shapes = [shapely.transform(geometries[i], lambda xy: apply_affine(image.matrix, xy)) for i in areas]
    contents = np.array([_content(layers, shape) for shape in shapes])
    learn = np.arange(len(areas))
    if len(learn) > MOST_OBJECTS:
        learn = np.sort(generator.choice(len(learn), MOST_OBJECTS, replace=False))
    places = _random_places(image, [shapes[i] for i in learn], generator)
    elsewhere = np.array([_content(layers, place) for place in places])
    usable = np.isfinite(contents).all(axis=1)
    elsewhere = elsewhere[np.isfinite(elsewhere).all(axis=1)] if len(elsewhere) else elsewhere
    if usable[learn].sum() < LEAST_OBJECTS or len(elsewhere) < LEAST_OBJECTS:
        return out
    fold = np.arange(len(areas)) % FOLDS
    for part in range(FOLDS):
        teach = learn[usable[learn] & (fold[learn] != part)]
        scored = np.flatnonzero(usable & (fold == part))
        if len(teach) >= LEAST_OBJECTS - 2 and len(scored):
            out[areas[scored]] = _discriminant(contents[teach], elsewhere, contents[scored])
    return np.clip(out, -LIMIT, LIMIT)


def layers_of(image: SectionImage) -> Array:
    """float32 (4, h, w): optical density of red, green and blue, and its gradient's length."""
    density = -np.log10(np.clip(image.pixels.astype(np.float32), 1, None) / 255).transpose(2, 0, 1)
    gradient = ndimage.gaussian_gradient_magnitude(density.mean(axis=0), 1.0)
    return np.concatenate([density, gradient[None]])


def _content(layers: Array, shape: BaseGeometry) -> Array:
    """Colour, its spread, empty space and edges within an area, and how they differ from its surroundings: (9,)."""
    x0, y0, x1, y1 = shape.bounds
    across = 1.6 * max(x1 - x0, y1 - y0, 2.0)
    pitch = across / CELLS
    left, top = (x0 + x1 - across) / 2, (y0 + y1 - across) / 2
    inside = covered(shape, PixelGrid(left, top, CELLS, CELLS, pitch))
    axis = (np.arange(CELLS) + 0.5) * pitch
    height, width = layers.shape[1:]
    rows, columns = np.round(top + axis).astype(int), np.round(left + axis).astype(int)
    shown = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    around = shown & ~ndimage.binary_dilation(inside, iterations=1)
    inside &= shown
    if inside.sum() < 4 or around.sum() < 4:
        return np.full(9, np.nan)
    values = layers[:, np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    grey = values[:3].mean(axis=0)
    within, outside = values[:, inside], values[:, around]
    return np.array([
        *within[:3].mean(axis=1), grey[inside].std(), (grey[inside] < LUMEN).mean(), np.log(within[3].mean() + 1e-3),
        grey[inside].mean() - grey[around].mean(), grey[inside].std() - grey[around].std(),
        np.log(within[3].mean() + 1e-3) - np.log(outside[3].mean() + 1e-3),
    ])  # fmt: skip


def _random_places(
    image: SectionImage, shapes: list[BaseGeometry], generator: np.random.Generator
) -> list[BaseGeometry]:
    """The same shapes at random places of the tissue, off the objects themselves."""
    rows, columns = np.nonzero(ndimage.binary_fill_holes(image.tissue))
    tree = shapely.STRtree(shapes)
    places = []
    for shape in shapes:
        centre = shape.centroid
        pick = generator.integers(len(rows), size=8 * PER_OBJECT)
        moves = np.stack([columns[pick] - centre.x, rows[pick] - centre.y], 1)
        taken = 0
        for dx, dy in moves:
            moved = shapely.transform(shape, lambda xy, by=(dx, dy): xy + by)
            if taken < PER_OBJECT and not len(tree.query(moved, predicate="intersects")):
                places.append(moved)
                taken += 1
    return places


def _discriminant(objects: Array, others: Array, scored: Array) -> Array:
    """Log likelihood ratio of two Gaussians of one shrunken covariance (Fisher's discriminant)."""
    centre, spread = others.mean(axis=0), others.std(axis=0) + 1e-6
    a, b, c = ((part - centre) / spread for part in (objects, others, scored))
    pooled = np.concatenate([a - a.mean(axis=0), b - b.mean(axis=0)])
    covariance = pooled.T @ pooled / max(len(pooled) - 2, 1)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance) + 1e-3)
    weight = np.linalg.solve(covariance, a.mean(axis=0) - b.mean(axis=0))
    return (c - (a.mean(axis=0) + b.mean(axis=0)) / 2) @ weight
