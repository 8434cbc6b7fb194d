"""What a training takes: against made-up counters of the kernel, and against memory that is really taken."""

import json
import os
import sys
import time
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from blob_cohort import make_data, make_job

from stainda.training import loop, read_result, train_on
from stainda.training.metering import Costs, Gpu, HostMemory, Meter, PackageEnergy, rapl_zones

TICKS = os.sysconf("SC_CLK_TCK")


def make_zone(root, place, name, microjoules, span=10**9):
    folder = root / place
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", span)):
        (folder / file).write_text(f"{value}\n")
    return folder


def make_proc(root, busy_seconds, idle_seconds=500.0):
    """/proc with so many seconds of all processors spent on user, nice, system and interrupts, an eighth each."""
    part = round(busy_seconds * TICKS / 8)
    numbers = (4 * part, part, part, round(idle_seconds * TICKS), 7 * TICKS, part, part, 99 * TICKS, 0, 0)
    root.mkdir(exist_ok=True)
    (root / "stat").write_text(f"cpu  {' '.join(map(str, numbers))}\ncpu0 1 2 3\nctxt 5\n")
    return root


def spend(seconds):
    """Processor time of this process."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_packages_and_memory_are_counted_once(tmp_path):
    make_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    make_zone(tmp_path, "intel-rapl:0:0", "core", 1)
    make_zone(tmp_path, "intel-rapl:0:1", "uncore", 1)
    make_zone(tmp_path, "intel-rapl:0:2", "dram", 1)
    make_zone(tmp_path, "intel-rapl:1", "package-1", 1)
    make_zone(tmp_path, "intel-rapl:2", "psys", 1)
    make_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1)
    (tmp_path / "intel-rapl").mkdir()
    assert [zone.name for zone in rapl_zones(tmp_path)] == ["intel-rapl:0", "intel-rapl:0:2", "intel-rapl:1"]
    assert rapl_zones(tmp_path / "nothing") == []


def test_a_job_is_given_its_share_of_the_energy_by_processor_seconds(tmp_path):
    zone = make_zone(tmp_path / "power", "intel-rapl:0", "package-0", 5_000_000)
    proc = make_proc(tmp_path / "proc", busy_seconds=1000)
    energy = PackageEnergy(tmp_path / "power", proc)
    energy.start()
    before = time.process_time()
    spend(0.2)
    (zone / "energy_uj").write_text("41000000\n")  # 36 J = 0.01 Wh
    make_proc(tmp_path / "proc", busy_seconds=1002, idle_seconds=900)
    energy.look()
    found, own = energy.share_wh(), time.process_time() - before
    assert found == pytest.approx(0.01 * own / 2, rel=0.05)
    make_proc(tmp_path / "proc", busy_seconds=1000.08)  # /proc/stat is coarser than a process's own clock
    assert energy.share_wh() == pytest.approx(0.01)


def test_a_counter_that_begins_anew_is_carried_on(tmp_path):
    zones = [make_zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 999_000_000, span=10**9) for n in range(2)]
    energy = PackageEnergy(tmp_path, make_proc(tmp_path / "proc", 10))
    energy.start()
    for value in (500_000_000, 200_000_000, 300_000_000):  # anew twice
        for zone in zones:
            (zone / "energy_uj").write_text(str(value))
        energy.look()
    make_proc(tmp_path / "proc", 10.08)
    spend(0.1)
    joules = 2 * (1 + 500 + 700 + 100)
    assert energy.share_wh() == pytest.approx(joules / 3600)


@pytest.mark.parametrize("lost", ["energy_uj", "max_energy_range_uj"])
def test_a_counter_that_can_no_longer_be_read_leaves_no_half_sum(tmp_path, lost):
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0", 900)
    make_zone(tmp_path, "intel-rapl:1", "package-1", 0)
    energy = PackageEnergy(tmp_path, make_proc(tmp_path / "proc", 10))
    energy.start()
    (zone / "energy_uj").write_text("100")
    (zone / lost).unlink()
    energy.look()
    make_proc(tmp_path / "proc", 12)
    assert energy.share_wh() is None


def test_one_package_that_may_not_be_read_is_no_measurement(tmp_path):
    make_zone(tmp_path, "intel-rapl:0", "package-0", 900)
    (make_zone(tmp_path, "intel-rapl:1", "package-1", 0) / "energy_uj").unlink()
    energy = PackageEnergy(tmp_path, make_proc(tmp_path / "proc", 10))
    energy.start()
    assert not energy.counted and energy.share_wh() is None


@pytest.mark.parametrize("stat", ["", "cpu  1 2 3\n", "intr 5\n", "cpu a b c d e f g h\n"])
def test_without_the_processor_time_of_the_machine_there_is_no_share(tmp_path, stat):
    make_zone(tmp_path, "intel-rapl:0", "package-0", 900)
    proc = make_proc(tmp_path / "proc", 10)
    (proc / "stat").write_text(stat)
    energy = PackageEnergy(tmp_path, proc)
    energy.start()
    assert not energy.counted and energy.share_wh() is None


def test_memory_is_the_kernels_mark_after_it_was_set_back(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "clear_refs").write_text("")
    (tmp_path / "self" / "status").write_text("Name:\tpython\nVmHWM:\t  524288 kB\nVmRSS:\t  100 kB\n")
    memory = HostMemory(tmp_path)
    memory.start()
    assert (tmp_path / "self" / "clear_refs").read_text().strip() == "5", "5 sets back the mark, proc(5)"
    assert memory.peak_mib() == 512


@pytest.mark.skipif(sys.platform != "linux", reason="the mark is Linux's")
def test_each_of_two_jobs_of_one_process_has_its_own_peak():
    def peak_of(mib):
        memory = HostMemory()
        memory.start()
        kept = np.ones(mib * 2**17)  # float64
        kept[:] = 2
        del kept
        return memory.peak_mib()

    small, large, after = peak_of(1), peak_of(300), peak_of(1)
    if Path("/proc/self/clear_refs").exists() and os.access("/proc/self/clear_refs", os.W_OK):
        assert large - small == pytest.approx(300, abs=30) and after == pytest.approx(small, abs=30)
    else:
        assert large - small == pytest.approx(300, abs=30) and after is None


def test_where_the_mark_cannot_be_set_back_a_smaller_job_has_no_peak(tmp_path):
    memory = HostMemory(tmp_path / "no proc")
    memory.start()
    assert memory.peak_mib() is None
    kept = np.ones(200 * 2**17)
    grown = memory.peak_mib()
    del kept
    assert grown is None or grown > 200  # it grows unless an earlier test had more


def test_the_meter_reads_the_counters_while_the_job_runs(tmp_path):
    zone = make_zone(tmp_path / "power", "intel-rapl:0", "package-0", 0, span=10**9)
    make_proc(tmp_path / "proc", 10)
    with Meter("cpu", tmp_path / "power", tmp_path / "proc", every_seconds=0.02) as meter:
        for value in (900_000_000, 100_000_000, 800_000_000):  # anew after the first, as is seen if it is read
            (zone / "energy_uj.new").write_text(str(value))
            (zone / "energy_uj.new").rename(zone / "energy_uj")
            time.sleep(0.3)
        spend(0.1)  # all that the machine did, by its own count
        make_proc(tmp_path / "proc", 10.08)
        found = meter.costs()
    assert found.cpu_energy_wh == (900 + 200 + 700) / 3600
    assert meter._thread is not None and not meter._thread.is_alive()
    assert found.gpu_energy_wh is None and found.peak_gpu_memory_mib is None


def test_on_a_machine_that_shows_nothing_nothing_is_claimed(tmp_path):
    with Meter("cpu", tmp_path / "power", tmp_path / "proc") as meter:
        found = meter.costs()
    assert found.cpu_energy_wh is None and meter._thread is None


class MadeUpNvml(types.ModuleType):
    """NVML of one GPU, as nvidia-ml-py names it."""

    class NVMLError(Exception):
        pass

    def __init__(self, energies, processes):
        super().__init__("pynvml")
        self.energies, self.processes, self.asked = list(energies), processes, None

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked = uuid
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        value = self.energies.pop(0)
        if value is None:
            raise self.NVMLError("not supported")
        return value

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [object()] * self.processes


@pytest.fixture()
def made_up_cuda(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid="ab-1"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)


def gpu_after(nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpu = Gpu()
    gpu.start()
    gpu.look()
    gpu.look()
    return gpu


def test_energy_of_the_gpu_is_divided_among_those_that_compute_on_it(made_up_cuda, monkeypatch):
    nvml = MadeUpNvml([1_000, 3_601_000, 7_201_000], processes=2)
    gpu = gpu_after(nvml, monkeypatch)
    assert nvml.asked == "GPU-ab-1", "CUDA_VISIBLE_DEVICES numbers GPUs otherwise than NVML does"
    assert gpu.share_wh() == pytest.approx(1.0) and gpu.peak_mib() == 3
    alone = gpu_after(MadeUpNvml([0, 1, 7_200_000], processes=0), monkeypatch)
    assert alone.share_wh() == pytest.approx(2.0), "where containers hide the processes, there is this one"


@pytest.mark.parametrize("energies", [[None, None, None], [5_000, 9_000, None], [5_000, 9_000, 1_000]])
def test_a_gpu_that_does_not_count_or_counts_anew_has_no_energy(made_up_cuda, monkeypatch, energies):
    assert gpu_after(MadeUpNvml(energies, 1), monkeypatch).share_wh() is None


def test_without_pynvml_a_gpu_has_memory_and_no_energy(made_up_cuda, monkeypatch):
    gpu = gpu_after(None, monkeypatch)  # None in sys.modules: importing it fails
    assert gpu.share_wh() is None and gpu.peak_mib() == 3


def test_two_processes_of_one_training_have_the_higher_peak_and_the_sum_of_energies():
    first, then = Costs(500.0, None, 0.25, None), Costs(300.0, 10.0, 0.5, 1.0)
    assert then.after(first) == Costs(500.0, 10.0, 0.75, None)
    assert Costs.read(asdict(first)) == first and Costs.read(None) == Costs()


def test_a_training_leaves_its_costs_and_its_name_does_not_depend_on_them(tmp_path, monkeypatch):
    job = make_job(epochs=2, steps_per_epoch=2)
    result = train_on(job, make_data(job, per_slide=4), tmp_path / "measured")
    assert result.costs.peak_memory_mib is None or 100 < result.costs.peak_memory_mib < 10_000
    assert read_result(tmp_path / "measured") == result
    monkeypatch.setattr(Meter, "costs", lambda self: Costs(cpu_energy_wh=7.0))
    again = train_on(make_job(epochs=2, steps_per_epoch=2), make_data(job, per_slide=4), tmp_path / "again")
    assert again.costs == Costs(cpu_energy_wh=7.0)
    files = ("model.safetensors", "last.safetensors", "settings.json")
    for name in files:
        assert (tmp_path / "measured" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_result_of_an_earlier_version_is_still_read(tmp_path):
    job = make_job(epochs=1, steps_per_epoch=1)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    values = json.loads((tmp_path / "result.json").read_text())
    del values["costs"]
    (tmp_path / "result.json").write_text(json.dumps(values))
    found = read_result(tmp_path)
    assert found is not None and found.costs == Costs()


def test_an_interrupted_training_has_the_energy_of_both_processes(tmp_path, monkeypatch):
    class Cut(Exception):
        pass

    def stop(epoch, score):
        if epoch == 2:
            raise Cut

    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(Meter, "costs", lambda self: Costs(peak_memory_mib=5.0, cpu_energy_wh=1.5))
    job = make_job(epochs=3, steps_per_epoch=1)
    with pytest.raises(Cut):
        train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=stop)
    monkeypatch.setattr(Meter, "costs", lambda self: Costs(peak_memory_mib=4.0, cpu_energy_wh=2.0))
    result = train_on(job, make_data(job, per_slide=4), tmp_path)
    assert result.costs == Costs(peak_memory_mib=5.0, cpu_energy_wh=3.5)
