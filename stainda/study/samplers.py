"""The samplers of a search by name, each seeded by the study's seed, the strategy and the trial.

``random`` draws each setting alone. ``qmc`` spreads the trials evenly (a scrambled Sobol sequence): for few trials, or
to see how a score depends on a setting. ``tpe`` (Bergstra et al. 2011) and ``gp`` (a Gaussian process) look at the
earlier trials: ``gp`` makes most of a few dozen trials of few settings, ``tpe`` also takes choices well. ``cmaes``
(Hansen 2016) needs two or more numeric settings and many trials; ``nsga2`` (Deb et al. 2002) is for two objectives and
many trials. With fewer than about ten trials all of them differ little from ``random``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stainda.config import SearchConfig, SearchRange
from stainda.randomness import seed_for

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


REMEMBERING = ("cmaes", "qmc", "nsga2")
"""Samplers that keep more than the trials: a distribution, a place in a sequence, generations."""


def make_sampler(
    config: SearchConfig,
    space: Mapping[str, SearchRange],
    defaults: Mapping[str, Any],
    seed: int,
    name: str,
    index: int,
) -> BaseSampler:
    """The Optuna sampler that draws trial ``index`` of the strategy ``name``.

    What a sampler remembers lies in the study it is given, so that a new one for every trial goes on where the last one
    was; its random numbers depend on the trial alone.
    """
    import optuna

    drawn = seed_for(seed, name, "trial", index) % 2**32
    # as many trials without a model as can be afforded; Optuna's own 10 would make small searches wholly random
    startup = min(10, max(2, config.trials // 3))
    samplers = optuna.samplers
    if config.sampler == "random":
        return samplers.RandomSampler(seed=drawn)
    if config.sampler == "tpe":
        return samplers.TPESampler(seed=drawn, n_startup_trials=startup)
    if config.sampler == "gp":
        return samplers.GPSampler(
            seed=drawn, n_startup_trials=startup, independent_sampler=samplers.RandomSampler(seed=drawn)
        )
    if config.sampler == "qmc":  # one sequence for all trials
        return samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=seed_for(seed, name, "sequence") % 2**32,
            independent_sampler=samplers.RandomSampler(seed=drawn), warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )  # fmt: skip
    if config.sampler == "cmaes":
        start = {path: defaults[path] for path, values in space.items() if values.choices is None}
        return samplers.CmaEsSampler(
            x0=start, seed=drawn, n_startup_trials=1, independent_sampler=samplers.RandomSampler(seed=drawn),
            warn_independent_sampling=False,
        )  # fmt: skip
    return samplers.NSGAIISampler(seed=drawn, population_size=max(4, min(50, config.trials // 4)))
