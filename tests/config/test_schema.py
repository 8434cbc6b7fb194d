"""The JSON schema of study files knows what the reader knows, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stainda.config import load_study, read_yaml
from stainda.config.schema import study_schema, write_study_schema
from stainda.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema", reason="installed by make setup (extra test)")

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").rglob("*.yaml"))

QUICKSTART = """
study: mine
phantom: {patients: 4, size: 512}
patches: {mpp: 4.0}
protocol: {sources: [PAS@A]}
strategies: [source_only]
"""


@pytest.fixture(scope="module")
def validator():
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _study(tmp_path, changes: str = ""):
    path = tmp_path / "mine.yaml"
    path.write_text(QUICKSTART + changes, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_study_file_validates_and_names_the_schema(path, validator):
    validator.validate(read_yaml(path))
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text(encoding="utf-8"))
    assert found and (path.parent / found[1]).resolve() == ROOT / "studies" / "study.schema.json"


SHORT_FORMS = [
    "recipe: {from: strong, training: {epochs: 60, learning_rate: {default: 1.0e-3, low: 1.0e-4, high: 1.0e-2}}}",
    "training: {batch_size: {default: 8, choices: [4, 8]}, epochs: 3}",
    "geometry: {scale: {default: 0.5, low: 0.0, high: 1.0}}",
    "model: {from: unet_small, params: {width: 16}}",
    "model: {name: unet, weights: {file: mine.safetensors, optional: true}}",
    "search: {objective: worst_source_domain}",
    "registration: {from: runs/other}",
    "task: {from: glomeruli_segmentation, class_weights: balanced}",
    "classes: {Glom: glomerulus, Artefact: ignore}",
    "evaluation: {threshold: 0.4}",
    "slide_level: {label: rejection, positive: 1, encoder: cnn_small, patches: {mpp: 1.0}}",
    "slide_level: {positive: [yes_a, 2], encoder: {from: cnn_small, params: {width: 4}}, patches: {mpp: 1.0}}",
    "title: a key that is called title",
]


@pytest.mark.parametrize("change", SHORT_FORMS)
def test_what_the_reader_takes_the_schema_takes(change, tmp_path, validator, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = _study(tmp_path, change + "\n")
    load_study(path)
    validator.validate(read_yaml(path))


WRONG = [
    "trainng: {epochs: 3}",
    "training: {epoch: 3}",
    "training: {epochs: 0}",
    "training: {optimiser: adamm}",
    "protocol: {sources: [PAS@A], shceme: one_to_all}",
    "recipe: {from: strong, trainig: {epochs: 3}}",
    "model: {nam: unet}",
    "evaluation: {threshold: pool}",
    "strategies: [{from: dann, algin: {name: mmd}}]",
    "strategies: dann",
    "search: {objective: [source_validation, best]}",
    "registration: {method: vallis}",
    "slide_level: {positive: bad, encoder: cnn_small, patches: {mpp: 1.0}, aggregators: [median]}",
]


@pytest.mark.parametrize("change", WRONG)
def test_what_the_reader_refuses_the_schema_refuses(change, tmp_path, validator, monkeypatch):
    monkeypatch.chdir(ROOT)
    key = change.partition(":")[0]
    path = _study(tmp_path)
    kept = [line for line in QUICKSTART.splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*kept, change, ""]), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_study(path)
    assert list(validator.iter_errors(read_yaml(path))), change


def test_a_study_without_strategies_is_incomplete_unless_it_extends_another(validator):
    assert list(validator.iter_errors({"study": "mine", "protocol": {}}))
    validator.validate({"extends": "quickstart.yaml", "study": "mine"})


def test_every_key_of_the_models_is_in_the_schema():
    from stainda.config import StudyConfig, TrainingConfig

    schema = study_schema()
    assert set(StudyConfig.model_fields) <= set(schema["properties"])
    assert set(TrainingConfig.model_fields) == set(schema["$defs"]["TrainingConfig"]["properties"])
    assert "point_um" in schema["$defs"]["EvaluationConfig"]["properties"]
    assert {"extends", "study", "baseline"} <= set(schema["properties"])
    assert {"dann", "source_only"} <= set(schema["properties"]["strategies"]["items"]["anyOf"][0]["anyOf"][0]["enum"])


def test_the_schema_in_studies_is_the_one_of_the_models(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    fresh = write_study_schema(tmp_path / "schema.json").read_text(encoding="utf-8")
    kept = (ROOT / "studies" / "study.schema.json").read_text(encoding="utf-8")
    assert json.loads(kept) == json.loads(fresh), "run: stainda schema --out studies/study.schema.json"
