"""Stages on the workers of a Dask cluster: what one machine writes; resources, deaths and waits as they are said."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
sys.path.insert(0, str(Path(__file__).parents[1] / "patches"))
sys.path.insert(0, str(Path(__file__).parents[1] / "registration"))
from dask_cluster import cluster as dask_processes
from patch_cohort import CONFIG, ROLES, TASK, own_shapes, propagated_shapes, write_cohort
from test_registration_cohort import SAME, block

from stainda.cohort import Cohort
from stainda.config import EngineConfig
from stainda.errors import SlideError, StaindaError
from stainda.patches import build_store
from stainda.pool import outcomes
from stainda.progress import SILENT, Silent
from stainda.registration import register_cohort
from stainda.registration.valis_import import valis_installed
from stainda.study.dask_engine import DaskWorkers, load_cluster
from stainda.study.dask_workers import AwaitedWorkers
from stainda.study.engines import opens
from stainda.study.executor import prepare_nothing, report_step

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two_workers():
    """Two workers of one thread, one of which has memory to give."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0,
        resources={"MEMORY": 8e9},
    ) as plain:  # fmt: skip
        plain.new_spec["options"].pop("resources")
        plain.scale(2)
        yield plain


@pytest.fixture
def cluster(two_workers):
    """Both are there, also after a test that killed one."""
    with distributed.Client(two_workers) as client:
        client.wait_for_workers(2)
    return two_workers


def engine(cluster, **settings) -> EngineConfig:
    return EngineConfig(name="dask", scheduler=cluster.scheduler_address, **settings)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder by its name, but for logs; without the seconds of a block, and the hashes of them."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: path.read_bytes() for name, path in found.items() if not name.endswith(".log")}
    for name in kept:
        if name.endswith("block.json"):
            kept[name] = re.sub(rb'"((cpu_)?seconds|key)": "?[0-9a-f.]+', b"", kept[name])
        if name.endswith("quality.csv"):
            kept[name] = pd.read_csv(found[name]).drop(columns=["seconds"]).to_csv().encode()
    return kept


