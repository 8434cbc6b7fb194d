"""What registration makes of everything that goes wrong with sections: right, refused with a reason, or silently wrong.

    python benchmarks/registration_scenarios.py --json
    python benchmarks/registration_scenarios.py --seed 3 --only 'mirrored|turned' --out /tmp/scenarios
    python benchmarks/registration_scenarios.py --seed 3 --deformations valis own both

Over 80 blocks are made from small synthetic sections (see ``registration_families.py``), registered with the default
settings, and compared with the true map, at points of tissue that both sections show:

* correct: every section that can be registered has a median error of at most 25 um and a 90th percentile of at most
  50 um, and every other one was refused;
* refused: a section was refused, with a reason, and no section is wrong;
* marked: a section is wrong in a part of it, and its transform calls just that part unsure (at least half of the points
  have a doubt below 0.5, and these are as right as for ``correct``); objects there get a low confidence;
* silently wrong: a section was accepted in the wrong place, or refused without a word.

Why 25 um: the glomeruli here are 115 to 130 um across, the smallest of a human kidney about 100. A disc shifted by a
quarter of its diameter overlaps its true place with Dice 0.69, by half of it with 0.39; a propagated label counts as
right from Dice 0.5. ``correct`` is counted among the registrable cases only. The thresholds of the gates were tuned on
seed 1; another seed gives other tissue, placements, stains and amounts.

With several ``--deformations`` every case is registered once with each, and the last table says how its sections are
kept with the first and with each other one. With ``--out`` cases that are done are not done again.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from registration_cases import Case, Sheet
from registration_families import all_cases

from stainda.cohort import Cohort, Section
from stainda.config import RegistrationConfig
from stainda.registration import BlockResult, Transform, load_block, register_cohort
from stainda.registration.refinement import Deformations
from stainda.registration.results import read_head

MEDIAN_UM, P90_UM = 25.0, 50.0
POINTS = 3000  # of tissue at which a transform is judged
CORRECT, REFUSED, MARKED, WRONG = "correct", "refused", "marked", "silently wrong"
UNSURE = 0.5  # doubt from which a place is marked: an object there is not taken at the default confidence


@dataclass(frozen=True)
class Outcome:
    """What became of a case. ``median_um``, ``p90_um``: the worst of its sections; ``detail``: reasons, in words;
    ``kept``: status of each of its sections but the reference."""

    name: str
    family: str
    registrable: bool
    verdict: str
    median_um: float | None
    p90_um: float | None
    detail: str
    pairs: int
    cpu_seconds: float | None
    attempts: str
    kept: tuple[str, ...] = ()


def errors_um(source: Sheet, target: Sheet, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) in micrometres between where a transform puts points of ``source`` in ``target`` and where they
    are, and its doubt (n,) there; at points of tissue that both show, or, where there are none, at all points of the
    source's tissue."""
    rows, columns = np.nonzero(source.valid)
    step = max(1, len(rows) // POINTS)
    points = np.stack([columns[::step], rows[::step]], axis=1) + 0.5
    there = target.from_frame(source.to_frame(points))
    shared = target.shows(there)
    if shared.sum() >= 30:
        points, there = points[shared], there[shared]
    placed = transform.to_frame(points)
    if transform.pieces is not None:  # what it gives no place cannot lie wrong
        points, there, placed = (part[np.isfinite(placed).all(axis=1)] for part in (points, there, placed))
    return np.linalg.norm(placed - there, axis=1) * target.mpp, transform.doubt(placed)


def right(errors: np.ndarray) -> bool:
    """Whether a section with these errors is in its place."""
    return bool(np.median(errors) <= MEDIAN_UM and np.percentile(errors, 90) <= P90_UM)


def judge(case: Case, result: BlockResult, cpu_seconds: float | None = None) -> Outcome:
    """Compare a registered block with the truth."""
    names = {slide_name(case, index): sheet for index, sheet in enumerate(case.sheets)}
    wrong, refused, marked, medians, p90s = [], [], [], [], []
    for slide, sheet in names.items():
        if slide == result.reference:
            continue
        if slide in result.refused:
            reason = result.refused[slide]
            if not reason.strip():
                wrong.append(f"{slide} refused without a reason")
            elif not sheet.hopeless:
                refused.append(reason)
            continue
        target = names[str(result.reference)]
        if sheet.tissue != target.tissue or sheet.hopeless or target.hopeless:
            wrong.append(f"accepted although {sheet.hopeless or 'it is other tissue'}")
            continue
        found, doubt = errors_um(sheet, target, result.transforms[slide])
        medians.append(float(np.median(found)))
        p90s.append(float(np.percentile(found, 90)))
        sure = doubt < UNSURE
        if not right(found) and sure.mean() >= 0.5 and right(found[sure]):
            marked.append(f"unsure in {1 - sure.mean():.0%}, elsewhere {np.percentile(found[sure], 90):.0f} um (P90)")
        elif not right(found):
            wrong.append(f"accepted {medians[-1]:.0f} um off, {p90s[-1]:.0f} um (P90)")
    nothing_placed = len(result.transforms) < 2 < len(case.sheets) + 1
    if not case.registrable and nothing_placed and not refused:
        refused = list(result.refused.values())
    is_refused = refused or (not case.registrable and nothing_placed)
    verdict = WRONG if wrong else MARKED if marked else REFUSED if is_refused else CORRECT
    return Outcome(
        case.name, case.family, case.registrable, verdict, max(medians, default=None), max(p90s, default=None),
        "; ".join(wrong or marked or refused), max(1, len(case.sheets) - 1), cpu_seconds,
        " | ".join(dict.fromkeys(str(row.get("attempt") or "") for row in result.rows)),
        tuple(str(row.get("status")) for row in result.rows),
    )  # fmt: skip


def slide_name(case: Case, index: int) -> str:
    return f"{case.name} {index + 1}"


def write_case(case: Case, folder: Path) -> list[Section]:
    """The case's slides as files, and their rows of a manifest."""
    sections = []
    for index, sheet in enumerate(case.sheets):
        name = slide_name(case, index)
        path = folder / f"{name}.tif"
        sheet.write(path)
        mpp = sheet.mpp if sheet.states_mpp else None
        sections.append(Section(name, case.name, case.name, index + 1, sheet.stain, "A", path, mpp=mpp))
    return sections


def write_cases(cases: list[Case], folder: Path) -> Cohort:
    folder.mkdir(parents=True, exist_ok=True)
    return Cohort(tuple(section for case in cases for section in write_case(case, folder)))


def run(cases: list[Case], cohort: Cohort, config: RegistrationConfig, folder: Path, workers: int) -> list[Outcome]:
    register_cohort(cohort, config, folder, workers=workers)
    outcomes = []
    for case in cases:
        head = read_head(folder / "registration", case.name) or {}
        outcomes.append(judge(case, load_block(folder / "registration", case.name), head.get("cpu_seconds")))
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'case':34} {'family':18} {'verdict':15} {'median':>7} {'P90':>6} um  {'CPU s':>6}  attempt or reason"]
    for found in outcomes:
        errors = "              " if found.median_um is None else f"{found.median_um:7.1f} {found.p90_um:6.1f}"
        cpu = "" if found.cpu_seconds is None else f"{found.cpu_seconds:.1f}"
        mark = "" if found.registrable else " (not registrable)"
        words = (found.detail or found.attempts)[:150]
        lines.append(f"{found.name:34} {found.family:18} {found.verdict:15} {errors} {cpu:>9}  {words}{mark}")
    lines += ["", f"{'family':20} {'cases':>5} {'correct':>8} {'refused':>8} {'marked':>7} {'silently wrong':>15}"]
    for family in dict.fromkeys(found.family for found in outcomes):
        counts = Counter(found.verdict for found in outcomes if found.family == family)
        total = sum(counts.values())
        lines.append(
            f"{family:20} {total:5} {counts[CORRECT]:8} {counts[REFUSED]:8} {counts[MARKED]:7} {counts[WRONG]:15}"
        )
    return "\n".join(lines)


