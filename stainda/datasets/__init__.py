"""Public data sets: what a user has downloaded becomes a manifest with annotations and landmarks.

One module per data set says where its slides lie and what their names tell; ``registry`` lists them all, ``making``
writes the files. Nothing is downloaded, and nothing is written into the user's folder.
"""

from stainda.datasets.entry import FoundSlide, Notes, PublicDataset
from stainda.datasets.making import NOTE_COLUMNS, Made, make_public_manifest
from stainda.datasets.registry import DATASETS, public_dataset

__all__ = [
    "DATASETS",
    "NOTE_COLUMNS",
    "FoundSlide",
    "Made",
    "Notes",
    "PublicDataset",
    "make_public_manifest",
    "public_dataset",
]
