"""Pieces of tissue on a section: where they lie, and the working image of each alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.pieces import PieceMap
from stainda.registration.sections import SectionImage

ROOM = 0.08  # of a piece's longer side, kept as glass around it


def has_pieces(image: SectionImage) -> bool:
    """Whether a section is of several pieces of tissue, and not of so many that they are crumbs."""
    return 2 <= int(find_pieces(image).max()) <= gates.MOST_PIECES


def find_pieces(image: SectionImage) -> Array:
    """Numbers uint8 (h, w) of the pieces of tissue, from 1, left to right; 0 elsewhere.

    Parts nearer to each other than ``gates.PIECE_GAP`` are one piece; crumbs belong to the piece they lie nearest to.
    """
    side = max(image.tissue.shape)
    closed = ndimage.distance_transform_edt(~image.tissue) <= gates.PIECE_GAP * side / 2
    labels, count = ndimage.label(closed, np.ones((3, 3)))
    labels = np.where(image.tissue, labels, 0)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if not sizes.size or not sizes.max():
        return np.zeros(image.tissue.shape, np.uint8)
    large = np.flatnonzero(sizes >= gates.MIN_PIECE * sizes.max()) + 1
    middles = np.array(ndimage.center_of_mass(labels > 0, labels, large))
    order = large[np.argsort(middles[:, 1], kind="stable")]
    numbers = np.zeros(count + 1, np.uint8)
    numbers[order] = np.arange(1, len(order) + 1)
    pieces = numbers[labels]
    crumbs = (labels > 0) & (pieces == 0)
    return np.where(crumbs, _nearest(pieces), pieces).astype(np.uint8)


def with_margin(pieces: Array, margin: float = gates.PIECE_MARGIN) -> Array:
    """The same numbers, of every pixel up to ``margin`` (of the longer side) around a piece, of the nearest one."""
    far = ndimage.distance_transform_edt(pieces == 0) > margin * max(pieces.shape)
    return np.where(far, 0, _nearest(pieces)).astype(np.uint8)


def piece_map(image: SectionImage, pieces: Array) -> PieceMap:
    """Numbers of the pixels of a working image as they are stored with a transform."""
    return PieceMap(pieces.astype(np.uint8), image.matrix)


def piece_images(image: SectionImage, pieces: Array) -> Iterator[SectionImage]:
    """The working image of each piece, cut out, with white instead of the other pieces."""
    around = with_margin(pieces)
    for number in range(1, int(pieces.max()) + 1):
        rows, columns = np.nonzero(pieces == number)
        room = round(ROOM * max(np.ptp(rows), np.ptp(columns))) + 2
        top, left = max(0, rows.min() - room), max(0, columns.min() - room)
        window = slice(top, rows.max() + room + 1), slice(left, columns.max() + room + 1)
        pixels = np.where((around == number)[..., None], image.pixels, 255)[window]
        shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
        tissue = (image.tissue & (pieces == number))[window]
        yield replace(image, pixels=np.ascontiguousarray(pixels), tissue=tissue, matrix=shift @ image.matrix)


def _nearest(pieces: Array) -> Array:
    """The number of the nearest piece, (h, w)."""
    rows, columns = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    return np.asarray(pieces[rows, columns])
