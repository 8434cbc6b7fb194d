"""How many parameters learn in each strategy of a study, and how large caches of features are, for ``stainda plan``."""

from __future__ import annotations

from stainda.config import ModelConfig, StrategyConfig, StudyConfig, TrainingConfig
from stainda.files import stable_hash
from stainda.run_directory.folder import RunFolder


def learning_notes(config: StudyConfig) -> list[str]:
    """A sentence on each choice of parameters, and on encoders that are random and stay so.

    Empty where everything learns in every strategy: nothing is built then, and torch is not imported.
    """
    from stainda.models.weight_files import start_of
    from stainda.training import resolve_training

    settings = {strategy.name: resolve_training(config.training, strategy) for strategy in config.strategies}
    if all(training.train.everything for training in settings.values()):
        return []
    strategies = {strategy.name: strategy for strategy in config.strategies}
    groups: dict[tuple[str, str], list[str]] = {}
    for name, training in settings.items():
        counted = (
            str(training.train),
            stable_hash([config.model_of(strategies[name]).name, config.model_of(strategies[name]).params]),
        )
        groups.setdefault(counted, []).append(name)
    notes = [
        f"training.train {choice}: {_counts(config, strategies[names[0]], settings[names[0]])} ({', '.join(names)})"
        for (choice, _), names in groups.items()
    ]
    for name, training in settings.items():
        start = start_of(config.model_of(strategies[name]))
        random = training.init is None and (training.start == "random" or not start)
        if training.train.mode == "head" and random:
            notes.append(f"strategy {name}: its encoder starts from random weights and none of it learns; a control")
    return notes


def cache_notes(config: StudyConfig, folder: RunFolder) -> list[str]:
    """How large the caches of features will be (``training.cache``): of all patches, where these are cut already.

    Raises:
        ConfigError: a strategy that cannot learn from features.
    """
    from stainda.strategies import build
    from stainda.training import resolve_training

    cached = [(strategy, resolve_training(config.training, strategy).cache) for strategy in config.strategies]
    cached = [(strategy, cache) for strategy, cache in cached if cache is not None]
    if not cached:
        return []
    from stainda.training.cached_passes import refuse_details, refuse_what_needs_pixels

    refuse_details(config.task)
    for strategy, _ in cached:
        refuse_what_needs_pixels(build(strategy))
    each = max(_bytes_of_features(config, config.model_of(strategy)) for strategy, _ in cached)
    views = max(cache.views for _, cache in cached if cache is not None)
    limit = min(cache.limit_gb for _, cache in cached if cache is not None)
    count = patches_of(folder)
    names = ", ".join(strategy.name for strategy, _ in cached)
    whole = f"at most {_size(each * views * count)} for {count} patches" if count else "for each patch"
    return [
        f"training.cache: {_size(each)} a patch and view, with {views} views {_size(each * views)}, {whole}; more than "
        f"{limit:g} GB is refused ({names})"
    ]


def _bytes_of_features(config: StudyConfig, model: ModelConfig) -> int:
    """Of one patch and view."""
    import torch

    from stainda.models.patch_sizes import bare_network
    from stainda.training.feature_cache import bytes_of

    network = bare_network(model, config.task.network, len(config.task.classes) + 1).eval()
    size, device = config.patches.size, next(network.parameters()).device
    with torch.no_grad():
        return bytes_of(network.encode(torch.empty(1, 3, size, size, device=device)))


def patches_of(folder: RunFolder) -> int:
    """Patches of the run directory's store; 0 where they are not cut yet."""
    from stainda.run_directory.contents import STORE_DIGESTS

    if not STORE_DIGESTS.at(folder.root).is_file():
        return 0
    from stainda.patches import PatchStore

    return len(PatchStore.open(folder.patches))


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _counts(config: StudyConfig, strategy: StrategyConfig, training: TrainingConfig) -> str:
    from stainda.models import choose_parameters, parameter_counts
    from stainda.models.patch_sizes import bare_network
    from stainda.strategies import build

    network = bare_network(config.model_of(strategy), config.task.network, len(config.task.classes) + 1)
    build(strategy).norm.prepare(network)
    choose_parameters(network, training.train)
    return str(parameter_counts(network))
