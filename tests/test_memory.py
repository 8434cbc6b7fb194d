"""Freed memory is kept where it is asked for, and given back afterwards."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest

from stainda.memory import _glibc, freed_memory_kept

SIZE = 48 << 20


def faults_of_a_fresh_array() -> int:
    """Pages that the system has to give for an array of :data:`SIZE` bytes, which is freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(SIZE, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux") or _glibc() is None, reason="glibc only")
def test_a_second_array_takes_the_pages_of_the_first():
    with freed_memory_kept():
        faults_of_a_fresh_array()
        with freed_memory_kept():  # the end of an inner block changes nothing
            assert faults_of_a_fresh_array() < 20
        assert faults_of_a_fresh_array() < 20
        held = resident()
    assert resident() < held - SIZE // 2
    faults_of_a_fresh_array()
    assert faults_of_a_fresh_array() > 20


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr("stainda.memory._glibc", lambda: None)
    with freed_memory_kept():
        assert len(np.ones(3)) == 3
