"""The type of arrays in annotations; their shapes, dtypes and units stand in docstrings."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
