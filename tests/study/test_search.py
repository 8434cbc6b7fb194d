"""The search draws the same settings whether or not it was interrupted."""

import pytest

from stainda.config import SearchConfig, SearchRange
from stainda.study.search import StrategySearch, sqlite_address

SPACE = {
    "training.learning_rate": SearchRange(low=1e-4, high=1e-2, log=True),
    "align.weight": SearchRange(low=0.0, high=1.0),
    "model.width": SearchRange(choices=(8, 16)),
}
DEFAULTS = {"training.learning_rate": 1e-3, "align.weight": 0.1, "model.width": 8}


def _search(path, sampler, trials=6):
    config = SearchConfig(trials=trials, sampler=sampler)
    return StrategySearch("dann/abc", SPACE, DEFAULTS, config, seed=3, storage=sqlite_address(path))


def _value(params):
    return 1 - abs(params["align.weight"] - 0.4)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_interrupted_search_draws_what_an_undisturbed_one_draws(tmp_path, sampler):
    whole = _search(tmp_path / "a.db", sampler)
    drawn = []
    for index in range(6):
        drawn.append(whole.suggest(index))
        whole.tell(index, drawn[-1], _value(drawn[-1]), f"job{index}")
    again = []
    for index in range(6):
        search = _search(tmp_path / "b.db", sampler)  # as after a kill: a new process, the same file
        search.suggest(index)  # asked, then killed before the job ended
        again.append(search.suggest(index))
        search.tell(index, again[-1], _value(again[-1]), f"job{index}")
        search.tell(index, again[-1], 0.0, "told twice")
    assert again == drawn
    assert drawn[0] == DEFAULTS and len({str(params) for params in drawn}) == 6
    assert _search(tmp_path / "b.db", sampler).best() == whole.best()
    assert whole.best()[1] == max(drawn, key=_value)


def test_failed_trials_are_kept_but_never_chosen(tmp_path):
    search = _search(tmp_path / "a.db", "tpe")
    search.tell(0, search.suggest(0), None, "job0", "the loss is not a number")
    assert search.best() is None
    search.tell(1, search.suggest(1), 0.2, "job1")
    assert search.best()[0] == 1


def test_without_a_range_there_is_one_trial(tmp_path):
    search = StrategySearch("a/b", {}, {}, SearchConfig(trials=5), 1, sqlite_address(tmp_path / "a.db"))
    assert search.budget == 1 and search.suggest(0) == {}


def test_a_trial_that_failed_and_succeeds_when_run_again_counts(tmp_path):
    search = _search(tmp_path / "a.db", "tpe", trials=2)
    search.tell(0, search.suggest(0), None, "job0", "no memory")
    second = search.suggest(1)
    search.tell(1, second, 0.2, "job1")
    again = _search(tmp_path / "a.db", "tpe", trials=2)
    again.tell(0, again.suggest(0), 0.9, "job0")
    assert again.best() == (0, DEFAULTS)
    assert again.suggest(1) == second, "a finished trial keeps its settings"
    again.tell(0, DEFAULTS, None, "job0", "failed once more")
    assert again.best() == (0, DEFAULTS)
