"""What a training takes next to time: memory at its peak, and energy where the machine counts it.

Nothing here changes what is trained. What cannot be measured is ``None``, never a guess.

- Host memory is the largest resident set of the process (``VmHWM``, set back at the start: ``clear_refs`` in proc(5)),
  so it holds the libraries, and what a worker keeps of slides it scored before.
- GPU memory is what torch's allocator gave out at most, without the driver's own few hundred MiB.
- Energy of the processor is counted by RAPL (Linux powercap: packages, and memory modules where they have a counter of
  their own), readable by root alone on most machines. It is the energy of the whole machine's packages, idle power
  included; a job is given the share of it that its processor seconds have in those of all processes (``/proc/stat``).
- Energy of the GPU is NVML's count since the driver was loaded, where ``pynvml`` is installed. It is the energy of the
  whole GPU, divided evenly among the processes that compute on it when it is read.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from stainda.memory import peak_mib, set_peak_back

POWERCAP, PROC = Path("/sys/class/powercap"), Path("/proc")
EVERY_SECONDS = 20.0
"""Counters are read this often: one of 65 kJ, the smallest in use, begins anew after two minutes at 500 W."""

_JOULES_PER_WH = 3600.0
_MIB = 2**20


@dataclass(frozen=True)
class Costs:
    """What a training took; ``None`` where it was not measured.

    Attributes:
        peak_memory_mib: largest resident set of its process, MiB.
        peak_gpu_memory_mib: most that torch held of the GPU's memory, MiB.
        cpu_energy_wh: its share of the energy of the processor packages, Wh.
        gpu_energy_wh: its share of the energy of the GPU, Wh.
    """

    peak_memory_mib: float | None = None
    peak_gpu_memory_mib: float | None = None
    cpu_energy_wh: float | None = None
    gpu_energy_wh: float | None = None

    @classmethod
    def read(cls, values: object) -> Costs:
        """From what JSON holds of one; unknown where it holds nothing (jobs of earlier versions)."""
        if not isinstance(values, Mapping):
            return cls()
        return cls(**{field.name: values.get(field.name) for field in fields(cls)})

    def after(self, earlier: Costs) -> Costs:
        """Of a training in two processes, this one the later: the higher peak, the sum of energies.

        The sum is not known where one of the two is not.
        """
        return Costs(
            _highest(earlier.peak_memory_mib, self.peak_memory_mib),
            _highest(earlier.peak_gpu_memory_mib, self.peak_gpu_memory_mib),
            _sum(earlier.cpu_energy_wh, self.cpu_energy_wh),
            _sum(earlier.gpu_energy_wh, self.gpu_energy_wh),
        )


class Meter:
    """Measures what this process takes from entering the block on; :meth:`costs` may be asked at any time.

    Args:
        device: ``cuda`` also measures the GPU that torch uses.
        powercap, proc: where the kernel shows its counters.
        every_seconds: between two readings of the energy counters, in a thread that only runs where there are any.
    """

    def __init__(
        self, device: str = "cpu", powercap: Path = POWERCAP, proc: Path = PROC, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._memory = HostMemory(proc)
        self._packages = PackageEnergy(powercap, proc)
        self._gpu = Gpu() if device == "cuda" else None
        self._every = every_seconds
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        self._memory.start()
        self._packages.start()
        if self._gpu is not None:
            self._gpu.start()
        if self._packages.counted or (self._gpu is not None and self._gpu.counted):
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def costs(self) -> Costs:
        """Of this process since the block was entered."""
        self._look()
        gpu = self._gpu
        return Costs(
            _rounded(self._memory.peak_mib(), 1),
            None if gpu is None else _rounded(gpu.peak_mib(), 1),
            _rounded(self._packages.share_wh(), 5),
            None if gpu is None else _rounded(gpu.share_wh(), 5),
        )

    def _look(self) -> None:
        with self._lock:
            self._packages.look()
            if self._gpu is not None:
                self._gpu.look()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self._look()


class Clock:
    """Time, memory and energy of a training, those of processes that were cut off included.

    It runs from where it is made.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        self._seconds_before: tuple[float, float] = (0.0, 0.0)
        self._costs_before: Costs | None = None
        self._others_seconds = 0.0

    def seconds(self) -> tuple[float, float]:
        """Wall clock and processor."""
        before, wall = self._seconds_before, time.perf_counter() - self._started
        return before[0] + wall, before[1] + self._own_processor() + self._others_seconds

    def _own_processor(self) -> float:
        return time.process_time() - self._cpu_started

    def count_others(self, total: Callable[[float], float]) -> None:
        """Count the processor seconds of the training's other ranks, too.

        Args:
            total: the sum over all ranks, called on each of them.
        """
        own = self._own_processor()
        self._others_seconds = total(own) - own

    def costs(self) -> Costs:
        """Memory and energy."""
        costs, before = self._meter.costs(), self._costs_before
        return costs if before is None else costs.after(before)

    def go_on_from(self, seconds: tuple[float, float], costs: Costs) -> None:
        """Count what an earlier process took, too."""
        self._seconds_before, self._costs_before = seconds, costs