def moved(first: list[Outcome], second: list[Outcome]) -> str:
    """How the sections of the registrable cases are kept: status with the first setting, then with the second."""
    pairs = Counter(
        pair
        for one, two in zip(first, second, strict=True)
        if one.registrable
        for pair in zip(one.kept, two.kept, strict=True)
    )
    return "\n".join(f"{before:>12} -> {after:12} {count:4}" for (before, after), count in sorted(pairs.items()))


def summary(outcomes: list[Outcome]) -> dict[str, float | int | None]:
    """The last line of ``--json``. ``refused`` counts all cases, ``correct`` the registrable ones."""
    registrable = [found for found in outcomes if found.registrable]
    those = [found for found in registrable if found.verdict == CORRECT]
    pairs = [found.cpu_seconds / found.pairs for found in those if found.cpu_seconds]
    return {
        "cases": len(outcomes),
        "registrable": len(registrable),
        "correct": len(those),
        "refused": sum(found.verdict == REFUSED for found in outcomes),
        "marked": sum(found.verdict == MARKED for found in outcomes),
        "silently_wrong": sum(found.verdict == WRONG for found in outcomes),
        "median_um_median": _middle([found.median_um for found in those if found.median_um is not None]),
        "p90_um_median": _middle([found.p90_um for found in those if found.p90_um is not None]),
        "cpu_seconds_per_pair_median": _middle(pairs),
        "cpu_seconds_per_pair_max": round(max(pairs), 1) if pairs else None,
    }


