"""Running a study: as one run, or as one below the run directory for each of its rotations."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from stainda.cohort.table import absolute
from stainda.config import StudyConfig, load_study
from stainda.errors import ConfigError, did_you_mean
from stainda.files import output_errors, remove_unfinished
from stainda.progress import SILENT, Progress
from stainda.run_directory.folder import STAGES, RunFolder
from stainda.run_directory.result_tables import EARLIER_ROTATIONS, ROTATIONS
from stainda.study.bad_slides import LostSlidesError
from stainda.study.heartbeat import RunProgress
from stainda.study.other_runs import with_starts
from stainda.study.rotating import RotatingStudy
from stainda.study.run import StudyRun
from stainda.study.storage import check_storage
from stainda.study.tracking import check_log

Stage = Literal["cohort", "register", "propagate", "patches", "train", "evaluate", "report"]

logger = logging.getLogger("stainda")


def run_study(
    study: str | Path | StudyConfig,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    until: Stage = "report",
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Run a study, or what is missing of it, and return its run directory.

    Args:
        study: a study file, or a study already loaded.
        out: the run directory; default ``runs/<name of the study>`` in the working directory.
        overrides: ``key=value`` changes to the study file (``training.epochs=2``).
        data: folder that the manifest's paths are relative to.
        until: the last stage to run.
        force: go on with trainings made with other versions of packages; it is recorded in ``environment.json``.
        progress: shows how far the work is.

    Raises:
        StaindaError: something the message names has to be mended first; what is complete is kept.
    """
    config = with_starts(study if isinstance(study, StudyConfig) else load_study(study, overrides, data))
    if until not in STAGES:
        raise ConfigError(f"unknown stage {until!r}", remedy=did_you_mean(until, STAGES))
    folder = RunFolder(Path(out) if out is not None else Path("runs") / config.study)
    if config.engine.name == "dask":  # whose workers start elsewhere
        folder = RunFolder(absolute(folder.root))
    stages = STAGES[: STAGES.index(until) + 1]
    with folder.locked(progress.message), _log_to(folder.log), RunProgress(folder.root, progress, stages) as progress:
        remove_unfinished(folder.root)
        if config.strategies and "train" in stages:
            _check_servers(config, folder.root)
        lost: dict[str, str] = {}
        while True:
            try:
                _all_stages(config, folder, progress, stages, force, lost)
                return folder.root
            except LostSlidesError as error:
                if config.on_bad_slide == "stop" or not error.reasons.keys() - lost.keys():
                    raise
                lost |= error.reasons
                progress.message(f"note: {error.message}; the study goes on without them from its first stage")


def _all_stages(
    config: StudyConfig, folder: RunFolder, progress: Progress, stages: Sequence[str], force: bool, lost: dict[str, str]
) -> None:
    """What is missing of a study, without the slides that are ``lost``."""
    if config.protocol.rotates:
        RotatingStudy(config, folder, progress, lost).run(stages[-1], force)
        return
    _set_rotations_aside(folder, progress)
    run = StudyRun(config, folder, progress)
    run.lost = lost
    run.prepare(force)
    run.plan(stages)
    for stage in stages:
        run.do(stage)


def _check_servers(config: StudyConfig, root: Path) -> None:
    """Refuse servers that do not answer and packages that are missing before hours of registration, not after them."""
    check_storage(config, root)
    if config.mlflow_uri or not config.protocol.rotates:  # without an address each rotation has a store of its own
        check_log(config, root)


def _set_rotations_aside(folder: RunFolder, progress: Progress) -> None:
    """A run directory whose earlier study rotated is a plain one from now on; its rotations stay, the page tells."""
    path = ROTATIONS.at(folder.root)
    if path.is_file():
        path.replace(EARLIER_ROTATIONS.at(folder.root))
        progress.message("the study no longer rotates: the rotations of earlier calls are kept, and not reported")


class _LogFile(logging.FileHandler):
    """A log file that a full disk leaves with lines missing; the work itself says that the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Send everything stainda and its libraries log to the run's log file, and nothing of it to the screen."""
    import warnings

    with output_errors(path):
        handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    logging.captureWarnings(True)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    except BaseException as error:
        logger.exception("stopped: %s", error)
        raise
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.captureWarnings(False)
        with suppress(OSError):  # lines that a full disk does not take
            handler.close()
