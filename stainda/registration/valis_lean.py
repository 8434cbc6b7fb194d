"""VALIS without what stainda does not use: pictures, its pickle, its error table, and its forward fields.

On a pair at 512 px these are half of the processor time of ``Valis.register``. Imported in the worker process only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from valis import registration, viz, warp_tools

from stainda.arrays import Array


class LeanValis(registration.Valis):
    """VALIS that asks, after its rigid step, whether a non-rigid one is worth its time.

    Args:
        worth_it: called with this registrar once the rigid transforms are there; where it answers ``False`` the
            non-rigid step is left out.
    """

    def __init__(self, *args: Any, worth_it: Callable[[registration.Valis], bool] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._worth_it = worth_it

    def non_rigid_register(self, rigid_registrar: Any, processor_dict: object) -> Any:
        if self._worth_it is not None and not self._worth_it(self):
            return None
        return super().non_rigid_register(rigid_registrar, processor_dict)

    def measure_error(self) -> pd.DataFrame:
        return pd.DataFrame()

    def draw_overlap_img(self, img_list: object, blending: str = "weighted") -> Array:
        return _no_picture()

    def create_original_composite_img(self, rigid_registrar: object) -> Array:
        return _no_picture()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # register() ends with pickling everything, 58 MB for a small pair


def _no_picture(*_: object, **__: object) -> Array:
    return np.zeros((8, 8, 3), np.uint8)


def _white(slide: Any, *_: object, **__: object) -> None:
    slide.bg_color = np.array([255, 255, 255])


@contextlib.contextmanager
def bare_essentials(forward: bool) -> Iterator[None]:
    """For the time of one registration: no drawings, no colour of the background (it would fill the corners of drawings
    only), and without ``forward`` zeros for the forward fields, which stainda makes itself so that both ways agree."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(viz, "color_displacement_grid", _no_picture))
        stack.enter_context(mock.patch.object(viz, "draw_displacement_vector_field", _no_picture))
        stack.enter_context(mock.patch.object(registration.Slide, "get_bg_color_px_pos", _white))
        if not forward:
            stack.enter_context(mock.patch.object(warp_tools, "get_inverse_field", np.zeros_like))
        yield
