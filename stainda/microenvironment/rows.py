"""Measurements as rows of the tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.identities import Identity
from stainda.microenvironment.measure import SectionMeasures, ZoneDensities
from stainda.microenvironment.rates import MM2, density, poisson_interval
from stainda.microenvironment.section import SectionData
from stainda.microenvironment.table_values import Row, known

NULL_NAMES = {
    "shift": "toroidal shifts of the cells", "relabel": "random relabelling of the cells",
    "csr": "complete spatial randomness",
}  # fmt: skip


def who(data: SectionData) -> Row:
    row = data.section
    return {"slide": row.slide, "patient": row.patient, "group": row.group, "block": row.block, "stain": row.stain}


def structure_rows(measures: SectionMeasures) -> list[Row]:
    data, each = measures.data, measures.each
    shapes = data.structures
    centres = shapely.get_coordinates(shapely.centroid(shapes.outlines)).reshape(-1, 2) / data.mpp
    areas = shapely.area(shapes.outlines)
    inside = density(each.counts[:, 0], each.areas[:, 0])
    return [
        {
            **who(data), "id": shapes.ids[k], "identity": shapes.identity[k], "class": shapes.classes[k],
            "source": shapes.sources[k], "outline": data.outlined, "confidence": known(shapes.confidence[k]),
            "error_um": known(shapes.error_um[k]),
            "x": known(centres[k, 0], 2), "y": known(centres[k, 1], 2), "area_um2": known(areas[k], 1),
            "on_tissue_um2": known(each.areas[k, 0], 1), "cells": int(each.counts[k, 0]), "density": known(inside[k]),
            "nearest_um": known(each.nearest_um[k], 2), "positive_share": known(each.positive[k, 0], 5),
        }
        for k in range(len(shapes))
    ]  # fmt: skip


def zone_rows(measures: SectionMeasures) -> list[Row]:
    data, each, zones = measures.data, measures.each, measures.zones
    rates = density(each.counts, each.areas)
    return [
        {
            "slide": data.section.slide, "id": data.structures.ids[k], "identity": data.structures.identity[k],
            "zone": name, "from_um": low, "to_um": high, "cells": int(each.counts[k, z]),
            "area_um2": known(each.areas[k, z], 1), "density": known(rates[k, z]), "low": known(each.low[k, z]),
            "high": known(each.high[k, z]), "positive_share": known(each.positive[k, z], 5),
            "thin": bool(each.thin[k, z]),
        }
        for k in range(len(data.structures))
        for z, (name, (low, high)) in enumerate(zip(zones.names, zones.bounds, strict=True))
    ]  # fmt: skip


def slide_rows(measures: SectionMeasures, over: ZoneDensities, level: float) -> list[Row]:
    """The zones by the nearest structure; their intervals are those over structures, moved to the value."""
    data, zones = measures.data, measures.zones
    value = density(measures.pooled_counts, measures.pooled_areas)
    low, high = poisson_interval(measures.pooled_counts, measures.pooled_areas, level)
    kinds = ["poisson"] * len(value)
    if over.kind == "bootstrap":
        factor = np.divide(value[:-1], over.value, out=np.ones(len(zones)), where=over.value > 0)
        low[:-1], high[:-1] = over.low * factor, np.where(value[:-1] > 0, over.high * factor, high[:-1])
        kinds[:-1] = ["bootstrap" if rate > 0 else "poisson" for rate in value[:-1]]
    error, bias = data.structures.error_um, [*over.bias, np.nan]
    bounds = [*zones.bounds, (zones.reach, None)]
    return [
        {
            **who(data), "zone": name, "from_um": bounds[z][0], "to_um": bounds[z][1],
            "structures": len(data.structures), "cells": int(measures.pooled_counts[z]),
            "area_mm2": known(measures.pooled_areas[z] / MM2, 6), "density": known(value[z]), "low": known(low[z]),
            "high": known(high[z]), "interval": kinds[z], "error_bias": known(bias[z], 4),
            "corrected": known(value[z] * max(1 - bias[z], 0.0)),
            "thin": int(measures.each.thin[:, z].sum()) if z < len(zones) else 0,
            "error_um": known(np.median(error)) if len(error) else None,
        }
        for z, name in enumerate((*zones.names, "beyond"))
    ]  # fmt: skip


def identity_rows(identities: Sequence[Identity], level: float) -> list[Row]:
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    intervals = [identity.volume.interval(z) for identity in identities]
    return [
        {
            "block": identity.block, "identity": identity.identity, "class": identity.cls,
            "x_um": known(identity.x_um, 1), "y_um": known(identity.y_um, 1), "sections": len(identity.sections),
            "profiles": identity.volume.profiles, "volume_um3": known(identity.volume.um3, 0),
            "volume_error": known(identity.volume.error, 4), "volume_low": known(low, 0),
            "volume_high": known(high, 0), "whole": identity.volume.whole,
            "found_in": "; ".join(identity.sections),
        }
        for identity, (low, high) in zip(identities, intervals, strict=True)
    ]  # fmt: skip


def methods_text(config: MicroenvironmentConfig, sections: int, patients: int) -> str:
    """What was done, for a paper."""
    rings = ", ".join(f"{a:g}-{b:g}" for a, b in zip((0.0, *config.rings_um), config.rings_um, strict=False))
    nulls = " and of ".join(NULL_NAMES[null] for null in config.null_models)
    look = config.detection
    origins = {
        "files": "Cells were read from files made elsewhere.",
        "network": "Cells are the detections of a trained network.",
    }
    how = (
        f"Cells were found at {look.mpp:g} µm per pixel by colour deconvolution on optical density (haematoxylin and "
        f"{'DAB' if look.chromogen == 'dab' else 'permanent red'}), a threshold of {look.least:g} and of "
        f"{look.above:g} above the local median ({look.background_um:g} µm), and a watershed; areas of "
        f"{look.min_area_um2:g} to {look.max_area_um2:g} µm² were kept."
        if config.cells == "classical"
        else origins[config.cells]
    )
    return " ".join([
        f"Cells were counted about structures of class {', '.join(config.structures)} on {sections} sections "
        f"({', '.join(config.stains)}) of {patients} patients.", how,
        *(
            [f"Structures were found by a trained detector on {' and '.join(config.detected_on)} and propagated."]
            if "detected" in config.outlines
            else []
        ),
        f"Zones are the inside of a structure and rings of signed distance to its outline ({rings} µm), cut at the "
        "edge and the holes of the tissue and where another structure begins.",
        f"Propagated outlines with a confidence below {config.min_confidence:g}, and those placed less exactly than "
        f"{config.max_error_um:g} µm, were left out.",
        "The registration error was measured on landmarks and on the agreement of local image structure, and simulated "
        f"as {config.draws} displacements of each structure; single densities have exact Poisson intervals, widened by "
        f"it, and densities over structures bootstrap intervals ({config.resamples} resamples) that contain it.",
        "Density by distance, the pair correlation and L (of cells about the centres of structures, and of cells "
        "about cells) are relative to equal density, with the tissue as window: by the area of each ring within it, "
        "and, among cells, the translation correction (Ohser and Stoyan 1981). Curves were compared with "
        f"{config.simulations} simulations each of {nulls} by extreme rank "
        "length (Myllymäki et al. 2017), pooled over sections and patients; their intervals are bootstrap intervals "
        "over patients.",
        "Groups of patients were compared by studentised permutation of patients, with bootstrap-t intervals and the "
        "false discovery rate over measures (Benjamini and Hochberg 1995).",
    ])  # fmt: skip
