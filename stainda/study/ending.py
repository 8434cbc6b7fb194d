"""What a run says at its end: the answer, the page, how to use the networks, and what failed."""

from __future__ import annotations

import shlex
from pathlib import Path

from stainda.run_directory.contents import REPORT
from stainda.study.converging import earlier_sentence
from stainda.study.status import read_status

ANSWER = "report/answer.txt"
_LINES, _FAILURES = 2, 5


def closing_lines(root: Path) -> list[str]:
    """Two sentences of the answer, the failures, where the page is, and the command that predicts."""
    lines = []
    if (root / ANSWER).is_file():
        lines += (root / ANSWER).read_text(encoding="utf-8").splitlines()[:_LINES]
    lines += failure_lines(root)
    if rising := earlier_sentence(root):
        lines.append(f"note: {rising}")
    page = REPORT.at(root)
    if page.is_file():
        lines.append(f"report: {page}")
        if read_status(root).jobs:
            lines.append(f"use it on other slides: stainda predict {shlex.quote(str(root))} SLIDE...")
    return lines


def failure_lines(root: Path) -> list[str]:
    """Trainings that failed, each with its reason; of many, the first few."""
    jobs = read_status(root).jobs
    failed = [job for job in jobs if job.state == "failed"]
    if not failed:
        return []
    lines = [f"{len(failed)} of {len(jobs)} trainings failed; the same command tries them again:"]
    for job in failed[:_FAILURES]:
        first = (job.reason.splitlines() or ["no reason was left"])[0]
        where = f"rotation {job.rotation}, " if job.rotation else ""
        lines.append(f"  {where}{job.strategy}, trial {job.trial}, seed {job.seed}: {first}")
    if len(failed) > _FAILURES:
        lines.append(f"  and {len(failed) - _FAILURES} more (stainda status {shlex.quote(str(root))})")
    return lines
