"""What the jobs wrote is gathered into one table, also where there was nothing to write."""

import pandas as pd
import pytest

from stainda.study.folder import RunFolder
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
