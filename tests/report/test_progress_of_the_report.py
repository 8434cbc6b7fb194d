"""The report says how far it is, figure by figure, and ends at its end."""

from __future__ import annotations

import contextlib

import pytest
from make_run import make_run

from stainda.report import make_report


class Recorded:
    def __init__(self) -> None:
        self.totals: list[float] = []
        self.steps: list[float] = []
        self.notes: list[str] = []

    @contextlib.contextmanager
    def task(self, description, total):
        self.totals.append(total)
        yield self

    def advance(self, steps=1.0, note=None, *, earlier=False):
        self.steps.append(steps)
        self.notes += [note] if note else []

    def message(self, text):
        raise AssertionError(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("progress") / "run", test_patients=3, stains=("PAS", "SR"), trials=1, seeds=1,
        strategies=("source_only", "oracle"), registration=False, failed_job=False,
    )  # fmt: skip


def test_every_figure_is_a_step_with_its_number_and_the_bar_ends_full(run):
    seen = Recorded()
    make_report(run, seen)
    assert seen.totals == [pytest.approx(sum(seen.steps))]
    numbers = [note for note in seen.notes if note.startswith("figure ")]
    count = len(numbers)
    assert (
        count > 20 and numbers[0].startswith(f"figure 1 of {count}: ") and f"figure {count} of {count}" in numbers[-1]
    )
    assert min(seen.steps) >= 0, "no figure more was drawn than was counted"


def test_a_run_without_records_has_a_bar_without_figures(run):
    (run / "records.parquet").unlink()
    for path in (run / "jobs").glob("*/records.parquet"):
        path.unlink()
    seen = Recorded()
    make_report(run, seen)
    assert seen.totals == [pytest.approx(sum(seen.steps))] and not any("figure" in note for note in seen.notes)
