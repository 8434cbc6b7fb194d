"""The search draws the same settings whether or not it was interrupted."""

import pytest

from stainda.config import SearchConfig, SearchRange
from stainda.config.load import validated
from stainda.errors import ConfigError
from stainda.study.pruning import EarlierTrial, Pruning
from stainda.study.search import StrategySearch
from stainda.study.storage import sqlite_address

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


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp", "qmc", "nsga2"])
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
        search.tell(index, again[-1], _value(again[-1]), "reported twice")
        search.tell(index, again[-1], None, "reported twice", "no memory")
    assert again == drawn
    assert drawn[0] == DEFAULTS and len({str(params) for params in drawn}) == 6
    assert _search(tmp_path / "b.db", sampler).best() == whole.best()
    assert whole.best()[1] == max(drawn, key=_value)


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp", "qmc", "nsga2"])
def test_a_search_that_remembers_draws_as_one_that_reads_all_trials_again(tmp_path, sampler):
    """In batches, which end in another order, with trials that fail, and one that is made good later."""
    config = SearchConfig(trials=12, sampler=sampler, batch=3)

    def opened():
        return StrategySearch("dann/abc", SPACE, DEFAULTS, config, seed=3, storage=sqlite_address(tmp_path / "a.db"))

    kept = opened()
    for first in range(0, 12, 3):
        drawn = {index: kept.suggest(index) for index in range(first, first + 3)}
        assert [opened().suggest(index) for index in sorted(drawn)] == list(drawn.values())
        for index in reversed(drawn):
            kept.tell(index, drawn[index], None if index == 4 else _value(drawn[index]), f"job{index}", "no memory")
        if first == 6:
            kept.tell(4, kept.suggest(4), 0.9, "job4")


def test_a_later_draw_does_not_go_through_all_trials(tmp_path, monkeypatch):
    search = _search(tmp_path / "a.db", "tpe", trials=40)
    for index in range(20):
        search.tell(index, search.suggest(index), 0.1 * index, f"job{index}")
    put, once = [], search._put
    monkeypatch.setattr(search, "_put", lambda batch, memory: (put.append(len(batch)), once(batch, memory)))
    for index in range(20, 23):
        search.tell(index, search.suggest(index), 0.5, f"job{index}")
    assert put == [1, 1, 1]


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


def test_a_trial_that_is_scored_anew_counts_with_its_newest_scores(tmp_path):
    """Worst patients are read from records, which are made again where SCORING or an annotation has changed."""
    config = SearchConfig(trials=3, objective=("source_validation", "worst_source_patient"), sampler="nsga2")

    def opened():
        return StrategySearch("s/1", NUMBERS, {"a": 0.5, "b": 0.5}, config, 1, sqlite_address(tmp_path / "a.db"))

    drawn = [opened().suggest(0)]
    opened().tell(0, drawn[0], [0.8, 0.8], "job0")
    drawn.append(opened().suggest(1))
    opened().tell(1, drawn[1], [0.8, 0.6], "job1")
    assert opened().best() == (0, drawn[0])
    for values in ([0.8, 0.3], [0.8, 0.2]):
        opened().tell(0, drawn[0], values, "job0")
        opened().tell(1, drawn[1], [0.8, 0.6], "job1")
        assert opened().best() == (1, drawn[1])
    assert [trial.values for trial in opened().completed()] == [[0.8, 0.2], [0.8, 0.6]]
    assert len(opened()._stored.get_trials()) == 4, "what is unchanged is not stored again"
    assert [opened().suggest(index) for index in (0, 1)] == drawn


NUMBERS = {"a": SearchRange(low=0.0, high=1.0), "b": SearchRange(low=0.0, high=1.0)}


def _run(search, trials, value):
    drawn = []
    for index in range(trials):
        drawn.append(search.suggest(index))
        search.tell(index, drawn[-1], value(drawn[-1]), f"job{index}")
    return drawn


def test_cmaes_comes_closer_to_the_best_than_it_began(tmp_path):
    """What the sampler has learned outlives the process: each trial is asked of a search opened anew."""
    config = SearchConfig(trials=40, sampler="cmaes")
    address = sqlite_address(tmp_path / "a.db")
    drawn = []
    for index in range(40):
        search = StrategySearch("s/1", NUMBERS, {"a": 0.1, "b": 0.1}, config, 1, address)
        drawn.append(search.suggest(index))
        search.tell(index, drawn[-1], -((drawn[-1]["a"] - 0.8) ** 2) - (drawn[-1]["b"] - 0.6) ** 2, f"job{index}")
    far = [((one["a"] - 0.8) ** 2 + (one["b"] - 0.6) ** 2) ** 0.5 for one in drawn]
    assert sum(far[-10:]) < 0.5 * sum(far[1:11])


