"""What every strategy of a study may spend: counted before the start, printed, and kept as ``budget.csv``."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stainda.config import StrategyConfig, StudyConfig
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import BUDGET


@dataclass(frozen=True)
class Budget:
    """Of one strategy.

    Attributes:
        trials: settings tried in a rotation. seeds: trainings of the chosen setting, the trial's own among them.
        steps: optimiser steps of one training. labelled, unlabelled: patches of a step, with and without labels in use;
            patches of paired serial sections and those of sources that alignment compares count as unlabelled.
        rotations: times all this is done. jobs: trainings in all.
        settings: what is searched. note: what is not equal to the others, and why.
    """

    strategy: str
    trials: int
    seeds: int
    steps: int
    labelled: int
    unlabelled: int
    rotations: int
    jobs: int
    settings: str
    note: str


def budgets(config: StudyConfig, rotations: int = 1, without: int = 0) -> list[Budget]:
    """The budget of every strategy, in the order of the study.

    Args:
        without: trainings without one of the source's patients, of each strategy that the study asks it for.
    """
    from stainda.strategies import build
    from stainda.training import resolve_training

    result = []
    most = max((_trials(config, candidate) for candidate in config.strategies), default=0)
    for strategy in config.strategies:
        align = build(strategy).align
        training = resolve_training(config.training, strategy)
        size = training.batch_size
        settings = config.searched(strategy)
        trials = _trials(config, strategy)
        pairs = 2 * max(2, size // 2) if align.needs_pairs else 0
        streams = align.needs_targets + (align.compares and training.compared_patches == "tissue")
        notes = []
        if trials < config.search.trials:
            notes.append("nothing of it has a search range, so a second trial would repeat the first")
        if strategy.name == config.baseline and trials < most:
            notes.append(f"the baseline is tuned less than others, which get {most} trials")
        if config.search.pruner != "none" and trials > config.search.startup_trials:
            notes.append(f"fewer steps where the {config.search.pruner} pruner ends a trial")
        if training.patience is not None:
            notes.append(f"fewer steps where {training.patience} epochs bring nothing better")
        left_out = without if strategy.name in config.left_out_of else 0
        if left_out:
            notes.append(f"{_count(left_out, 'training')} of them without one of the patients who teach")
        seeds = config.protocol.seeds
        refits = seeds if config.protocol.refit else 0
        if refits:
            notes.append(f"{_count(rotations * refits, 'training')} of them again from all source patients")
        result.append(
            Budget(
                strategy.name, trials, seeds, training.epochs * training.steps_per_epoch, size,
                size * streams + pairs, rotations,
                rotations * (trials + seeds - 1 + refits) + left_out, ", ".join(settings), "; ".join(notes),
            )
        )  # fmt: skip
    return result


def _trials(config: StudyConfig, strategy: StrategyConfig) -> int:
    """Settings that are tried of a strategy; a range of the recipe is searched by all that do not set its setting."""
    return config.search.trials if config.searched(strategy) else 1


def budget_sentences(planned: list[Budget], baseline: str) -> list[str]:
    """What is printed before the start."""
    first = planned[0]
    turns = f" in each of {first.rotations} rotations" if first.rotations > 1 else ""
    trials = max(budget.trials for budget in planned)
    sentences = [
        f"budget of every strategy: {_count(trials, 'trial')} and {_count(first.seeds, 'seed')}{turns}, "
        f"{first.steps} steps of {first.labelled} labelled patches a training; "
        f"{_count(sum(budget.jobs for budget in planned), 'training')} of {_count(len(planned), 'strategy')} in all "
        "(budget.csv)"
    ]
    fewer = [budget.strategy for budget in planned if budget.trials < trials]
    if baseline in fewer:
        sentences.append(
            f"the baseline {baseline} has no search range and gets one trial where others get {trials}: it is tuned "
            "less. Leave training.learning_rate to the recipe, or give a setting under 'training' or 'geometry' of the "
            "study a range, which all strategies then search"
        )
    elif fewer:
        sentences.append(f"one trial only, since nothing of them has a search range: {', '.join(fewer)}")
    return sentences


def write_budget(planned: list[Budget], folder: RunFolder) -> None:
    BUDGET.write(folder.root, map(asdict, planned))


def _count(number: int, what: str) -> str:
    plural = what[:-1] + "ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
