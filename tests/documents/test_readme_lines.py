"""The README's lines from a laboratory's folder to objects on a new slide, as they stand, on small sections."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from document_pages import typed
from laboratory import make_laboratory
from typer.testing import CliRunner

from stainda.cli.app import app

SMALLER = [
    "training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "patches.size=32",
    "strategies=[source_only,adabn]",
]  # fmt: skip
REGISTERED = {"identity": ["registration.method=identity"], "valis": ["registration.nonrigid=false"]}
"""Changes to the study that was written, so that its training takes seconds."""


@pytest.mark.parametrize("registered", ["identity", pytest.param("valis", marks=[pytest.mark.slow, pytest.mark.valis])])
def test_the_lines_of_the_readme_lead_from_a_folder_to_objects_on_a_new_slide(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_laboratory(tmp_path / "slides", patients=4, ending=".svs")
    shutil.copy(next((tmp_path / "slides").rglob("*_SR.svs")), tmp_path / "new_slide.svs")
    lines = [one.words for one in typed("README.md") if one.words[0] in ("stainda", "open")]
    assert [words[1] for words in lines if words[0] == "stainda"][:1] == ["init"]
    for words in lines:
        if words[0] == "open":
            assert Path(words[1]).is_file()
            continue
        done = CliRunner().invoke(app, list(words[1:]), catch_exceptions=False)
        assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"
        if words[1] == "init":
            _change(Path("studies/mine/mine.yaml"), SMALLER + REGISTERED[registered])
    assert (tmp_path / "predictions" / "new_slide.geojson").is_file()
    carried = list((tmp_path / "runs" / "mine" / "annotations" / "propagated").glob("*.geojson"))
    assert carried, "nothing was propagated"


def _change(study: Path, changes: list[str]) -> None:
    import yaml

    from stainda.config import load_study

    values = yaml.safe_load(study.read_text(encoding="utf-8"))
    for change in changes:
        key, value = change.split("=")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    study.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    load_study(study)
