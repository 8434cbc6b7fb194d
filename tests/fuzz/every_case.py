"""All kinds of files that the fuzz changes."""

from hostile_datasets import CASES as DATASETS
from hostile_files import CASES as FILES
from hostile_runs import CASES as RUNS
from hostile_slides import CASES as SLIDES

CASES = [*FILES, *DATASETS, *RUNS, *SLIDES]
