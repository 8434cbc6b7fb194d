"""Confidence of a propagated object: calibrated probabilities that it exists, and that its outline is right.

``right`` is the probability that the propagated outline and the true one have a Dice of at least 0.5; ``exists`` that
the object is in the target section at all. Both are logistic functions (``calibration.py``) of what is known about the
object in the images and in the other annotated sections; a target's own annotations are never looked at. The features:

- *structure, offset, gain, inner, ring*: does the neighbourhood match the source's (``evidence.py``)?
- *pair_structure, pair_offset*: the medians of two of these over all objects of the two sections: one doubtful object
  among good ones is another thing than one of many.
- *stretch*: ``|ln a|`` of the local area change ``a`` relative to the whole section's.
- *gap*: distance between the two sections over the object's diameter: a body ends within about its diameter.
  *near* is ``exp(-gap / 0.15)``; ``structure_near``, ``offset_near`` and ``pair_near`` are the products with it: nearby
  sections must show the same structure, distant ones need not.
  *small*: ``-ln`` of the diameter over the median of its kind: a small cut lies near the end of a body.
- *typical*: does the place look like the kind (``content.py``)? *pair_typical*: the median over the objects from that
  section. Where there are too few objects to say, models without the two are used.
- *flanked*: it is drawn in sections on both sides. *ended*: how far the target lies on the way from the outline to the
  nearest section beyond in which it is not drawn, though it shows the place (0: there is none; more than 1: nearer
  sections lack it). *agree*: Dice of the outlines of several sections with the one used (0.8 where there is one).

What the synthetic blocks cannot teach only lowers the result, by plain rules (:func:`placed`): folds, an error of the
way there and back, a place that is partly off the tissue, and one where the registration is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stainda.arrays import Array
from stainda.registration.calibration import load_models

ASSUMED_UM = 150.0  # diameter where it or the slide's pixel size is not known: that of a glomerulus
ALONE = 0.8  # agreement taken where one section alone has the object

FEATURES = (
    "structure", "offset", "gain", "inner", "ring", "pair_structure", "pair_offset", "stretch", "gap", "gap_small",
    "small", "flanked", "ended", "agree", "near", "structure_near", "offset_near", "pair_near", "typical",
    "pair_typical",
)  # fmt: skip
NEAR = 0.15  # gap at which what the neighbourhood says has fallen to 1/e
OF_CONTENT = ("typical", "pair_typical")
UNSURE = 0.7  # of the confidence is taken where the deformation was damped to nothing: below what training takes
TRIP = 0.05, 0.1  # of the diameter: a forward-backward error up to the first is no doubt; each further second is 1/e


def features(
    measured: Mapping[str, Array],
    diameter: Array,
    usual_diameter: Array,
    apart_um: Array,
    mpp: Array,
) -> dict[str, Array]:
    """What the models read, arrays (n,) by the names of :data:`FEATURES`, each within the range it was fitted on.

    Args:
        measured: arrays (n,): ``structure, offset, gain, inner, ring, pair_structure, pair_offset, flanked, ended,
            agree`` as above, ``typical`` and ``pair_typical`` (NaN where not known), ``area_change`` (relative).
        diameter, usual_diameter: of each object and of its kind, level-0 pixels of the source; NaN for points and
            lines, of which nobody knows how large they are.
        apart_um: micrometres between source and target section.
        mpp: micrometres per pixel of the source; NaN where not known.
    """
    change = np.asarray(measured["area_change"], float)
    um = np.where(np.isfinite(mpp) & np.isfinite(diameter), diameter * mpp, ASSUMED_UM)
    small = np.clip(np.log(np.maximum(usual_diameter, 1e-9) / np.maximum(diameter, 1e-9)), -1.0, 1.5)
    small = np.where(np.isfinite(small), small, 0.0)
    gap = np.clip(apart_um / np.maximum(um, 1e-9), 0, 2)
    values = {
        "structure": np.clip(measured["structure"], -2, 8),
        "offset": np.clip(measured["offset"], 0, 0.5) * np.clip(measured["gain"], 0, 1),
        "gain": np.clip(measured["gain"], 0, 4),
        "inner": np.clip(measured["inner"], -0.3, 0.6),
        "ring": np.clip(measured["ring"], -0.3, 0.6),
        "pair_structure": np.clip(measured["pair_structure"], -2, 8),
        "pair_offset": np.clip(measured["pair_offset"], 0, 0.5),
        "stretch": np.where(change > 0, np.minimum(np.abs(np.log(np.maximum(change, 1e-9))), 1.5), 1.5),
        "gap": gap,
        "gap_small": gap * small,
        "small": small,
        "typical": np.clip(measured["typical"], -6, 6),
        "pair_typical": np.clip(measured["pair_typical"], -6, 6),
        "flanked": np.asarray(measured["flanked"], float),
        "ended": np.clip(measured["ended"], 0, 1.5),
        "agree": np.clip(measured["agree"], 0, 1),
    }
    near = np.exp(-gap / NEAR)
    values |= {"near": near, "structure_near": near * values["structure"], "offset_near": near * values["offset"]}
    values["pair_near"] = near * values["pair_structure"]
    return {name: np.asarray(values[name], float) for name in FEATURES}


def probabilities(measures: Mapping[str, Array]) -> tuple[Array, Array]:
    """``right`` and ``exists``, each (n,), of :func:`features`; what does not exist cannot lie right."""
    models = load_models()
    known = np.isfinite(measures["typical"]) & np.isfinite(measures["pair_typical"])
    plain = {name: values for name, values in measures.items() if name not in OF_CONTENT}
    exists = np.where(known, models["exists"](measures), models["exists_plain"](plain))
    right = np.where(known, models["right"](measures), models["right_plain"](plain))
    return np.minimum(right, exists), exists


def placed(area_change: Array, trip: Array, tissue: Array, unsure: Array | float = 0.0) -> Array:
    """What a confidence is multiplied by, (n,) 0 to 1: the share on tissue; less where forward and back do not agree or
    the registration is unsure of the place; 0 where the map folds.

    Args:
        area_change: local, relative to the section's; 0 or less is a fold. trip: forward-backward distance over the
            object's diameter. tissue: share of the object on tissue of the target.
        unsure: of the place, 0 to 1 (``Between.doubt``).
    """
    free, fall = TRIP
    kept = np.clip(tissue, 0, 1) * (1 - UNSURE * np.clip(unsure, 0, 1)) * np.exp(-np.maximum(trip - free, 0) / fall)
    return np.where(area_change > 0, kept, 0.0)