def test_qmc_spreads_its_trials(tmp_path):
    search = StrategySearch(
        "s/1", NUMBERS, {"a": 0.5, "b": 0.5}, SearchConfig(trials=17, sampler="qmc"), 1, sqlite_address(tmp_path / "a")
    )
    drawn = _run(search, 17, lambda params: params["a"])[1:]
    for name in "ab":  # a Sobol sequence of 2^k points has one in each of 2^k equal strips, or nearly so cut off
        assert len({int(16 * one[name]) for one in drawn}) >= 12


def test_two_objectives_are_traded_off(tmp_path):
    config = SearchConfig(trials=24, sampler="nsga2", objective=("source_validation", "worst_source_domain"))
    search = StrategySearch("s/1", NUMBERS, {"a": 0.5, "b": 0.5}, config, 1, sqlite_address(tmp_path / "a.db"))
    drawn = _run(search, 24, lambda params: (params["a"], 1 - params["a"] * params["b"]))
    best = max(drawn, key=lambda one: one["a"] + 1 - one["a"] * one["b"])
    assert search.best()[1] == best
    assert not any(o["a"] > best["a"] and o["a"] * o["b"] < best["a"] * best["b"] for o in drawn), "not dominated"


def test_importance_finds_the_setting_that_matters(tmp_path):
    search = StrategySearch(
        "s/1",
        NUMBERS,
        {"a": 0.5, "b": 0.5},
        SearchConfig(trials=25, sampler="random"),
        1,
        sqlite_address(tmp_path / "a"),
    )
    _run(search, 25, lambda params: params["a"] + 0.01 * params["b"])
    found = search.importances()
    assert found["a"] > 0.9 and sum(found.values()) == pytest.approx(1)


def test_a_pruned_trial_is_remembered_and_never_chosen(tmp_path):
    search = _search(tmp_path / "a.db", "tpe")
    search.tell(0, search.suggest(0), 0.3, "job0")
    second = search.suggest(1)
    search.tell(1, second, None, "job1", pruned={1: 0.9, 2: 0.95})
    assert search.best()[0] == 0
    again = _search(tmp_path / "a.db", "tpe")
    assert again.suggest(1) == second and again.suggest(2) == search.suggest(2)
    again.tell(1, second, 0.99, "job1")
    assert again.best()[0] == 1, "trained to its end after all, it counts"


def _pruning(pruner, earlier, **changes):
    values = {"startup_trials": 2, "warmup_epochs": 1, "epochs": 9, "name": "s/1", "index": len(earlier)}
    return Pruning(pruner, **{**values, **changes}, earlier=tuple(earlier))


CURVES = [EarlierTrial(i, "complete", 0.1 * i + 0.5, {e: 0.1 * i + 0.05 * e for e in range(1, 10)}) for i in range(3)]


def test_median_ends_what_is_below_the_median():
    pruning = _pruning("median", CURVES)  # after epoch 3 the others had 0.15, 0.25, 0.35
    assert pruning.stops({1: 0.1, 2: 0.15, 3: 0.24}, {})
    assert not pruning.stops({1: 0.1, 2: 0.15, 3: 0.26}, {})
    assert not pruning.stops({1: 0.0}, {}), "warm-up"
    assert not pruning.stops(dict.fromkeys(range(1, 10), 0.0), {}), "nothing is saved after the last epoch"
    assert not _pruning("median", CURVES[:1]).stops({1: 0.0, 2: 0.0}, {}), "too few earlier trials"


def test_hyperband_decides_the_same_every_time_and_never_ends_the_best():
    ends = {}
    for index in range(3, 9):
        earlier = [*CURVES, *(EarlierTrial(i, "failed") for i in range(3, index))]
        pruning = _pruning("hyperband", earlier, index=index)
        for curve, name in (({e: 0.01 * e for e in range(1, 4)}, "bad"), ({e: 0.9 for e in range(1, 4)}, "good")):
            told = {pruning.stops(curve, {}) for _ in range(2)}
            assert len(told) == 1
            ends.setdefault(name, set()).update(told)
    assert True in ends["bad"] and ends["good"] == {False}


