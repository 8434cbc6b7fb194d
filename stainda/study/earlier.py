"""Trainings of earlier calls that a run directory still holds: which of them belong to the study as it now is.

A study that is run again with fewer strategies keeps the others in its tables where they are comparable: the study, as
it is now, would make the very same trainings of them (protocol, domains, patches, labels, loop, scoring), with as many
trials and seeds. Every other training on the disk is a row of ``exclusions.csv`` with the reason.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.files import load_json, stable_hash
from stainda.run_directory.contents import DONE, ERROR, PRUNED, RESULT, SETTINGS, STORAGE
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import EXCLUSIONS, TRIALS
from stainda.study.jobs import is_scored

if TYPE_CHECKING:
    from stainda.training import Job

Row = dict[str, Any]

_NOT_COMPARED = {"strategy", "seed"}
_WITH_IT = "run the study with this strategy in it"
_STORE = "learned from other patches: slides, annotations, propagated labels, splits or patch settings have changed"


@dataclass(frozen=True)
class Earlier:
    """Rows of trials.csv: those that are reported next to the study's own, and those that are not, each with ``why``.

    ``refits``: rows of refits.csv, of the chosen trainings that are kept.
    """

    kept: list[Row]
    excluded: list[Row]
    refits: list[Row]


@dataclass(frozen=True)
class Judge:
    """What decides whether a training belongs to the study as it is now.

    Attributes:
        expected: the training that the study would make of a strategy with these settings, and a seed.
        scoring: the key of a training's scores, see ``keys.ScoringKeys``.
    """

    config: StudyConfig
    folder: RunFolder
    expected: Callable[[Any, int], Job]
    scoring: Callable[[Job], str]

    def reason(self, name: str, state: str) -> str:
        """Why the training in ``jobs/name`` is not comparable; empty where it is."""
        from stainda.training import Job

        place = self.folder.job(name)
        if not SETTINGS.inside(place).is_file():
            return "it ended before its settings were written" if place.is_dir() else "its folder is gone from jobs/"
        try:
            result = Job.load(place)
            wanted = self.expected(result.strategy, result.seed)
        except StaindaError as error:
            return f"its settings cannot be read by this version of stainda ({error.message})"
        if wanted.hash != name:
            return _differences(result.settings(), wanted.settings())
        if state == "complete" and not is_scored(place, self.scoring(wanted)):
            return f"scored on other slides or annotations, or with another overlap, than now; {_WITH_IT}"
        return ""

    def refit_of(self, row: Row) -> Row | None:
        """The row of refits.csv of a kept training; ``None`` where it was not made again."""
        from stainda.training import Job

        outcome = Job.load(self.folder.job(row["job"]))
        job = self.expected(outcome.strategy, outcome.seed).again()
        place = self.folder.job(job.hash)
        if not is_scored(place, self.scoring(job)):
            return None
        result = _json(RESULT.inside(place))
        return {
            **{name: row[name] for name in ("strategy", "trial", "seed", "state")}, "job": job.hash,
            "repeats": job.repeats, **{name: result.get(name, "") for name in ("seconds", "cpu_seconds")},
        }  # fmt: skip


def sort_earlier(judge: Judge, mine: Collection[str]) -> Earlier:
    """Sort the trainings on the disk that are not the study's own.

    Args:
        mine: jobs that the study made or took over in this call.
    """
    names = {strategy.name for strategy in judge.config.strategies}
    others: dict[str, list[Row]] = defaultdict(list)
    excluded: list[Row] = []
    known = earlier_rows(judge.folder)
    for row in known:
        if row["job"] in mine:
            continue
        if row["strategy"] not in names:
            others[row["strategy"]].append(row)
        else:
            excluded.append({**row, "why": judge.reason(row["job"], row["state"]) or _not_asked(judge, row)})
    seen = {row["job"] for row in known} | set(mine)
    for row in _untold(judge, seen):
        if row["strategy"] in names or not row["strategy"]:
            why = row.pop("why") or judge.reason(row["job"], row["state"]) or _not_asked(judge, row)
            excluded.append({**row, "why": why})
        else:
            others[row["strategy"]].append(row)
    kept: list[Row] = []
    refits: list[Row] = []
    for rows in others.values():
        good, bad, again = _of_strategy(judge, rows)
        kept += good
        excluded += bad
        refits += again
    refitted = {row["job"] for row in refits}
    return Earlier(kept, [row for row in excluded if row["job"] not in refitted], refits)


def _of_strategy(judge: Judge, rows: Iterable[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """The rows of one strategy that the study no longer holds: kept, or excluded with the reason; and their refits."""
    good: list[Row] = []
    bad: list[Row] = []
    for row in rows:
        why = row.get("why_lost", "") or judge.reason(row["job"], row["state"])
        (bad if why else good).append({**row, "why": why})
    first = judge.config.seed
    trials = [row for row in good if int(row["seed"]) == first]
    seeds = sorted({int(row["seed"]) for row in good if _truth(row["chosen"])})
    wanted = set(range(first, first + judge.config.protocol.seeds))
    beyond = [row for row in good if int(row["seed"]) not in wanted]
    good = [row for row in good if int(row["seed"]) in wanted]
    bad += [{**row, "why": _seeds(judge)} for row in beyond]
    searched = any(row["params"] not in ("", "{}") for row in trials)
    budget = judge.config.search.trials if searched else 1
    why = ""
    if not seeds:
        why = f"no setting of it was chosen, so it was not finished; {_WITH_IT}"
    elif len(trials) != budget:
        why = f"its budget was another: {_several(len(trials), 'trial')}, now {budget}; {_WITH_IT}"
    elif missing := sorted(wanted - set(seeds)):
        why = f"its budget was another: {_several(len(seeds), 'seed')}, now {len(seeds) + len(missing)}; {_WITH_IT}"
    chosen = [row for row in good if _truth(row["chosen"])] if judge.config.protocol.refit and not why else []
    refits = [result for row in chosen if (result := judge.refit_of(row)) is not None]
    if len(refits) < len(chosen):
        why = f"it was not trained again from all source patients (protocol.refit); {_WITH_IT}"
    if why:
        return [], [*({**row, "why": why} for row in good), *bad], []
    return good, bad, refits


def earlier_rows(folder: RunFolder) -> list[Row]:
    """Rows of trials.csv and exclusions.csv as earlier calls left them; each training and purpose once."""
    result: dict[tuple[str, ...], Row] = {}
    for table in (TRIALS, EXCLUSIONS):
        path = table.at(folder.root)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row.get("trial", "") != "" and row.get("seed", "") != "":
                        row.pop("why", None)
                        key = tuple(str(row.get(part)) for part in ("strategy", "trial", "seed"))
                        result.setdefault((*key, str(row["job"])), row)
    return list(result.values())


def _untold(judge: Judge, seen: Collection[str]) -> list[Row]:
    """Trainings on the disk that no table names: their rows are made again from the search's storage."""
    folders = [path for path in sorted(judge.folder.jobs.glob("*")) if path.is_dir() and path.name not in seen]
    stored = _stored_trials(judge) if folders else {}
    same: dict[str, tuple[int, Row]] = {}
    rows: list[Row] = []
    for path in folders:
        settings = _json(SETTINGS.inside(path))
        strategy = settings.get("strategy")
        name = strategy.get("name", "") if isinstance(strategy, dict) else ""
        result, error = _json(RESULT.inside(path)), ERROR.inside(path)
        done = DONE.inside(path)
        is_scored = done.is_file() and done.stat().st_size > 0  # empty: see exists_unseen
        state = "complete" if is_scored else "failed" if error.is_file() else "unfinished"
        why = "" if state != "unfinished" else "interrupted: it was neither finished nor scored"
        if PRUNED.inside(path).is_file():
            state, why = "pruned", ""
        index, params = stored.get(path.name, (None, None))
        row = {
            "strategy": name, "trial": "" if index is None else index, "seed": settings.get("seed", ""),
            "job": path.name, "state": state, "value": result.get("score", ""), "chosen": False,
            "params": "" if params is None else json.dumps(params, sort_keys=True),
            "seconds": result.get("seconds", ""), "cpu_seconds": result.get("cpu_seconds", ""),
            "reason": error.read_text(encoding="utf-8", errors="replace").strip() if error.is_file() else "",
            "why": why or ("its settings.json is missing" if not settings else ""),
        }  # fmt: skip
        alike = stable_hash([name, {key: setting for key, setting in settings.items() if key != "seed"}])
        if index is not None:
            same[alike] = (index, row)
        rows.append({**row, "alike": alike})
    return [_with_trial(judge, row, same, rows) for row in rows]


