"""What a study ran on: versions, commit, hardware. Written next to the results, shown by ``stainda doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from stainda.version import VERSION

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "pytorch-adapt", "lightning-fabric", "valis-wsi",
    "openslide-python", "openslide-bin", "pyvips", "tifffile", "numpy", "scipy", "pandas", "scikit-learn",
    "scikit-image", "optuna", "shapely", "geopandas", "matplotlib", "safetensors", "pyarrow", "setuptools",
)  # fmt: skip


def versions() -> dict[str, str | None]:
    """Installed versions of the packages results can depend on; ``None`` where a package is missing."""
    result: dict[str, str | None] = {"stainda": VERSION, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            result[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            result[name] = None
    return result


def commit() -> str | None:
    """The commit stainda runs from, with ``+changes`` where files differ from it; ``None`` for an installed copy."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            ["git", "-C", root, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def free_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def gpu_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def describe(seed: int) -> dict[str, Any]:
    """Everything of :func:`versions`, the commit, the hardware and the seed, for ``environment.json``."""
    return {
        "versions": versions(),
        "commit": commit(),
        "hardware": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": free_cores(),
            "memory_gib": memory_gib(),
            "gpus": gpu_names(),
        },
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": seed,
    }
