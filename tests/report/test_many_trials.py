"""Figures of a search of ten thousand trials draw some of them, and say so."""

import numpy as np
import pandas as pd

from stainda.report import search_figures
from stainda.report.figures import Look
from stainda.report.search_tables import MOST_FOR_IMPORTANCE, importance_table


def _trials(number):
    rng = np.random.default_rng(1)
    rate, weight = 10 ** rng.uniform(-4, -1, number), rng.uniform(0, 1, number)
    table = pd.DataFrame({"strategy": "dann", "trial": range(number), "rate": rate, "weight": weight})
    return table.assign(value=1 - (weight - 0.6) ** 2, chosen=table["trial"] == 17)


def test_some_trials_stand_for_many_with_the_chosen_and_the_best():
    every = pd.concat([_trials(5000), _trials(40).assign(strategy="few")], ignore_index=True)
    some = search_figures.thinned(every)
    counts = some["strategy"].value_counts()
    assert search_figures.MOST_TRIALS <= counts["dann"] <= search_figures.MOST_TRIALS + 2 and counts["few"] == 40
    mine = some[some["strategy"] == "dann"]
    assert mine["chosen"].sum() == 1 and mine["value"].max() == every["value"].max()
    assert mine["trial"].max() == 4999 and np.diff(mine["trial"]).max() <= 5000 / search_figures.MOST_TRIALS + 1


def test_the_course_of_the_best_is_that_of_all_trials():
    table = _trials(5000)
    figure = search_figures.history(table, Look(("dann",), {"dann": "DANN"}, "source_only", "oracle"))
    course = figure.axes[0].lines[0]
    best = table["value"].cummax().to_numpy()
    assert len(course.get_xdata()) < 100
    at = np.searchsorted(course.get_xdata(), table["trial"], side="right") - 1
    assert np.array_equal(course.get_ydata()[at], best)


def test_importance_is_estimated_from_as_many_trials_as_it_needs():
    table = importance_table(_trials(5000), ["rate", "weight"])
    assert set(table["n_trials"]) == {MOST_FOR_IMPORTANCE}
    assert table.set_index("setting")["importance"]["weight"] > 0.9
