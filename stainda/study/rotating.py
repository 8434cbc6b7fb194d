"""A study of several rotations: one cohort and one registration, and below them a run directory for every rotation.

``rotations/NAME/`` is a run directory like any other: its own study.yaml (sources, targets and splits written out),
propagation, patches, jobs, trials, records, results and page. What the rotations share is made once at the root and
linked into each (hard links, copies where the file system has none), so that each can also be moved or shown alone.
"""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stainda.cohort import Roles, Rotation, sources_left_out
from stainda.cohort.manifest import write_manifest
from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.files import ASIDE, link_or_copy
from stainda.names import file_name
from stainda.progress import Progress
from stainda.randomness import seed_for
from stainda.run_directory.contents import STUDY
from stainda.run_directory.folder import STAGES, RunFolder
from stainda.run_directory.result_tables import ROTATIONS
from stainda.run_directory.tables import AGREEMENT, COHORT, MANIFEST, PROPAGATION, SLIDES
from stainda.study.answerable import refuse_unanswerable
from stainda.study.bad_slides import LostSlidesError, without
from stainda.study.budget import budget_sentences, budgets, write_budget
from stainda.study.checks import plan_rotations, teaches
from stainda.study.gather import gather_cohort
from stainda.study.heartbeat import in_stage, tell_rotation
from stainda.study.leaving_out import trainings_without
from stainda.study.pooled_tables import write_pooled_microenvironment, write_pooled_slides, write_pooled_tables
from stainda.study.run import StudyRun

logger = logging.getLogger("stainda")


