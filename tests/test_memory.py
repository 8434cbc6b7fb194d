"""Freed memory is kept where it is asked for, and given back afterwards."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stainda.memory import _glibc, freed_memory_kept, peak_mib, set_peak_back

SIZE = 48 << 20


def faults_of_a_fresh_array() -> int:
    """Pages that the system has to give for an array of :data:`SIZE` bytes, which is freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(SIZE, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux") or _glibc() is None, reason="glibc only")
def test_a_second_array_takes_the_pages_of_the_first():
    """In a process of its own: others of the tests keep freed memory for good, as workers do."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_memory import SIZE, faults_of_a_fresh_array, resident\n"
        "from stainda.memory import freed_memory_kept\n"
        "with freed_memory_kept():\n"
        "    faults_of_a_fresh_array()\n"
        "    with freed_memory_kept():\n"  # the end of an inner block changes nothing
        "        assert faults_of_a_fresh_array() < 20\n"
        "    assert faults_of_a_fresh_array() < 20\n"
        "    held = resident()\n"
        "assert resident() < held - SIZE // 2\n"
        "faults_of_a_fresh_array()\n"
        "assert faults_of_a_fresh_array() > 20\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr("stainda.memory._glibc", lambda: None)
    with freed_memory_kept():
        assert len(np.ones(3)) == 3


@pytest.mark.skipif(not sys.platform.startswith("linux") or _glibc() is None, reason="glibc only")
def test_a_worker_keeps_it_for_good():
    code = (
        "import gc, resource, numpy as np\n"
        "from stainda.memory import freed_memory_kept, keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    np.empty(48 << 20, np.uint8).fill(1)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "keep_freed_memory(); gc.collect()\n"
        "with freed_memory_kept(): faults()\n"
        "assert faults() < 20\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the mark is Linux's")
def test_the_peak_is_that_of_the_process_and_not_of_the_one_that_started_it():
    held = np.ones(400 << 17)  # 400 MiB
    code = "from stainda.memory import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_mib() > 400 and held[0] == 1
    assert float(done.stdout) < 150


def test_where_there_is_no_proc_the_system_is_asked(tmp_path):
    assert peak_mib(tmp_path) > 10 and not set_peak_back(tmp_path)
