"""A study from its file to its report, stage by stage; each stage does only what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import (
    Cohort,
    Roles,
    assign_splits,
    check_annotated,
    check_no_leak,
    read_manifest,
    resolve_roles,
    rotations,
)
from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.names import file_name
from stainda.progress import SILENT, Progress
from stainda.run_directory.folder import STAGES, RunFolder
from stainda.study.checks import manifest_of, teaches
from stainda.study.engines import opens_cluster, opens_if_several
from stainda.study.environment import describe, free_cores
from stainda.study.executor import workers_for
from stainda.study.heartbeat import RunProgress, in_stage
from stainda.study.other_versions import write_environment
from stainda.study.watching import watched_slides

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.cohort import Rotation
    from stainda.patches.serial import Which
    from stainda.study.budget import Budget

OF_STRATEGIES = ("register", "propagate", "patches", "evaluate")
"""Stages that a study without strategies does not need."""

logger = logging.getLogger("stainda")


class StudyRun:
    """The stages of one study in one run directory.

    Attributes:
        config: the resolved study.
        folder: the run directory.
        cohort: the sections with their splits (after the first stage).
        roles: which domains teach and which are tested.
        lost: slides that this call has found to be unreadable, and why.
    """

    rotation_name = ""

    def __init__(self, config: StudyConfig, folder: RunFolder, progress: Progress = SILENT) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self.workers = config.workers or free_cores()
        self.lost: dict[str, str] = {}

    def prepare(self, force: bool = False) -> None:
        """Check what can be checked before any work: strategies, parts, search ranges, the place to write.

        Args:
            force: go on where trainings were made with other versions of packages.
        """
        from stainda.models import check_model, pinned, random_start
        from stainda.models.patch_sizes import check_patch_size
        from stainda.strategies import build, check
        from stainda.strategies.shared_settings import recipe_line

        for model, _ in self.config.networks():
            check_model(model, self.config.task.network)
            check_patch_size(model, self.config.patches.size, self.config.task.network)
        own = [
            strategy.model_copy(update={"model": strategy.model and pinned(strategy.model)})
            for strategy in self.config.strategies
        ]
        self.config = self.config.model_copy(update={"model": pinned(self.config.model), "strategies": tuple(own)})
        if self.config.strategies:
            logger.info("%s", recipe_line(self.config))
        for warning in dict.fromkeys(random_start(model) for model, _ in self.config.networks()):
            if warning:
                logger.warning("%s", warning)
        for strategy in self.config.strategies:
            check(build(strategy), self.config)
        self.folder.write_study(self.config)
        write_environment(self.folder, describe(self.config.seed), force, self.progress.message)

    def plan(self, stages: Sequence[str] = STAGES) -> None:
        """Check every strategy against the sections before a phantom is made; say what each may spend in training."""
        from stainda.study.answerable import refuse_unanswerable
        from stainda.study.budget import budget_sentences, budgets, write_budget
        from stainda.study.checks import plan_rotations
        from stainda.study.leaving_out import trainings_without

        self.recall_slides()
        rotations = plan_rotations(self.config, self.manifest(), self.lost)
        self.note_left_out()
        if not self.config.strategies:
            return
        for note in refuse_unanswerable(self.config, rotations):
            self.progress.message(f"note: {note}")
        costs = budgets(self.config, without=trainings_without(self.config, rotations))
        self.expect(rotations, costs)
        write_budget(costs, self.folder)
        for sentence in budget_sentences(costs, self.config.baseline) if "train" in stages else ():
            self.progress.message(sentence)

    def recall_slides(self) -> None:
        """Take over what an earlier call learned about slides that are the same today."""
        from stainda.study.bad_slides import recall
        from stainda.study.checks import planned_cohort

        if self.config.phantom is None:
            self.lost = {**recall(planned_cohort(self.config, self.manifest()), self.folder.root), **self.lost}

    def note_left_out(self) -> None:
        """Find the slides that cannot be read, and say that the study goes on without them."""
        from stainda.study.bad_slides import bad_slides, sentences
        from stainda.study.checks import planned_cohort

        every = planned_cohort(self.config, self.manifest())
        self.left_out = bad_slides(self.config, every, self.lost)
        for sentence in sentences(every, self.left_out):
            logger.warning("left out: %s", sentence)
            self.progress.message(f"left out: {sentence}")

    def expect(self, rotations: tuple[Rotation, ...], costs: list[Budget]) -> None:
        """Write down about how long each stage takes, for ``stainda status``."""
        from stainda.study.plan import expected_stages, training_seconds

        if isinstance(self.progress, RunProgress):
            seconds = training_seconds(self.config, rotations, costs)
            stages = expected_stages(self.config, rotations, costs, self.folder, seconds)
            self.progress.expect({stage.stage: stage.seconds for stage in stages})

    def do(self, stage: str) -> None:
        started = time.monotonic()
        logger.info("stage %s", stage)
        stages: dict[str, Callable[[], None]] = {
            "cohort": self.gather,
            "register": self.register,
            "propagate": self.propagate,
            "patches": self.cut_patches,
            "train": self.train,
            "evaluate": self.evaluate,
            "report": self.report,
        }
        needed = bool(self.config.strategies) or stage not in OF_STRATEGIES
        with in_stage(self.progress, stage, self.rotation_name):
            if needed:
                with watched_slides(self, stage):
                    stages[stage]()
        seconds = time.monotonic() - started
        logger.info("stage %s took %.1f s", stage, seconds)
        self.folder.record_stage(stage, seconds)

    # the cohort -----------------------------------------------------------------------------------------------------

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Slides that cannot be read, and why: as the last call of the run found them."""
        from stainda.study.bad_slides import read_left_out

        return read_left_out(self.folder.root)

    @cached_property
    def cohort(self) -> Cohort:
        """The sections whose slides can be read, each patient in a split; leaks are refused here."""
        from stainda.study.bad_slides import without

        return without(self.split_cohort, self.left_out)

    @cached_property
    def split_cohort(self) -> Cohort:
        """All sections, each patient in a split."""
        protocol = self.config.protocol
        cohort = assign_splits(self.whole_cohort(), protocol.split, self.config.seed, protocol.split_within)
        check_no_leak(cohort)
        return cohort

    def whole_cohort(self) -> Cohort:
        """All sections, with the splits that the manifest gives."""
        return read_manifest(self.manifest(), self.config.data, self.config.domain, absent_slides=True)

    @cached_property
    def roles(self) -> Roles:
        """Which domains teach and which are tested, each with the patients and annotations its role needs."""
        protocol = self.config.protocol
        if protocol.rotates:
            roles = resolve_roles(self.split_cohort, protocol)
        else:  # as the study was planned: domains that cannot teach are no sources
            roles = rotations(self.whole_cohort(), protocol, self.config.seed, teaches(self.config))[0].roles
        if self.config.strategies:
            check_annotated(self.cohort, roles)
        return roles

    def manifest(self) -> Path:
        """Of the cohort; that of a phantom is there once it is made."""
        return manifest_of(self.config, self.folder)

    def gather(self) -> None:
        """Make or read the cohort, open every slide once, convert every annotation to GeoJSON."""
        from stainda.study.checks import check_data
        from stainda.study.gather import gather_cohort

        self.make_phantom()
        check_data(self.config, self.cohort, self.roles)
        gather_cohort(self.cohort, self.roles, self.config, self.folder, self.progress)
        self.keep_slides(self.split_cohort)

    def keep_slides(self, every: Cohort) -> None:
        """Say which slides changed since the call before, and write down what they all are now."""
        from stainda.study.bad_slides import since_earlier, write_slides

        for sentence in since_earlier(every, self.left_out, self.folder.root):
            self.progress.message(sentence)
        write_slides(every, self.left_out, self.folder.root)

    def make_phantom(self) -> None:
        """Make the synthetic cohort, where the study asks for one."""
        if self.config.phantom is not None:
            from stainda.phantom import make_cohort

            make_cohort(self.config.phantom, self.manifest().parent, workers=self.workers, progress=self.progress)

    @cached_property
    def own_shapes(self) -> dict[str, gpd.GeoDataFrame]:
        from stainda.annotations import read_shapes

        return {
            section.slide: read_shapes(self.folder.own / f"{file_name(section.slide)}.geojson")
            for section in self.cohort
            if section.annotations is not None
        }

    @cached_property
    def drawn_shapes(self) -> dict[str, dict[str, gpd.GeoDataFrame]]:
        """By annotator, then by slide, what each drew, where a strategy learns from several annotators."""
        from stainda.annotations import annotator_names, read_shapes
        from stainda.strategies import build

        drawn: dict[str, dict[str, gpd.GeoDataFrame]] = {}
        if all(build(strategy).labels.crowd is None for strategy in self.config.strategies):
            return drawn
        for section in self.cohort.where(domains=self.roles.sources, splits=["train", "all"]):
            names = annotator_names(section.annotation_files) if section.more_annotations else []
            for name in names:
                if (path := self.folder.drawn(section.slide, name)).is_file():
                    drawn.setdefault(name, {})[section.slide] = read_shapes(path)
        return drawn

    # registration and propagation --------------------------------------------------------------------------------

    def register(self) -> None:
        from stainda.registration import register_cohort

        register_cohort(
            self.cohort, self.config.registration, self.folder.root, self.workers, self.progress,
            opens_cluster(self.config.engine, "registration", self.workers, self.progress),
        )  # fmt: skip

    def propagate(self) -> None:
        """Propagate the annotations of the source domains within their blocks, and apply the review."""
        from stainda.registration import propagate
        from stainda.review.decisions import apply_decisions, sentence

        wanted = self.config.propagation.sources
        sources = [
            section.slide
            for section in self.cohort
            if section.annotations is not None
            and self.cohort.domain(section) in self.roles.sources
            and (not wanted or section.stain in wanted)
        ]
        if not sources:
            raise StaindaError(
                "no annotated section to propagate from",
                file=self.cohort.source,
                remedy="Annotate slides of the source domains, or mend propagation.sources",
            )
        propagate(
            self.cohort, self.own_shapes, self.folder.registration, self.config.propagation, sources,
            self.folder.root, progress=self.progress,
        )  # fmt: skip
        if changes := sentence(apply_decisions(self.folder.root, self.own_shapes), self.folder.root):
            self.progress.message(changes)

    @cached_property
    def propagated_shapes(self) -> dict[str, gpd.GeoDataFrame]:
        from stainda.registration.training_shapes import training_shapes
        from stainda.review.decisions import applied_keys

        slides = [section.slide for section in self.cohort]
        reviewed = applied_keys(self.folder.root)
        return training_shapes(self.folder.root, slides, self.config.propagation.min_confidence, reviewed)

    # patches ------------------------------------------------------------------------------------------------------

    def cut_patches(self) -> None:
        from stainda.patches import build_store, write_fields

        build_store(
            self.cohort, self.roles, self.config.patches, self.config.task,
            {"own": self.own_shapes, "propagated": self.propagated_shapes},
            self.folder.patches, seed=self.config.seed, progress=self.progress, retries=self.config.retries,
            pool=opens_if_several(self.config.engine, "patches", self.workers, self.progress),
            min_confidence=self.config.propagation.min_confidence, weights=self.config.propagation.weights,
            drawn=self.drawn_shapes,
        )  # fmt: skip
        write_fields(self.cohort, self.config.patches, self.own_shapes, self.folder.root / "fields")
        self._list_objects()
        self._pair_sections()

    def _list_objects(self) -> None:
        """The annotated objects one by one, where a strategy learns from a share of them."""
        from stainda.strategies import build

        if any(build(strategy).labels.of_objects is not None for strategy in self.config.strategies):
            from stainda.patches import PatchStore
            from stainda.patches.label_objects import write_label_objects
            from stainda.study.tables import propagated_members

            write_label_objects(
                PatchStore.open(self.folder.patches), self.cohort, self.roles, self.config.task,
                {"own": self.own_shapes, "propagated": self.propagated_shapes}, propagated_members(self.folder.root),
                min_confidence=self.config.propagation.min_confidence,
            )  # fmt: skip

    def _pair_sections(self) -> None:
        """Pairs of patches of registered sections, where a strategy of the study learns from them."""
        from stainda.strategies import build
        from stainda.study.serial import cut_pairs
        from stainda.training import resolve_training

        strategies = self.config.strategies
        starts = [init for strategy in strategies if (init := resolve_training(self.config.training, strategy).init)]
        which: list[Which] = ["serial"] if any(build(strategy).align.needs_pairs for strategy in strategies) else []
        which += ["serial_tissue"] if any(init.pairs == "serial" for init in starts) else []
        which += ["serial_validation"] if starts and self.folder.is_registered else []
        for kind in which:
            cut_pairs(kind, self.cohort, self.roles, self.folder, self.config.seed, self.progress)

    # training -----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Search and train every strategy; score every job. Learn and score labels of slides."""
        from stainda.study.compare import compare_strategies

        if self.config.strategies:
            compare_strategies(self.config, self.cohort, self.roles, self.folder, self._workers(), self.progress)
        if self.config.slide_level is not None:
            from stainda.slide_level.run import score_slides

            threads = self.config.training.threads
            score_slides(
                self.config, self.cohort, self.roles, self.folder.root, shared=self.features_root,
                pool=opens_cluster(self.config.engine, "encoding", self.workers, self.progress, threads),
                progress=self.progress,
            )  # fmt: skip

    def _workers(self) -> int:
        """Processes that train side by side."""
        threads, cores = self.config.training.cores, free_cores()
        workers = self.config.workers or workers_for(threads, cores)
        if workers * threads > cores:
            self.progress.message(
                f"note: {workers} workers of {threads} threads on {cores} cores are slower than fewer; "
                f"{workers_for(threads, cores)} workers keep them busy"
            )
        return workers

    @property
    def features_root(self) -> Path:
        """Run directory whose caches of features of slides are used."""
        return self.folder.root

    def evaluate(self) -> None:
        """Gather the records of all jobs, compute ``results.csv``, and photograph objects for the report."""
        from stainda.study.gap import measure_gaps
        from stainda.study.label_shares import write_label_shares
        from stainda.study.object_gallery import write_object_gallery
        from stainda.study.results import gather_results

        measure_gaps(self.config, self.roles, self.folder)
        gather_results(self.config, self.folder)
        write_label_shares(self.config, self.folder)
        write_object_gallery(self.config, self.cohort, self.roles, self.folder, self.progress)
        self.measure_microenvironment()

    def measure_microenvironment(self) -> None:
        """Cells about structures, where the study asks for them."""
        from stainda.study.microenvironment_stage import measure_study

        if self.config.microenvironment is not None:
            measure_study(self.config, self.cohort, self.folder, self.config.microenvironment, self.progress)

    def report(self) -> None:
        from stainda.report import make_report

        make_report(self.folder.root, self.progress)
