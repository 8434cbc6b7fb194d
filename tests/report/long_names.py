"""A made-up run with names as long as laboratories have them: 12 domains, long titles of strategies."""

from __future__ import annotations

from pathlib import Path

import yaml
from make_run import make_run

STAINS = (
    "PAS", "Periodic acid-Schiff", "Jones methenamine silver", "Picrosirius red, polarised",
    "Masson trichrome (Goldner)",
    "CD68 immunohistochemistry, DAB",
)  # fmt: skip
CENTRES = ("A", "University Hospital Strasbourg")
TITLES = {
    "source_only": "Source only: plain network, geometric augmentation alone",
    "macenko": "Macenko stain normalisation to the mean of the source domain",
    "dann": "Domain-adversarial training (DANN) on features of the bottleneck",
    "few_shot": "Eight labelled patches of every target domain, mixed into each batch",
    "oracle": "Ceiling: trained on the labels of all source and target domains",
}


def long_run(folder: Path, **changes) -> Path:
    values = {
        "test_patients": 8, "stains": STAINS, "centres": CENTRES, "strategies": tuple(TITLES), "trials": 9, "seeds": 2,
        "failed_job": False, "registration": False, **changes,
    }  # fmt: skip
    run = make_run(folder, **values)
    path = run / "study.yaml"
    study = yaml.safe_load(path.read_text())
    for one in study["strategies"]:
        one["title"] = TITLES[one["name"]]
    path.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    return run