class RotatingStudy:
    """Runs what is missing of a study whose protocol rotates."""

    def __init__(
        self, config: StudyConfig, folder: RunFolder, progress: Progress, lost: Mapping[str, str] | None = None
    ) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self.base = StudyRun(config, folder, progress)
        self.base.lost = dict(lost or {})
        self.seconds: dict[str, float] = {}

    def run(self, until: str, force: bool = False) -> None:
        """Do every rotation as far as ``until``; one that fails does not stop the others.

        Raises:
            StaindaError: a check before the start, or, at the end, the rotations that failed.
        """
        self.base.prepare(force)
        self.base.recall_slides()
        rotations = plan_rotations(self.config, self.base.manifest(), self.base.lost)  # before a phantom is made
        self.base.note_left_out()
        _check_folders(rotations)
        stages = STAGES[: STAGES.index(until) + 1]
        if self.config.strategies:
            self._plan_strategies(rotations, stages)
        self.progress.message(
            f"{len(rotations)} rotations: {', '.join(rotation.name for rotation in rotations)} (rotations.csv)"
        )
        self._timed("cohort", lambda: self._gather(rotations))
        if self.config.phantom is not None:
            rotations = plan_rotations(self.config, self.base.manifest(), self.base.lost)  # of what is made now
        if "register" in stages and self.config.strategies:
            self._timed("register", self.base.register)
        runs = [self._run_of(rotation, rotations) for rotation in rotations]
        states = {rotation.name: ("", "") for rotation in rotations}
        for number, (rotation, run) in enumerate(zip(rotations, runs, strict=True), start=1):
            self.progress.message(f"rotation {rotation.name}: {_sides(rotation)}")
            tell_rotation(self.progress, number, len(rotations))
            try:
                with run.folder.locked(self.progress.message):
                    run.prepare(force)
                    for stage in stages:
                        run.do(stage)
                states[rotation.name] = ("complete" if until == "report" else f"until {until}", "")
            except LostSlidesError:
                raise
            except StaindaError as error:
                logger.exception("rotation %s: %s", rotation.name, error)
                states[rotation.name] = ("failed", str(error))
                self.progress.message(f"rotation {rotation.name} failed: {error}")
            self._write_rotations(rotations, states)
        for run in runs:
            for stage, seconds in run.folder.stage_seconds().items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + (seconds if stage in STAGES[2:] else 0.0)
        for stage, seconds in self.seconds.items():
            self.folder.record_stage(stage, seconds)
        if self.config.strategies:
            write_pooled_tables(self.folder.root)
        write_pooled_microenvironment(self.folder.root)
        write_pooled_slides(self.folder.root)
        if until == "report":
            self.base.report()
        failed = {name: reason for name, (state, reason) in states.items() if state == "failed"}
        if failed:
            listed = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise StaindaError(
                f"{len(failed)} of {len(rotations)} rotations failed: {listed}",
                file=ROTATIONS.at(self.folder.root),
                remedy="The others are complete; run the same command again when this is mended",
            )

    def _plan_strategies(self, rotations: tuple[Rotation, ...], stages: Sequence[str]) -> None:
        """Say what the study cannot answer, and what each strategy may spend."""
        for note in refuse_unanswerable(self.config, rotations):
            self.progress.message(f"note: {note}")
        costs = budgets(self.config, len(rotations), trainings_without(self.config, rotations))
        write_budget(costs, self.folder)
        self.base.expect(rotations, costs)
        for sentence in budget_sentences(costs, self.config.baseline) if "train" in stages else ():
            self.progress.message(sentence)

    def _timed(self, stage: str, function: Callable[[], None]) -> None:
        started = time.monotonic()
        logger.info("stage %s", stage)
        with in_stage(self.progress, stage):
            function()
        self.seconds[stage] = time.monotonic() - started

    def _gather(self, rotations: Sequence[Rotation]) -> None:
        """Everything of the cohort that is the same for all rotations; a domain is a source where it ever teaches."""
        self.base.make_phantom()
        every = self.base.whole_cohort()
        cohort = without(every, self.base.left_out)
        sources = tuple(
            name for name in cohort.domains if any(name in rotation.roles.sources for rotation in rotations)
        )
        targets = tuple(
            name for name in cohort.domains if any(name in rotation.roles.targets for rotation in rotations)
        )
        roles = Roles(sources, tuple(name for name in targets if name not in sources), cohort.domain_keys)
        gather_cohort(cohort, roles, self.config, self.folder, self.progress)
        self.base.keep_slides(every)

    def _run_of(self, rotation: Rotation, rotations: Sequence[Rotation]) -> RotationRun:
        first = next(member for member in rotations if member.roles.sources == rotation.roles.sources)
        return RotationRun(
            self.config, self.folder, rotation, rotation_folder(self.folder, rotation.name),
            rotation_folder(self.folder, first.name), self.progress,
        )  # fmt: skip

    def _write_rotations(self, rotations: Sequence[Rotation], states: dict[str, tuple[str, str]]) -> None:

        rows = []
        for rotation in rotations:
            state, reason = states[rotation.name]
            people: dict[str, str] = {
                split: "; ".join(rotation.patients(split))  # type: ignore[arg-type]
                for split in ("train", "val", "test")
            }
            rows.append(
                {
                    "rotation": rotation.name, "group": rotation.group,
                    "folder": f"rotations/{file_name(rotation.name)}",
                    "sources": "; ".join(rotation.roles.sources), "targets": "; ".join(rotation.roles.targets),
                    **people,
                    "state": state, "reason": reason,
                }
            )  # fmt: skip
        unused = sources_left_out(rotations[0].cohort, self.config.protocol, teaches(self.config))
        rows += [{"rotation": name, "state": "left out", "reason": reason} for name, reason in unused.items()]
        mine = {file_name(rotation.name) for rotation in rotations}
        for path in sorted((self.folder.root / "rotations").glob(f"*/{STUDY.path}")):
            if path.parent.name not in mine:
                reason = "an earlier call made it; the protocol no longer has it, so it is in no number"
                rows.append({"rotation": path.parent.name, "state": "left out", "reason": reason})
        ROTATIONS.write(self.folder.root, rows)