def dies_once(mark: Path, function, key, payload):
    """A job whose worker is killed the first time."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return function(key, payload)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def deadly(mark: Path, pool, function):
    with pool(partial(dies_once, mark, function)) as workers:
        yield workers


def test_blocks_are_registered_as_on_one_machine_also_when_a_worker_is_killed(cluster, tmp_path):
    cohort = Cohort(tuple(section for name in "ab" for section in block(tmp_path, 2, name)))
    register_cohort(cohort, SAME, tmp_path / "here")
    pool = partial(deadly, tmp_path / "killed", opens(engine(cluster), "registration", 2, SILENT))
    there = register_cohort(cohort, SAME, tmp_path / "there", pool=pool)
    assert (tmp_path / "killed").exists()
    assert set(there["status"]) == {"registered"}
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_slides_are_cut_as_on_one_machine_also_when_a_worker_is_killed(cluster, tmp_path):
    cohort = write_cohort(tmp_path)
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    pool = opens(engine(cluster), "patches", 2, SILENT)
    cut = partial(build_store, cohort, ROLES, CONFIG, TASK, shapes, seed=1)
    here = cut(tmp_path / "here" / "patches")
    there = cut(tmp_path / "there" / "patches", pool=partial(deadly, tmp_path / "killed", pool))
    assert (tmp_path / "killed").exists() and there.key == here.key
    assert files(tmp_path / "there") == files(tmp_path / "here")
    cohort.section("p2_SR").path.write_bytes(b"not a picture")
    with pytest.raises(SlideError, match="p2_SR"):
        cut(tmp_path / "broken" / "patches", pool=pool)
    assert list((tmp_path / "broken").iterdir()) == []


def where(key, seconds):
    report_step(2)
    time.sleep(seconds or 0)
    return distributed.get_worker().address, os.getpid()


def test_a_stage_with_resources_uses_the_workers_that_have_them(cluster):
    steps = []
    with opens(engine(cluster, resources={"registration": {"MEMORY": 5e9}}), "registration", 2, SILENT)(where) as pool:
        for number in range(6):
            pool.submit(str(number), None)
        assert pool.count == 2
        ends = []
        while pool.busy:
            ends += pool.completed(steps.append)
        until = time.monotonic() + 5
        while sum(steps) < 12 and time.monotonic() < until:  # they come by another way than results
            pool.submit("more", None)
            pool.completed(steps.append)
    assert len({outcome.result() for outcome in ends}) == 1 and sum(steps) >= 12
    with opens(engine(cluster), "registration", 2, SILENT)(where) as pool:
        assert len({outcome.result() for outcome in outcomes(pool, {str(n): 0.3 for n in range(12)})}) == 2


class Heard(Silent):
    def __init__(self):
        self.sentences = []

    def message(self, text):
        self.sentences.append(text)


@pytest.mark.parametrize("wanted", [{"GPU": 1}, {"MEMORY": 9e9}])
def test_a_resource_that_no_worker_has_is_an_error_after_a_while(cluster, wanted):
    heard = Heard()
    given = engine(cluster, resources={"training": wanted}, patience=3)
    [(name, amount)] = wanted.items()
    with (
        opens(given, "training", 2, heard)(where) as pool,
        pytest.raises(StaindaError, match=rf"has {name}=.* asks for training; its 2 workers have MEMORY=8e\+09 or no"),
    ):
        list(outcomes(pool, {"a": None}))
    assert heard.sentences == [f"training waits: no worker of the Dask cluster has {name}={amount:g}"]


def test_a_cluster_without_workers_is_waited_for(tmp_path):
    heard = Heard()
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0,
        resources={"GPU": 1},
    ) as empty:  # fmt: skip
        given = engine(empty, resources={"patches": {"GPU": 1}}, patience=0)
        with opens(given, "patches", 1, heard)(where) as pool:
            pool.submit("a", None)
            assert pool.completed(lambda steps: None, 3) == [] and pool.busy
            assert heard.sentences == ["patches waits: the Dask cluster has no worker yet"]
            empty.scale(1)
            assert [outcome.key for outcome in outcomes(pool, {})] == ["a"]


def test_a_cluster_that_is_started_without_the_resource_is_refused_before_it_is_started(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("system: slurm\nresources: {GPU: 1}\n")
    given = EngineConfig(name="dask", cluster=str(file), resources={"training": {"GPU": 2}})
    with pytest.raises(StaindaError, match=r"GPU=2 .* for training, and those of the cluster .*mine.yaml have 1"):
        opens(given, "training", 1, SILENT)(where).__enter__()
    assert load_cluster(str(file)).resources == {"GPU": 1}


def test_stages_without_a_cluster_stay_here():
    some = EngineConfig(name="dask", cluster={"training": "slurm"})
    assert some.serves("training") and not some.serves("patches") and some.cluster_of("training") == "slurm"
    assert EngineConfig(name="dask").serves("patches") and not EngineConfig().serves("training")


def lasts(mark, key, payload):
    mark.with_name(f"{os.getpid()}").touch()
    time.sleep(60)


def test_a_job_that_nobody_waits_for_any_more_ends(cluster, tmp_path):
    given = engine(cluster)
    with pytest.raises(KeyboardInterrupt), opens(given, "patches", 1, SILENT)(partial(lasts, tmp_path / "x")) as pool:
        pool.submit("a", None)
        while not (begun := list(tmp_path.iterdir())):
            time.sleep(0.05)
        raise KeyboardInterrupt
    until = time.monotonic() + 20
    while Path(f"/proc/{begun[0].name}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{begun[0].name}").exists()
    with opens(given, "patches", 1, SILENT)(where) as pool:
        assert len(list(outcomes(pool, {"b": None}))) == 1


def test_no_pool_is_given_more_than_its_workers_can_take(cluster):
    with distributed.Client(cluster) as client:
        pool = DaskWorkers(client, where, prepare=prepare_nothing)
        most = 0
        for _ in outcomes(pool, {str(n): None for n in range(20)}):
            most = max(most, len(pool.running))
        assert most <= 2
        AwaitedWorkers(client, engine(cluster), "patches", lambda text: pytest.fail(text)).look()


STUDY = """
study: everywhere
phantom: {patients: 3, stains: [PAS, SR], centres: [A], size: 768, mpp: 1.0}
task: glomeruli_segmentation
model: {name: unet, params: {depth: 2, width: 4}}
patches: {mpp: 4.0, size: 32, min_per_slide: 12}
protocol: {sources: [PAS@A], seeds: 1, split: [0.4, 0.2, 0.4]}
search: {trials: 1}
training: {epochs: 2, steps_per_epoch: 4, batch_size: 4}
strategies: [source_only, propagated_labels]
ceiling: source_only
"""


@pytest.mark.slow
@pytest.mark.valis
@pytest.mark.skipif(not valis_installed(), reason="valis-wsi is not installed")
def test_a_study_through_a_cluster_is_that_of_one_process(tmp_path):
    """Registration with VALIS, patches and trainings; its workers start in another folder than the leader."""
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    with dask_processes(2, tmp_path) as running:
        for name, more in (("here", "workers=1"), ("there", f"engine={{name: dask, scheduler: {running.address}}}")):
            command = [sys.executable, "-m", "stainda", "evaluate", str(study), more, "--out", name]
            subprocess.run(command, cwd=tmp_path, check=True)
    quality = pd.read_csv(tmp_path / "here/registration/quality.csv")
    assert (quality["status"] == "registered").sum() >= 2
    same = ("registration", "annotations", "patches")
    here, there = ({place: files(tmp_path / run / place) for place in same} for run in ("here", "there"))
    assert here == there
    assert list((tmp_path / "there/registration/log").glob("worker-*.log")), "blocks were registered by the workers"
    one, other = (pd.read_parquet(tmp_path / run / "records.parquet") for run in ("here", "there"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    hashes = [{path.name for path in (tmp_path / run / "jobs").iterdir()} for run in ("here", "there")]
    assert hashes[0] == hashes[1], "the engine is in no hash"