def _with_trial(judge: Judge, row: Row, same: Mapping[str, tuple[int, Row]], rows: Iterable[Row]) -> Row:
    """A further seed has the trial and the settings of the training it repeats, and shows that this one was chosen."""
    alike = row["alike"]
    result = {key: value for key, value in row.items() if key != "alike"}
    if alike in same:
        result["trial"], result["params"] = same[alike][0], same[alike][1]["params"]
        seeds = {record["seed"] for record in rows if record["alike"] == alike}
        searched = [entry for entry in same.values() if entry[1]["strategy"] == row["strategy"]]
        result["chosen"] = len(seeds) > 1 or len(searched) == 1
        if judge.config.protocol.seeds == 1 and row["state"] == "complete":  # no further seed says which was chosen
            values = [float(entry[1]["value"]) for entry in searched if entry[1]["value"] != ""]
            result["chosen"] = bool(values) and row["value"] != "" and float(row["value"]) >= max(values)
    elif not result["why"]:
        result["why_lost"] = f"no table and no search of this run says which trial it was; {_WITH_IT}"
    return result


def _stored_trials(judge: Judge) -> dict[str, tuple[int, Row]]:
    """Index and settings of every trial that the search's storage holds, by job."""
    from stainda.study.search import stored_trials
    from stainda.study.storage import storage_address

    if judge.config.search.storage is None and not STORAGE.at(judge.folder.root).is_file():
        return {}
    return stored_trials(storage_address(judge.config, judge.folder.root))


