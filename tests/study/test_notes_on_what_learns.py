"""``stainda plan`` on what learns: numbers of each network, and controls only where nothing has taught the encoder."""

from pathlib import Path

from stainda.config import load_study
from stainda.study.learning import learning_notes

STUDIES = Path(__file__).parents[2] / "studies"


def test_every_network_has_its_own_number_and_a_trained_encoder_is_no_control():
    notes = learning_notes(load_study(STUDIES / "classifiers.yaml"))
    heads = [note for note in notes if note.startswith("training.train head")]
    assert len(heads) == 2 and "autoencoder_softmax" in heads[0] and "features_svm" in heads[1]
    assert not any("autoencoder" in note and "a control" in note for note in notes), "an autoencoder has taught it"
    random = "{from: source_only, name: a, model: cnn_small, training: {start: random, train: head}}"
    study = load_study(STUDIES / "classifiers.yaml", [f"strategies=[{random}, source_only]"])
    assert any(note.startswith("strategy a: its encoder starts from random weights") for note in learning_notes(study))