def test_wilcoxon_needs_four_patients_to_end_a_trial():
    names = [f"P{i}" for i in range(5)]
    best = EarlierTrial(2, "complete", 0.9, {2: 0.6}, {2: dict.fromkeys(names, 0.6)})
    pruning = _pruning("wilcoxon", [*CURVES[:2], best])
    assert pruning.stops({1: 0.0, 2: 0.5}, {name: 0.5 - 0.01 * i for i, name in enumerate(names)})
    assert not pruning.stops({1: 0.0, 2: 0.5}, {name: 0.5 for name in names[:3]}), "three cannot show it"
    mixed = {name: 0.9 if i % 2 else 0.55 for i, name in enumerate(names)}
    assert not pruning.stops({1: 0.0, 2: 0.5}, mixed)


def test_a_pruned_job_is_trained_again_when_the_grounds_change():
    assert _pruning("median", CURVES).key == _pruning("median", CURVES).key
    assert _pruning("median", CURVES).key != _pruning("median", CURVES[:2]).key
    assert _pruning("median", CURVES).key != _pruning("median", CURVES, warmup_epochs=2).key


def test_searches_that_cannot_be_are_refused():
    for values, message in (
        ({"sampler": "cmaes", "objective": ["source_validation", "worst_source_patient"]}, "nsga2, tpe"),
        ({"pruner": "median", "objective": ["source_validation", "worst_source_patient"]}, "pruner: none"),
        ({"objective": ["source_validation", "source_validation"]}, "named twice"),
        ({"sampler": "bayes"}, "Known: cmaes"),
    ):
        with pytest.raises(ConfigError, match=message):
            validated(SearchConfig, values, "study")


def _batched(path, sampler, batch, order, trials=6, again=False):
    """Settings drawn in batches whose trials end in another order; ``again``: each is drawn by a new process."""
    config = SearchConfig(trials=trials, sampler=sampler, batch=batch)
    search = StrategySearch("dann/abc", SPACE, DEFAULTS, config, 3, sqlite_address(path))
    drawn = []
    for first in range(0, trials, batch):
        numbers = range(first, min(first + batch, trials))
        drawn += [search.suggest(index) for index in numbers]
        for index in order(numbers):
            search.tell(index, drawn[index], _value(drawn[index]), f"job{index}")
            if again:
                search = StrategySearch("dann/abc", SPACE, DEFAULTS, config, 3, sqlite_address(path))
                assert [search.suggest(number) for number in numbers] == drawn[first : first + batch]
    return drawn


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp", "qmc", "nsga2"])
def test_a_batch_is_drawn_alike_whichever_of_its_trials_ends_first(tmp_path, sampler):
    drawn = _batched(tmp_path / "a.db", sampler, 3, list)
    assert _batched(tmp_path / "b.db", sampler, 3, reversed, again=True) == drawn
    assert drawn[0] == DEFAULTS and len({str(params) for params in drawn}) == 6


def test_a_batch_of_one_draws_as_a_search_without_batches(tmp_path):
    assert _batched(tmp_path / "a.db", "tpe", 1, list) == _drawn_one_by_one(tmp_path / "b.db")


def _drawn_one_by_one(path):
    search = _search(path, "tpe")
    return _run(search, 6, _value)


def test_larger_batches_know_less(tmp_path):
    """The price of trials side by side: CMA-ES comes less close when it learns of eight trials at once."""

    def far(batch):
        config = SearchConfig(trials=32, sampler="cmaes", batch=batch)
        search = StrategySearch(
            "s/1", NUMBERS, {"a": 0.1, "b": 0.1}, config, 1, sqlite_address(tmp_path / f"{batch}.db")
        )
        drawn = []
        for first in range(0, 32, batch):
            drawn += [search.suggest(index) for index in range(first, first + batch)]
            for index in range(first, first + batch):
                a, b = drawn[index].values()
                search.tell(index, drawn[index], -((a - 0.8) ** 2) - (b - 0.6) ** 2, f"job{index}")
        return sum(((x["a"] - 0.8) ** 2 + (x["b"] - 0.6) ** 2) ** 0.5 for x in drawn[-8:]) / 8

    assert far(1) < far(32) and far(8) < far(32)
