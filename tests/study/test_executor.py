"""Jobs side by side: results, reasons, and a crash that costs one job."""

import os
import time

from stainda.errors import TrainingError, UnexpectedError
from stainda.study.executor import Workers, report_step, use_gpu, workers_for


def _job(key, payload):
    if payload == "fail":
        raise TrainingError("the loss is not a number", remedy="Lower the learning rate")
    if payload == "crash":
        time.sleep(0.2)
        os.kill(os.getpid(), 9)
    if payload == "slow":
        time.sleep(0.5)
    report_step(2)
    return payload * 2


def _run(payloads, count=2):
    steps, found = [], {}
    with Workers(count, _job, prepare=_nothing) as workers:
        for key, payload in payloads.items():
            workers.submit(key, payload)
        while workers.busy:
            for outcome in workers.completed(steps.append):
                assert outcome.key not in found
                found[outcome.key] = outcome
    return found, steps


def _threads_here(key, payload):
    return os.environ["OMP_NUM_THREADS"], os.environ["VIPS_CONCURRENCY"]


def test_workers_have_their_threads_and_the_parent_keeps_its_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("VIPS_CONCURRENCY", raising=False)
    with Workers(1, _threads_here, threads=3, prepare=_nothing) as workers:
        workers.submit("a", None)
        (found,) = workers.completed(lambda count: None)
        while workers.busy:
            workers.completed(lambda count: None)
    assert found.value == ("3", "3")
    assert os.environ["OMP_NUM_THREADS"] == "7" and "VIPS_CONCURRENCY" not in os.environ


def test_results_and_reasons_come_back_by_key():
    found, steps = _run({"a": 1, "b": "fail", "c": 3})
    assert (found["a"].value, found["c"].value) == (2, 6)
    assert found["b"].reason == "the loss is not a number. Lower the learning rate."
    assert sum(steps) <= 4


def test_a_crash_costs_only_the_job_that_crashed():
    found, _ = _run({"a": "slow", "bad": "crash", "c": "slow", "d": 4})
    assert {key: outcome.value for key, outcome in found.items()} == {
        "a": "slowslow",
        "bad": None,
        "c": "slowslow",
        "d": 8,
    }
    assert "signal 9" in found["bad"].reason


def _nothing(threads):
    pass


def _device_here(key, payload):
    time.sleep(0.5)
    return os.environ["STAINDA_WORKER"], os.environ.get("CUDA_VISIBLE_DEVICES")


def _use_named_gpus(threads):
    use_gpu(int(os.environ["STAINDA_WORKER"]), lambda: 0)


def test_workers_see_one_gpu_each_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with Workers(3, _device_here, prepare=_use_named_gpus) as workers:
        for key in "abcdef":
            workers.submit(key, None)
        seen = set()
        while workers.busy:
            seen |= {outcome.value for outcome in workers.completed(lambda count: None)}
    assert seen == {("0", "5"), ("1", "7"), ("2", "5")}


def test_gpus_are_counted_where_they_are_not_named(monkeypatch):
    for count, number, expected in ((0, 1, None), (1, 1, None), (4, 6, "2")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        use_gpu(number, lambda count=count: count)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    use_gpu(1, lambda: 4)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "none was meant"


def test_threads_and_workers_share_the_cores():
    assert [workers_for(threads, 8) for threads in (1, 2, 3, 16)] == [8, 4, 2, 1]


def _raises(key, error):
    raise error


def test_what_may_pass_is_told_from_what_will_not():
    ends = {}
    with Workers(1, _raises, prepare=_nothing) as workers:
        errors = {"a": TrainingError("NaN"), "b": OSError(28, "full"), "c": UnexpectedError("no memory")}
        for key, error in errors.items():
            workers.submit(key, error)
        while workers.busy:
            ends |= {outcome.key: outcome.unexpected for outcome in workers.completed(lambda count: None)}
    assert ends == {"a": False, "b": True, "c": True}


def test_waiting_for_an_end_can_be_limited():
    with Workers(1, _device_here, prepare=_nothing) as workers:
        workers.submit("a", None)
        assert workers.completed(lambda count: None, 0.1) == []
        while workers.busy:
            workers.completed(lambda count: None)


def test_a_process_that_dies_while_it_has_nothing_to_do_costs_nothing():
    with Workers(1, _device_here, prepare=_nothing) as workers:
        workers.submit("a", None)
        while workers.busy:
            workers.completed(lambda count: None)
        (process,) = workers._pool._processes.values()
        process.kill()
        process.join()
        time.sleep(0.3)
        workers.submit("b", None)
        ends = []
        while workers.busy:
            ends += workers.completed(lambda count: None)
    assert [outcome.reason for outcome in ends] == [None]
