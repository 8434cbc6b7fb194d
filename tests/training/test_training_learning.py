"""What the strategies are for: a foreign stain on which the plain network fails, three seeds, fixed settings.

The task was not tuned for a method. With these settings (60 steps) the Dice on Sirius red by seed was: source only .29
.95 .11, AdaBN .69 .97 .77, MMD (many kernels) .86 .96 .88; DANN at the bottleneck did not exceed AdaBN.
"""

import numpy as np
import pytest
from blob_cohort import make_data, make_job, make_patch

from stainda.prediction import load_predictor
from stainda.training import train_on

STRATEGIES = {
    "source_only": {"norm": "shared"},
    "adabn": {"norm": "per_domain"},
    "mmd": {"norm": "per_domain", "align": {"name": "mmd", "kernels": "many"}},
    "dann": {"norm": "per_domain", "align": {"name": "dann", "weight": 0.1}},
    "reinhard": {"norm": "shared", "view": "reinhard"},
}


def _dice(folder, domain, tiles=16):
    """Pooled Dice on one picture of new patches of a domain."""
    generator = np.random.default_rng(99)
    pairs = [make_patch(generator, domain, 48, empty=index % 2 == 0) for index in range(tiles)]
    image, truth = (
        np.vstack([np.hstack([pair[part] for pair in pairs[row : row + 4]]) for row in range(0, tiles, 4)])
        for part in (0, 1)
    )
    predictor = load_predictor(folder)
    found = predictor.label_map(predictor.probabilities_array(image, domain=domain)) == 1
    return 2 * (found & (truth == 1)).sum() / (found.sum() + (truth == 1).sum())


def _scores(name, folder):
    source, target = [], []
    for seed in range(3):
        job = make_job(STRATEGIES[name], seed=seed, epochs=4, steps_per_epoch=15)
        train_on(job, make_data(job), folder / f"{name}{seed}")
        source.append(_dice(folder / f"{name}{seed}", "PAS@A"))
        target.append(_dice(folder / f"{name}{seed}", "SR@A"))
    return np.asarray(source), np.asarray(target)


def test_the_plain_network_fails_on_a_foreign_stain_and_mmd_recovers_it(tmp_path):
    plain_source, plain = _scores("source_only", tmp_path)
    source, adapted = _scores("mmd", tmp_path)
    assert plain_source.min() > 0.9 and source.min() > 0.9
    assert plain.mean() < 0.6 and (plain < 0.5).sum() >= 2
    assert adapted.min() > 0.65 and adapted.mean() > plain.mean() + 0.25


@pytest.mark.slow
def test_statistics_per_domain_help_and_mmd_helps_beyond_them(tmp_path):
    scores = {name: _scores(name, tmp_path)[1] for name in STRATEGIES}
    mean = {name: found.mean() for name, found in scores.items()}
    assert min(mean["adabn"], mean["dann"], mean["reinhard"]) > mean["source_only"] + 0.1
    assert mean["mmd"] > mean["adabn"] + 0.03
