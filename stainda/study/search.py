"""The search of one strategy: an Optuna study whose every draw is a function of the seed and what came before.

A trial enters the stored Optuna study only when its job is complete. Nothing is ever left 'running', so a run that was
killed draws, after a restart, exactly the settings an undisturbed run would have drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stainda.config import SearchConfig, SearchRange
from stainda.randomness import seed_for


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield optuna


class StrategySearch:
    """Settings to try for one strategy, the default first.

    Args:
        name: of the stored Optuna study; settings that are not searched belong in it, so that trials made under other
            settings are not mixed in.
        space: search ranges by dotted path.
        defaults: the value of every path in ``space``.
        config: sampler and budget.
        seed: of the study.
        storage: an Optuna storage address.
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
        with _quiet_optuna() as optuna:
            self._distributions = {path: _distribution(optuna, found) for path, found in space.items()}
            self._stored = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )

    @property
    def budget(self) -> int:
        """Trials to run: with nothing to search, a second one would only repeat the first."""
        return self.config.trials if self.space else 1

    def suggest(self, index: int) -> dict[str, Any]:
        """The settings of trial ``index``; trials 0 to ``index - 1`` must have been told."""
        known = self._by_index().get(index)
        if known is not None and known.value is not None:
            return dict(known.user_attrs["params"])  # drawn before an earlier trial, failed then, was made good
        if index == 0:
            return dict(self.defaults)
        with _quiet_optuna() as optuna:
            seed = seed_for(self.seed, self.name.partition("/")[0], "trial", index) % 2**32
            samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
            memory = optuna.create_study(direction="maximize", sampler=samplers[self.config.sampler](seed=seed))
            memory.add_trials([trial for trial in self._by_index().values() if trial.user_attrs["index"] < index])
            return dict(memory.ask(self._distributions).params)

    def tell(
        self, index: int, params: dict[str, Any], value: float | None, job: str, reason: str | None = None
    ) -> None:
        """Store a finished trial (``value`` None: failed with ``reason``); telling it again changes nothing, except
        that one which failed before (no memory, no GPU) may succeed."""
        known = self._by_index().get(index)
        if known is not None and (value is None or known.value is not None):
            return
        with _quiet_optuna() as optuna:
            state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
            self._stored.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    params=params if value is not None else {},
                    distributions=self._distributions if value is not None else {},
                    value=value,
                    user_attrs={"index": index, "job": job, "params": params, "reason": reason},
                )
            )

    def best(self) -> tuple[int, dict[str, Any]] | None:
        """Index and settings of the best trial on source validation (the earliest of equals); None if all failed."""
        complete = [trial for trial in self._by_index().values() if trial.value is not None]
        complete = [trial for trial in complete if trial.user_attrs["index"] < self.budget]
        if not complete:
            return None
        top = max(complete, key=lambda trial: (trial.value, -trial.user_attrs["index"]))
        return int(top.user_attrs["index"]), dict(top.user_attrs["params"])

    def _by_index(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for trial in self._stored.get_trials(deepcopy=False):
            if "index" in trial.user_attrs:
                earlier = found.get(trial.user_attrs["index"])
                if earlier is None or earlier.value is None:
                    found[trial.user_attrs["index"]] = trial
        return dict(sorted(found.items()))


def sqlite_address(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


def _distribution(optuna: Any, found: SearchRange) -> Any:
    if found.choices is not None:
        return optuna.distributions.CategoricalDistribution(found.choices)
    assert found.low is not None and found.high is not None
    if found.integer:
        step = int(found.step or 1)
        return optuna.distributions.IntDistribution(int(found.low), int(found.high), log=found.log, step=step)
    return optuna.distributions.FloatDistribution(found.low, found.high, log=found.log, step=found.step)