def _not_asked(judge: Judge, row: Row) -> str:
    """Why a training that fits the study is none of its own."""
    first, seeds = judge.config.seed, judge.config.protocol.seeds
    if str(row["seed"]) != "" and not first <= int(row["seed"]) < first + seeds:
        return _seeds(judge)
    if str(row["trial"]) != "" and int(row["trial"]) >= judge.config.search.trials:
        return f"the study now asks for {_several(judge.config.search.trials, 'trial')}"
    return "the strategy's settings or search ranges have changed since, or another trial was chosen"


def _seeds(judge: Judge) -> str:
    return f"the study now asks for {_several(judge.config.protocol.seeds, 'seed')}"


def _differences(row: Row, wanted: Row) -> str:
    """What a training was made with, and what the study now has, in words."""
    changes: list[str] = []
    if row["repeats"] != wanted["repeats"]:
        changes.append(
            f"it makes training {row['repeats']} again from all source patients (protocol.refit), and the study does "
            "not ask for that"
        )
    for key, old in row.items():
        new = wanted[key]
        if key in _NOT_COMPARED or old == new or key == "repeats":
            continue
        if key == "data_key":
            changes.append(_STORE)
        elif isinstance(old, dict) and isinstance(new, dict):
            parts = [part for part in sorted({*old, *new}) if old.get(part) != new.get(part)]
            parts = [part for part in parts if part not in ("device", "devices", "threads", "description", "reference")]
            changes += [f"{key}.{part} was {_short(old.get(part))}, is now {_short(new.get(part))}" for part in parts]
        else:
            changes.append(f"{key} was {_short(old)}, is now {_short(new)}")
    return "; ".join(changes) or "trained by another version of stainda, or from other weights"


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _truth(value: object) -> bool:
    return str(value).strip().lower() in {"true", "1", "1.0"}


def _json(path: Path) -> Row:
    if not path.is_file():
        return {}
    try:
        loads = load_json(path)
    except ValueError:
        return {}  # its row says that it has no settings
    return loads if isinstance(loads, dict) else {}
