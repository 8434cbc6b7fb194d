"""The annotated objects of training patients in a store, one by one: what a share of the labels is drawn from.

The store's labels say of every pixel its class, and not of which object it is. Where a strategy learns from a share of
the annotations, the objects themselves are written next to the patches (``objects.parquet``, ``objects.json``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from stainda.cohort import Cohort, Roles
from stainda.errors import StaindaError
from stainda.files import load_json, stable_hash, whole_file, write_json
from stainda.patches.store import PatchStore
from stainda.run_directory.contents import STORE_OBJECTS_META
from stainda.run_directory.tables import LABEL_OBJECTS

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.config import TaskConfig

OWN, PROPAGATED = "own", "propagated"
_BETWEEN = "\n"


@dataclass(frozen=True, eq=False)
class LabelObjects:
    """Objects that labels are painted from.

    Attributes:
        table: per object ``slide``, ``id``, ``class``, ``patient``, ``domain``, ``split`` (``train``, ``val`` or
            ``all``), ``kind`` (``own`` of a source slide, ``propagated`` on a target's) and ``made_of``: of a
            propagated object the source objects it was made from, ``SLIDE<tab>ID`` each.
        shapes: their outlines, level-0 pixels of their slide, in the order of the table.
    """

    table: pd.DataFrame
    shapes: NDArray[np.object_]

    @classmethod
    def open(cls, store: PatchStore) -> LabelObjects:
        """Those of a store.

        Raises:
            StaindaError: they were not written, or cannot be read.
        """
        path = LABEL_OBJECTS.inside(store.folder)
        try:
            table = pd.read_parquet(path)
            shapes = np.asarray(shapely.from_wkb(table.pop("outline").map(bytes.fromhex).to_numpy()), dtype=object)
        except (OSError, ValueError, KeyError) as error:
            raise StaindaError(
                "the annotated objects that a share of the labels is drawn from are not here",
                file=path, remedy="Cut the patches of the study again (stainda patches)",
            ) from error  # fmt: skip
        return cls(table, shapes)

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        return (self.table["kind"] == kind).to_numpy(bool)

    @property
    def names(self) -> list[str]:
        """``SLIDE<tab>ID`` of every object."""
        return [f"{slide}\t{object_id}" for slide, object_id in zip(self.table["slide"], self.table["id"], strict=True)]

    def made_of(self) -> list[tuple[str, ...]]:
        """Of every object the names of those it was made from; of an annotation none."""
        return [tuple(text.split(_BETWEEN)) if text else () for text in self.table["made_of"]]


def write_label_objects(
    store: PatchStore,
    cohort: Cohort,
    roles: Roles,
    task: TaskConfig,
    shapes: Mapping[str, Mapping[str, gpd.GeoDataFrame]],
    members: Mapping[tuple[str, str], tuple[str, ...]],
    *,
    min_confidence: float = 0.0,
) -> LabelObjects:
    """Write the objects of source slides, and those propagated to target slides, of training and validation patients.

    Args:
        shapes: as for :func:`build_store`.
        members: of each propagated object, by its slide and id, the ``SLIDE<tab>ID`` of the annotations it was made
            from.
        min_confidence: propagated objects below it are ignored pixels already, and no labels.
    """
    key = stable_hash(
        [
            store.key,
            sorted([*key_of_object, *members_of_object] for key_of_object, members_of_object in members.items()),
        ],
        24,
    )
    marker = STORE_OBJECTS_META.inside(store.folder)
    if marker.is_file() and load_json(marker).get("key") == key:
        return LabelObjects.open(store)
    rows: list[dict[str, Any]] = []
    for section in cohort.where(splits=["train", "val", "all"]):
        domain = cohort.domain(section)
        kind = {"source": OWN, "target": PROPAGATED}.get(roles.role(domain))
        of_section = shapes.get(kind, {}).get(section.slide) if kind else None
        if kind is None or of_section is None:
            continue
        doubtful = kind == PROPAGATED and (of_section["confidence"].to_numpy(float) < min_confidence)
        kept = of_section[of_section["class"].isin(task.classes).to_numpy(bool) & ~np.asarray(doubtful)]
        about = {"slide": section.slide, "patient": section.patient, "domain": domain, "split": section.split}
        for geometry, cls, object_id in zip(kept.geometry.values, kept["class"], kept["id"], strict=True):
            if geometry is None or geometry.is_empty:
                continue
            made_of = members.get((section.slide, str(object_id)), ()) if kind == PROPAGATED else ()
            rows.append({
                **about, "id": str(object_id), "class": str(cls), "kind": kind, "made_of": _BETWEEN.join(made_of),
                "outline": shapely.to_wkb(geometry).hex(),
            })  # fmt: skip
    table = pd.DataFrame(rows, columns=list(LABEL_OBJECTS.names))
    with whole_file(LABEL_OBJECTS.inside(store.folder)) as aside:
        table.to_parquet(aside, index=False)
    write_json(marker, {"key": key, "objects": len(table)})
    return LabelObjects.open(store)
