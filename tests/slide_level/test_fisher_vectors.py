"""Fisher vectors against scikit-image's, and on bags whose mean says nothing of their label."""

import numpy as np
import pytest
import torch
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture

from stainda.config.slide_level import SlideTrainingConfig
from stainda.evaluation.two_class import auroc
from stainda.slide_level.aggregators import BagNetwork
from stainda.slide_level.learning import LabelledBag, learn
from stainda.slide_level.linear_svm import COMPONENTS, FisherVector, SvmBag

WIDTH, SETTINGS = 12, SlideTrainingConfig(epochs=30, hidden=16, dropout=0.1, learning_rate=1e-2)


def test_the_vector_is_that_of_scikit_image():
    generator = np.random.default_rng(0)
    vectors = torch.tensor(generator.normal(size=(300, WIDTH)) * np.linspace(1, 3, WIDTH), dtype=torch.float32)
    encoding = FisherVector(WIDTH)
    encoding.fit(vectors, 1)
    bag = torch.tensor(generator.normal(size=(50, WIDTH)) + 0.5, dtype=torch.float32)
    mixture = GaussianMixture(COMPONENTS, covariance_type="diag")
    mixture.weights_, mixture.means_ = encoding.weights.double().numpy(), encoding.means.double().numpy()
    mixture.covariances_ = encoding.variances.double().numpy()
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    kept = ((bag - encoding.centre) @ encoding.axes).double().numpy()
    expected = fisher_vector(kept, mixture, improved=False)[COMPONENTS:]  # without the gradient of the weights
    expected = np.sign(expected) * np.sqrt(np.abs(expected))
    expected /= np.linalg.norm(expected)
    expected[COMPONENTS * WIDTH :] *= -1  # scikit-image turns the sign of the second part of Perronnin's formula
    given = encoding(bag).numpy()
    np.testing.assert_allclose(given, expected, atol=2e-3)
    assert given.shape == (2 * COMPONENTS * WIDTH,) and np.linalg.norm(given) == pytest.approx(1, abs=1e-5)


def test_the_mixture_is_fitted_without_labels_and_the_same_again():
    vectors = torch.randn(200, 40, generator=torch.Generator().manual_seed(0))
    first, second = FisherVector(40), FisherVector(40)
    first.fit(vectors, 3)
    second.fit(vectors, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))
    few = FisherVector(40)
    few.fit(vectors[:5], 3)  # fewer vectors than components
    assert torch.isfinite(few(vectors[:3])).all()


def test_the_loss_is_a_squared_hinge():
    margins = torch.tensor([2.0, 0.25, -1.0])
    assert [float(SvmBag.loss(margin, True)) for margin in margins] == pytest.approx([0.0, 0.5625, 4.0])
    assert [float(SvmBag.loss(margin, False)) for margin in margins] == pytest.approx([9.0, 1.5625, 0.0])


def _bags(number, seed):
    """Vectors of every second bag vary twice as much in two of their numbers; their mean is that of the others."""
    generator = np.random.default_rng(seed)
    bags = []
    for index in range(number):
        vectors = generator.normal(size=(60, WIDTH))
        if index % 2:
            vectors[:, :2] *= 2
        features = torch.tensor(vectors + 0.1 * generator.normal(size=WIDTH), dtype=torch.float32)
        bags.append(LabelledBag(lambda features=features: features, bool(index % 2)))
    return bags


def _auroc(name, seed):
    learned = learn(name, _bags(60, 10 * seed), _bags(20, 10 * seed + 1), SETTINGS, seed)
    tested = _bags(60, 10 * seed + 2)
    labels = np.array([bag.positive for bag in tested])
    answers = np.array([learned.answer(bag.features())[0] for bag in tested])
    return auroc(answers, labels, np.ones((1, len(labels))))[0]


def test_fisher_vectors_see_what_the_mean_does_not():
    torch.set_num_threads(1)
    mean = [_auroc("svm", seed) for seed in (1, 2, 3)]
    fisher = [_auroc("fisher", seed) for seed in (1, 2, 3)]
    assert np.mean(mean) < 0.65 and min(fisher) > 0.8, (mean, fisher)


def test_the_network_gives_no_evidence_of_patches():
    network = BagNetwork("svm", WIDTH, 8, 0.0)
    logit, evidence = network(torch.randn(5, WIDTH))
    assert evidence is None and logit.shape == ()
