"""What ``stainda doctor`` finds broken, with and without importing the packages."""

import importlib.util
import subprocess

import pytest

from stainda.study import doctor


def found(name, **options):
    return next(one for one in doctor.examine(**options) if one.thing == name)


def test_a_required_package_that_is_absent_is_broken(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else there(name))
    assert (found("timm").state, found("optuna").state) == ("broken", "ok")


def test_a_package_that_is_there_and_does_not_import_is_broken_with_imports(monkeypatch):
    def refuse(name):
        raise OSError(f"{name} lacks a library")

    monkeypatch.setattr(doctor, "_REQUIRED", ("torch",))
    monkeypatch.setattr(doctor, "gpu_names", list)
    monkeypatch.setattr(importlib, "import_module", refuse)
    assert found("torch").state == "ok"
    told = found("torch", imports=True)
    assert told.state == "broken" and "lacks a library" in told.detail


@pytest.mark.parametrize(
    ("torch", "answer", "state", "said"),
    [
        ("2.5.1", (0, "NVIDIA A100\nNVIDIA A100\n"), "ok", "NVIDIA A100, NVIDIA A100"),
        ("2.5.1+cpu", (0, "NVIDIA A100\n"), "note", "built for the CPU"),
        ("2.5.1", (9, "has failed because it could not communicate with the driver"), "note", "none"),
        ("2.5.1", FileNotFoundError("nvidia-smi"), "note", "none"),
    ],
)
def test_the_driver_is_asked_for_the_gpu(monkeypatch, torch, answer, state, said):
    def run(command, **_):
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, *answer)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    monkeypatch.setattr(doctor, "_version", lambda name: torch if name == "torch" else "1.0")
    told = doctor._gpu_of_driver()
    assert told.state == state and said in told.detail
