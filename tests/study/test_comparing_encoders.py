"""Encoders measured on the patches of a study, without training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from stainda.config import ModelConfig, StudyConfig
from stainda.errors import ConfigError
from stainda.models import build_model
from stainda.study import encoders
from stainda.study.encoders import Candidate, compare_encoders, features_of, labelled_patches

SIZE, PATIENTS, EACH = 32, 4, 6


def _store(seed=0):
    """Two centres of other colours; a dark square lies at the centre of the objects' patches."""
    generator = np.random.default_rng(seed)
    rows, images, labels = [], [], []
    for centre, colour in (("A", 200), ("B", 120)):
        for patient in range(PATIENTS):
            for number in range(2 * EACH + 1):
                image = np.full((SIZE, SIZE, 3), colour) + generator.normal(0, 4, (SIZE, SIZE, 3))
                label = np.zeros((SIZE, SIZE), np.uint8)
                if number < EACH:
                    image[8:24, 8:24] -= 80
                    label[8:24, 8:24] = 1
                elif number == 2 * EACH:  # neither: three eighths of the square at its centre
                    label[:, 17:] = 1
                name = f"{centre}{patient}"
                rows.append({"slide": name, "patient": name, "centre": centre, "stain": "PAS", "kind": "labelled"})
                images.append(image.clip(0, 255).astype(np.uint8))
                labels.append(label)
    table = pd.DataFrame(rows)
    own = np.stack(labels)
    pixels = {slide: np.stack(images)[group.index].reshape(-1, 3)[::50] for slide, group in table.groupby("slide")}
    return SimpleNamespace(
        table=table, images=np.stack(images), labels=lambda kind: own, tissue_pixels=pixels,
        has_labels=lambda kind: np.ones(len(table), bool),
    )  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    from stainda import patches
    from stainda.study import dispatch

    monkeypatch.setattr(dispatch, "run_study", lambda config, out, until, progress: tmp_path)
    monkeypatch.setattr(patches.PatchStore, "open", staticmethod(lambda folder: _store()))
    return StudyConfig(
        study="x", phantom={}, patches={"downsample": 1, "size": SIZE}, protocol={"sources": ["PAS@A"]},
        model={"name": "cnn", "params": {"depth": 3, "width": 8}}, task={"kind": "classification"},
        strategies=[{"name": "source_only"}],
    )  # fmt: skip


def test_classes_are_what_lies_at_the_centre_and_patches_are_capped(study, monkeypatch):
    chosen, classes = labelled_patches(_store(), study)
    store = _store()
    assert len(chosen) == 2 * PATIENTS * 2 * EACH, "those that are neither are left out"
    middles = store.labels("own")[chosen][:, 16, 12]
    assert ((middles == 1) == (classes == "glomerulus")).all()
    monkeypatch.setattr(encoders, "PER_CELL", 2)
    few, named = labelled_patches(store, study)
    counts = pd.DataFrame({"patient": store.table["patient"].iloc[few].to_numpy(), "class": named}).value_counts()
    assert set(counts) == {2}
    assert np.array_equal(few, labelled_patches(store, study)[0]), "the same choice each time"


def test_the_table_of_two_encoders(study, tmp_path):
    torch.manual_seed(4)
    save_file(build_model(study.model, 3, 2).state_dict(), str(tmp_path / "own.safetensors"))
    names = ["study@random", f"study@{tmp_path / 'own.safetensors'}"]
    root, frame = compare_encoders(study, None, names)
    assert frame["encoder"].tolist() == names and frame["start"].tolist() == ["random", "own.safetensors"]
    assert set(frame["against"]) == {"centre"}, "there is one stain"
    written = pd.read_csv(root / "encoders" / "robustness.csv")
    np.testing.assert_array_equal(written["robustness_index"], frame["robustness_index"].astype(float))
    assert frame["robustness_index"].between(0, 1).all() and frame["performance_drop"].notna().all()
    assert frame["n_patches"].tolist() == [96, 96] and frame["n_patients"].tolist() == [8, 8]


def test_features_are_standardised_as_the_weights_were_trained(study, tmp_path):
    """A mismatch changes what the network sees, and with it the features."""
    save_file(build_model(study.model, 3, 2).state_dict(), str(tmp_path / "own.safetensors"))
    given = {"name": "cnn", "params": study.model.params, "weights": tmp_path / "own.safetensors"}
    facts = [{"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}, {"mean": (0.9, 0.9, 0.9), "std": (0.2, 0.2, 0.2)}, None]
    store, some = _store(), np.arange(5)
    found = [features_of(ModelConfig(**given, pretraining=fact), store, some, study) for fact in facts]
    assert found[0].shape == (5, 32)
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2])


def test_an_unknown_encoder_or_nothing_to_tell_apart_is_refused(study, monkeypatch):
    with pytest.raises(ConfigError, match="uni"):
        Candidate.read("unni", study)
    monkeypatch.setattr(encoders, "labelled_patches", lambda store, config: (np.arange(5), np.array(["object"] * 5)))
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        compare_encoders(study, None, ["study@random"])


def test_the_figure_and_the_sentence():
    from stainda.report.encoder_figures import described, robustness_figure

    frame = pd.DataFrame([
        {"encoder": "uni", "against": "centre", "robustness_index": 0.8, "chance": 0.5},
        {"encoder": "uni@random", "against": "centre", "robustness_index": 0.4, "chance": 0.5},
        {"encoder": "uni", "against": "stain", "robustness_index": None, "chance": 0.5},
        {"encoder": "uni@random", "against": "stain", "robustness_index": 0.3, "chance": 0.5},
    ]).astype({"robustness_index": float})  # fmt: skip
    assert described(frame) == "highest robustness index: uni against centre (0.80) and uni@random against stain (0.30)"
    figure = robustness_figure(frame)
    assert [axes.get_title() for axes in figure.axes] == ["class against centre", "class against stain"]
    assert [len(axes.patches) for axes in figure.axes] == [2, 1]
    labels = [{text.get_text(): text.get_position()[0] for text in axes.texts} for axes in figure.axes]
    assert list(labels[0]) == ["0.80", "0.40"] and list(labels[1]) == ["not known", "0.30"]
    assert labels[0]["0.40"] > 0.5 < labels[1]["0.30"], "beyond the line of chance, not across it"
