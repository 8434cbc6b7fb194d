"""What is installed, what is missing, and what that costs."""

from __future__ import annotations

import importlib
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stainda.study.environment import free_cores, gpu_names, memory_gib, processor, versions

State = Literal["ok", "missing", "broken", "note"]


@dataclass(frozen=True)
class Finding:
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


def examine() -> list[Finding]:
    """Look at packages, weights, GPU, cores and disk. Takes some seconds: packages are really imported."""
    findings = [Finding("python", "ok", versions()["python"] or "")]
    findings += [_required(name) for name in _REQUIRED]
    findings += [_optional(name) for name in _OPTIONAL]
    findings += [_numpy(), _setuptools(), _opencv(), *_weights(), _gpu()]
    memory = memory_gib()
    findings.append(Finding("machine", "ok", f"{free_cores()} cores, {memory} GiB memory, {processor()}"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    findings.append(Finding("disk", "ok" if free > 5 else "note", f"{free:.0f} GiB free in this folder"))
    return findings


def _version(package: str) -> str:
    return versions().get(package) or ""


def _required(module: str) -> Finding:
    package = {"segmentation_models_pytorch": "segmentation-models-pytorch", "pytorch_adapt.hooks": "pytorch-adapt"}
    name = package.get(module, module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # whatever an import raises is the finding
        return Finding(name, "broken", f"import fails ({type(error).__name__}: {error}): training does not work")
    return Finding(name, "ok", _version(name))


def _optional(module: str) -> Finding:
    name, cost = _OPTIONAL[module]
    if not _version(name):
        return Finding(name, "missing", cost)
    if module == "valis":  # its import takes 20 s and asks for weights; registration does it in a child process
        return Finding(name, "ok", _version(name))
    try:
        importlib.import_module(module)
    except Exception as error:
        return Finding(name, "broken", f"import fails ({error}): {cost}")
    return Finding(name, "ok", _version(name))


def _numpy() -> Finding:
    version = _version("numpy")
    if int(version.split(".")[0]) >= 2:
        return Finding("numpy", "broken", f"{version}: valis-wsi 1.2.0 needs numpy<2; registration fails")
    return Finding("numpy", "ok", version)


def _setuptools() -> Finding:
    version = _version("setuptools")
    if not version or int(version.split(".")[0]) >= 82:
        return Finding(
            "setuptools", "broken", f"{version or 'absent'}: pytorch-adapt needs setuptools<82 (pkg_resources)"
        )
    return Finding("setuptools", "ok", version)


def _opencv() -> Finding:
    import importlib.metadata

    owners = [
        dist.metadata["Name"]
        for dist in importlib.metadata.distributions()
        if (dist.metadata["Name"] or "").lower().startswith("opencv-")
    ]
    if len(owners) > 1:
        return Finding(
            "cv2", "broken", f"owned by {', '.join(owners)}: uninstall all but opencv-contrib-python-headless"
        )
    return Finding("cv2", "ok" if owners else "missing", owners[0] if owners else "comes with stainda[registration]")


def _weights() -> list[Finding]:
    """Weights that make registration better, and where they go; stainda never downloads them itself."""
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints"
    names = ("depth-save.pth", "disk_lightglue_v0-1_arxiv-pth")
    missing = [name for name in names if not (home / name).is_file()]
    if missing:
        return [
            Finding(
                "DISK+LightGlue weights",
                "missing",
                f"{' and '.join(missing)} not in {home}; KAZE is used. Get them by: "
                'python -c \'from kornia.feature import *; DISK.from_pretrained("depth"); LightGlueMatcher("disk")\'',
            )
        ]
    use = "used where KAZE fails, and first with registration.detector=disk_lightglue"
    return [Finding("DISK+LightGlue weights", "ok", f"in {home}; {use}")]


def _gpu() -> Finding:
    names = gpu_names()
    if names:
        return Finding("GPU", "ok", ", ".join(names))
    return Finding(
        "GPU", "note", "none: training runs on the CPU; use the small models and large micrometres per pixel"
    )
