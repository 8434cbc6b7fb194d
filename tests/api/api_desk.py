"""The working directory that the examples of the Python surface are typed in: a small cohort and a finished study."""

from __future__ import annotations

from pathlib import Path

from small_cohorts import STUDY, make_blob_cohort, write_study

SMALLER = STUDY.replace("study: blobs", "study: mine").replace("title: Blobs", "title: Mine")
CHANGES = (
    "strategies=[source_only, adabn]", "search.trials=1", "protocol.seeds=1", "training.epochs=1",
    "training.steps_per_epoch=2", "evaluation.resamples=100", "workers=1",
)  # fmt: skip


def make_files(desk: Path) -> None:
    """Write ``mine.csv`` with slides of five patients in two stains below ``slides/``, and ``studies/mine.yaml``."""
    manifest = make_blob_cohort(desk / "slides")
    text = manifest.read_text().splitlines()
    manifest.unlink()
    header, *rows = [line.split(",") for line in text]
    for row in rows:
        for name in ("path", "annotations"):
            row[header.index(name)] = f"slides/{row[header.index(name)]}"
    (desk / "mine.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    (desk / "studies").mkdir()
    write_study(Path("../mine.csv"), desk / "studies" / "mine.yaml", SMALLER)