def _middle(values: list[float]) -> float | None:
    return round(float(np.median(values)), 1) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="a summary as JSON after each table")
    parser.add_argument("--cases", type=int, help="only so many, spread over the families")
    parser.add_argument("--only", help="only cases whose name fits this regular expression")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--deformations", nargs="+", choices=get_args(Deformations), default=["both"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep slides, transforms and overlays here")
    arguments = parser.parse_args()
    cases = chosen(arguments.seed, arguments.cases, arguments.only)
    runs: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="stainda-scenarios-") as temporary:
        folder = arguments.out or Path(temporary)
        cohort = write_cases(cases, folder / "slides")
        for setting in arguments.deformations:
            config = RegistrationConfig.model_validate({"deformation": setting})
            runs[setting] = run(cases, cohort, config, folder / setting, arguments.workers)
            show(setting, runs[setting], as_json=arguments.json)
    first, *others = arguments.deformations
    for other in others:
        print(f"\nstatus of sections of registrable cases, {first} -> {other}\n{moved(runs[first], runs[other])}")


def show(setting: str, outcomes: list[Outcome], *, as_json: bool) -> None:
    print(f"deformation: {setting}\n{table(outcomes)}")
    found = summary(outcomes)
    print(
        f"\n{found['correct']} of {found['registrable']} registrable cases correct, {found['refused']} refused, "
        f"{found['silently_wrong']} silently wrong, of {found['cases']}; CPU per pair (correct cases): median "
        f"{found['cpu_seconds_per_pair_median']} s, most {found['cpu_seconds_per_pair_max']} s"
    )
    if as_json:
        print(json.dumps(found), flush=True)


def chosen(seed: int, number: int | None, only: str | None) -> list[Case]:
    """The cases requested; what is not requested is not rendered."""
    makers = list(all_cases(seed))
    if number is not None:
        makers = [makers[i] for i in np.unique(np.linspace(0, len(makers) - 1, number).round().astype(int))]
    return [maker.build() for maker in makers if only is None or re.search(only, maker.name)]


if __name__ == "__main__":
    main()
