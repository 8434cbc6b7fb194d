"""Everything the commands do, from Python. Run it as it stands: ``python docs/tutorials/tutorial.py [FOLDER]``.

It makes a small synthetic cohort, compares two strategies on it for a few steps, and applies the better one to a slide.
"""

import sys
from pathlib import Path

import stainda as st


def main(folder: Path) -> None:
    # a cohort: here a synthetic one; yours is a CSV with one row per slide (st.read_manifest("mine.csv"))
    cohort = st.phantom(folder / "cohort", patients=4, stains=("PAS", "SR"), centres=("A",), size=1024)
    print(f"{len(cohort)} sections in {', '.join(cohort.domains)}")

    # one stage at a time: registration, then annotations propagated from PAS to Sirius red
    registration = st.register(cohort, out=folder / "run")
    columns = ["block", "source", "target", "status", "n_matches", "tre_nonrigid_px"]
    print(registration.quality[columns].to_string(index=False))
    labels = st.propagate(registration)
    print(labels.table.groupby(["source", "target", "status"]).size().to_string())

    # the whole study: a file, overridden here so that it ends in a minute; what is registered is not done again
    run = st.run(
        Path(__file__).parents[2] / "studies" / "quickstart.yaml",
        "study=tutorial", "phantom=null", f"manifest={(folder / 'cohort' / 'manifest.csv').resolve()}",
        "strategies=[source_only, hed_augmentation]",
        "training.epochs=2", "training.steps_per_epoch=5", "search.trials=1", "protocol.seeds=1",
        out=folder / "run",
    )  # fmt: skip
    dice = run.results[run.results["measure"] == "dice"]
    print(dice[["strategy", "stain", "centre", "selection", "mean"]].to_string(index=False))

    # the report, and one of its figures
    print("report:", run.report)
    run.plot("forest").savefig(folder / "forest.svg")

    # the better detector on a slide; the GeoJSON opens in QuPath
    objects = st.predict(run, cohort.sections[0].path, out=folder / "predictions")
    [geojson] = (folder / "predictions").glob("*.geojson")
    print(f"{len(objects)} glomeruli in {geojson}; {len(st.read_shapes(geojson))} read back")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/tutorial"))
