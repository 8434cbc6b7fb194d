"""A trained job applied to slides and images: probability maps, and objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.arrays import Array
from stainda.config import PatchConfig, TaskConfig
from stainda.errors import SlideError, TrainingError, did_you_mean
from stainda.files import load_json
from stainda.memory import freed_memory_kept
from stainda.models import looks_locally
from stainda.names import stem
from stainda.prediction.objects import LARGE, ProbabilityMap, find_candidates, find_objects, label_map
from stainda.prediction.regions import (
    ArrayRegion,
    LoadedRegion,
    PixelRegion,
    SlideRegion,
    TissueSample,
    no_tissue,
    sample_tissue,
)
from stainda.prediction.scratch import scratch
from stainda.prediction.tiling import LARGEST, SMALLEST, TilePlan, blend_tiles, cheapest_plan
from stainda.prediction.windows import Window, map_size, slide_window
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for
from stainda.run_directory.contents import RESULT, SETTINGS
from stainda.strategies.detector import CHECKPOINTS, Detector
from stainda.strategies.norm.statistics import (
    Statistics,
    TooFewImages,
    batches_for_statistics,
    batchnorm_layers,
    estimate_statistics,
)

if TYPE_CHECKING:
    import geopandas as gpd
    from torch import Tensor

    from stainda.slides import Slide

_BATCH_PIXELS = {"cpu": 2**19, "cuda": 2**20}
"""Pixels that the network looks at in one pass; more are no faster."""


class Predictor:
    """A trained job, ready for any slide; made by :func:`load_predictor`.

    Attributes:
        detector: the network with its view and batch statistics.
        thresholds: probability from which a pixel (or a patch) is called the class, fixed on source validation.
        patches, task: the job's scale and classes.
        domain_keys: what names a domain, such as stain and centre.
    """

    def __init__(self, detector: Detector, settings: dict[str, Any], result: dict[str, Any], name: str) -> None:
        self.detector, self.name = detector, name
        self.patches = PatchConfig.model_validate(settings["patches"])
        self.task = TaskConfig.model_validate(settings["task"])
        self.thresholds: dict[str, float] = result["thresholds"]
        self.domain_keys: tuple[str, ...] = tuple(settings.get("domain_keys") or ("stain", "centre"))
        self._local: bool | None = None

    @property
    def threshold(self) -> tuple[float, ...]:
        """The thresholds in the order of the classes."""
        return tuple(self.thresholds[cls] for cls in self.detector.classes)

    # -- probabilities ------------------------------------------------------------------------------------------

    def downsample_of(self, mpp: float | None, file: str | Path | None = None) -> float:
        """Level-0 pixels per pixel the network sees, on a slide of this pixel size.

        Raises:
            SlideError: the job works at a physical scale and the slide's pixel size is not known.
        """
        if self.patches.downsample is not None:
            return self.patches.downsample
        assert self.patches.mpp is not None
        if mpp is None:
            raise SlideError(
                f"the job was trained at {self.patches.mpp} µm per pixel and this slide's pixel size is not known",
                file=file,
                remedy="Give it: --mpp 0.25 on the command line, or the column mpp of the manifest",
            )
        return self.patches.mpp / mpp

    def probabilities(
        self, slide: Slide, domain: str | None = None, name: str | None = None, progress: Progress = SILENT
    ) -> ProbabilityMap:
        """Probabilities over a whole slide; tiles (or cells) without tissue are not read and stay 0.

        A segmentation gives one probability per pixel the network sees. A patch classifier gives one per cell: the
        window lies about the cell's middle, and cells are :attr:`cell` pixels apart.

        Args:
            slide: an open slide; its ``mpp`` is used where the job works at a physical scale.
            domain: the slide's domain, where it is one the job was trained on (batch statistics kept for it are used).
            name: names the slide in random choices; default the file's name without its ending.

        Raises:
            SlideError: no pixel size where one is needed, or no tissue.
        """
        region = self.region(slide)
        if not region.has_tissue:
            raise no_tissue(slide.path)
        return self.probabilities_region(region, domain, name or stem(slide.path), slide.mpp, progress)

    def region(self, slide: Slide, keep: bool = False) -> SlideRegion:
        """The whole slide at the scale of the network, with its tissue; ``keep`` reads its pixels into memory.

        Raises:
            SlideError: no pixel size where one is needed.
        """
        from stainda.slides import tissue_mask

        downsample = self.downsample_of(slide.mpp, slide.path)
        return (LoadedRegion if keep else SlideRegion)(slide, tissue_mask(slide), downsample)

    def probabilities_array(
        self,
        image: Array,
        domain: str | None = None,
        name: str = "image",
        *,
        tissue: Array | None = None,
        x: float = 0.0,
        y: float = 0.0,
        downsample: float = 1.0,
    ) -> ProbabilityMap:
        """Probabilities over an image in memory.

        Args:
            image: uint8 RGB ``(h, w, 3)`` at the scale the network was trained at.
            domain, name: as for :meth:`probabilities`.
            tissue: bool ``(h, w)``, where to look; default everywhere.
            x, y, downsample: where the image lies on its slide, for the coordinates of objects.
        """
        return self.probabilities_region(ArrayRegion(image, tissue, x, y, downsample), domain, name, None, SILENT)

    def probabilities_region(
        self, region: PixelRegion, domain: str | None, name: str, mpp: float | None, progress: Progress = SILENT
    ) -> ProbabilityMap:
        """Probabilities over a region of a slide whose level-0 pixel size is ``mpp``, where known.

        Without any tissue they are 0 everywhere, and a note says so. Else as :meth:`probabilities`.
        """
        array = self._empty(region)
        if not region.has_tissue:
            return self._map(array, region, ("no tissue is found on this slide: nothing is predicted",), mpp)
        with self.ready(region, domain, name) as (statistics, notes):
            self._fill(region, array, statistics, name, progress)
        return self._map(array, region, notes, mpp)

    @contextmanager
    def ready(
        self, region: PixelRegion, domain: str | None, name: str
    ) -> Iterator[tuple[Statistics | None, tuple[str, ...]]]:
        """Inside the block the network is as it is applied to this slide, with view and adaptation: gives the batch
        statistics (``None``: its own) and what was done."""
        sample = None
        if self._needs_sample(domain):
            sample = sample_tissue(
                region, self.patches.size, self.patches.min_tissue, generator_for(0, "prediction", name)
            )
        notes = self._fit_view(sample, name)
        statistics, note = self._statistics(sample, domain, name)
        after = self.detector.strategy.after
        tiles = list(self._seen_tiles(sample, name)) if after.needs_tiles and sample is not None else []
        with freed_memory_kept(), after.adapted(self.detector.network, tiles, statistics) as adapted:
            yield adapted.statistics, (*notes, adapted.note or note)

    @property
    def cell(self) -> int:
        """Pixels the network sees per pixel of a map: 1, or from window to window of a patch classifier."""
        return self.task.cell(self.patches.size) if self.task.kind == "classification" else 1

    def _empty(self, region: PixelRegion) -> Array:
        head = self.detector.head
        channels = len(self.detector.classes) + (0 if head is None else head.channels)
        shape = (channels, *map_size(region, self.cell))
        return scratch(shape, np.float32 if np.prod(shape, dtype=float) < LARGE else np.float16)

    def _map(self, array: Array, region: PixelRegion, notes: tuple[str, ...], mpp: float | None) -> ProbabilityMap:
        scale, classes = region.downsample * self.cell, self.detector.classes
        extent, maps = region.extent, None if self.detector.head is None else array[len(classes) :]
        shares = array[: len(classes)]
        return ProbabilityMap(shares, scale, region.x, region.y, classes, notes, mpp, float(self.cell), extent, maps)

    def _needs_sample(self, domain: str | None) -> bool:
        strategy = self.detector.strategy
        return strategy.view.fitted or strategy.after.needs_tiles or self._estimates(domain)

    @property
    def uses_domains(self) -> bool:
        """Whether a slide's domain makes a difference: batch statistics are kept per domain."""
        norm = self.detector.strategy.norm
        return norm.by_domain and not norm.from_slide and bool(batchnorm_layers(self.detector.network))

    def _estimates(self, domain: str | None) -> bool:
        """Whether batch statistics are to come from the slide itself."""
        norm = self.detector.strategy.norm
        if not batchnorm_layers(self.detector.network):
            return False
        return norm.from_slide or (norm.by_domain and domain not in self.detector.statistics)

    def _fit_view(self, sample: TissueSample | None, name: str) -> tuple[str, ...]:
        view = self.detector.strategy.view
        if not view.fitted:
            return ()
        assert sample is not None
        view.add_slide(name, sample.pixels)
        if name in view.fallbacks:
            return (f"view {view.name} fell back: {view.fallbacks[name]}",)
        return (view.told(name),)

    def _statistics(self, sample: TissueSample | None, domain: str | None, name: str) -> tuple[Statistics | None, str]:
        detector = self.detector
        if self._estimates(domain):
            assert sample is not None
            if not len(sample.tiles):
                return None, "batch statistics as trained: no tissue to estimate them from"
            try:
                statistics = estimate_statistics(detector.network, self._seen_tiles(sample, name))
            except TooFewImages:
                return None, "batch statistics as trained: one tile is too few to estimate them from"
            return statistics, f"batch statistics re-estimated from {len(sample.tiles)} tiles of this slide"
        if domain is not None and domain in detector.statistics:
            return detector.statistics[domain], f"batch statistics of {domain}, from its training patches"
        return None, detector.strategy.norm.statement(detector.network)

    def _seen_tiles(self, sample: TissueSample, name: str) -> Iterator[Tensor]:
        """Batches of the sampled tiles as the network sees them."""
        detector = self.detector
        for some in batches_for_statistics(len(sample.tiles), 16):
            tiles = sample.tiles[some]
            yield detector.see(detector.images(tiles), [name] * len(tiles))

    def _fill(
        self, region: PixelRegion, out: Array, statistics: Statistics | None, name: str, progress: Progress
    ) -> None:
        run, after = self.detector.answers, self.detector.strategy.after

        def answer(seen: Array) -> Array:
            names = [name] * len(seen)
            return after.predict(lambda batch: run(batch, names, statistics), seen).cpu().numpy()

        if self.task.kind == "classification":
            side, cell = self.patches.size, self.cell
            window = Window(side, cell, self._batch(side))
            slide_window(answer, region, out, window, name, progress)
            return
        plan = self.plan(region)
        blend_tiles(answer, region, plan, out, batch=self._batch(plan.tile), name=name, progress=progress)

    def plan(self, region: PixelRegion) -> TilePlan:
        """How a segmentation's network is shown a region."""
        network = self.detector.network
        if self._local is None:
            self._local = looks_locally(network)
        sides = lambda pixels: network.input_size(max(pixels, network.minimum_size))  # noqa: E731
        return cheapest_plan(region, sides, network.margin, LARGEST if self._local else SMALLEST)

    def _batch(self, side: int) -> int:
        """Images of a side that the network looks at in one pass."""
        return max(1, _BATCH_PIXELS.get(self.detector.device.type, 2**19) // side**2)

    # -- objects ------------------------------------------------------------------------------------------------

    def objects(
        self, probability_map: ProbabilityMap, threshold: float | dict[str, float] | None = None
    ) -> gpd.GeoDataFrame:
        """Objects of a probability map, level-0 pixels, as the task says; see :func:`objects.find_objects`.

        Args:
            threshold: for all classes or by class; default those fixed on source validation.

        Returns:
            Shapes with ``class`` and ``score`` (mean probability over the object); those below the task's minimum
            size are left out.

        Raises:
            SlideError: a size is in µm and the slide's pixel size is not known.
        """
        return find_objects(probability_map, self.task, self._limits(probability_map, threshold), self.patches.mpp)

    def candidates(self, probability_map: ProbabilityMap, objects: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """``objects`` of a map and all fainter ones next to them; see :func:`objects.find_candidates`."""
        return find_candidates(
            objects, probability_map, self.task, self._limits(probability_map, None), self.patches.mpp
        )

    def label_map(self, probability_map: ProbabilityMap, threshold: float | dict[str, float] | None = None) -> Array:
        """uint8 ``(h, w)``: 0, or 1 + index of the most probable class among those above their thresholds."""
        return label_map(probability_map, self._limits(probability_map, threshold))

    def _limits(self, map_: ProbabilityMap, threshold: float | dict[str, float] | None) -> tuple[float, ...]:
        given = self.thresholds if threshold is None else threshold
        by_class = given if isinstance(given, dict) else dict.fromkeys(map_.classes, given)
        return tuple(by_class[cls] for cls in map_.classes)


def load_predictor(job_folder: str | Path, checkpoint: str = "best") -> Predictor:
    """The predictor of a finished job's folder: JSON and safetensors alone, nothing that could run code.

    Args:
        job_folder: ``RUN/jobs/HASH``.
        checkpoint: ``best`` (on source validation) or ``last``.

    Raises:
        TrainingError: the folder is not that of a finished job.
    """
    folder = Path(job_folder)
    if checkpoint not in CHECKPOINTS:
        raise TrainingError(f"unknown checkpoint {checkpoint!r}", remedy=did_you_mean(checkpoint, CHECKPOINTS))
    settings, result = (_read_json(file.inside(folder), folder) for file in (SETTINGS, RESULT))
    if checkpoint == "last":  # its own, where the job is not of an older version that knew only those of the best
        result = {**result, "thresholds": result.get("last_thresholds") or result["thresholds"]}
    return Predictor(Detector.load(folder, settings, checkpoint), settings, result, folder.name)


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise TrainingError(
            f"{path.name} {reason}: not a finished job",
            file=folder,
            remedy="Name a folder RUN/jobs/HASH of a finished study",
        ) from error