class RotationRun(StudyRun):
    """One rotation: a study whose cohort and registration are those of the root.

    Args:
        first: run directory of the first rotation with the same sources, whose propagated shapes (and what a reviewer
            decided about them) this one takes; its own, where it is the first.
    """

    def __init__(
        self,
        config: StudyConfig,
        root: RunFolder,
        rotation: Rotation,
        folder: RunFolder,
        first: RunFolder,
        progress: Progress,
    ) -> None:
        title = f"{config.title or config.study}: {rotation.name.replace('_', ' ')}"
        changes: dict[str, Any] = {
            "title": title, "protocol": rotation.protocol, "manifest": MANIFEST.inside(folder.root).resolve(),
            "data": None, "phantom": None, "seed": rotation_seed(config.seed, rotation.name),
        }  # fmt: skip
        super().__init__(config.model_copy(update=changes), folder, progress)
        self.root, self.rotation, self.first = root, rotation, first
        self.rotation_name = rotation.name
        self.cohort, self.roles = rotation.cohort, rotation.roles

    def gather(self) -> None:
        """Take the slides' facts and the annotations from the root, and write who serves for what here."""
        share(self.root.annotations, self.folder.annotations)
        share(self.root.root / "thumbnails", self.folder.root / "thumbnails")
        _share_file(SLIDES.at(self.root.root), SLIDES.at(self.folder.root))
        write_manifest(self.cohort, MANIFEST.inside(self.folder.root))
        splits = {section.slide: section.split for section in self.cohort}
        rows = []
        with COHORT.at(self.root.root).open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for name in ("path", "annotations", "landmarks"):
                    row[name] = ";".join(self._seen_from_here(part) for part in row[name].split(";"))
                rows.append({**row, "split": splits[row["slide"]], "role": self.roles.role(row["domain"])})
        COHORT.write(self.folder.root, rows)

    def _seen_from_here(self, path: str) -> str:
        """A path relative to the root as one relative to this rotation; absolute ones stay."""
        if not path or Path(path).is_absolute():
            return path
        return Path(os.path.relpath(self.root.root / path, self.folder.root)).as_posix()

    @property
    def features_root(self) -> Path:
        """The study's: rotations share slides, and with them features."""
        return self.root.root

    def register(self) -> None:
        share(self.root.registration, self.folder.registration, exact=True)

    def propagate(self) -> None:
        if self.first.root == self.folder.root:
            super().propagate()
            return
        for name in ("propagated", "ignored"):
            share(self.first.annotations / name, self.folder.annotations / name, exact=True)
        for name in (PROPAGATION.name, AGREEMENT.name):
            _share_file(self.first.annotations / name, self.folder.annotations / name)
        if (self.first.root / "review").is_dir():
            share(self.first.root / "review", self.folder.root / "review", exact=True, link=False)


def rotation_seed(seed: int, name: str) -> int:
    """The first seed of a rotation's trainings; further ones count up from it.

    Each rotation has its own: with the same seeds their trainings would start alike, and a lucky start would count as
    often as there are rotations.
    """
    return seed_for(seed, "rotation", name) % 1_000_000_000


def rotation_folder(root: RunFolder, name: str) -> RunFolder:
    return RunFolder(root.root / "rotations" / file_name(name))


def share(source: Path, target: Path, *, exact: bool = False, link: bool = True) -> None:
    """Have every file below ``source`` below ``target`` too, as a hard link where that can be.

    Args:
        exact: remove what is below ``target`` and not below ``source``.
        link: ``False`` makes copies, for files that are appended to.
    """
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and ASIDE not in path.name}
    for name in sorted(wanted):
        _share_file(source / name, target / name, link)
    if exact and target.is_dir():
        for path in target.rglob("*"):
            if path.is_file() and path.relative_to(target) not in wanted:
                path.unlink()


def _share_file(source: Path, target: Path, link: bool = True) -> None:
    if target.is_file():
        present, wanted = target.stat(), source.stat()
        if target.samefile(source) or (present.st_size, present.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return
    link_or_copy(source, target, link)


def _check_folders(rotations: Sequence[Rotation]) -> None:
    names = [file_name(rotation.name).casefold() for rotation in rotations]
    for rotation, name in zip(rotations, names, strict=True):
        if names.count(name) > 1:
            raise StaindaError(
                f"two rotations would be called {name!r} ({rotation.name!r} is one of them)",
                remedy="Name the stains or centres in the manifest so that they differ by more than case or signs",
            )


def _sides(rotation: Rotation) -> str:
    targets = ", ".join(rotation.roles.targets) or "the same, in other patients"
    sources = ", ".join(rotation.roles.sources)
    return f"{sources} teach, tested on {targets}; {len(rotation.patients('test'))} patients tested"
