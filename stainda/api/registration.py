"""A registered cohort, and the annotations propagated in it, as objects of the Python surface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import RegistrationError, StaindaError, did_you_mean
from stainda.names import file_name
from stainda.notebook import summary_html

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

    from stainda.cohort import Cohort
    from stainda.registration import Transform


class Registration:
    """The registered blocks of a run directory, read from its files.

    Args:
        folder: a run directory that :func:`stainda.register` or ``stainda register`` made.
        given: the cohort, manifest or study that was registered, where :func:`stainda.propagate` shall know it.

    Raises:
        RegistrationError: nothing is registered there.

    Example:
        >>> registration = st.register(st.read_manifest("mine.csv"), out="runs/registered", method="identity")
        >>> registration
        Registration(runs/registered: 5 blocks, 5 pairs: 5 registered)
        >>> registration.blocks
        ('P0', 'P1', 'P2', 'P3', 'P4')
        >>> registration.quality[["block", "source", "target", "status"]].head(1)
          block source  target      status
        0    P0  P0_SR  P0_PAS  registered
    """

    def __init__(self, folder: str | Path, given: Cohort | str | Path | None = None) -> None:
        self.folder, self.given = Path(folder), given
        if not self.blocks:
            raise RegistrationError(
                "nothing is registered here", file=self.folder, remedy="Call st.register, or run 'stainda register'"
            )

    def known(self) -> Cohort | str | Path:
        """What was registered.

        Raises:
            RegistrationError: it was not said.
        """
        if self.given is None:
            raise RegistrationError(
                "this registration was read from its folder, which does not say where the annotations are",
                file=self.folder,
                remedy="Give the cohort: st.propagate(cohort, out=...)",
            )
        return self.given

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Names of the registered blocks, sorted."""
        from stainda.registration.results import finished_blocks

        return finished_blocks(self.folder / "registration")

    @cached_property
    def quality(self) -> pd.DataFrame:
        """``registration/quality.csv``: one row per section laid on its block's reference, with its status, reason and
        errors (columns ``_px``: level-0 pixels of the reference, ``_um``: micrometres; see docs/reference/files.md)."""
        from stainda.study.tables import read_quality

        return read_quality(self.folder)

    def transform(self, slide: str) -> Transform:
        """The transform of a section into the frame of its block: the level-0 pixels of the block's reference.

        Raises:
            RegistrationError: the slide is not in a registered block, or was refused; the message says why.

        Example:
            >>> registration = st.Registration("runs/mine")
            >>> registration.transform("P0_SR").to_frame([[100.0, 200.0]])
            array([[100., 200.]])
        """
        from stainda.registration import load_block

        known: list[str] = []
        for block in self.blocks:
            result = load_block(self.folder / "registration", block)
            if slide in result.refused:
                raise RegistrationError(
                    f"{slide} was refused: {result.refused[slide]}", file=self.folder, remedy="See registration/"
                )
            if slide in result.transforms:
                return result.transforms[slide]
            known += result.transforms
        raise RegistrationError(
            f"{slide!r} is in no registered block", file=self.folder, remedy=did_you_mean(slide, known)
        )

    def __repr__(self) -> str:
        return f"Registration({self.folder}: {len(self.blocks)} blocks, {len(self.quality)} pairs: {self._counts()})"

    def _repr_html_(self) -> str:
        rows = self.quality[["block", "source", "target", "status", "tre_nonrigid_px", "reason"]].to_dict("records")
        facts = {"folder": self.folder, "blocks": len(self.blocks), "pairs": self._counts()}
        return summary_html("Registration", facts, rows)

    def _counts(self) -> str:
        counts = self.quality["status"].value_counts()
        return ", ".join(f"{number} {status}" for status, number in counts.items()) or "none"


class UnknownSlideError(StaindaError, KeyError):
    """A slide that is not among those requested."""


class Propagation(Mapping[str, "gpd.GeoDataFrame"]):
    """Annotations propagated to the other sections of their blocks, by slide; read from the files of a run directory.

    A slide that no annotated section reached is not among them: it is no slide without objects.

    Args:
        folder: a run directory that :func:`stainda.propagate` or a study made.

    Raises:
        RecordError: nothing was propagated there.

    Example:
        >>> labels = st.Propagation("runs/mine")
        >>> labels
        Propagation(runs/mine: 20 kept)
        >>> labels["P0_SR"][["class", "source_slide"]].head(1)
                class source_slide
        0  glomerulus       P0_PAS
    """

    def __init__(self, folder: str | Path) -> None:
        from stainda.study.tables import read_propagation

        self.folder = Path(folder)
        self.table = read_propagation(self.folder)
        """``annotations/propagation.csv``: every object and target, kept, ignored or dropped, and why."""

    @cached_property
    def _files(self) -> dict[str, Path]:
        from stainda.study.tables import check_not_rotating

        place = self.folder / "annotations" / "propagated"
        check_not_rotating(self.folder, place.relative_to(self.folder), "the propagated annotations")
        files = {slide: place / f"{file_name(slide)}.geojson" for slide in self.table["target"].unique()}
        return {slide: path for slide, path in files.items() if path.is_file()}

    def __getitem__(self, slide: str) -> gpd.GeoDataFrame:
        """The shapes of a slide in level-0 pixels of it, with ``confidence`` (0 to 1) and ``source_slide``.

        Raises:
            UnknownSlideError: nothing was propagated to that slide.
        """
        from stainda.annotations import read_shapes

        if slide not in self._files:
            raise UnknownSlideError(
                f"nothing was propagated to {slide!r}", file=self.folder, remedy=did_you_mean(slide, self._files)
            )
        return read_shapes(self._files[slide])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def to_frame(self) -> gpd.GeoDataFrame:
        """The shapes of all slides as one table, the slide's name in the first column ``slide``.

        Example:
            >>> st.Propagation("runs/mine").to_frame().groupby("slide").size().head(2)
            slide
            P0_SR    4
            P1_SR    4
            dtype: int64
        """
        from stainda.annotations import join_slides

        return join_slides(dict(self))

    def __repr__(self) -> str:
        counts = self.table["status"].value_counts()
        return f"Propagation({self.folder}: {', '.join(f'{number} {status}' for status, number in counts.items())})"

    def _repr_html_(self) -> str:
        counts = self.table.groupby(["source", "target", "status"], as_index=False).size()
        rows = counts.rename(columns={"size": "objects"}).to_dict("records")
        return summary_html("Propagation", {"folder": self.folder}, rows)
