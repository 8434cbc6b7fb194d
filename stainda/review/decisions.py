"""Review decisions on propagated objects: stored with the run and applied whenever annotations are propagated again.

``review/decisions.geojson`` holds the decision that stands for each object and target section, its geometry in level-0
pixels of the target, so that QuPath opens it; ``review/log.csv`` every decision ever made, and is only appended to.
``review/applied.csv`` says what the last run did with each.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import shapely
import shapely.geometry
from filelock import FileLock, Timeout
from shapely.geometry.base import BaseGeometry

from stainda.annotations import empty_shapes, join_shapes, make_shapes, read_marked, read_shapes, write_geojson
from stainda.annotations.records import as_uuid
from stainda.errors import AnnotationError, StaindaError
from stainda.files import output_errors, write_csv, write_text
from stainda.names import file_name
from stainda.objects.overlap import dice
from stainda.review.tables import read_rows, read_table
from stainda.run_directory.contents import DECISIONS, REVIEW_LOCK
from stainda.run_directory.tables import APPLIED, PROPAGATION, REVIEW_LOG

Kind = Literal["accept", "reject", "unsure", "nudge", "redraw"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PAST = {
    "accept": "accepted", "reject": "rejected", "unsure": "left undecided", "nudge": "moved", "redraw": "redrawn",
}  # fmt: skip
IGNORED_CLASS = "Ignore*"
"""QuPath's class for what is neither object nor background; patches leave its pixels out of the loss."""
REJECTED_IS_ANOTHER = 0.5
"""A rejection speaks of a place: it no longer holds where the newly propagated outline overlaps it (Dice) by less."""

_OWN = "stainda_review"
_KEY = ("target", "source", "id")
_PARTS = ("id", "class", "block", "source", "target", "kind", "reviewer", "time", "source_hash", "carried_hash")


@dataclass(frozen=True)
class Decision:
    """The current decision about one propagated object.

    Attributes:
        id, source, target: the object, the slide it was drawn on, and the slide it was propagated to.
        cls, block: its class and block.
        kind: ``accept`` (as it stands), ``reject`` (there is none here), ``unsure`` (its pixels are to be ignored),
            ``nudge`` or ``redraw`` (with a new outline).
        geometry: level-0 pixels of the target; the outline that holds, for ``reject`` and ``unsure`` the one refused.
        propagated: the outline as registration had propagated it.
        confidence: of the propagated outline, NaN where not known.
        reviewer, time: who, and when (ISO 8601, UTC).
        source_hash: :func:`shape_hash` of the source annotation at that time.
    """

    id: str
    cls: str
    block: str
    source: str
    target: str
    kind: Kind
    geometry: BaseGeometry
    propagated: BaseGeometry
    confidence: float
    reviewer: str
    time: str
    source_hash: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.target, self.source, self.id

    @property
    def words(self) -> str:
        """For people: ``rejected by NAME on DATE``."""
        return f"{PAST[self.kind]} by {self.reviewer} on {self.time[:10]}"


Decisions = dict[tuple[str, str, str], Decision]


def shape_hash(geometry: BaseGeometry, cls: str = "") -> str:
    """Hash of an outline to a hundredth of a pixel, whichever its first vertex and direction, and of its class."""
    plain = shapely.transform(shapely.force_2d(geometry), lambda xy: np.round(xy, 2) + 0.0)
    return hashlib.sha256(shapely.to_wkb(shapely.normalize(plain)) + cls.encode()).hexdigest()[:16]


def review_folder(run: str | Path) -> Path:
    return Path(run) / "review"


def read_decisions(run: str | Path) -> Decisions:
    """The decisions that stand, by (target, source, id); none where nothing was reviewed.

    Raises:
        AnnotationError: the file was changed into something that holds no decisions.
    """
    path = DECISIONS.inside(review_folder(run))
    if not path.is_file():
        return {}
    stamp, known = _stamp(path), _read.get(path.resolve())  # before reading: what is replaced meanwhile is read again
    if known is not None and known[0] == stamp:
        return dict(known[1])
    decisions: Decisions = {}
    for number, row in enumerate(read_shapes(path).to_dict("records"), start=1):
        decision = _read_one(row)
        if decision is None:
            raise AnnotationError(
                f"feature {number} is no review decision",
                file=path,
                remedy="Restore the file, or remove it to begin the review anew",
            )
        decisions[decision.key] = decision
    _read[path.resolve()] = stamp, decisions
    return dict(decisions)


