"""Trainings through Dask: the same outcomes as from processes of this machine; what it cannot do is said."""

import os
import signal
import subprocess
import sys
import time

import pytest
from small_cohorts import write_study
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.config import EngineConfig, StudyConfig
from stainda.config.load import validated
from stainda.errors import ConfigError, MissingDependencyError, StaindaError, TrainingError
from stainda.run_directory.folder import read_study
from stainda.study.dask_engine import DaskWorkers, _number, dask_client, job_script, load_cluster

pytest.importorskip("distributed")


def _job(key, payload):
    if payload == "fail":
        raise TrainingError("the loss is not a number", remedy="Lower the learning rate")
    if payload == "full":
        raise OSError(28, "No space left on device")
    if payload == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return os.getpid()


def _number_of_worker(key, payload):
    time.sleep(0.3)
    return os.environ["STAINDA_WORKER"]


def _nothing(threads):
    pass


@pytest.fixture(scope="module")
def client():
    with dask_client(EngineConfig(name="dask"), 2) as client:
        yield client


def _run(client, payloads):
    workers, ends = DaskWorkers(client, _job, prepare=_nothing), {}
    for key, payload in payloads.items():
        workers.submit(key, payload)
    while workers.busy:
        ends |= {outcome.key: outcome for outcome in workers.completed(lambda steps: None, 1)}
    return ends


def test_results_and_reasons_come_back(client):
    ends = _run(client, {"a": 1, "b": "fail", "c": "full", **{str(number): 0 for number in range(12)}})
    assert ends["b"].reason == "the loss is not a number. Lower the learning rate." and not ends["b"].unexpected
    assert ends["c"].unexpected
    values = {outcome.value for outcome in ends.values() if outcome.reason is None}
    assert len(ends) == 15 and len(values) == 2 and os.getpid() not in values
    assert DaskWorkers(client, _job).count == 2


def test_a_job_that_kills_its_worker_costs_itself_alone(client):
    ends = _run(client, {"bad": "die", "good": 1})
    assert "the process of the job died" in ends["bad"].reason and ends["bad"].unexpected
    assert ends["good"].reason is None


def test_a_worker_with_other_packages_stops_the_run(client, monkeypatch):
    monkeypatch.setattr("stainda.study.dask_engine.mixing_versions", lambda: {"torch": "0.1"})
    workers = DaskWorkers(client, _job)
    workers.submit("elsewhere", "")
    with pytest.raises(StaindaError, match=r"the Dask worker .* has other versions than the run \(torch 0\.1, here"):
        while workers.busy:
            workers.completed(lambda steps: None, 1)


def test_workers_of_one_machine_take_its_gpus_in_turn(client):
    client.wait_for_workers(2, timeout=60)  # one may have been killed above
    workers, numbers = DaskWorkers(client, _number_of_worker, prepare=_nothing), set()
    for job in range(4):
        workers.submit(f"n{job}", "")
    while workers.busy:
        numbers |= {outcome.value for outcome in workers.completed(lambda steps: None, 1)}
    assert numbers == {"0", "1"}
    assert [_number(name) for name in (3, "node-7", "tcp://127.0.0.1:4321", "alone")] == ["3", "7", "4321", "0"]


def test_everything_listens_on_this_machine_only(client):
    info = client.scheduler_info()
    assert {address.partition("://")[2].partition(":")[0] for address in [info["address"], *info["workers"]]} == {
        "127.0.0.1"
    }


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("stainda.study.dask_engine.CONNECT_SECONDS", 1)
    with (
        pytest.raises(StaindaError, match=r"answers at tcp://127\.0\.0\.1:1"),
        dask_client(EngineConfig(name="dask", scheduler="tcp://127.0.0.1:1"), 1),
    ):
        pass


def test_run_takes_the_address_of_a_scheduler(blob_manifest, tmp_path, monkeypatch):
    """Registration is the first stage that needs it."""
    monkeypatch.setattr("stainda.study.dask_engine.CONNECT_SECONDS", 1)
    study = write_study(blob_manifest, tmp_path / "study.yaml")
    words = ["run", str(study), "--out", str(tmp_path / "run"), "--scheduler", "tcp://127.0.0.1:1", "--quiet"]
    result = CliRunner().invoke(app, words)
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in str(result.exception)
    assert read_study(tmp_path / "run").engine == EngineConfig(name="dask", scheduler="tcp://127.0.0.1:1")


def test_dask_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"stainda\[cluster\]"), dask_client(EngineConfig(name="dask"), 1):
        pass


@pytest.mark.parametrize(
    "name, lines",
    [
        ("slurm", ("#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=15G", "#SBATCH -t 04:00:00")),
        ("pbs", ("#PBS -l ngpus=1", "#PBS -l select=1:ncpus=4:mem=16GB", "#PBS -l walltime=04:00:00")),
        ("sge", ("#$ -l gpu=1", "#$ -l m_mem_free=16GB", "#$ -l h_rt=04:00:00")),
        ("lsf", ("#BSUB -gpu num=1", "#BSUB -n 4", "#BSUB -W 04:00")),
    ],
)
def test_job_scripts_ask_for_what_the_file_says(name, lines):
    script = job_script(load_cluster(name))
    assert all(line in script.splitlines() for line in lines), script
    assert "tcp://127.0.0.1:" in script and "--nthreads 1" in script


def test_ctrl_c_stays_an_interrupt_where_a_batch_system_is_used():
    program = (
        "import signal; from stainda.study.dask_engine import job_script, load_cluster;"
        "job_script(load_cluster('slurm')); signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr


def test_engines_that_cannot_be_are_refused():
    for values, message in (
        ({"scheduler": "tcp://a:1"}, "say name: dask"),
        ({"name": "dask", "scheduler": "tcp://a:1", "cluster": "slurm"}, "not both"),
        ({"name": "ray"}, "Known: dask, local"),
    ):
        with pytest.raises(ConfigError, match=message):
            validated(EngineConfig, values, "study")
    with pytest.raises(ConfigError, match=r"unknown cluster 'slrm'.*'slurm'"):
        load_cluster("slrm")


def test_an_engine_can_be_given_by_its_name():
    assert StudyConfig._engine_by_name("dask") == {"name": "dask"}
