"""Comparing strategies: equal trials, steps and seeds for each, side by side, resumed where they stopped."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, Roles
from stainda.config import StrategyConfig, StudyConfig, TrainingConfig
from stainda.errors import TrainingError
from stainda.files import stable_hash
from stainda.models import pinned
from stainda.pool import Outcome
from stainda.progress import Progress
from stainda.run_directory.folder import RunFolder, plain
from stainda.run_directory.training_tables import EXCLUSIONS, LEFT_OUT, REFITS, TRAINING, TRIALS
from stainda.study.attempts import forget
from stainda.study.converging import state_of
from stainda.study.earlier import Earlier, Judge, sort_earlier
from stainda.study.engines import opens
from stainda.study.heartbeat import RunningJob, tell_jobs
from stainda.study.job_request import JobRequest, JobResult
from stainda.study.jobs import earlier_result, objective_values, pruned_of, pruned_row
from stainda.study.keys import ScoringKeys, SeenData
from stainda.study.leaving_out import teachers
from stainda.study.pruning import EarlierTrial, Pruning, read_curve
from stainda.study.search import StrategySearch
from stainda.study.search_tables import write_search_tables
from stainda.study.setting_paths import value_at, with_drawn
from stainda.study.shared_workers import LOOK_SECONDS, SharedWorkers, run_shared
from stainda.study.sharing import SharedFolder
from stainda.study.starts import Starts
from stainda.study.storage import storage_address
from stainda.study.tracking import check_log

if TYPE_CHECKING:
    from stainda.training import Job

logger = logging.getLogger("stainda.compare")


_ASKS_FOR_MORE = {"seeds": 1, "leave_one_patient_out": False, "refit": False}


@dataclass
class _Course:
    """Where one strategy stands: its trials batch by batch (each draw may look at those before), then its seeds."""

    strategy: StrategyConfig
    search: StrategySearch
    rows: list[dict[str, Any]] = field(default_factory=list)
    next_trial: int = 0
    seeds_started: bool = False
    left_out: list[dict[str, Any]] = field(default_factory=list)
    refits: list[dict[str, Any]] = field(default_factory=list)
    repeated: set[int] = field(default_factory=set)  # seeds whose refit was begun


@dataclass(frozen=True)
class _Planned:
    course: _Course
    trial: int
    seed: int
    params: dict[str, Any]
    job: Job
    pruning: Pruning | None = None
    without: str = ""


def compare_strategies(
    config: StudyConfig, cohort: Cohort, roles: Roles, folder: RunFolder, workers: int, progress: Progress
) -> None:
    """Run every trial and seed that is missing; write ``trials.csv``.

    Raises:
        TrainingError: every job of every strategy failed; the reasons are in ``trials.csv``.
    """
    _Comparison(config, cohort, roles, folder).run(workers, progress)


class _Comparison:
    def __init__(self, config: StudyConfig, cohort: Cohort, roles: Roles, folder: RunFolder) -> None:
        self.config, self.roles, self.folder = config, roles, folder
        self.store = folder.patches
        self.seen = SeenData(self.store, roles)
        self.starts = Starts(folder, self.seen)
        self.scored = sections_to_score(cohort, roles)
        self.tested = Cohort(
            tuple(section for section in self.scored if section.split != "val"), cohort.domain_keys, cohort.source
        )
        self.teachers = teachers(cohort, roles) if config.left_out_of else ()
        self.scoring = ScoringKeys(folder, self.scored, config.evaluation, self.seen)
        # what adds trainings leaves finished jobs valid
        self._protocol = config.protocol.model_copy(update=_ASKS_FOR_MORE)
        self.courses = [self._course(strategy) for strategy in config.strategies]
        self.planned: dict[str, list[_Planned]] = {}
        self.tries: Counter[str] = Counter()
        self.earlier = Earlier([], [], [])

    @property
    def _further_seeds(self) -> int:
        """Trainings of the chosen setting next to the trial's own."""
        seeds = self.config.protocol.seeds
        return seeds - 1 + (seeds if self.config.protocol.refit else 0)

    def run(self, workers: int, progress: Progress) -> None:
        epochs = sum(
            (course.search.budget + self._further_seeds + len(self._leaves_out(course)))
            * self._training(course.strategy, {}).epochs
            for course in self.courses
        )
        check_log(self.config, self.folder.root)
        self._sort_earlier(())
        pool = opens(self.config.engine, "training", workers, progress, self.config.training.threads)
        self.starts.train(self._starting(), pool, progress)
        shared = SharedFolder(self.folder)
        with (
            shared.offered(self.scored, self.tested, self.config.evaluation),
            pool(run_shared) as local,
            progress.task(f"Training {len(self.courses)} strategies", epochs) as bar,
        ):
            try:
                self._train_all(SharedWorkers(shared, local), bar, progress)
            except BaseException:  # processes are ended on purpose
                for key in self.planned:
                    forget(self.folder.job(key))
                raise
        self._sort_earlier(
            [row["job"] for course in self.courses for row in (*course.rows, *course.left_out, *course.refits)]
        )
        self._write_trials()
        self.starts.write([row for course in self.courses for row in course.rows])
        others = {row["strategy"] for row in self.earlier.kept}
        write_search_tables(self.folder, {course.strategy.name: course.search for course in self.courses}, others)
        if not any(row["state"] == "complete" for course in self.courses for row in course.rows):
            reasons = {row["reason"] for course in self.courses for row in course.rows}
            raise TrainingError(
                f"every training failed: {'; '.join(sorted(filter(None, reasons)))}",
                file=TRIALS.at(self.folder.root),
            )
        again = [row for course in self.courses for row in course.refits]
        if again and not any(row["state"] == "complete" for row in again):
            reasons = {row["reason"] for row in again}
            raise TrainingError(
                f"every training that was made again from all source patients failed: {'; '.join(sorted(reasons))}",
                file=REFITS.at(self.folder.root),
            )

    def _train_all(self, pool: SharedWorkers, bar: Any, progress: Progress) -> None:
        for course in self.courses:
            self._go_on(course, pool, bar)
        self._write_trials()  # not those of earlier settings
        while pool.busy:
            tell_jobs(progress, [self._in_work(key, pool.host(key)) for key in pool.running])
            for outcome in pool.completed(bar.advance, LOOK_SECONDS):
                forget(self.folder.job(outcome.key))  # where its process died, this one counts it
                if self._is_tried_again(outcome, pool):
                    continue
                for planned in self.planned.pop(outcome.key):
                    self._finish(planned, outcome)
                    bar.advance(0, note=f"{planned.course.strategy.name}, seed {planned.seed}")
                    self._go_on(planned.course, pool, bar)
                self._write_trials()

    def _in_work(self, key: str, host: str) -> RunningJob:
        planned = self.planned[key][0]
        return RunningJob(key, planned.course.strategy.name, planned.trial, planned.seed, host)

    def _go_on(self, course: _Course, pool: SharedWorkers, bar: Any) -> None:
        """Submit what this strategy can do next; jobs that are complete are taken as they are."""
        for planned in self._next(course):
            done = self._completed(planned)
            if done is not None:
                bar.advance(planned.job.training.epochs, earlier=True)
                self._finish(planned, Outcome(planned.job.hash, done))
                continue
            waiting = self.planned.setdefault(planned.job.hash, [])
            waiting.append(planned)
            if len(waiting) == 1:  # two strategies may come to the same settings; they share the job
                pool.submit(planned.job.hash, self._request(planned))

    def _request(self, planned: _Planned) -> JobRequest:
        scored = self.tested if planned.job.repeats else self.scored
        return JobRequest(
            self.folder, planned.job, self.store, scored, self.config.evaluation,
            self.scoring.of(planned.job), planned.pruning, self.starts.needed.get(planned.job.pretrained),
            self.config.log_to, self.config.mlflow_uri,
        )  # fmt: skip

    def _is_tried_again(self, outcome: Outcome, pool: SharedWorkers) -> bool:
        """Submit a job once more that ended by something which may pass: no memory, a full disk, a dead process."""
        if not outcome.unexpected or self.tries[outcome.key] >= self.config.retries:
            return False
        self.tries[outcome.key] += 1
        logger.warning("%s is tried again, try %d: %s", outcome.key, self.tries[outcome.key] + 1, outcome.reason)
        pool.submit(outcome.key, self._request(self.planned[outcome.key][0]))
        return True

    def _next(self, course: _Course) -> Iterator[_Planned]:
        search = course.search
        while course.next_trial < search.budget and len(course.rows) >= search.batch_start(course.next_trial):
            params = course.search.suggest(course.next_trial)
            course.next_trial += 1
            planned = self._plan(course, course.next_trial - 1, self.config.seed, params)
            yield replace(planned, pruning=self._pruning(course, planned.trial))
        if not course.seeds_started and len(course.rows) == course.search.budget:
            course.seeds_started = True
            best = course.search.best()
            if best is not None:
                trial, params = best
                for seed in range(self.config.seed + 1, self.config.seed + self.config.protocol.seeds):
                    yield self._plan(course, trial, seed, params)
                for patient in self._leaves_out(course):
                    yield self._plan(course, trial, self.config.seed, params, patient)
        if course.seeds_started and self.config.protocol.refit:
            yield from self._refits(course)

    def _refits(self, course: _Course) -> Iterator[_Planned]:
        """The chosen trainings that are complete, once more from all source patients."""
        best = course.search.best()
        if best is None:
            return
        trial, params = best
        for row in list(course.rows):
            if row["trial"] == trial and row["state"] == "complete" and row["seed"] not in course.repeated:
                course.repeated.add(row["seed"])
                first = self._plan(course, trial, row["seed"], params)
                yield replace(first, job=first.job.again())

    def _leaves_out(self, course: _Course) -> tuple[str, ...]:
        """Patients without whom the chosen setting is trained again."""
        return self.teachers if course.strategy.name in self.config.left_out_of else ()

    def _plan(self, course: _Course, trial: int, seed: int, params: dict[str, Any], without: str = "") -> _Planned:
        job = self.job(course.strategy, params, seed, without)
        return _Planned(course, trial, seed, params, job, without=without)

    def _pruning(self, course: _Course, trial: int) -> Pruning | None:
        """What decides whether a trial goes on to its end: the curves of those before it."""
        search = self.config.search
        if search.pruner == "none":
            return None
        earlier = []
        for trial_result in course.search.ended(course.search.batch_start(trial)):
            curve, patients = read_curve(self.folder.job(trial_result.user_attrs["job"]))
            state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial_result.state.name, "failed")
            value = trial_result.values[0] if trial_result.values else None
            if state == "failed":
                curve, patients = {}, {}
            if state == "pruned":  # what was trained of it beyond, under other settings of the pruner, does not count
                curve = {epoch: curve[epoch] for epoch in trial_result.intermediate_values if epoch in curve}
                patients = {epoch: patients[epoch] for epoch in curve}
            earlier.append(EarlierTrial(int(trial_result.user_attrs["index"]), state, value, curve, patients))
        return Pruning(
            search.pruner, search.startup_trials, search.warmup_epochs, self.config.training.epochs,
            course.search.name, trial, tuple(earlier),
        )  # fmt: skip

    def _finish(self, planned: _Planned, outcome: Outcome) -> None:
        result: JobResult | None = outcome.value
        is_trial = planned.seed == self.config.seed and not planned.without and not planned.job.repeats
        pruned = result is not None and result.pruned is not None
        values: list[float] | None = None
        if result is not None and not pruned and not planned.job.repeats:
            folder = self.folder.job(planned.job.hash)
            values = objective_values(folder, result.score, self.config.search.objective)
        if is_trial:
            curve: dict[int, float] | None = None
            grounds: dict[str, Any] | None = None
            if result is not None and result.pruned is not None:
                if planned.pruning is not None:
                    grounds = {"key": planned.pruning.key, **pruned_row(result)}
                steps = planned.job.training.steps_per_epoch
                read, _ = read_curve(self.folder.job(planned.job.hash))
                curve = {epoch: score for epoch, score in read.items() if epoch * steps <= result.pruned}
            planned.course.search.tell(
                planned.trial, planned.params, values, planned.job.hash, outcome.reason, pruned=curve, grounds=grounds
            )
        if result is None:
            logger.warning("%s trial %d failed: %s", planned.course.strategy.name, planned.trial, outcome.reason)
        course = planned.course
        rows = course.left_out if planned.without else course.refits if planned.job.repeats else course.rows
        rows.append(
            {
                "strategy": planned.course.strategy.name,
                "trial": planned.trial,
                "seed": planned.seed,
                "without": planned.without,
                "repeats": planned.job.repeats,
                "job": planned.job.hash,
                "state": "failed" if result is None else "pruned" if pruned else "complete",
                "value": None if values is None else round(values[0], 6),
                "params": json.dumps(planned.params, sort_keys=True),
                "seconds": None if result is None else round(result.seconds, 2),
                "cpu_seconds": None if result is None else round(result.cpu_seconds, 2),
                "reason": outcome.reason,
                "second_value": None if values is None or len(values) < 2 else round(values[1], 6),
                "stopped_step": None if result is None else result.pruned,
                "converged": "" if result is None or pruned else state_of(self.folder.job(planned.job.hash)),
                **({} if result is None else asdict(result.costs)),
            }
        )

    def _completed(self, planned: _Planned) -> JobResult | None:
        folder, pruning = self.folder.job(planned.job.hash), planned.pruning
        if pruning is not None and TRAINING.inside(folder).is_file():
            kept = planned.course.search.pruned(planned.trial, pruning.key)
            if kept is not None:
                return pruned_of(kept)
        return earlier_result(folder, self.scoring.of(planned.job), planned.pruning)

    def _write_trials(self) -> None:
        rows = []
        for course in self.courses:
            best = course.search.best() if len(course.rows) >= course.search.budget else None
            for row in sorted(course.rows, key=lambda row: (row["seed"], row["trial"])):
                rows.append({**row, "chosen": best is not None and row["trial"] == best[0]})
        left_out = [row for course in self.courses for row in course.left_out]
        refits = [row for course in self.courses for row in course.refits] + self.earlier.refits
        self.folder.write_trainings(LEFT_OUT, left_out)
        self.folder.write_trainings(REFITS, refits)
        rows = [{name: value for name, value in row.items() if name not in ("without", "repeats")} for row in rows]
        kept = [{name: row.get(name, "") for name in TRIALS.names} for row in self.earlier.kept]
        TRIALS.write(self.folder.root, [*rows, *kept])

    def _sort_earlier(self, mine: Sequence[str]) -> None:
        """Look at what earlier calls left before trials.csv is written over, and once more at the end.

        At the start every training that no table will name is put down as excluded, so that a run that is killed
        forgets none.
        """
        judge = Judge(self.config, self.folder, lambda strategy, seed: self.job(strategy, {}, seed), self.scoring.of)
        self.earlier = sort_earlier(judge, set(mine))
        rows = [{name: row.get(name, "") for name in EXCLUSIONS.names} for row in self.earlier.excluded]
        EXCLUSIONS.write(self.folder.root, rows)

    # settings ----------------------------------------------------------------------------------------------------

    def _course(self, strategy: StrategyConfig) -> _Course:
        space = self.config.searched(strategy)
        defaults = {path: value_at(self.config, strategy, path) for path in space}
        fixed = self.job(strategy, defaults, self.config.seed).hash  # what does not change trainings keeps their search
        ranges = {path: values.model_dump() for path, values in space.items()}
        name = f"{strategy.name}/{stable_hash([fixed, plain(ranges)], 8)}"
        storage = storage_address(self.config, self.folder.root)
        return _Course(strategy, StrategySearch(name, space, defaults, self.config.search, self.config.seed, storage))

    def job(self, strategy: StrategyConfig, params: dict[str, Any], seed: int, without: str = "") -> Job:
        """The job of one strategy under searched settings ``params`` (by dotted path) and a seed, of whose training
        patients one may be left out."""
        from stainda.instances import task_for
        from stainda.training import Job, resolve_start

        changed, training = with_drawn(self.config, strategy, params), self._training(strategy, params)
        return self.starts.of(Job(
            study=self.config.study,
            strategy=changed.model_copy(update={"space": {}, "model": None, "instances": None}),
            model=resolve_start(pinned(self.config.model_of(strategy)), training),
            task=task_for(self.config, strategy),
            patches=self.config.patches,
            training=training,
            protocol=self._protocol,
            sources=self.roles.sources,
            targets=self.roles.targets,
            seed=seed,
            data_key=self.seen.key(changed, seed, without),
            domain_keys=self.config.domain,
            threshold=self.config.evaluation.threshold,
            without=without,
        ))  # fmt: skip

    def _starting(self) -> list[Job]:
        """The trainings of every strategy's own setting, with each seed, for what they start from."""
        seeds = range(self.config.seed, self.config.seed + self.config.protocol.seeds)
        return [self.job(course.strategy, course.search.defaults, seed) for course in self.courses for seed in seeds]

    def _training(self, strategy: StrategyConfig, params: dict[str, Any]) -> TrainingConfig:
        """The study's loop settings, the strategy's own changes, then what the search drew."""
        from stainda.training import resolve_training

        drawn = {path: value for path, value in params.items() if path.startswith("training.")}
        return resolve_training(self.config.training, with_drawn(self.config, strategy, drawn))


def sections_to_score(cohort: Cohort, roles: Roles) -> Cohort:
    """Annotated sections that may be scored: source patients of val, and test patients of every domain of the study.

    Where one patient serves for everything (split ``all``), its target sections are the test, and its source sections
    are not scored: they were trained on.
    """
    kept = []
    for section in cohort:
        role = roles.role(cohort.domain(section))
        if section.annotations is None or role == "unused":
            continue
        scored = {"source": ("val", "test"), "target": ("test", "all")}[role]
        if section.split in scored:
            kept.append(section)
    return Cohort(tuple(kept), cohort.domain_keys, cohort.source)
