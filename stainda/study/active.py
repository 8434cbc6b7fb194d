"""Active learning: which regions of training patients' sections to annotate next, and what rounds of it would bring.

Candidates are the patches that training sees unlabelled, drawn on tissue at random. No annotation takes part in a
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stainda.arrays import Array
from stainda.errors import StaindaError
from stainda.evaluation.acquisition import Method, best, disagreement, entropy, k_centre
from stainda.names import file_name
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for
from stainda.run_directory.folder import RunFolder, read_study
from stainda.run_directory.training_tables import ACTIVE_REGIONS, ACTIVE_ROUNDS

if TYPE_CHECKING:
    import torch

    from stainda.cohort import Cohort
    from stainda.patches import PatchStore, TrainingData
    from stainda.patches.label_objects import LabelObjects
    from stainda.strategies.detector import Detector
    from stainda.training import Job

REGION = "Region*"
"""Class that QuPath gives to regions of interest; it is no class of objects."""

_BATCH = 32


@dataclass(frozen=True)
class Suggested:
    """What was suggested: rows of ``active/regions.csv``, and the files for QuPath."""

    rows: tuple[dict[str, Any], ...]
    files: tuple[Path, ...]
    blocks: tuple[str, ...]


def suggest_regions(
    root: str | Path, *, method: Method = "entropy", budget: int = 20, strategy: str | None = None,
    targets: bool = True, progress: Progress = SILENT,
) -> Suggested:  # fmt: skip
    """Choose regions with a trained network of a run, and write them for QuPath below ``RUN/active/``.

    Args:
        budget: how many regions. strategy: whose network; default: the one the report names.
        targets: regions of target sections too, where the protocol shows them.

    Raises:
        StaindaError: nothing is trained here, or the method needs pairs of registered sections and there are none.
    """
    from stainda.annotations import bounds_of_file, make_shapes, write_geojson
    from stainda.study.choosing import choose_job

    folder = RunFolder(Path(root))
    chosen = choose_job(folder.root, strategy=strategy)
    pool = Pool.of_job(folder, chosen.folder, targets)
    with progress.task("Choosing regions", 1) as bar:
        picked, scores = pool.choose(method, budget, pool.detector(chosen.folder, chosen.checkpoint), frozenset())
        bar.advance()
    store = pool.store
    rows: list[dict[str, Any]] = []
    import shapely

    boxes: dict[str, list[tuple[Any, str]]] = {}
    for rank, (index, score) in enumerate(zip(picked, scores, strict=True), 1):
        about = store.table.iloc[pool.rows[index]]
        side = float(about["downsample"]) * int(store.meta["size"])
        x, y = float(about["x"]), float(about["y"])
        values = (
            rank,
            method,
            str(about["slide"]),
            str(about["block"]),
            str(about["domain"]),
            x,
            y,
            side,
            round(score, 6),
        )
        rows.append(dict(zip(ACTIVE_REGIONS.names, values, strict=True)))
        name = f"{rank} of {len(picked)}, {method} {score:.3g}"
        boxes.setdefault(str(about["slide"]), []).append((shapely.box(x, y, x + side, y + side), name))
    files = []
    paths = {section.slide: section.path for section in pool.cohort}
    for slide, regions in boxes.items():
        path = folder.root / "active" / "regions" / f"{file_name(slide)}.geojson"
        shapes = make_shapes([region for region, _ in regions], REGION, name=[name for _, name in regions])
        write_geojson(shapes, path, bounds=bounds_of_file(paths[slide]))
        files.append(path)
    ACTIVE_REGIONS.write(folder.root / "active", rows)
    return Suggested(tuple(rows), tuple(files), tuple(dict.fromkeys(str(row["block"]) for row in rows)))


def simulate_rounds(
    root: str | Path, *, methods: Sequence[Method], rounds: int = 3, budget: int = 5, strategy: str | None = None,
    seeds: int = 1, progress: Progress = SILENT,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rounds of annotation on a run whose source annotations are known: they are revealed region by region.

    Every method starts from the same ``budget`` regions at random, and more where these show no object. A region
    reveals the objects that reach into it. Each round trains anew from what is known and chooses as many regions more.
    The score is Dice on source validation.

    Returns:
        Rows of ``active/rounds.csv``: method, seed, round, regions, objects, dice.
    """
    from stainda.patches import TrainingData
    from stainda.patches.label_share import ChosenLabels
    from stainda.study.choosing import choose_job
    from stainda.training import train_on

    folder = RunFolder(Path(root))
    pool = Pool.of_job(folder, choose_job(folder.root, strategy=strategy).folder, targets=False)
    rows: list[dict[str, Any]] = []
    with progress.task("Simulating rounds", len(methods) * rounds * seeds) as bar:
        for seed in range(pool.job.seed, pool.job.seed + seeds):
            first = _first(pool, generator_for(seed, "active start").permutation(len(pool.rows)).tolist(), budget)
            for method in methods:
                known = first
                for number in range(1, rounds + 1):
                    objects = pool.objects_in(known)
                    empty = max(1, sum(not pool.objects_in([row]) for row in known))
                    labels = ChosenLabels(frozenset(objects), empty, seed)
                    data = TrainingData(pool.store, pool.roles, "source", pool.roles.visible, share=labels)
                    job = replace(pool.job, seed=seed, data_key=data.key, repeats="")  # a round validates itself
                    place = folder.root / "active" / "simulated" / job.hash
                    result = _trained(job, data, place, train_on)
                    values = (method, seed, number, len(known), len(objects), round(result.score, 6), job.hash)
                    rows.append(dict(zip(ACTIVE_ROUNDS.names, values, strict=True)))
                    ACTIVE_ROUNDS.write(folder.root / "active", rows)
                    bar.advance(note=f"{method}, {len(objects)} objects")
                    if number < rounds:
                        more, _ = pool.choose(method, budget, pool.detector(place, "best", job), known, seed + number)
                        known = known | frozenset(more)
    return rows


