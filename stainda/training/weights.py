"""The weights that are judged and kept, where those are not the network's own, and the statistics that go with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stainda.strategies.detector import CHECKPOINTS, load_weights_into, save_weights
from stainda.strategies.norm.statistics import Statistics, estimate_statistics, put_statistics
from stainda.training.preparation import Preparation

STATISTICS_PATCHES = 96
"""Patches from which the batch statistics of a domain are re-estimated after training."""


@contextmanager
def judged_weights(made: Preparation) -> Iterator[dict[str, Statistics] | None]:
    """Inside the block the network has the weights that are judged and kept where those are not its own: a teacher's,
    as its part says, or the average of ``training.averaging``.

    Batch statistics are then estimated anew, from the same training patches each time: given per source domain
    where the strategy keeps them so, else put into the network.
    """
    network = made.detector.network
    weights = made.strategy.align.epoch_weights(made.modules)
    if made.average is not None:
        weights = made.average.weights()
    if weights is None:
        yield None
        return
    before = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict({**before, **weights})
    result: dict[str, Statistics] | None = None
    settling = made.chosen.settling
    if made.batchnorm and made.by_domain is not None:
        some = {domain: settling[domain] for domain in made.job.sources if domain in settling}
        result = {domain: estimate_statistics(network, [made.passes.plain(one)]) for domain, one in some.items()}
    elif made.batchnorm:
        put_statistics(network, estimate_statistics(network, map(made.passes.plain, settling.values())))
    try:
        yield result
    finally:
        network.load_state_dict(before)


def take_final_weights(made: Preparation, folder: Path) -> bool:
    """Where a part's own weights are the result, they become both checkpoints, with batch statistics to match.

    Returns:
        Whether they are.
    """
    weights = made.strategy.align.final_weights(made.modules)
    if weights is None:
        return False
    network = made.detector.network
    network.load_state_dict({**network.state_dict(), **weights})
    if made.batchnorm and made.by_domain is None:
        drawn = [made.batches.labelled.draw() for _ in range(_batches_for_statistics(made))]
        put_statistics(network, estimate_statistics(network, map(made.passes.plain, drawn)))
    for name in CHECKPOINTS.values():
        save_weights(network, folder / name)
    return True


def final_statistics(made: Preparation, weights: Path) -> dict[str, Statistics]:
    """Per domain, with these weights, from unlabelled patches drawn as in training, without augmentation.

    The network keeps the weights. Empty where statistics are not kept per domain.
    """
    load_weights_into(made.detector.network, weights)
    if made.by_domain is None:
        return {}
    count, found = _batches_for_statistics(made), dict[str, Statistics]()
    batches = made.batches
    for kind in (batches.compared, batches.unlabelled, batches.labelled):  # labelled: what nothing else shows
        for domain in () if kind is None else kind.domains:
            if kind is not None and domain not in found:
                drawn = [kind.draw_from(domain) for _ in range(count)]
                found[domain] = estimate_statistics(made.detector.network, map(made.passes.plain, drawn))
    return found


def _batches_for_statistics(made: Preparation) -> int:
    return max(1, STATISTICS_PATCHES // made.config.batch_size)
