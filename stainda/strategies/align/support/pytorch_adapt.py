"""pytorch-adapt's hooks and layers, imported quietly and with the reason when they cannot be.

Importing this module takes seconds (torchmetrics, scikit-learn): parts import it when they are first used.
"""

from __future__ import annotations

import warnings

from stainda.errors import MissingDependencyError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics 0.9.3 warns that pkg_resources is going away
        from pytorch_adapt import hooks, layers
        from pytorch_adapt.hooks.utils import ChainHook, OnlyNewOutputsHook
        from pytorch_adapt.layers.utils import get_kernel_scales
except ImportError as error:
    raise MissingDependencyError(
        f"pytorch-adapt cannot be imported ({error})",
        remedy="Install pytorch-adapt==0.0.83 and setuptools<82 (its torchmetrics needs pkg_resources)",
    ) from error

__all__ = ["ChainHook", "OnlyNewOutputsHook", "get_kernel_scales", "hooks", "layers"]
