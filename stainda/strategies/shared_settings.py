"""What all strategies of a study have in common: its recipe in words, for plan and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stainda.config import SearchRange, StrategyConfig, StudyConfig, TrainingConfig
from stainda.instances import task_for
from stainda.models import missing_weights, start_of, trained_start
from stainda.strategies.augment.geometry import GeometryAugment
from stainda.strategies.strategy import build


@dataclass(frozen=True)
class SharedSetting:
    """One row: a setting, its value, and the strategies in which it is another (name and value)."""

    setting: str
    value: str
    departs: tuple[tuple[str, str], ...] = ()


def shared_settings(study: StudyConfig) -> tuple[SharedSetting, ...]:
    """The settings that the study gives to every strategy, as the baseline has them, in the order of the page.

    The study need not have the baseline; its first strategy then stands for it.
    """
    baseline = next((strategy for strategy in study.strategies if strategy.name == study.baseline), study.strategies[0])

    def of_all(setting: str, words: Callable[[StrategyConfig], str]) -> SharedSetting:
        value = words(baseline)
        others = ((strategy.name, words(strategy)) for strategy in study.strategies)
        return SharedSetting(
            setting, value, tuple((name, own_value) for name, own_value in others if own_value != value)
        )

    return (
        SharedSetting("recipe", _recipe(study)),
        of_all("network", lambda strategy: network(study, strategy)),
        *([of_all("head", lambda strategy: _head(study, strategy))] if study.task.kind == "instances" else []),
        of_all("starting weights", lambda strategy: starting_weights(study, strategy)),
        of_all("learning parameters", lambda strategy: _learning(_training(study, strategy))),
        of_all("standardised by", lambda strategy: standard(study, strategy)),
        SharedSetting("patches", patches(study)),
        of_all("geometry", _geometry),
        SharedSetting("patches cut", _cutting(study)),
        of_all("sampling", lambda strategy: _sampling(_training(study, strategy))),
        of_all("loss", lambda strategy: _training(study, strategy).loss.replace("_", " ")),
        of_all("optimiser", lambda strategy: _optimiser(study, strategy)),
        SharedSetting("schedule and steps", _steps(study.training)),
        of_all("batch statistics", lambda strategy: strategy.norm.name.replace("_", " ")),
        of_all("averaging of weights", lambda strategy: _averaging(_training(study, strategy))),
    )


def recipe_line(study: StudyConfig) -> str:
    """The recipe in one line, for ``stainda plan`` and the log."""
    training = study.training
    baseline = next((strategy for strategy in study.strategies if strategy.name == study.baseline), study.strategies[0])
    return (
        f"recipe {_recipe(study)}: {network(study, baseline)} from {starting_weights(study, baseline)}, "
        f"standardised by {standard(study, baseline)}; {patches(study)}; "
        f"{_geometry(baseline)}; {training.loss.replace('_', ' ')}; {_steps(training)}"
    )


def network(study: StudyConfig, strategy: StrategyConfig) -> str:
    """The network with what tells it from others of its kind."""
    model = study.model_of(strategy)
    params = [f"{key} {_plain(value)}" for key, value in model.params.items()]
    return f"{model.name} ({', '.join(params)})" if params else model.name


def _head(study: StudyConfig, strategy: StrategyConfig) -> str:
    """What separates objects that touch."""
    head = task_for(study, strategy).instances
    params = [f"{key} {_plain(value)}" for key, value in head.params.items()]
    return f"{head.name} ({', '.join(params)})" if params else head.name


def starting_weights(study: StudyConfig, strategy: StrategyConfig) -> str:
    """What the network starts from, and whether it was found."""
    model = study.model_of(strategy)
    if _training(study, strategy).start == "random":
        return "random weights"
    if missing := missing_weights(model):
        return f"random weights ({missing} was not found)"
    if model.weights is None:
        return "random weights"
    if model.weights_part is not None:
        return trained_start(model)
    fingerprint = f", SHA-256 {model.weights_sha256[:12]}…" if model.weights_sha256 else ""
    return f"{model.weights.name} (found{fingerprint})"


def standard(study: StudyConfig, strategy: StrategyConfig) -> str:
    """Whose mean and standard deviation images are standardised by."""
    model, training = study.model_of(strategy), _training(study, strategy)
    known, of_weights = model.pretraining, training.start != "random" and start_of(model)
    by_encoder = training.standardise == "encoder" and known is not None and of_weights
    if known is not None and by_encoder and build(strategy).view.is_colour:
        numbers = "; ".join(f"{', '.join(f'{number:.4g}' for number in three)}" for three in (known.mean, known.std))
        return f"the encoder's mean and standard deviation ({numbers})"
    return "mean and standard deviation of the sources' tissue"


def patches(study: StudyConfig) -> str:
    """Size and scale."""
    cutting = study.patches
    scale = f"{cutting.mpp:g} µm" if cutting.mpp else f"{cutting.downsample:g} level-0 pixels"
    return f"patches of {cutting.size} × {cutting.size} pixels of {scale}"


def _recipe(study: StudyConfig) -> str:
    name = study.recipe.name or "none"
    return f"{name}, changed: {', '.join(study.recipe.changed)}" if study.recipe.changed else name


def _geometry(strategy: StrategyConfig) -> str:
    parts = [part for part in build(strategy).augment if isinstance(part, GeometryAugment)]
    if not parts:
        return "no geometry"
    changes = ["mirror images and quarter turns"]
    for part in parts:
        changes += [f"any angle up to {part.rotation:g}°"] if part.rotation else []
        searched = _searched(strategy.space.get("geometry.scale"))
        if part.scale or searched:
            span = f" 1/{1 + part.scale:g} to {1 + part.scale:g}" if part.scale else ""
            changes.append(f"scale{span}{searched}")
        changes += [f"shift up to {part.shift:g} of the patch"] if part.shift else []
        if part.p < 1 and (part.rotation or part.scale or part.shift):
            changes.append(f"in {part.p:g} of patches")
    return ", ".join(changes)


def _cutting(study: StudyConfig) -> str:
    cutting = study.patches
    if cutting.grid:
        text = f"a grid over the tissue, every {cutting.stride or cutting.size // 2} pixels"
    else:
        text = (
            f"{cutting.per_object} around each object ({cutting.max_per_slide} of a slide at most), "
            f"{cutting.negatives_per_object:g} without one for each of these"
        )
    margin = getattr(cutting, "margin", 0)
    return f"{text}; a region {margin:g} of a patch wider is stored, and cropped at random" if margin else text


def _sampling(training: TrainingConfig) -> str:
    share = training.object_share
    text = "as the patches come" if share is None else f"{share:g} of a labelled batch is cut around objects"
    if training.rare_classes is not None:
        text += f", drawn by class, rare ones more often (temperature {training.rare_classes:g})"
    return f"{text}; alignment compares {training.compared_patches} patches of the source with those of targets"


def _optimiser(study: StudyConfig, strategy: StrategyConfig) -> str:
    training = _training(study, strategy)
    searched = _searched(study.searched(strategy).get("training.learning_rate"))
    rate = f"learning rate {training.learning_rate:g}{searched}"
    return f"{training.optimiser}, {rate}, weight decay {training.weight_decay:g}"


def _steps(training: TrainingConfig) -> str:
    patience = f", ended after {training.patience} epochs without a better score" if training.patience else ""
    return (
        f"{training.schedule}, {training.epochs} × {training.steps_per_epoch} steps of {training.batch_size} "
        f"labelled patches{patience}"
    )


def _learning(training: TrainingConfig) -> str:
    decay = training.layer_decay
    rates = f"; each block of the encoder at {decay:g} of the next one's rate" if decay is not None else ""
    return f"{training.train}{rates}"


def _averaging(training: TrainingConfig) -> str:
    return _plain(getattr(training, "averaging", None)) or "none"


def _training(study: StudyConfig, strategy: StrategyConfig) -> TrainingConfig:
    return TrainingConfig.model_validate({**study.training.model_dump(), **strategy.training})


def _searched(searched: SearchRange | None) -> str:
    if searched is None:
        return ""
    inside = (
        ", ".join(map(str, searched.choices))
        if searched.choices is not None
        else f"{searched.low:g} to {searched.high:g}"
    )
    return f" (searched: {inside})"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "/".join(map(str, value))
    return "" if value is None else str(value)