def _first(pool: Pool, order: Sequence[int], budget: int) -> frozenset[int]:
    """As many regions in this order as it takes to reveal an object, at least ``budget``."""
    size = next((n for n in range(budget, len(order)) if pool.objects_in(order[:n])), len(order))
    return frozenset(order[:size])


def _trained(job: Job, data: TrainingData, place: Path, train_on: Any) -> Any:
    from stainda.training import read_result

    done = read_result(place)
    return done if done is not None else train_on(job, data, place)


@dataclass(eq=False)
class Pool:
    """The candidates of a run: rows of its patch store.

    Attributes:
        job: whose network and settings are used. rows: of the store, by candidate.
    """

    folder: RunFolder
    job: Job
    store: PatchStore
    targets: bool

    @classmethod
    def of_job(cls, folder: RunFolder, job: Path, targets: bool) -> Pool:
        from stainda.patches import PatchStore
        from stainda.training import Job

        pool = cls(folder, Job.load(job), PatchStore.open(folder.patches), targets)
        if not len(pool.rows):
            raise StaindaError("there is no unlabelled patch to choose from", file=folder.patches)
        return pool

    @cached_property
    def roles(self) -> Any:
        from stainda.cohort import Roles

        return Roles(self.job.sources, self.job.targets, self.job.domain_keys, self.job.protocol.visible)

    @cached_property
    def data(self) -> TrainingData:
        from stainda.patches import TrainingData

        return TrainingData(self.store, self.roles, "source", self.roles.visible)

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        more = [self.data.unlabelled("train")] if self.targets else []
        return np.sort(np.concatenate([self.data.source_unlabelled(), *more]).astype(int))

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        from stainda.patches.unlabelled_data import nearby

        return nearby(self.store.table, self.rows, int(self.store.meta["size"]))

    @cached_property
    def _run(self) -> Any:
        from stainda.study.run import StudyRun

        return StudyRun(read_study(self.folder.root), self.folder)

    @property
    def cohort(self) -> Cohort:
        return self._run.cohort

    @cached_property
    def objects(self) -> LabelObjects:
        """The annotated objects, listed here where the study did not need them."""
        from stainda.patches.label_objects import LabelObjects, write_label_objects

        try:
            return LabelObjects.open(self.store)
        except StaindaError:
            run = self._run
            return write_label_objects(
                self.store, run.cohort, run.roles, self.job.task, {"own": run.own_shapes, "propagated": {}}, {}
            )

    def objects_in(self, candidates: Any) -> set[str]:
        """Names of annotated objects that reach into regions: what annotating them would reveal."""
        import shapely

        table, size = self.store.table, int(self.store.meta["size"])
        names, slides = np.asarray(self.objects.names), self.objects.table["slide"].to_numpy(object)
        own = self.objects.of_kind("own")
        objects: set[str] = set()
        for index in candidates:
            about = table.iloc[self.rows[index]]
            side = size * float(about["downsample"])
            box = shapely.box(about["x"], about["y"], about["x"] + side, about["y"] + side)
            on_slide = np.flatnonzero(own & (slides == about["slide"]))
            objects |= set(names[on_slide[shapely.intersects(self.objects.shapes[on_slide], box)]].tolist())
        return objects

    def detector(self, place: Path, checkpoint: str, job: Job | None = None) -> Detector:
        from stainda.strategies.detector import Detector

        return Detector.load(place, (job or self.job).settings(), checkpoint)

    def choose(
        self, method: Method, budget: int, detector: Detector, known: frozenset[int], seed: int = 0
    ) -> tuple[list[int], list[float]]:
        """Candidates and their scores; none that is known, or near one that is."""
        free = np.ones(len(self.rows), bool)
        free[list(known)] = False
        free &= ~self.near[:, list(known)].any(1)
        at = np.flatnonzero(free)
        near = self.near[np.ix_(at, at)]
        if method == "core_set":
            features = self._features(detector)
            picked = k_centre(features[at], budget, features[list(known)] if known else None, near)
            return at[picked].tolist(), [float(rank) for rank in range(len(picked), 0, -1)]
        if method == "random":
            scores = generator_for(self.job.seed, "active random", seed).random(len(at))
        elif method == "entropy":
            scores = entropy(self._probabilities(detector, self.rows[at]).numpy())
        else:
            scores = self._disagreement(detector)[at]
        picked = best(scores, budget, near)
        return at[picked].tolist(), [float(scores[row]) for row in picked]

    def _probabilities(self, detector: Detector, rows: NDArray[np.intp]) -> torch.Tensor:
        import torch

        slides = self.store.table["slide"].to_numpy(object)
        domains = self.store.table["domain"].to_numpy(object)
        out: list[torch.Tensor | None] = [None] * len(rows)
        for domain in dict.fromkeys(domains[rows].tolist()):
            places = np.flatnonzero(domains[rows] == domain)
            for start in range(0, len(places), _BATCH):
                some = places[start : start + _BATCH]
                images = self.data.images(rows[some])
                probabilities = detector.probabilities(
                    images, slides[rows[some]].tolist(), detector.statistics.get(domain)
                )
                for place, probability in zip(some.tolist(), probabilities.cpu(), strict=True):
                    out[place] = probability
        return torch.stack([probability for probability in out if probability is not None])

    def _features(self, detector: Detector) -> NDArray[np.float64]:
        import torch

        from stainda.strategies.features import FeatureTap, pooled

        detector.network.eval()
        tap, slides = FeatureTap(detector.network, "bottleneck"), self.store.table["slide"].to_numpy(object)
        parts = []
        with torch.no_grad():
            for start in range(0, len(self.rows), _BATCH):
                rows = self.rows[start : start + _BATCH]
                seen = detector.see(detector.images(self.data.images(rows)), slides[rows].tolist())
                parts.append(pooled(tap.until(seen)).cpu())
        return torch.cat(parts).numpy().astype(float)

    def _disagreement(self, detector: Detector) -> NDArray[np.float64]:
        """Of each candidate the largest disagreement with its place on a registered section; 0 where it has none."""
        import torch

        from stainda.patches.serial import TISSUE, SerialPairs
        from stainda.study.serial import cut_pairs

        if SerialPairs.open(self.store, TISSUE) is None:
            cut_pairs(TISSUE, self.cohort, self.roles, self.folder, self._run.config.seed, SILENT)
        opened = SerialPairs.open(self.store, TISSUE)
        seen = (*self.roles.sources, *(self.roles.targets if self.roles.visible == "targets" else ()))
        pairs = None if opened is None else opened.within(seen)
        if pairs is None or not len(pairs):
            raise StaindaError(
                "disagreement compares registered sections, and none of training patients may be seen",
                file=self.folder.registration, remedy="Take another method: entropy, core_set or random",
            )  # fmt: skip
        if self.job.task.network != "segmentation":
            raise StaindaError("disagreement is defined for segmentation", remedy="Take another method: entropy")
        place = {int(row): index for index, row in enumerate(self.rows)}
        scores = np.zeros(len(self.rows))
        for start in range(0, len(pairs), _BATCH):
            at = np.arange(start, min(start + _BATCH, len(pairs)))
            drawn, ones = pairs.read(at), pairs.table["one"].to_numpy(int)[at]
            first = self._of_images(detector, drawn.one, drawn.one_slides, drawn.one_domains)
            second = self._of_images(detector, drawn.two, drawn.two_slides, drawn.two_domains)
            margin = detector.network.margin
            grid, certainty = torch.from_numpy(drawn.grid), drawn.certainty
            if margin:
                grid = grid[:, margin:-margin, margin:-margin] * (drawn.grid.shape[1] / first.shape[-1])
                certainty = certainty[:, margin:-margin, margin:-margin]
            warped = torch.nn.functional.grid_sample(second, grid.float(), align_corners=False)
            for row, value in zip(ones, disagreement(first.numpy(), warped.numpy(), certainty), strict=True):
                if int(row) in place:
                    scores[place[int(row)]] = max(scores[place[int(row)]], float(value))
        return scores

    def _of_images(self, detector: Detector, images: Array, slides: list[str], domains: list[str]) -> torch.Tensor:
        import torch

        out = [
            detector.probabilities(images[index : index + 1], [slides[index]], detector.statistics.get(domains[index]))
            for index in range(len(images))
        ]
        return torch.cat(out).cpu()
