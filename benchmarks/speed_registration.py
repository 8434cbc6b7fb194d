"""Registration of pairs at 512 pixels with all gates: CPU seconds of a pair, and what the start of VALIS takes, once.

    python benchmarks/speed_registration.py

Pairs of the family ``plain`` of registration_scenarios.py. The blocks of a call are forks of one process that has
imported VALIS, so that its import is paid once, however many blocks there are: it is what the call took beyond its
blocks.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from pathlib import Path

from side_by_side import arguments, cpu_seconds, measured, show


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    if importlib.util.find_spec("valis") is None:
        print("valis-wsi is not installed here: registration is not measured")
        return
    import registration_scenarios
    from registration_cases import Library
    from registration_families import plain

    from stainda.cohort import Cohort
    from stainda.config import RegistrationConfig
    from stainda.registration import register_cohort
    from stainda.registration.results import read_head

    cases = [maker.build() for maker in itertools.islice(plain(Library(1)), given.pairs)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "slides").mkdir()
        sections = [one for case in cases for one in registration_scenarios.write_case(case, folder / "slides")]
        begun = cpu_seconds()
        register_cohort(Cohort(tuple(sections)), RegistrationConfig(), folder, workers=1)
        total = cpu_seconds() - begun
        heads = [read_head(folder / "registration", case.name) or {} for case in cases]
    each = [float(head["cpu_seconds"]) for head in heads]
    lines = [
        measured(f"registration of a pair, {given.pairs} pairs", "CPU seconds of a pair", each, "CPU s", most=12),
        measured("registration, import of VALIS and start", "once a call", [total - sum(each)], "CPU s"),
    ]
    show(lines, given, "valis-wsi", "opencv-contrib-python-headless")


if __name__ == "__main__":
    main()
