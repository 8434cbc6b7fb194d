"""Jobs side by side: results, reasons, and a crash that costs one job."""

import os
import time

from stainda.errors import TrainingError
from stainda.study.executor import Workers, report_step


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
    with Workers(count, _job) as workers:
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
    with Workers(1, _threads_here, threads=3) as workers:
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
    assert "died" in found["bad"].reason
