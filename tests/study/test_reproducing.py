"""A run made again is compared row by row; what differs is counted."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.errors import StaindaError
from stainda.files import write_json, write_text
from stainda.study import dispatch, reproducing

STUDY = """study: mine
manifest: /tmp/absent/manifest.csv
task: {name: t, classes: [glomerulus]}
patches: {size: 32, mpp: 1.0}
protocol: {sources: [PAS@A]}
strategies: [{name: source_only}]
"""


def _records(**changes):
    rows = [
        {"strategy": "dann", "job": "a", "slide": slide, "measure": "dice", "value": value, "tp": 5}
        for slide, value in (("s1", 0.5), ("s2", float("nan")), ("s3", 0.25))
    ]
    return pd.DataFrame(rows).assign(**changes)


@pytest.fixture
def made_again(tmp_path, monkeypatch):
    """A run directory, and a function that says what running it again gives."""
    root = tmp_path / "run"
    write_text(root / "study.yaml", STUDY)
    write_json(root / "environment.json", {"versions": {"torch": "2.4", "numpy": "1"}})
    _records().to_parquet(root / "records.parquet")

    def give(records):
        def run_study(config, out, **options):
            assert config.study == "mine" and options["until"] == "evaluate"
            write_json(out / "environment.json", {"versions": {"torch": "2.5", "numpy": "1"}})
            if records is not None:
                records.to_parquet(out / "records.parquet")
            return out

        monkeypatch.setattr(dispatch, "run_study", run_study)
        return root

    return give


def test_the_same_records_under_other_names_of_trainings_are_the_same(made_again):
    made = reproducing.reproduce(made_again(_records(job="b").iloc[::-1]))
    assert made.is_same and made.out.name == "run_again"
    assert made.versions == {"torch": ("2.4", "2.5")}


@pytest.mark.parametrize(
    "records, counts",
    [
        (_records(value=[0.5, float("nan"), 0.2500001]), (0, 0, 1)),
        (_records(value=[0.5, 0.1, 0.25]), (0, 0, 1)),
        (_records(tp=[5, 5, 6]), (0, 0, 1)),
        (_records().iloc[:2], (1, 0, 0)),
        (pd.concat([_records(), _records().iloc[:1]]), (0, 1, 0)),
        (_records(slide=["s1", "s2", "s4"]), (1, 1, 0)),
        (None, (3, 0, 0)),
    ],
)
def test_what_differs_is_counted(made_again, records, counts):
    root = made_again(records)
    (comparison,) = reproducing.reproduce(root).comparisons
    assert (comparison.missing, comparison.added, comparison.changed) == counts
    shown = CliRunner().invoke(app, ["reproduce", str(root)])
    assert shown.exit_code == 1 and "torch 2.4 then 2.5" in shown.output


def test_what_cannot_be_made_again_is_refused(made_again, tmp_path):
    root = made_again(_records())
    with pytest.raises(StaindaError, match="own directory"):
        reproducing.reproduce(root, root)
    (root / "records.parquet").unlink()
    with pytest.raises(StaindaError, match="no records yet"):
        reproducing.reproduce(root)
