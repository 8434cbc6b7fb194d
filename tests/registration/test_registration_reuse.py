"""A registration made for one study serves another: taken over where it is the same, refused with what differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_registration_cohort import SAME, block, paint

from stainda.cohort import Cohort
from stainda.config import RegistrationConfig
from stainda.config.load import validated
from stainda.errors import ConfigError
from stainda.registration import load_block, register_cohort
from stainda.registration import register as registering
from stainda.registration.jobs import block_inputs
from stainda.registration.reuse import registration_standing


@pytest.fixture
def other(tmp_path) -> tuple[Path, Cohort]:
    """A registered run of two blocks, and their cohort."""
    cohort = Cohort((*block(tmp_path, 2, "b"), *block(tmp_path, 2, "c")))
    register_cohort(cohort, SAME, tmp_path / "first")
    return tmp_path / "first", cohort


def from_run(run: Path, **changes) -> RegistrationConfig:
    return SAME.model_copy(update={"from_run": run, **changes})


def test_nothing_is_registered_again_and_the_run_is_whole_without_the_other(other, tmp_path, monkeypatch) -> None:
    first, cohort = other
    monkeypatch.setattr(registering, "register_block", lambda job: pytest.fail(f"{job.block} was registered again"))
    second = tmp_path / "second"
    assert (
        registration_standing(cohort, from_run(first), second).sentence == f"registration: 2 of 2 blocks from {first}"
    )
    quality = register_cohort(cohort, from_run(first), second)
    assert quality["block"].tolist() == ["b", "c"]
    inputs = json.loads((second / "registration/inputs.json").read_text())
    assert {name: input_["from"] for name, input_ in inputs.items()} == {"b": str(first), "c": str(first)}
    shutil.rmtree(first)
    assert set(load_block(second / "registration", "b").transforms) == {"b1", "b2"}
    assert all((second / "registration" / name).is_file() for name in quality["overlay"])
    register_cohort(cohort, SAME, second)  # and needs it no more
    inputs = json.loads((second / "registration/inputs.json").read_text())
    assert inputs["b"]["from"] == str(first), "where it came from is not forgotten"


def test_what_the_other_run_lacks_is_registered_here(other, tmp_path) -> None:
    first, cohort = other
    more = Cohort((*cohort.sections, *block(tmp_path, 2, "d")))
    found = registration_standing(more, from_run(first), tmp_path / "second")
    assert (found.taken, found.missing) == (("b", "c"), ("d",))
    assert found.sentence == f"registration: 2 of 3 blocks from {first}, 1 of 3 blocks to register"
    assert set(register_cohort(more, from_run(first), tmp_path / "second")["block"]) == {"b", "c", "d"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cohort: (cohort, {"max_dim": 300}), "registration.max_dim is 256 there and 300 here"),
        (lambda cohort: (other_mpp(cohort), {}), "mpp of b2 is 0.5 there and 0.4 here"),
        (lambda cohort: (other_pixels(cohort), {}), "block b: file of b2 differ"),
        (lambda cohort: (without_last(cohort), {}), "block c: section c2 is not here"),
    ],
)
def test_what_differs_is_said(other, tmp_path, change, words) -> None:
    first, cohort = other
    changed, settings = change(cohort)
    with pytest.raises(ConfigError, match=words) as caught:
        register_cohort(changed, from_run(first, **settings), tmp_path / "second")
    assert "same slides and registration settings" in str(caught.value)
    assert not (tmp_path / "second/registration/quality.csv").exists()


def test_a_folder_without_registration_is_refused(other, tmp_path) -> None:
    with pytest.raises(ConfigError, match="without registration"):
        register_cohort(other[1], from_run(tmp_path / "nowhere"), tmp_path / "second")


def test_a_study_names_the_run_as_from() -> None:
    assert validated(RegistrationConfig, {"from": "runs/a"}, "study").from_run == Path("runs/a")
    known = block_inputs((), SAME)["config"]
    assert "from_run" not in known, "where it is taken from is no part of what it is"


def other_mpp(cohort: Cohort) -> Cohort:
    return Cohort(tuple(replace(section, mpp=0.4) if section.slide == "b2" else section for section in cohort))


def other_pixels(cohort: Cohort) -> Cohort:
    paint(cohort.section("b2").path, seed=9)
    return cohort


def without_last(cohort: Cohort) -> Cohort:
    return Cohort(cohort.sections[:-1])