class HostMemory:
    """Largest resident set of this process since :meth:`start`.

    Where the kernel does not let its mark be set back, the process's own largest is taken if it grew meanwhile; if it
    did not, an earlier job of the same worker was larger, and this one's is not known.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._set_back, self._before = False, 0.0

    def start(self) -> None:
        self._set_back = set_peak_back(self._proc)
        self._before = peak_mib(self._proc)

    def peak_mib(self) -> float | None:
        now = peak_mib(self._proc)
        return now if self._set_back or now > self._before else None


class PackageEnergy:
    """Energy of the processor packages since :meth:`start`, and this process's share of it."""

    def __init__(self, powercap: Path = POWERCAP, proc: Path = PROC) -> None:
        self._zones = rapl_zones(powercap)
        self._stat = proc / "stat"
        self._last: dict[Path, int] = {}
        self._microjoules, self._own_before, self._all_before = 0, 0.0, 0.0
        self.counted = False

    def start(self) -> None:
        now = {zone: _number(zone / "energy_uj") for zone in self._zones}
        busy = self._busy_seconds()
        self._last = {zone: value for zone, value in now.items() if value is not None}
        self.counted = bool(now) and len(self._last) == len(now) and busy is not None
        self._microjoules, self._own_before, self._all_before = 0, time.process_time(), busy or 0.0

    def look(self) -> None:
        """Take the counters up; each begins anew after its ``max_energy_range_uj``."""
        for zone, before in self._last.items() if self.counted else ():
            now = _number(zone / "energy_uj")
            span = 0 if now is None or now >= before else _number(zone / "max_energy_range_uj")
            if now is None or span is None:
                self.counted = False  # what is missing now is missing from the sum
                return
            self._microjoules += now - before + span
            self._last = {**self._last, zone: now}

    def share_wh(self) -> float | None:
        busy = self._busy_seconds() if self.counted else None
        if busy is None or busy <= self._all_before:
            return None
        share = (time.process_time() - self._own_before) / (busy - self._all_before)
        return min(1.0, share) * self._microjoules / 1e6 / _JOULES_PER_WH

    def _busy_seconds(self) -> float | None:
        """Processor seconds of the whole machine: user, nice, system, irq, softirq; neither idle nor stolen."""
        words = _text(self._stat).partition("\n")[0].split()
        if len(words) < 8 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:]):
            return None
        user, nice, system, _, _, irq, softirq = map(int, words[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def rapl_zones(powercap: Path) -> list[Path]:
    """Counters that do not overlap: ``package-N``, and ``dram``, which no package contains.

    Cores and uncore are parts of a package; ``psys`` and ``intel-rapl-mmio`` count the same energy once more.
    """
    zones = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name, depth = _text(zone / "name").strip(), zone.name.count(":")
        if (depth == 1 and name.startswith("package")) or (depth == 2 and name == "dram"):
            zones.append(zone)
    return zones


class Gpu:
    """Memory that torch took of its GPU, and the energy of that GPU, since :meth:`start`."""

    def __init__(self) -> None:
        self._nvml, self._handle = _nvml_gpu()
        self._last, self._millijoules = 0, 0.0
        self.counted = False

    def start(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()
        now = self._energy()
        self.counted = now is not None
        self._last, self._millijoules = now or 0, 0.0

    def look(self) -> None:
        now = self._energy() if self.counted else None
        if now is None or now < self._last:  # a driver loaded anew counts from zero
            self.counted = False
            return
        self._millijoules += (now - self._last) / self._sharers()
        self._last = now

    def peak_mib(self) -> float | None:
        import torch

        return torch.cuda.max_memory_allocated() / _MIB

    def share_wh(self) -> float | None:
        return self._millijoules / 1e3 / _JOULES_PER_WH if self.counted else None

    def _energy(self) -> int | None:
        """Millijoules since the driver was loaded; ``None`` for GPUs that do not count (before Volta, MIG)."""
        if self._handle is None:
            return None
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None

    def _sharers(self) -> int:
        """Processes computing on the GPU; one where NVML does not show them (in some containers)."""
        try:
            return max(1, len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)))
        except self._nvml.NVMLError:
            return 1


def _nvml_gpu() -> tuple[Any, Any]:
    """NVML and the GPU that torch calls current, reported by its UUID; ``(None, None)`` without either."""
    import torch

    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
        if uuid is not None:
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        if pynvml.nvmlDeviceGetCount() == 1:
            return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:  # no driver, or a GPU that is not shown: nothing can be counted
        return None, None
    return None, None


def _text(path: Path) -> str:
    """A file of the kernel; empty where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    result = _text(path).strip()
    return int(result) if result.isdigit() else None


def _highest(first: float | None, second: float | None) -> float | None:
    return max((value for value in (first, second) if value is not None), default=None)


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else round(first + second, 5)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
