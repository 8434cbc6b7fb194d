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
def judged_weights(prepared: Preparation) -> Iterator[dict[str, Statistics] | None]:
    """Inside the block the network has the weights that are judged and kept where those are not its own: a teacher's,
    as its part says, or the average of ``training.averaging``.

    Batch statistics are then estimated anew, from the same training patches each time: given per source domain
    where the strategy keeps them so, else put into the network.
    """
    network = prepared.detector.network
    weights = prepared.strategy.align.epoch_weights(prepared.modules)
    if prepared.average is not None:
        weights = prepared.average.weights()
    if weights is None:
        yield None
        return
    before = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict({**before, **weights})
    result: dict[str, Statistics] | None = None
    settling = prepared.chosen.settling
    if prepared.batchnorm and prepared.by_domain is not None:
        some = {domain: settling[domain] for domain in prepared.job.sources if domain in settling}
        result = {
            domain: estimate_statistics(network, [prepared.passes.plain(images)]) for domain, images in some.items()
        }
    elif prepared.batchnorm:
        put_statistics(network, estimate_statistics(network, map(prepared.passes.plain, settling.values())))
    try:
        yield result
    finally:
        network.load_state_dict(before)


def take_final_weights(prepared: Preparation, folder: Path) -> bool:
    """Where a part's own weights are the result, they become both checkpoints, with batch statistics to match.

    Returns:
        Whether they are.
    """
    weights = prepared.strategy.align.final_weights(prepared.modules)
    if weights is None:
        return False
    network = prepared.detector.network
    network.load_state_dict({**network.state_dict(), **weights})
    if prepared.batchnorm and prepared.by_domain is None:
        drawn = [prepared.batches.labelled.draw() for _ in range(_batches_for_statistics(prepared))]
        put_statistics(network, estimate_statistics(network, map(prepared.passes.plain, drawn)))
    for name in CHECKPOINTS.values():
        save_weights(network, folder / name)
    return True


def final_statistics(prepared: Preparation, weights: Path) -> dict[str, Statistics]:
    """Per domain, with these weights, from unlabelled patches drawn as in training, without augmentation.

    The network keeps the weights. Empty where statistics are not kept per domain.
    """
    load_weights_into(prepared.detector.network, weights)
    if prepared.by_domain is None:
        return {}
    count, statistics = _batches_for_statistics(prepared), dict[str, Statistics]()
    batches = prepared.batches
    for kind in (batches.compared, batches.unlabelled, batches.labelled):  # labelled: what nothing else shows
        for domain in () if kind is None else kind.domains:
            if kind is not None and domain not in statistics:
                drawn = [kind.draw_from(domain) for _ in range(count)]
                statistics[domain] = estimate_statistics(prepared.detector.network, map(prepared.passes.plain, drawn))
    return statistics


def _batches_for_statistics(prepared: Preparation) -> int:
    return max(1, STATISTICS_PATCHES // prepared.config.batch_size)
