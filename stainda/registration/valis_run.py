"""One call of VALIS on the working images of a block, and its result as plain arrays.

Runs in the worker process. ``Valis.register`` never raises: it prints a traceback and returns ``(None, None, None)``,
or reports success for nonsense; what comes back from here is therefore only a proposal, which the gates judge.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.config import RegistrationConfig
from stainda.errors import RegistrationError
from stainda.registration.fields import extend, smooth_and_thin
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Transform, from_backward
from stainda.registration.valis_import import disk_lightglue_cached, import_valis

SPACING = 4  # lattice points kept: every fourth pixel of VALIS's field
# Smoothing of the field in its pixels. On rat_kidney 4 leaves the median landmark error where it was (3.90 against
# 3.95 px without), lowers the mean (4.95 against 5.17) and removes all folds; 24 begins to cost accuracy.
SMOOTHING = 4.0


@dataclass(frozen=True, eq=False)
class RawResult:
    """What VALIS found for one section, in working pixels (arrays named as in VALIS).

    Attributes:
        M: (3, 3) from the canvas of rigidly registered images to the section's processed image.
        processed_shape, canvas_shape, slide_shape: (rows, columns) of the processed image, of the canvas at that
            scale, and of the working image.
        backward, forward: float32 (2, h, w), VALIS's ``bk_dxdy`` and ``fwd_dxdy``, or ``None``.
        xy, xy_in_fixed: (n, 2) matches: here, and in the section it was matched with (``fixed``), processed pixels.
    """

    slide: str
    fixed: str
    M: Array
    processed_shape: tuple[int, int]
    canvas_shape: tuple[int, int]
    slide_shape: tuple[int, int]
    backward: Array | None
    forward: Array | None
    xy: Array
    xy_in_fixed: Array

    @property
    def n_matches(self) -> int:
        return len(self.xy)


def run_valis(
    images: Sequence[SectionImage],
    reference: str,
    config: RegistrationConfig,
    *,
    in_place: bool = False,
    worth_deforming: Callable[[dict[str, RawResult]], bool] | None = None,
    forward: bool = False,
) -> dict[str, RawResult]:
    """Register the working images, in the order of the cut, to the one named ``reference``.

    Args:
        config: detector, processing, ``max_dim`` (longest side of the image of the rigid step; the non-rigid step sees
            the working images as they are) and whether there is a non-rigid step.
        in_place: the images were laid on each other before and have one size; matches are sought nearby only.
        worth_deforming: asked with the rigid results; where it answers ``False`` the non-rigid step, half of the
            time, is left out.
        forward: keep VALIS's own inverse fields, too.

    Raises:
        RegistrationError: VALIS gave up, or left a section out; its own words are in the log.
    """
    import_valis()
    from stainda.registration.valis_lean import LeanValis, bare_essentials
    from stainda.registration.valis_reader import IN_PLACE, PROCESSING, WorkingImageReader, make_matcher

    if config.detector == "disk_lightglue" and not disk_lightglue_cached():
        raise RegistrationError(
            "the weights of DISK and LightGlue are not on this machine",
            remedy="Choose another registration.detector; stainda doctor says where the weights go",
        )
    with tempfile.TemporaryDirectory(prefix="stainda-valis-") as folder, bare_essentials(forward):
        # VALIS identifies slides by the stem of their file name and sorts by it: aliases are unique and in order.
        alias = {image.slide: str(Path(folder) / f"s{index:03d}.png") for index, image in enumerate(images)}
        matcher = make_matcher(IN_PLACE if in_place else config.detector)
        working = max(max(image.pixels.shape) for image in images)

        def results(of: Any) -> dict[str, RawResult]:
            return {image.slide: _result(of, image, alias, reference, forward) for image in images}

        registrar = LeanValis(
            folder,
            folder,
            name="block",
            img_list=list(alias.values()),
            reference_img_f=alias[reference],
            imgs_ordered=True,
            align_to_reference=True,
            matcher=matcher,
            matcher_for_sorting=matcher,
            max_processed_image_dim_px=config.max_dim,
            max_image_dim_px=working,
            max_non_rigid_registration_dim_px=working,
            thumbnail_size=128,
            worth_it=None if worth_deforming is None else lambda of: worth_deforming(results(of)),
            **({} if config.nonrigid else {"non_rigid_registrar_cls": None}),
        )
        if not config.nonrigid:
            registrar.non_rigid_reg_kwargs = {}  # without it cleanup() fails in valis-wsi 1.2.0
        rigid, _, _ = registrar.register(
            reader_dict={
                alias[image.slide]: [WorkingImageReader, {"pixels": image.pixels, "tissue": image.tissue | in_place}]
                for image in images
            },
            processor_dict={name: PROCESSING[config.processing] for name in alias.values()},
        )
        if rigid is None or rigid is False:
            raise RegistrationError("VALIS gave up")
        return results(registrar)


def _result(registrar: Any, image: SectionImage, alias: dict[str, str], reference: str, forward: bool) -> RawResult:
    path = alias[image.slide]
    slide = registrar.get_slide(path)
    if slide is None or slide.reader.src_f != path or slide.src_f != path or slide.reader.pixels is not image.pixels:
        raise RegistrationError(f"VALIS registered another image in the place of {image.slide}")
    if slide.M is None or slide.aligned_slide_shape_rc is None:
        raise RegistrationError(f"VALIS left {image.slide} out")
    moving = image.slide != reference
    empty = np.zeros((0, 2))
    names = {value: key for key, value in alias.items()}
    return RawResult(
        slide=image.slide,
        fixed=names[slide.fixed_slide.src_f] if moving else reference,
        M=np.asarray(slide.M, float),
        processed_shape=_shape(slide.processed_img_shape_rc),
        canvas_shape=_shape(slide.reg_img_shape_rc),
        slide_shape=_shape(image.pixels.shape[:2]),
        backward=_field(slide.bk_dxdy),
        forward=_field(slide.fwd_dxdy) if forward else None,
        xy=np.asarray(slide.xy_matched_to_prev, float) if moving else empty,
        xy_in_fixed=np.asarray(slide.xy_in_prev, float) if moving else empty,
    )


def _shape(shape: Sequence[int]) -> tuple[int, int]:
    return int(shape[0]), int(shape[1])


def _field(field: Array | None) -> Array | None:
    return None if field is None else np.asarray(field, np.float32)


def scaling(from_shape: tuple[int, int], to_shape: tuple[int, int]) -> Array:
    """The matrix (3, 3) that takes pixels of an image of ``from_shape`` (rows, columns) to one of ``to_shape``."""
    return np.diag([to_shape[1] / from_shape[1], to_shape[0] / from_shape[0], 1.0])


def to_transform(
    result: RawResult,
    image: SectionImage,
    reference_result: RawResult,
    reference_image: SectionImage,
    as_is: bool = False,
) -> Transform:
    """The transform of one section into the level-0 pixels of the reference.

    VALIS maps a point so: working pixels → processed image → (M⁻¹) canvas → displacement → canvas of the output. The
    reference is only shifted on the canvas, so undoing that shift leads to its working image and its level-0 pixels.
    The backward field is continued beyond VALIS's mask, smoothed until nothing folds, thinned, and inverted by us, so
    that both directions agree; ``as_is`` keeps VALIS's own two fields instead.
    """
    lattice = result.canvas_shape if result.backward is None else _shape(result.backward.shape[1:])
    pre = (
        scaling(result.canvas_shape, lattice)
        @ np.linalg.inv(result.M)
        @ scaling(result.slide_shape, result.processed_shape)
        @ image.matrix
    )
    post = (
        np.linalg.inv(reference_image.matrix)
        @ scaling(reference_result.processed_shape, reference_result.slide_shape)
        @ reference_result.M
        @ scaling(lattice, reference_result.canvas_shape)
    )
    names = (image.slide, reference_image.slide, image.size, reference_image.size)
    if result.backward is None or not np.abs(result.backward).any():
        return Transform(*names, pre, post)
    if as_is:
        if result.forward is None:
            raise RegistrationError("VALIS's forward field was not kept: ask run_valis for it")
        return Transform(*names, pre, post, result.forward, result.backward)
    known = np.abs(result.backward).any(axis=0)
    known = _trim(known)
    field = smooth_and_thin(extend(result.backward, known), SPACING, SMOOTHING)
    thin = np.diag([1 / SPACING, 1 / SPACING, 1.0])
    return from_backward(Transform(*names, thin @ pre, post @ np.linalg.inv(thin)), field)


def _trim(known: Array, by: int = 2) -> Array:
    """Without the outermost pixels of a mask, where VALIS's field already falls to zero."""
    from scipy import ndimage

    trimmed = ndimage.binary_erosion(ndimage.binary_opening(known, iterations=by), iterations=by, border_value=1)
    return trimmed if trimmed.any() else known
