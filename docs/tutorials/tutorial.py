"""Everything the commands do, from Python. Run it as it stands: ``python docs/tutorials/tutorial.py [FOLDER]``.

It makes a small synthetic cohort, compares two strategies on it for a few steps, and applies the better one to a slide.
"""

import sys
from pathlib import Path

import pandas as pd

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.config import PhantomConfig, load_study
from stainda.phantom import make_cohort
from stainda.study import run_study
from stainda.study.predicting import predict_slides
from stainda.study.steps import propagate_manifest, register_manifest, report_run


def main(folder: Path) -> None:
    # a cohort: here a synthetic one; yours is a CSV with one row per slide (data_manifests/README.md)
    manifest = make_cohort(
        PhantomConfig(patients=4, stains=("PAS", "SR"), centres=("A",), size=1024), folder / "cohort"
    )
    cohort = read_manifest(manifest)
    print(f"{len(cohort)} sections in {', '.join(cohort.domains)}")

    # one stage at a time: registration, then annotations propagated from PAS to Sirius red
    quality = register_manifest(manifest, folder / "run")
    print(quality[["block", "source", "target", "status", "n_matches", "tre_nonrigid_px"]].to_string(index=False))
    propagated = propagate_manifest(manifest, folder / "run")
    print(propagated.groupby(["source", "target", "status"]).size().to_string())

    # the whole study: a file, overridden here so that it ends in a minute; what is registered is not done again
    study = load_study(
        Path(__file__).parents[2] / "studies" / "quickstart.yaml",
        [
            "study=tutorial", "phantom=null", f"manifest={manifest.resolve()}",
            "strategies=[source_only, hed_augmentation]",
            "training.epochs=2", "training.steps_per_epoch=5", "search.trials=1", "protocol.seeds=1",
        ],
    )  # fmt: skip
    run = run_study(study, folder / "run")
    results = pd.read_csv(run / "results.csv")
    print(
        results[results["measure"] == "dice"][["strategy", "stain", "centre", "selection", "mean"]].to_string(
            index=False
        )
    )

    # the report again, from the records alone
    print("report:", report_run(run))

    # the better detector on a slide; the GeoJSON opens in QuPath
    done = predict_slides(run, [cohort.sections[0].path], folder / "predictions")
    print(f"{done.choice.label}: {done.choice.reasons[0]}")
    [found] = done.results
    print(f"{found.slide}: {found.n_objects} glomeruli in {found.geojson}; {len(read_shapes(found.geojson))} read back")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/tutorial"))
