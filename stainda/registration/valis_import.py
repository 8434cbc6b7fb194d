"""Import of VALIS without internet access.

valis-wsi 1.2.0 builds its default matcher (DISK + LightGlue) while it is imported, which downloads two weight files
and fails offline. Where those files are not on the machine, kornia's two constructors are replaced by ones that
refuse to run, for the duration of the import only; stainda always passes its own matcher, so that they are never asked.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from stainda.errors import MissingDependencyError, RegistrationError

WEIGHTS = ("depth-save.pth", "disk_lightglue_v0-1_arxiv-pth")  # the names kornia 0.9 looks for


def valis_installed() -> bool:
    return importlib.util.find_spec("valis") is not None


def require_valis() -> None:
    """
    Raises:
        MissingDependencyError: valis-wsi is not installed.
    """
    if not valis_installed():
        raise MissingDependencyError(
            "registration needs valis-wsi, which is not installed",
            remedy="Run pip install 'stainda[registration]', or set registration.method to identity if the sections "
            "are aligned already",
        )


def weights_folder() -> Path:
    """Where the weights of DISK and LightGlue belong."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def disk_lightglue_cached() -> bool:
    return all((weights_folder() / name).is_file() for name in WEIGHTS)


def import_valis() -> ModuleType:
    """The ``valis`` package, imported without a download; takes about 20 s the first time in a process."""
    require_valis()
    if "valis" in sys.modules:
        return sys.modules["valis"]
    with contextlib.nullcontext() if disk_lightglue_cached() else _no_downloads():
        return importlib.import_module("valis")


@contextlib.contextmanager
def _no_downloads() -> Iterator[None]:
    import torch

    features: Any = importlib.import_module("kornia.feature")

    class Missing(torch.nn.Module):
        def forward(self, *_: object, **__: object) -> Any:
            raise RegistrationError(
                "the weights of DISK and LightGlue are not on this machine",
                remedy=f"Put {' and '.join(WEIGHTS)} into {weights_folder()}, or choose another registration.detector",
            )

    disk, matcher = features.DISK.__dict__["from_pretrained"], features.LightGlueMatcher
    features.DISK.from_pretrained = classmethod(lambda cls, *_, **__: Missing())
    features.LightGlueMatcher = lambda *_, **__: Missing()
    try:
        yield
    finally:
        features.DISK.from_pretrained, features.LightGlueMatcher = disk, matcher