def _read_one(row: Mapping[str, Any]) -> Decision | None:
    own = row["properties"].get(_OWN)
    if not isinstance(own, Mapping) or any(not isinstance(own.get(part), str) for part in _PARTS):
        return None
    if own["kind"] not in KINDS:
        return None
    try:
        propagated = row["geometry"] if own.get("carried") is None else shapely.geometry.shape(own["carried"])
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    confidence = own.get("confidence")
    return Decision(
        own["id"], own["class"], own["block"], own["source"], own["target"], own["kind"], row["geometry"], propagated,
        float(confidence) if isinstance(confidence, int | float) else nan,
        own["reviewer"], own["time"], own["source_hash"],
    )  # fmt: skip


def write_decisions(run: str | Path, decisions: Iterable[Decision]) -> Path:
    """Write the decisions that stand, so that QuPath shows them: the file appears whole or not at all."""
    chosen = sorted(decisions, key=lambda decision: (decision.block, decision.target, decision.source, decision.id))
    lines = ",\n".join(_feature(decision) for decision in chosen)
    level0 = '"stainda":{"frame":"level0"}'  # of several slides, which may begin elsewhere each
    path = write_text(
        DECISIONS.inside(review_folder(run)), f'{{"type":"FeatureCollection",{level0},"features":[\n{lines}\n]}}\n'
    )
    _read[path.resolve()] = _stamp(path), {decision.key: decision for decision in chosen}  # spares the next reading
    return path


@lru_cache(maxsize=50_000)
def _feature(decision: Decision) -> str:
    """A decision as one line of GeoJSON; kept, since the file is written anew with each further decision."""
    unchanged = decision.propagated.equals_exact(decision.geometry, 0)
    own = {
        "id": decision.id, "class": decision.cls, "block": decision.block, "source": decision.source,
        "target": decision.target, "kind": decision.kind, "reviewer": decision.reviewer, "time": decision.time,
        "source_hash": decision.source_hash,
        "carried_hash": shape_hash(decision.propagated),
        "confidence": decision.confidence if isfinite(decision.confidence) else None,
        "carried": None if unchanged else shapely.geometry.mapping(decision.propagated),
    }  # fmt: skip
    properties = {
        "objectType": "annotation", "classification": {"name": decision.cls},
        "name": f"{PAST[decision.kind]}: {decision.target}",
        _OWN: own,
    }  # fmt: skip
    feature = {
        "type": "Feature", "id": as_uuid("/".join(decision.key)),
        "geometry": shapely.geometry.mapping(decision.geometry), "properties": properties,
    }  # fmt: skip
    return json.dumps(feature, allow_nan=False, separators=(",", ":"))


_read: dict[Path, tuple[tuple[int, int, int], Decisions]] = {}


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@contextmanager
def deciding(run: str | Path) -> Iterator[Decisions]:
    """Hold the decisions of a run while one of them changes; the changed ones are the caller's to write.

    Two servers, or two tabs of one, take turns: each sees what the other has written.

    Raises:
        StaindaError: another process has held them for ten seconds.
    """
    folder = review_folder(run)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(REVIEW_LOCK.inside(folder)))
        try:
            lock.acquire(timeout=10)
        except Timeout:
            raise StaindaError("another process is writing decisions", file=folder, remedy="Try again") from None
    try:
        yield read_decisions(run)
    finally:
        lock.release()


