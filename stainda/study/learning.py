"""How many parameters learn in each strategy of a study, for ``stainda plan``."""

from __future__ import annotations

from stainda.config import StrategyConfig, StudyConfig, TrainingConfig


def learning_notes(config: StudyConfig) -> list[str]:
    """A sentence on each choice of parameters, and on encoders that are random and stay so.

    Empty where everything learns in every strategy: nothing is built then, and torch is not imported.
    """
    from stainda.models.weight_files import start_of
    from stainda.training import resolve_training

    settings = {one.name: resolve_training(config.training, one) for one in config.strategies}
    if all(one.train.everything for one in settings.values()):
        return []
    strategies = {one.name: one for one in config.strategies}
    groups: dict[str, list[str]] = {}
    for name, one in settings.items():
        groups.setdefault(str(one.train), []).append(name)
    notes = [
        f"training.train {choice}: {_counts(config, strategies[names[0]], settings[names[0]])} ({', '.join(names)})"
        for choice, names in groups.items()
    ]
    for name, one in settings.items():
        if one.train.mode == "head" and (one.start == "random" or not start_of(config.model)):
            notes.append(f"strategy {name}: its encoder starts from random weights and none of it learns; a control")
    return notes


def _counts(config: StudyConfig, strategy: StrategyConfig, training: TrainingConfig) -> str:
    from stainda.models import choose_parameters, parameter_counts
    from stainda.models.patch_sizes import bare_network
    from stainda.strategies import build

    network = bare_network(config.model, config.task.kind, len(config.task.classes) + 1)
    build(strategy).norm.prepare(network)
    choose_parameters(network, training.train)
    return str(parameter_counts(network))
