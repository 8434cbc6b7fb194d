"""What the jobs wrote is gathered into one table, also where there was nothing to write."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stainda.cohort import Cohort, Section
from stainda.run_directory.folder import RunFolder
from stainda.study.gather import write_cohort
from stainda.study.results import gather_unsupervised

HEAD = "checkpoint,entropy,information\n"


@pytest.mark.parametrize("rows", ["", "best,0.5,0.25\nlast,0.4,0.2\n"])
def test_scores_without_labels_name_their_training_even_where_no_target_was_seen(tmp_path, rows):
    folder = RunFolder(tmp_path / "run")
    trials = [
        {"strategy": name, "trial": 0, "seed": seed, "job": f"{seed}{name}", "state": "complete"}
        for name in ("source_only", "dann")
        for seed in (1, 2)
    ]
    folder.root.mkdir(parents=True)
    pd.DataFrame(trials).to_csv(folder.root / "trials.csv", index=False)
    for row in trials:
        path = folder.job(row["job"]) / "unsupervised.csv"
        path.parent.mkdir(parents=True)
        path.write_text(HEAD + rows)
    gather_unsupervised(folder)
    found = pd.read_csv(folder.root / "unsupervised.csv")
    assert list(found.columns) == ["strategy", "trial", "seed", "checkpoint", "entropy", "information"]
    assert len(found) == len(trials) * rows.count("\n")
    if rows:
        assert found.groupby(["strategy", "seed"])["entropy"].first().eq(0.5).all()


def test_a_thumbnail_is_that_of_the_slide_also_where_an_older_file_took_its_place(tmp_path):
    slide, folder = tmp_path / "a.png", RunFolder(tmp_path / "run")
    cohort = Cohort((Section("a", "P1", "b1", 1, "PAS", "A", slide),))
    thumbnail = folder.root / "thumbnails" / "a.jpg"

    def gathered(grey, time):
        Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(slide)
        os.utime(slide, (time, time))
        write_cohort(cohort, (), {}, folder)
        with Image.open(thumbnail) as image:
            return np.asarray(image).mean(), thumbnail.stat().st_mtime_ns

    seen, written = gathered(200, 2e9)
    assert seen == pytest.approx(200, abs=3)
    assert gathered(200, 3e9) == (seen, written), "made again for the same pixels"
    assert gathered(90, 1e9)[0] == pytest.approx(90, abs=3)