def save_decision(run: str | Path, decisions: Decisions, old: Decision | None, new: Decision | None, by: str) -> None:
    """Put ``new`` in the place of ``old`` (``None``: taken back), write both files; call within :func:`deciding`."""
    decision = new or old
    if decision is None:
        return
    decisions.pop(decision.key, None)
    if new is not None:
        decisions[new.key] = new
    _write_patiently(run, decisions)
    before = old.geometry if old is not None else decision.propagated
    _append(
        REVIEW_LOG.inside(review_folder(run)),
        {
            "time": new.time if new is not None else now(), "reviewer": by, "id": decision.id, "class": decision.cls,
            "block": decision.block, "source": decision.source, "target": decision.target,
            "decision": new.kind if new is not None else "none", "before": old.kind if old is not None else "none",
            "old_geometry": shape_hash(before),
            "new_geometry": shape_hash(new.geometry if new is not None else decision.propagated),
        },
    )  # fmt: skip


def _write_patiently(run: str | Path, decisions: Decisions) -> None:
    try:
        write_decisions(run, decisions.values())
    except FileNotFoundError:  # a run that starts clears unfinished files of its folder, also one written this moment
        write_decisions(run, decisions.values())


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """One row at the end of the log, in a single write to a file opened for appending."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(REVIEW_LOG.names))
    with output_errors(path), path.open("ab") as stream:
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
        stream.write(text.getvalue().encode())
        stream.flush()
        os.fsync(stream.fileno())


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def stale_reason(decision: Decision, source: gpd.GeoDataFrame | None) -> str:
    """Why a decision no longer applies to what is propagated, by its source annotation; empty if it does."""
    if source is None:
        return f"the section {decision.source} has no annotations any more"
    same = source[source["id"] == decision.id]
    if not len(same):
        return f"the annotation is no longer there in {decision.source}"
    row = same.iloc[0]
    if shape_hash(row["geometry"], row["class"]) != decision.source_hash:
        return f"its annotation in {decision.source} was changed after the review"
    return ""


def apply_decisions(run: str | Path, own_shapes: Mapping[str, gpd.GeoDataFrame]) -> list[dict[str, str]]:
    """Let the review decide over what :func:`propagate` has just written in ``annotations/``.

    Accepted, moved and redrawn objects get the reviewed outline and confidence 1, also where a gate had dropped them.
    Rejected ones are removed: the reviewer saw that nothing is there, so their pixels are background. Those left
    undecided get QuPath's class ``Ignore*``: neither object nor background. ``propagation.csv`` names the reviewer and
    the day. Applying the same decisions twice changes nothing.

    Args:
        run: the run directory.
        own_shapes: the annotations that were propagated, by slide.

    Returns:
        One row (:data:`APPLIED`) per decision, as written to ``review/applied.csv``: ``applied``, or ``stale``
        with the reason. A stale decision changes nothing.

    Raises:
        RecordError: ``propagation.csv`` is no such table any more.
    """
    decisions = read_decisions(run)
    if not decisions:
        APPLIED.inside(review_folder(run)).unlink(missing_ok=True)
        return []
    folder = Path(run) / "annotations"
    columns, rows = read_table(PROPAGATION.inside(folder), (*_KEY, "status", "reason"))
    by_key = {(row["target"], row["source"], row["id"]): row for row in rows}
    joined: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for line in rows:
        joined.setdefault((line["target"], _object_source(line), line.get("object", "")), []).append(line)
    by_target: dict[str, list[Decision]] = {}
    for decision in decisions.values():
        by_target.setdefault(decision.target, []).append(decision)
    report = []
    for target, chosen in by_target.items():
        path = folder / "propagated" / f"{file_name(target)}.geojson"
        shapes, mark = read_marked(path) if path.is_file() else (None, None)
        changed = False
        for judged in chosen:
            row = by_key.get(judged.key)
            reason = stale_reason(judged, own_shapes.get(judged.source))
            if not reason and (shapes is None or row is None):
                reason = f"it is no longer propagated to {target}"
            if not reason and shapes is not None and row is not None:
                shapes, reason = _applied(judged, shapes, row)
                changed = changed or not reason
                if not reason:
                    _tell_joined(judged, row, joined.get(judged.key, []) + joined.get((target, "", judged.id), []))
            report.append(
                {
                    "id": judged.id, "class": judged.cls, "block": judged.block, "source": judged.source,
                    "target": target, "decision": judged.kind, "reviewer": judged.reviewer, "time": judged.time,
                    "status": "stale" if reason else "applied", "reason": reason,
                }
            )  # fmt: skip
        if changed and shapes is not None:
            write_geojson(shapes, path, bounds=None if mark is None else mark.bounds)
    write_csv(PROPAGATION.inside(folder), rows, columns)
    APPLIED.write(review_folder(run), report)
    return report


def sentence(report: list[dict[str, str]], run: str | Path) -> str:
    """What :func:`apply_decisions` did, for people; empty where nothing was reviewed."""
    if not report:
        return ""
    stale = sum(row["status"] == "stale" for row in report)
    text = f"review: {len(report) - stale} decisions applied"
    where = APPLIED.inside(review_folder(run))
    return f"{text}, {stale} stale ones not; see {where}" if stale else text


def applied_keys(run: str | Path) -> set[tuple[str, str, str]]:
    """The (target, source, id) of the decisions that the last run applied: those it found stale decide nothing."""
    path = APPLIED.inside(review_folder(run))
    if not path.is_file():
        return set()
    rows = read_rows(path, (*_KEY, "status"))
    return {(row["target"], row["source"], row["id"]) for row in rows if row["status"] == "applied"}


def _applied(decision: Decision, shapes: gpd.GeoDataFrame, row: dict[str, str]) -> tuple[gpd.GeoDataFrame, str]:
    """The shapes of a target with one decision applied, and why it could not be (then they are unchanged)."""
    matches = ((shapes["id"] == decision.id) & shapes["source_slide"].isin([decision.source, ""])).to_numpy(bool)
    if decision.kind == "reject":
        if matches.any() and not _same_place(shapes.geometry[matches].iloc[0], decision.geometry):
            return shapes, "it was rejected at another place than it is propagated to now"
        row |= {"status": "dropped", "reason": decision.words} | ({"label": "nothing"} if "label" in row else {})
        return shapes[~matches].reset_index(drop=True), ""
    was = f" (propagated with confidence {decision.confidence:.2f})" if isfinite(decision.confidence) else ""
    if matches.any():
        new = shapes[matches].iloc[[0]].copy()
        new["geometry"] = gpd.GeoSeries([decision.geometry], index=new.index, crs=None)
    else:
        new = make_shapes([decision.geometry], decision.cls, id=decision.id, source_slide=decision.source)
    unsure = decision.kind == "unsure"
    new["class"], new["confidence"] = IGNORED_CLASS if unsure else decision.cls, nan if unsure else 1.0
    row |= {"status": "ignored" if unsure else "kept", "reason": decision.words + was}
    if "label" in row:
        row["label"] = "ignored" if unsure else "object"
    if "confidence" in row and not unsure:
        row["confidence"] = "1.0"
    rest = shapes[~matches]
    return join_shapes([rest, new]) if len(rest) else join_shapes([empty_shapes(), new]), ""


def _object_source(row: Mapping[str, str]) -> str:
    """The section of the shape whose object a row is part of; empty where a table of an earlier version leaves it open.

    Shapes of two sections may have one id. One that is called as its object is taken for the object's own.
    """
    return row.get("object_source", row["source"] if row.get("object", "") == row["id"] else "")


def _tell_joined(decision: Decision, decided: Mapping[str, str], rows: list[dict[str, str]]) -> None:
    """The shapes of other sections that were joined into a decided object share its fate."""
    for row in rows:
        if row is not decided and row["status"] != "dropped":
            reason = row["reason"].removesuffix(decision.words).removesuffix("; ")
            row |= {key: decided[key] for key in ("status", "label") if key in row}
            row["reason"] = f"{reason}; {decision.words}" if reason else decision.words


def _same_place(first: BaseGeometry, second: BaseGeometry) -> bool:
    """Whether two outlines overlap enough; points and lines have no area, there their envelopes have to meet."""
    overlap = dice(first, second)
    return first.envelope.intersects(second.envelope) if isnan(overlap) else overlap >= REJECTED_IS_ANOTHER
