"""Hash of all inputs of the patches, by which existing work is recognised and reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import geopandas as gpd
import pandas as pd
import shapely

from stainda.cohort import Cohort
from stainda.files import fingerprint, stable_hash


def inputs_key(cohort: Cohort, shapes: Mapping[str, Mapping[str, gpd.GeoDataFrame]], settings: object) -> str:
    """Hash of the cohort's slides (their rows of the manifest, content of the file), their shapes, and settings."""
    slides = []
    for section in cohort:
        about = [section.slide, section.patient, cohort.domain(section), section.split, section.mpp]
        place = [section.block, section.section, section.stain, section.centre, section.scanner]
        slides.append([*about, *place, fingerprint(section.path)])
    own_slides = [section.slide for section in cohort]
    drawn = {
        kind: {slide: _shapes_key(some[slide]) for slide in own_slides if slide in some}
        for kind, some in shapes.items()
    }
    return stable_hash([slides, drawn, settings], length=24)


def _shapes_key(shapes: gpd.GeoDataFrame) -> str:
    digest = hashlib.sha256()
    for geometry, name, confidence in zip(shapes.geometry.values, shapes["class"], shapes["confidence"], strict=True):
        wkb = b"" if geometry is None else shapely.to_wkb(geometry)
        digest.update(wkb + f"|{name}|{'' if pd.isna(confidence) else float(confidence)!r}|".encode())
    return digest.hexdigest()
