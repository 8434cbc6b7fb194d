"""Which pixel of a patch is shown where after augmentation, and predictions warped along and back.

Places travel through an augmentation as labels do (nearest pixel, 255 outside), so that any augmentation that moves
labels is known, whatever it does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stainda.arrays import Array

_OUTSIDE = 255  # what augmentations put where they show nothing of the patch
_FIRST = 256  # the mark of pixel 0


def first_places(images: Tensor) -> Tensor:
    """Marks ``[N, H, W]`` (long) of every pixel of patches ``[N, C, H, W]``, to be augmented as labels are."""
    n, _, height, width = images.shape
    marks = torch.arange(height * width, device=images.device).view(1, height, width) + _FIRST
    return marks.expand(n, -1, -1).clone()


def places_of(marks: Tensor) -> Tensor:
    """Augmented marks to places: index ``row * W + column`` of the pixel shown, -1 for none."""
    return torch.where(marks == _OUTSIDE, -1, marks - _FIRST)


def looked_up(values: Array, places: Tensor, outside: int) -> Tensor:
    """Values of the pixels of unaugmented patches, as augmented patches show them.

    Args:
        values: ``(N, H, W)``, of the whole patch. places: long ``[N, h, w]``, of all or the middle of the patch.
        outside: the value where nothing of the patch is shown.

    Returns:
        ``[N, h, w]``, on the device of ``places``.
    """
    flat = torch.from_numpy(np.ascontiguousarray(values)).to(places.device).flatten(1)
    shown = flat.gather(1, places.clamp(min=0).flatten(1)).view(places.shape)
    return torch.where(places >= 0, shown, torch.full_like(shown, outside))


def warp_maps(maps: Tensor, places: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Maps of unaugmented patches brought to how augmented patches show them.

    Args:
        maps: ``[N, K, H - 2 margin, W - 2 margin]``, of the patch as it lies on the slide; or ``[N, K]``, an answer
            about its centre, which holds for the augmented patch where that is :func:`centred`.
        places: long ``[N, H, W]``.
        margin: pixels at each side for which the network gives no output.

    Returns:
        The same shape (0 where nothing is known) and, bool without K, where something is.
    """
    if maps.dim() == 2:
        still = centred(places)
        return maps * still[:, None], still
    n, k = maps.shape[:2]
    width = places.shape[2]
    cut = _crop(places, margin)
    row, column = cut.div(width, rounding_mode="floor") - margin, cut % width - margin
    h, w = maps.shape[2:]
    known = (cut >= 0) & (row >= 0) & (row < h) & (column >= 0) & (column < w)
    index = torch.where(known, row * w + column, 0).flatten(1)
    result = maps.flatten(2).gather(2, index[:, None].expand(-1, k, -1)).view(n, k, *cut.shape[1:])
    return result * known[:, None], known


def restore(maps: Tensor, places: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Maps of augmented patches brought back to how the patches lie on the slide; the reverse of :func:`warp_maps`.

    Where several pixels of the augmented patch show one pixel, their mean; where none does, the mean of those of its
    neighbours that are shown (an augmentation that enlarges leaves such gaps), else 0 and not known. Differentiable.
    """
    n, k, h, w = maps.shape
    width = places.shape[2]
    cut = _crop(places, margin)
    row, column = cut.div(width, rounding_mode="floor") - margin, cut % width - margin
    known = ((cut >= 0) & (row >= 0) & (row < h) & (column >= 0) & (column < w)).flatten(1)
    index = torch.where(known, (row * w + column).flatten(1), 0)
    weight = known.to(maps.dtype)
    sums = torch.zeros(n, k, h * w, dtype=maps.dtype, device=maps.device)
    sums = sums.scatter_add(2, index[:, None].expand(-1, k, -1), maps.flatten(2) * weight[:, None]).view(n, k, h, w)
    count = torch.zeros(n, h * w, dtype=maps.dtype, device=maps.device).scatter_add(1, index, weight).view(n, 1, h, w)
    near_sums = functional.avg_pool2d(sums, 3, 1, 1, count_include_pad=True) * 9
    near_count = functional.avg_pool2d(count, 3, 1, 1, count_include_pad=True) * 9
    gap = (count == 0) & (near_count > 0.5)
    result = torch.where(gap, near_sums / near_count.clamp(min=0.5), sums / count.clamp(min=1))
    return result, (gap | (count > 0))[:, 0]


def centred(places: Tensor, share: float = 0.125) -> Tensor:
    """Whether patches augmented so (``[N, H, W]``) still show, in their middle, what lies there on the slide: bool
    ``[N]``, the middle being off by at most ``share`` of the patch."""
    height, width = places.shape[1:]
    shown = places[:, height // 2, width // 2]
    off = torch.maximum(
        (shown.div(width, rounding_mode="floor") - height // 2).abs() / height,
        (shown % width - width // 2).abs() / width,
    )
    return (shown >= 0) & (off <= share)


def _crop(places: Tensor, margin: int) -> Tensor:
    return places[:, margin:-margin, margin:-margin] if margin else places
