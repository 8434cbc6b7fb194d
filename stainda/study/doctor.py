"""What is installed, what is missing, and what that costs."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stainda.errors import StaindaError
from stainda.study.environment import free_cores, gpu_names, memory_gib, processor, versions

State = Literal["ok", "missing", "broken", "note"]


@dataclass(frozen=True)
class Diagnosis:
    """One line of the doctor: a thing, how it is, and what follows from that."""

    thing: str
    state: State
    detail: str


_OPTIONAL = {
    "openslide": (
        "openslide-python",
        "SVS, NDPI, MRXS, SCN and DICOM slides do not open: pip install 'stainda[slides]'",
    ),
    "pyvips": ("pyvips", "fewer formats of plain images open: pip install 'stainda[slides]'"),
    "valis": ("valis-wsi", "no registration (training and prediction work): pip install 'stainda[registration]'"),
}

_REQUIRED = (
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "pytorch_adapt.hooks",
    "optuna",
    "geopandas",
)


def examine(imports: bool = False) -> list[Diagnosis]:
    """Look at packages, weights, GPU, cores and disk.

    Args:
        imports: import the large packages too, and ask torch for the GPU; that takes 15 s. Else they only have to be
            installed, and the driver is asked.
    """
    findings = [Diagnosis("python", "ok", platform.python_version())]
    findings += [_required(name, imports) for name in _REQUIRED]
    findings += [_optional(name) for name in _OPTIONAL]
    findings += [_numpy(), _setuptools(), _opencv(), *_weights(), *_encoders(), _gpu() if imports else _gpu_of_driver()]
    memory = memory_gib()
    findings.append(Diagnosis("machine", "ok", f"{free_cores()} cores, {memory} GiB memory, {processor()}"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    findings.append(Diagnosis("disk", "ok" if free > 5 else "note", f"{free:.0f} GiB free in this folder"))
    return findings


def _version(package: str) -> str:
    return _versions().get(package) or ""


@functools.cache
def _versions() -> dict[str, str | None]:
    return versions()


def _required(module: str, imports: bool) -> Diagnosis:
    package = {"segmentation_models_pytorch": "segmentation-models-pytorch", "pytorch_adapt.hooks": "pytorch-adapt"}
    name = package.get(module, module)
    if importlib.util.find_spec(module.split(".")[0]) is None:  # of a module inside, it would import the package
        return Diagnosis(name, "broken", "not installed: training does not work")
    if not imports:
        return Diagnosis(name, "ok", _version(name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # whatever an import raises is the finding
        return Diagnosis(name, "broken", f"import fails ({type(error).__name__}: {error}): training does not work")
    return Diagnosis(name, "ok", _version(name))


def _optional(module: str) -> Diagnosis:
    name, cost = _OPTIONAL[module]
    if not _version(name):
        return Diagnosis(name, "missing", cost)
    if module == "valis":  # its import takes 20 s and asks for weights; registration does it in a child process
        return Diagnosis(name, "ok", _version(name))
    try:
        importlib.import_module(module)
    except Exception as error:
        return Diagnosis(name, "broken", f"import fails ({error}): {cost}")
    return Diagnosis(name, "ok", _version(name))


def _numpy() -> Diagnosis:
    version = _version("numpy")
    if int(version.split(".")[0]) >= 2:
        return Diagnosis("numpy", "broken", f"{version}: valis-wsi 1.2.0 needs numpy<2; registration fails")
    return Diagnosis("numpy", "ok", version)


def _setuptools() -> Diagnosis:
    version = _version("setuptools")
    if not version or int(version.split(".")[0]) >= 82:
        return Diagnosis(
            "setuptools", "broken", f"{version or 'absent'}: pytorch-adapt needs setuptools<82 (pkg_resources)"
        )
    return Diagnosis("setuptools", "ok", version)


def _opencv() -> Diagnosis:
    owners = [
        dist.metadata["Name"]
        for dist in importlib.metadata.distributions()
        if (dist.metadata["Name"] or "").lower().startswith("opencv-")
    ]
    if len(owners) > 1:
        return Diagnosis(
            "cv2", "broken", f"owned by {', '.join(owners)}: uninstall all but opencv-contrib-python-headless"
        )
    return Diagnosis("cv2", "ok" if owners else "missing", owners[0] if owners else "comes with stainda[registration]")


def _weights() -> list[Diagnosis]:
    """Weights that make registration better, and where they go; stainda never downloads them itself."""
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints"
    names = ("depth-save.pth", "disk_lightglue_v0-1_arxiv-pth")
    missing = [name for name in names if not (home / name).is_file()]
    if missing:
        return [
            Diagnosis(
                "DISK+LightGlue weights",
                "missing",
                f"{' and '.join(missing)} not in {home}; KAZE is used. Get them by: "
                'python -c \'from kornia.feature import *; DISK.from_pretrained("depth"); LightGlueMatcher("disk")\'',
            )
        ]
    use = "used where KAZE fails, and first with registration.detector=disk_lightglue"
    return [Diagnosis("DISK+LightGlue weights", "ok", f"in {home}; {use}")]


def _encoders() -> list[Diagnosis]:
    """Weights that the recipes start from, and what it costs to be without."""
    from stainda.config import ModelConfig, available
    from stainda.config.load import validated
    from stainda.config.recipes import load_recipe
    from stainda.models.weight_files import random_start, weights_at_hand

    result: dict[str, Diagnosis] = {}
    for name in available("recipes"):
        raw = load_recipe(name)
        model = validated(ModelConfig, raw["model"], f"recipe {name}")
        if model.weights is None:
            continue
        thing = f"{model.weights.name} (recipe {name})"
        try:
            lacking, file = random_start(model), weights_at_hand(model)
        except StaindaError as error:
            result[thing] = Diagnosis(thing, "missing", str(error))
            continue
        result[thing] = Diagnosis(thing, "missing", lacking) if lacking else Diagnosis(thing, "ok", f"{file}")
    return list(result.values())


_NO_GPU = "none: training runs on the CPU; use the small models and large micrometres per pixel"


def _gpu() -> Diagnosis:
    names = gpu_names()
    return Diagnosis("GPU", "ok", ", ".join(names)) if names else Diagnosis("GPU", "note", _NO_GPU)


def _gpu_of_driver() -> Diagnosis:
    """The GPUs that NVIDIA's driver names, and whether torch is built for them."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):  # no driver
        return Diagnosis("GPU", "note", _NO_GPU)
    names = ", ".join(line.strip() for line in answer.stdout.splitlines() if line.strip())
    if answer.returncode or not names:
        return Diagnosis("GPU", "note", _NO_GPU)
    if _version("torch").endswith("+cpu"):
        return Diagnosis("GPU", "note", f"{names}, but torch {_version('torch')} is built for the CPU alone")
    return Diagnosis("GPU", "ok", f"{names} (with --imports torch says whether it can use it)")
