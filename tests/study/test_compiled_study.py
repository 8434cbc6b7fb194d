"""A study whose trainings are compiled is refused before any work where they cannot be."""

import pytest

from stainda.config import load_study
from stainda.errors import ConfigError
from stainda.study.plan import plan_study

STUDY = "studies/small/phantom_strategies.yaml"


def _plan(tmp_path, *overrides):
    study = load_study(STUDY, ["training.device=cpu", "protocol.sources=[PAS@A, JONES@A]", *overrides])
    return plan_study(study, tmp_path / "run")


def test_a_strategy_that_cannot_be_compiled_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"strategy mixstyle: training\.compile is true, and") as error:
        _plan(tmp_path, "training.compile=true", "strategies=[source_only, mixstyle]")
    assert "source_only fit" in str(error.value) and not (tmp_path / "run").exists()


def test_a_missing_compiler_is_refused_where_the_trainings_run_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    _plan(tmp_path, "strategies=[source_only]")
    with pytest.raises(ConfigError, match="no-such-compiler"):
        _plan(tmp_path, "training.compile=true", "strategies=[source_only]")
    _plan(tmp_path, "training.compile=true", "strategies=[source_only]", "engine=dask")
