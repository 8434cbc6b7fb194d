"""Sections of the page that have nothing to show: they are not printed, and one line at its end says why."""

from __future__ import annotations

from typing import Any

from stainda.report.run import LoadedRun
from stainda.run_directory.result_tables import RECORDS

NO_RECORDS = "there are no records of test patients"
OF_RECORDS = ("results", "classes", "statistics", "objects", "object-gallery", "examples", "centres", "models")
"""Sections made of records of test patients."""


def without_content(run: LoadedRun, gathered: dict[str, Any], scored: bool) -> dict[str, str]:
    """The keys of the sections without content, each with the reason, as part of a sentence.

    Args:
        gathered: what each section shows, as the template takes it.
        scored: whether any test patient was scored.
    """
    fromkeys: dict[str, str] = {}
    if not scored:
        reason = _clause(run.missing.get(RECORDS.path, NO_RECORDS))
        fromkeys |= dict.fromkeys(OF_RECORDS, reason)
    else:
        if not gathered.get("centres", True):
            fromkeys["centres"] = "no centre has scores"
        models = gathered.get("models")
        if models is not None and models["table"] is None:
            fromkeys["models"] = "no chosen setting left a trained model"
        gallery = gathered.get("gallery")
        if gallery is not None and not gallery.fields:
            reason = _clause(gallery.note) or "no test slide has both a field and predictions"
            fromkeys["examples"] = "; ".join([reason, *gallery.skipped])
        objects = gathered.get("object_gallery")
        if objects is not None and not objects.objects:
            fromkeys["object-gallery"] = "; ".join([_clause(objects.absent), *objects.skipped])
    for key in ("data", "registration", "propagation"):
        shown = gathered.get(key, {})
        if "missing" in shown and shown.get("splits") is None:
            fromkeys[key] = _clause(shown["missing"])
    if gathered.get("left_out") is None and gathered.get("excluded") is None:
        fromkeys["left-out"] = "every slide was used, every pair registered, every job finished"
    gap = gathered.get("domain_gap")
    if gap is not None and not gap["figures"] and gap["encoders"] is None:
        fromkeys["domain-gap"] = "neither distances of domains nor encoders were compared for this page"
    cost = gathered.get("cost", {})
    if not any(cost.get(name) for name in ("budget", "table", "figures", "stages")):
        fromkeys["cost"] = f"no training time was recorded; {_clause(cost.get('missing', ''))}".removesuffix("; ")
    return fromkeys


def by_reason(reasons: dict[str, str], titles: dict[str, str]) -> list[tuple[str, str]]:
    """Titles of sections of one reason together, and the reason."""
    groups: dict[str, list[str]] = {}
    for key, title in titles.items():
        if key in reasons:
            groups.setdefault(reasons[key], []).append(title)
    return [(", ".join(names), reason) for reason, names in groups.items()]


def _clause(words: str) -> str:
    """A sentence as part of another: without its full stop, its first letter small."""
    words = words.strip().removesuffix(".")
    return words[:1].lower() + words[1:]
