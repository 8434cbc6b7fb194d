"""A run directory holds the declared files and no other, and its tables the declared columns."""

import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import write_study

from stainda.errors import RecordError
from stainda.run_directory.contents import CONTENTS, FILES, declared
from stainda.run_directory.declaration import Column, File, Table
from stainda.run_directory.result_tables import RECORDS, RESULT_TABLES
from stainda.run_directory.tables import AGREEMENT, PATCHES, TABLES
from stainda.run_directory.training_tables import TRAINING, TRAINING_TABLES, TRIALS
from stainda.study import run_study

SHORT = ["training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "workers=1"]


def test_a_study_writes_what_is_declared(blob_manifest, tmp_path):
    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    run = run_study(study, tmp_path / "run", overrides=[*SHORT, "strategies=[dann, cross_stain_agreement, oracle]"])
    assert faults_of_run(run) == []
    written = {declared(path.relative_to(run).as_posix()) for path in run.rglob("*") if path.is_file()}
    sometimes = {
        "landmarks", "annotators", "annotator_agreement", "log", "applied", "left_out", "leave_one_out", "refits",
        "rotations", "earlier_rotations", "matrix", "overall", "manifest", "artefacts",
        "robustness", "regions", "rounds", "label_shares", "objects", "pretraining", "loss", "confusion",
    }  # fmt: skip
    never = {one.path for one in (*TABLES, *TRAINING_TABLES, *RESULT_TABLES) if one not in written}
    assert {path.rpartition("/")[2].partition(".")[0] for path in never} <= {*sometimes, "table"}
    assert "patches/table.parquet" not in never


def test_what_is_not_declared_is_told(tmp_path):
    (tmp_path / "jobs" / "abc").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "jobs" / "abc" / "training.csv").write_text("step,epoch,seconds,loss_task,lr\n1,0.5,2,3,4\n")
    assert faults_of_run(tmp_path) == [
        "jobs/abc/training.csv: lr is not declared",
        "jobs/abc/training.csv: the columns are in another order",
        "jobs/abc/training.csv: epoch is no integer: [0.5]",
        "notes.txt is not declared",
    ]
    (tmp_path / "trials.csv").write_text(",".join(TRIALS.without("reason")) + "\n")
    with pytest.raises(RecordError, match="columns reason are missing"):
        TRIALS.read(tmp_path)


def test_every_declaration_is_complete():
    paths = [declaration.path for declaration in CONTENTS]
    assert len(paths) == len(set(paths))
    for declaration in CONTENTS:
        assert declaration.meaning and declaration.written_by and not declaration.meaning.endswith(".")
        for column in declaration.columns if isinstance(declaration, Table) else ():
            assert column.meaning and not column.meaning.endswith("."), f"{declaration.path}: {column.name}"
    for one in (*TABLES, *TRAINING_TABLES, *RESULT_TABLES):
        assert len(set(one.names)) == len(one.names), one.path


def test_a_path_is_recognised_by_its_names():
    made = next(file for file in FILES if file.path == "jobs/<job>/predictions/<slide>.geojson")
    assert declared("jobs/0123/predictions/P1_PAS.geojson") is made
    assert declared("jobs/0123/deeper/predictions/P1_PAS.geojson") is None
    assert declared("study.yaml.bak") is None and declared("phantom/slides/a.tif").path == "phantom/**"


def test_a_place_has_a_file_name_for_every_name(tmp_path):
    file = File("registration/<block>/<slide>.json", "m", "w")
    assert file.at(tmp_path, block="B1", slide="P1") == tmp_path / "registration" / "B1" / "P1.json"
    assert file.at(tmp_path, block="A/1", slide="P1").parent.parent == tmp_path / "registration"
    assert file.inside(tmp_path, slide="P1") == tmp_path / "P1.json" and file.folder == "registration/<block>"
    assert TRIALS.at(tmp_path) == tmp_path / "trials.csv" and TRIALS.folder == ""


def test_text_stays_text_and_empty_cells_are_told_apart(tmp_path):
    rows = [{"target": "007", "class": "NA", "id": "1", "dice": 0.5, "found": "both"}, {"target": "008", "class": "x"}]
    AGREEMENT.write(tmp_path, rows)
    table = AGREEMENT.read(tmp_path)
    assert tuple(table.columns) == AGREEMENT.names
    assert table["target"].tolist() == ["007", "008"] and table["class"].tolist() == ["NA", "x"]
    assert table["source"].tolist() == ["", ""] and table["dice"].isna().tolist() == [False, True]
    assert AGREEMENT.rows(tmp_path)[0]["dice"] == "0.5"
    with pytest.raises(ValueError, match="dict contains fields"):
        AGREEMENT.write(tmp_path, [{"tarrget": "007"}])


def test_a_missing_and_a_broken_table_are_errors_with_a_remedy(tmp_path):
    for read in (AGREEMENT.read, AGREEMENT.rows):
        with pytest.raises(RecordError, match=r"there is no agreement\.csv here yet"):
            read(tmp_path)
    (tmp_path / "agreement.csv").write_bytes(b"target,class\n\xff\xfe,1\n")
    for read in (AGREEMENT.read, AGREEMENT.rows):
        with pytest.raises(RecordError, match=r"agreement\.csv.*: (not a readable table|the text is not UTF-8)"):
            read(tmp_path)
    AGREEMENT.write(tmp_path, [{"dice": "much"}])
    with pytest.raises(RecordError, match="not a readable table"):
        AGREEMENT.read(tmp_path)


def test_a_frame_with_other_columns_is_not_written(tmp_path):
    table = Table("a.csv", "m", "w", columns=(Column("x", "number", "m"), Column("y", "number", "m", optional=True)))
    table.write_frame(tmp_path, pd.DataFrame({"x": [1 / 3]}), float_format="%.2f")
    assert (tmp_path / "a.csv").read_text() == "x\n0.33\n"
    for wrong in ({"y": [1]}, {"y": [1], "x": [1]}, {"x": [1], "z": [1]}):
        with pytest.raises(ValueError, match=r"a\.csv: "):
            table.write_frame(tmp_path, pd.DataFrame(wrong))


def test_columns_that_depend_on_the_study_and_the_column_of_rotations():
    assert PATCHES.faults([*PATCHES.names, "px_glomerulus"]) == []
    assert PATCHES.kinds(["px_glomerulus", "py"]) == {"px_glomerulus": "integer"}
    assert TRAINING.faults(["epoch", "step", "seconds", "loss_task", "val_dice", "val_patients"]) == []
    assert RECORDS.faults(["rotation", *RECORDS.names]) == []
    assert RECORDS.faults([*RECORDS.names, "rotation"]) == ["rotation is not the first column"]
