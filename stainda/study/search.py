"""The search of one strategy: an Optuna study whose every draw is a function of the seed and what came before.

A trial enters the stored Optuna study only when its job has ended. Nothing is ever left 'running', so a run that was
killed draws, after a restart, exactly the settings an undisturbed run would have drawn: what samplers remember next to
the trials (the covariance of CMA-ES, the generations of NSGA-II, the place in a Sobol sequence) is made again by going
through the stored trials in memory. The storage holds plain numbers only; nothing in it is ever unpickled.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stainda.config import SearchConfig, SearchRange
from stainda.files import stable_hash
from stainda.randomness import seed_for
from stainda.study.samplers import REMEMBERING, make_sampler
from stainda.study.storage import open_storage, storage_errors

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, TrialState

DEFAULT_OBJECTIVE = ("source_validation",)


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield optuna


class StrategySearch:
    """Settings to try for one strategy, the default first.

    Args:
        name: of the stored Optuna study; settings that are not searched belong in it, so that trials made under other
            settings are not mixed in.
        space: search ranges by dotted path.
        defaults: the value of every path in ``space``.
        config: sampler, objectives and budget.
        seed: of the study.
        storage: an address, see :mod:`stainda.study.storage`.
    """

    def __init__(
        self,
        name: str,
        space: dict[str, SearchRange],
        defaults: dict[str, Any],
        config: SearchConfig,
        seed: int,
        storage: str,
    ) -> None:
        self.name, self.space, self.defaults, self.config, self.seed = name, space, defaults, config, seed
        self._address = storage
        self._kept: Any = None
        self._had: list[list[tuple[int, TrialState]]] = []
        if config.objective != DEFAULT_OBJECTIVE:
            self.name = f"{name}/{stable_hash(list(config.objective), 8)}"
        self._directions: Any = ["maximize"] * len(config.objective)
        with _quiet_optuna() as optuna:
            self._distributions = {path: _distribution(optuna, values) for path, values in space.items()}
            opened = open_storage(storage)
            with storage_errors(storage):
                self._stored = optuna.create_study(
                    storage=opened,
                    study_name=self.name,
                    directions=self._directions,
                    load_if_exists=True,
                )

    @property
    def budget(self) -> int:
        """Trials to run: with nothing to search, a second one would only repeat the first."""
        return self.config.trials if self.space else 1

    def batch_start(self, index: int) -> int:
        """The first trial of the batch that trial ``index`` is drawn in: the draw knows the trials before it."""
        return index - index % self.config.batch

    def suggest(self, index: int) -> dict[str, Any]:
        """The settings of trial ``index``; the trials before its batch must have been reported.

        Those of its own batch are drawn once more before it, and are unfinished to the sampler, whether they have ended
        or not: the draw does not depend on which of them ended first.
        """
        by_index = self._by_index()
        known = by_index.get(index)
        if known is not None and _ended(known):
            return dict(known.user_attrs["params"])  # drawn before an earlier trial, failed then, was made good
        if index == 0:
            return dict(self.defaults)
        first = self.batch_start(index)
        with _quiet_optuna():
            memory = self._memory(by_index, first)
            drawn = [self._ask(memory, number) for number in range(max(1, first), index + 1)]
            for trial in drawn if memory is self._kept else ():
                memory.tell(trial, state=_state("FAIL"))  # samplers that look at trials alone do not look at these
            return dict(drawn[-1].params)

    def _memory(self, by_index: Mapping[int, Any], first: int) -> Any:
        """A study in memory that has had the batches before trial ``first``.

        It is kept from draw to draw, and has the batches that ended since put into it: to go through ten thousand
        trials for every draw takes longer than the draw. A sampler that remembers more than the trials draws from a
        copy.
        """
        import optuna

        starts = range(0, first, self.config.batch)
        batches = [
            [by_index[number] for number in range(start, start + self.config.batch) if number in by_index]
            for start in starts
        ]
        had = [[(trial.number, trial.state) for trial in batch] for batch in batches]
        if self._kept is None or had[: len(self._had)] != self._had:
            self._kept, self._had = optuna.create_study(directions=self._directions), []
        for batch, about in zip(batches[len(self._had) :], had[len(self._had) :], strict=True):
            self._put(batch, self._kept)
            self._had.append(about)
        return copy.deepcopy(self._kept) if self.config.sampler in REMEMBERING else self._kept

    def _ask(self, memory: Any, index: int) -> Any:
        memory.sampler = self._sampler(index)
        return memory.ask(self._distributions)

    def _put(self, batch: Sequence[Any], memory: Any) -> None:
        """Let a study in memory have had a batch of trials; a sampler that remembers trials suggests them once more."""
        replays: dict[int, Any] = {}
        if self.config.sampler in REMEMBERING:
            for trial in batch:
                index = trial.user_attrs["index"]
                if index:  # trial 0 is the default, which no sampler draws
                    replays[index] = self._ask(memory, index)
        for trial in batch:
            params = trial.user_attrs["params"]
            replayed = replays.get(trial.user_attrs["index"])
            if replayed is None:
                memory.add_trial(trial)
            elif dict(replayed.params) == params:
                memory.tell(replayed, trial.values if trial.state == _state("COMPLETE") else None, state=trial.state)
            else:  # drawn when an earlier trial had failed that was made good since
                memory.tell(replayed, state=_state("FAIL"))
                memory.add_trial(trial)

    def _sampler(self, index: int) -> BaseSampler:
        name = self.name.partition("/")[0]
        return make_sampler(self.config, self.space, self.defaults, self.seed, name, index)

    def tell(
        self,
        index: int,
        params: dict[str, Any],
        value: float | Sequence[float] | None,
        job: str,
        reason: str | None = None,
        pruned: Mapping[int, float] | None = None,
        *,
        grounds: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a trial that has ended; telling it again changes nothing, except that one which failed before (no
        memory, no GPU) or was pruned may be completed, and that a completed one may have other values now: its job was
        scored anew.

        Args:
            value: of every objective; ``None``: failed with ``reason``, or pruned.
            pruned: scores by epoch of a trial that was pruned after the last of them.
            grounds: why it was, and the key of that, for :meth:`pruned`.
        """
        known = self._by_index().get(index)
        values = None if value is None else [value] if isinstance(value, int | float) else list(value)
        if known is not None and (values is None or _same(known.values, values)):
            return
        with _quiet_optuna() as optuna, storage_errors(self._address):
            name = "COMPLETE" if values is not None else "FAIL" if pruned is None else "PRUNED"
            self._stored.add_trial(
                optuna.trial.create_trial(
                    state=_state(name),
                    params=params if name != "FAIL" else {},
                    distributions=self._distributions if name != "FAIL" else {},
                    values=values,
                    intermediate_values=dict(pruned or {}),
                    user_attrs={
                        "index": index,
                        "job": job,
                        "params": params,
                        "reason": reason,
                        **({} if grounds is None else {"pruned": dict(grounds)}),
                    },
                )
            )

    def pruned(self, index: int, key: str) -> dict[str, Any] | None:
        """What was written when trial ``index`` was pruned on the grounds ``key``; ``None`` where it was not.

        It stays pruned where its job is complete by now: a later trial had the same settings, and was not pruned.
        """
        known = self._by_index().get(index)
        if known is None or known.state != _state("PRUNED"):
            return None
        grounds = known.user_attrs.get("pruned") or {}
        return dict(grounds) if grounds.get("key") == key else None

    def best(self) -> tuple[int, dict[str, Any]] | None:
        """Index and settings of the best trial (the earliest of equals); None if none was completed.

        With two objectives that are traded off, the one with the highest mean of both, which no other trial beats in
        both.
        """
        complete = self.completed()
        if not complete:
            return None
        top = max(complete, key=lambda trial: (sum(trial.values), -trial.user_attrs["index"]))
        return int(top.user_attrs["index"]), dict(top.user_attrs["params"])

    def completed(self) -> list[Any]:
        """Trials within the budget that were completed, in their order."""
        done = [trial for trial in self._by_index().values() if trial.state == _state("COMPLETE")]
        return [trial for trial in done if trial.user_attrs["index"] < self.budget]

    def ended(self, before: int) -> list[Any]:
        """Trials that came before trial ``before``, completed, pruned or failed."""
        return [trial for index, trial in self._by_index().items() if index < before]

    def importances(self) -> dict[str, float]:
        """How much of the variance of the first objective each setting explains, by fANOVA (Hutter et al. 2014);
        empty where fewer than four trials were completed, or all came to the same score."""
        complete = self.completed()
        values = [trial.values[0] for trial in complete]
        if len(complete) < 4 or max(values) - min(values) < 1e-9:
            return {}
        with _quiet_optuna() as optuna:
            study = optuna.create_study(direction="maximize")
            for trial in complete:
                study.add_trial(
                    optuna.trial.create_trial(
                        value=trial.values[0], params=trial.params, distributions=trial.distributions
                    )
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed_for(self.seed, "importance") % 2**32)
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))

    def _by_index(self) -> dict[int, Any]:
        """Every trial once: completed before pruned before failed, and of those that were completed the newest."""
        result: dict[int, Any] = {}
        order = [_state(name) for name in ("COMPLETE", "PRUNED", "FAIL")]
        with storage_errors(self._address):
            trials = self._stored.get_trials(deepcopy=False)
        for trial in trials:
            if "index" in trial.user_attrs:
                earlier = result.get(trial.user_attrs["index"])
                newest = trial.state == _state("COMPLETE")
                if earlier is None or order.index(trial.state) < order.index(earlier.state) + newest:
                    result[trial.user_attrs["index"]] = trial
        return dict(sorted(result.items()))


