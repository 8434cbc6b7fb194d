"""How reliable simulated annotators are, measured on sections that are in no cohort.

Grote et al. 2018 (IEEE Trans. Med. Imaging 38:1284) weigh an annotator by her accuracy on a reference set. That of a
study with a synthetic cohort is another cohort, with the same settings and a seed of its own: none of its sections is
trained on, validated on or tested.
"""

from __future__ import annotations

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stainda.config import PhantomConfig
from stainda.errors import ConfigError
from stainda.phantom.annotators import drawn_features
from stainda.phantom.section import RenderedSection, plan_sections
from stainda.phantom.truth import glomerulus_features

OTHER_SEED = 1_000_003
"""Added to the seed of a cohort for that of its reference sections."""


def measured_reliability(config: PhantomConfig, sections: int = 20) -> dict[str, float]:
    """Dice of each annotator's areas with the true ones, all reference sections together, by name.

    Dice stands for the accuracy of Grote et al., who have patches classified: of pixels, most of which are background,
    accuracy would be near 1 for all.

    Raises:
        ConfigError: the cohort has no annotators, or draws other structures than glomeruli.
    """
    if not config.annotators or config.annotated:
        raise ConfigError(
            "the reliability of annotators is measured on glomeruli, in a cohort that has annotators",
            remedy="Set phantom.annotators, and leave phantom.annotated out",
        )
    changes = {
        "seed": config.seed + OTHER_SEED, "patients": sections, "stains": config.stains[:1], "artefacts": (),
        "annotated_at": (),
    }  # fmt: skip
    both, total = dict.fromkeys(config.annotators, 0.0), dict.fromkeys(config.annotators, 0.0)
    for plan in plan_sections(config.model_copy(update=changes)):
        section = RenderedSection(plan)
        features = glomerulus_features(section)
        frame = shapely.box(0, 0, plan.size, plan.size)
        truth = _area(features, frame)
        for name, quality in plan.annotators:
            drawn = _area(drawn_features(section, features, name, quality), frame)
            both[name] += truth.intersection(drawn).area
            total[name] += truth.area + drawn.area
    return {name: 2 * both[name] / total[name] if total[name] else 1.0 for name in config.annotators}


def _area(features: list[dict[str, object]], frame: BaseGeometry) -> BaseGeometry:
    outlines = [shape(feature["geometry"]).buffer(0) for feature in features]
    return shapely.union_all(outlines).intersection(frame)
