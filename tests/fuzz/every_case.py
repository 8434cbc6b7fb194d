"""All kinds of files that the fuzz changes."""

from hostile_files import CASES as FILES
from hostile_runs import CASES as RUNS
from hostile_slides import CASES as SLIDES

CASES = [*FILES, *RUNS, *SLIDES]