def stored_trials(storage: str) -> dict[str, tuple[int, dict[str, Any]]]:
    """Index and settings of every trial in a storage, by the name of its job."""
    trials: dict[str, tuple[int, dict[str, Any]]] = {}
    with _quiet_optuna() as optuna, storage_errors(storage):
        opened = open_storage(storage)
        for name in optuna.study.get_all_study_names(storage=opened):
            for trial in optuna.load_study(study_name=name, storage=opened).get_trials(deepcopy=False):
                about = trial.user_attrs
                if "job" in about and "index" in about:
                    trials[str(about["job"])] = (int(about["index"]), dict(about.get("params") or {}))
    return trials


def _state(name: str) -> TrialState:
    import optuna

    return optuna.trial.TrialState[name]


def _same(stored: Sequence[float] | None, values: Sequence[float]) -> bool:
    """Whether a trial has these values; databases may round the last digit."""
    return stored is not None and all(map(math.isclose, stored, values))


def _ended(trial: FrozenTrial) -> bool:
    return trial.state in (_state("COMPLETE"), _state("PRUNED"))


def _distribution(optuna: Any, range_: SearchRange) -> Any:
    if range_.choices is not None:
        return optuna.distributions.CategoricalDistribution(range_.choices)
    assert range_.low is not None and range_.high is not None
    if range_.integer:
        step = int(range_.step or 1)
        return optuna.distributions.IntDistribution(int(range_.low), int(range_.high), log=range_.log, step=step)
    return optuna.distributions.FloatDistribution(range_.low, range_.high, log=range_.log, step=range_.step)
