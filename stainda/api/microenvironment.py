"""Cells about structures as an object of the Python surface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.api.showing import chosen_progress
from stainda.notebook import summary_html

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

    from stainda.cohort import Cohort
    from stainda.progress import Progress
    from stainda.run_directory.declaration import Table


class Microenvironment:
    """The tables of a measured micro-environment (docs/reference/files.md has their columns), read from their files.

    Args:
        folder: a run directory.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _read(self, table: Table) -> pd.DataFrame:
        return table.read(table.at(self.folder).parent)

    @property
    def structures(self) -> pd.DataFrame:
        """One row per structure and section: cells inside, area (µm²), error of its place (µm), nearest cell (µm)."""
        from stainda.run_directory.microenvironment_tables import STRUCTURES

        return self._read(STRUCTURES)

    @property
    def zones(self) -> pd.DataFrame:
        """One row per structure and zone: cells per mm² with their interval."""
        from stainda.run_directory.microenvironment_tables import ZONES

        return self._read(ZONES)

    @property
    def slides(self) -> pd.DataFrame:
        """One row per section and zone, by the nearest structure."""
        from stainda.run_directory.microenvironment_tables import SLIDES

        return self._read(SLIDES)

    @property
    def patients(self) -> pd.DataFrame:
        """One row per patient, stain and measure."""
        from stainda.run_directory.microenvironment_tables import PATIENTS

        return self._read(PATIENTS)

    @property
    def groups(self) -> pd.DataFrame:
        """Differences between groups of patients."""
        from stainda.run_directory.microenvironment_tables import GROUPS

        return self._read(GROUPS)

    @property
    def curves(self) -> pd.DataFrame:
        """Density by distance with its envelope; L and g among cells."""
        from stainda.run_directory.microenvironment_tables import CURVES

        return self._read(CURVES)

    @property
    def identities(self) -> pd.DataFrame:
        """Structures identified across the sections of their block, with their volumes (µm³)."""
        from stainda.run_directory.microenvironment_tables import IDENTITIES

        return self._read(IDENTITIES)

    @property
    def left_out(self) -> pd.DataFrame:
        """What was not measured, and why."""
        from stainda.run_directory.microenvironment_tables import LEFT_OUT

        return self._read(LEFT_OUT)

    def cells(self, slide: str) -> gpd.GeoDataFrame:
        """The cells of a section, points in level-0 pixels."""
        from stainda.annotations import read_shapes
        from stainda.run_directory.microenvironment_tables import CELLS

        return read_shapes(CELLS.at(self.folder, slide=slide))

    def _counts(self) -> str:
        slides = self.slides
        return f"{slides['cells'].sum()} cells on {slides['slide'].nunique()} sections"

    def __repr__(self) -> str:
        return f"Microenvironment({self.folder}: {self._counts()})"

    def _repr_html_(self) -> str:
        rows = self.slides[["slide", "zone", "cells", "density", "low", "high"]].to_dict("records")
        return summary_html("Micro-environment", {"folder": self.folder, "holds": self._counts()}, rows)


def microenvironment(
    given: Cohort | str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    progress: bool | Progress | None = None,
    **settings: Any,
) -> Microenvironment:
    """Count cells in and around structures on every section of a stain.

    Args:
        given: a study file (what is missing before is done), a run directory, or a cohort or manifest whose sections
            are annotated, or registered and propagated in ``out``.
        out: the run directory, which a cohort or manifest needs.
        data: the folder that a manifest's paths are relative to.
        progress: ``None``: a bar in notebooks; ``True``: also elsewhere; ``False``: nothing.
        settings: of a study's section ``microenvironment`` (docs/howto/microenvironment.md): ``stains``,
            ``structures``, ``rings_um``, ``cells`` and ``cell_files``, ``outlines`` ...; ``spacing_um``,
            micrometres from one section number to the next, where no study says.

    Returns:
        The tables; distances in micrometres, densities per mm².

    Raises:
        StaindaError: no section of these stains could be measured; the message has the reasons.

    Example:
        >>> found = st.microenvironment("mine.csv", out="runs/cells", stains=["SR"], simulations=19)
        >>> found.slides["zone"].unique().tolist()
        ['inside', '0-25', '25-50', '50-100', 'beyond']
    """
    from stainda.study.microenvironment import measure

    return Microenvironment(measure(given, out, settings, data=data, progress=chosen_progress(progress)))
