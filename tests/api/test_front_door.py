"""``import stainda as st``: light, complete for editors, and the same as the commands."""

import ast
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from report.make_run import make_run
from startup_cases import HEAVY, environment
from typer.testing import CliRunner

import stainda as st
from stainda.cli.app import app

PACKAGE = Path(st.__file__).parent


def _printed(code):
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    return out.stdout.split()


def test_importing_it_takes_less_than_a_third_of_a_second_and_asking_for_the_verbs_imports_nothing_heavy():
    code = (
        "import time, sys; import stainda as st; spent = time.process_time()\n"
        "verbs = [getattr(st, name) for name in st.__all__ if name not in ('Cohort', 'Transform')]\n"
        f"print(spent, *({set(HEAVY)} & set(sys.modules)))"
    )
    spent, *heavy = _printed(code)
    assert float(spent) < 0.3 and not heavy


def test_no_name_of_it_imports_torch_or_tables():
    code = (
        "import sys, stainda as st; [getattr(st, name) for name in st.__all__]\n"
        "print(*({'torch', 'pandas', 'geopandas', 'matplotlib', 'valis', 'optuna'} & set(sys.modules)))"
    )
    assert _printed(code) == []


def test_editors_and_type_checkers_see_every_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING")
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen == set(st.__all__) and len(st.__all__) == len(set(st.__all__))
    assert set(st.__all__) <= set(dir(st)) and "__version__" in dir(st)
    assert all(getattr(st, name) is not None for name in st.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'registre'"):
        st.registre  # noqa: B018


def test_the_verb_phantom_stays_when_the_room_phantom_is_imported():
    code = (
        "import stainda as st\nfrom stainda.phantom import make_cohort\nimport stainda.phantom.section\n"
        "print(callable(st.phantom), st.phantom.__module__)"
    )
    assert _printed(code) == ["True", "stainda.api.verbs"]


def test_a_cohort_is_a_table_and_shows_itself(desk):
    text = (desk / "mine.csv").read_text().replace("P1,P1,1,PAS", "P1,P1,1,PAS<b>")
    Path("mine.csv").write_text(text.replace("slides/P0_SR.geojson", "slides/P0_SR.geojson;slides/P1_SR.geojson"))
    cohort = st.read_manifest("mine.csv")
    table = cohort.to_frame()
    assert len(table) == len(cohort) == 10
    assert table.loc[1, "annotations"].count(";") == 1 and table.loc[1, "annotations"].endswith("P1_SR.geojson")
    assert table["path"].map(lambda path: Path(path).is_file()).all()
    assert table["domain"].tolist() == [cohort.domain(section) for section in cohort]
    assert len(repr(cohort)) < 150 and "10 sections" in repr(cohort)
    html = cohort._repr_html_()
    assert "PAS&lt;b&gt;@A" in html and "<b>" not in html
    for row in cohort.where(domains=["SR@A"])._repr_html_().split("<tr>")[-1:]:
        assert row.startswith("<td>SR@A</td><td>5</td><td>5</td><td>5</td>")


def test_registering_and_propagating_do_what_the_commands_do(desk):
    registration = st.register(st.read_manifest("mine.csv"), out="python", method="identity", workers=1)
    labels = st.propagate(registration, sources="PAS", classes="glomerulus")
    for words in (
        ["propagate", "mine.csv", "--out", "python", "--from", "PAS", "--classes", "glomerulus"],
        ["propagate", "mine.csv", "--out", "python", "--from", "HE"],
    ):
        done = CliRunner().invoke(app, words)
        if done.exit_code == 0:
            again = pd.read_csv("python/annotations/propagation.csv")
            pd.testing.assert_frame_equal(again[["id", "status"]], labels.table[["id", "status"]])
        else:
            with pytest.raises(st.StaindaError) as error:
                st.propagate(registration, sources="HE")
            assert str(done.exception) == str(error.value)
    assert "Registration(python: 5 blocks" in repr(registration) and repr(labels) == "Propagation(python: 20 kept)"
    assert "P0_SR" in registration._repr_html_() and "P0_SR" in labels._repr_html_()
    assert labels.to_frame()["slide"].unique().tolist() == list(labels)
    assert labels["P3_SR"].geometry.iloc[0].centroid.distance(
        st.read_shapes("slides/P3_PAS.geojson").geometry.iloc[0].centroid
    ) < 1  # fmt: skip


def test_only_the_sections_of_the_cohort_that_is_given_are_registered(desk):
    cohort = st.read_manifest("mine.csv")
    some = type(cohort)(tuple(section for section in cohort if section.block in ("P1", "P3")), source=cohort.source)
    assert st.register(some, out="some", method="identity", workers=1).blocks == ("P1", "P3")


def test_a_registration_names_what_it_lacks(desk):
    with pytest.raises(st.StaindaError, match="nothing is registered here"):
        st.Registration("nowhere")
    with pytest.raises(st.StaindaError, match=r"names no run directory.*runs/mine"):
        st.register(st.read_manifest("mine.csv"))
    with pytest.raises(st.StaindaError, match=r"'methd'.*method"):
        st.register("mine.csv", out="x", methd="identity")
    registration = st.register("mine.csv", out="python", method="identity", workers=1)
    with pytest.raises(st.StaindaError, match="Did you mean 'P0_SR'"):
        registration.transform("P0_SR ")
    with pytest.raises(st.StaindaError, match="does not say where the annotations are"):
        st.propagate(st.Registration("python"))
    labels = st.propagate("mine.csv", out="python")
    with pytest.raises(st.StaindaError, match=r"nothing was propagated to 'P9_SR'.*P0_SR"):
        labels["P9_SR"]
    assert "P9_SR" not in labels and labels.get("P9_SR") is None


def test_changes_to_shapes_are_told(desk):
    Path("crossed.geojson").write_text(
        '{"type": "Feature", "properties": {"classification": {"name": "glomerulus"}}, "geometry": {"type": "Polygon",'
        ' "coordinates": [[[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]]]}}'
    )
    [change] = st.read_shapes("crossed.geojson").attrs["changes"]
    assert change["class"] == "glomerulus" and change["reason"]
    with pytest.raises(st.StaindaError, match="origin"):
        st.read_shapes("crossed.geojson", origin="corner")


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    names = ("source_only", "macenko", "dann")  # a training of macenko failed
    return make_run(tmp_path_factory.mktemp("made") / "007", strategies=names, test_patients=4)


def test_a_run_shows_itself_and_lists_the_kinds_it_can_draw(made_run):
    run = st.load_run(made_run)
    assert run.strategies == ("source_only", "macenko", "dann") and "PAS@A" in run.domains
    assert len(repr(run)) < 200 and "3 strategies, 8 domains" in repr(run)
    assert "failed trainings" in repr(run) and "macenko" in run.failures[1] and run.failures[0] in run._repr_html_()
    assert run.study.question in run._repr_html_()
    with pytest.raises(st.StaindaError) as error:
        run.plot("forrest")
    assert "Did you mean 'forest'" in str(error.value)
    assert all(kind in str(error.value) for kind in run.kinds)
    with pytest.raises(st.StaindaError, match="dice"):
        run.plot("forest", metric="dise")
    with pytest.raises(st.StaindaError, match="report is not made"):
        run.report  # noqa: B018
    with pytest.raises(st.StaindaError, match=r"no results\.csv here yet"):
        run.results  # noqa: B018
    assert run.answer == ""


def test_trainings_that_failed_are_a_warning(made_run, monkeypatch):
    monkeypatch.setattr("stainda.study.run_study", lambda *given, **options: made_run, raising=False)
    with pytest.warns(UserWarning, match=r"trainings failed.*\n.*macenko"):
        st.run("any.yaml")


def test_the_figure_of_a_run_is_that_of_the_command(made_run, tmp_path):
    out = tmp_path / "forest.svg"
    done = CliRunner().invoke(
        app, ["plot", str(made_run), "--kind", "forest", "--metric", "object_f1", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    figure = st.load_run(made_run).plot("forest", metric="object_f1")

    def texts(axes):
        return [text.get_text() for text in axes.texts] + [axes.get_title(), axes.get_xlabel()]

    from stainda.report import make_plot

    twin = make_plot(made_run, "forest", "object_f1").figure
    assert [texts(axis) for axis in figure.axes] == [texts(axis) for axis in twin.axes]


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(st.StaindaError, match=r"not a run directory.*study\.yaml"):
        st.load_run(tmp_path)


def test_names_that_look_like_numbers_stay_names(tmp_path):
    run = make_run(tmp_path / "run", strategies=("source_only",), test_patients=2)
    (run / "results.csv").write_text(
        "strategy,stain,centre,selection,measure,mean,low,high,n_patients,n_seeds,domain,role,class,interval_kind,note\n"
        "source_only,001,2,source_validation,dice,0.5,,0.75,4,1,001@2,target,glomerulus,range,\n"
        "source_only,NA,2,source_validation,dice,,,,0,1,NA@2,target,glomerulus,none,x\n"
    )
    table = st.load_run(run).results
    assert table["stain"].tolist() == ["001", "NA"] and table["centre"].tolist() == ["2", "2"]
    assert table["note"].tolist() == ["", "x"] and table["n_patients"].tolist() == [4, 0]
    assert table["mean"].isna().tolist() == [False, True] and table["high"].tolist()[0] == 0.75
    assert table.to_csv(index=False).splitlines()[0] == (run / "results.csv").read_text().splitlines()[0]


def test_a_study_of_several_rotations_says_where_its_objects_are(tmp_path):
    run = make_run(tmp_path / "run", strategies=("source_only",), test_patients=2)
    inner = run / "rotations" / "without_B"
    (inner / "annotations" / "propagated").mkdir(parents=True)
    (run / "objects.parquet").replace(inner / "objects.parquet")
    with pytest.raises(st.StaindaError, match="rotations/without_B"):
        st.load_run(run).objects  # noqa: B018


def test_slides_that_cannot_be_used_are_an_error_that_names_them(finished):
    Path("slides/broken.png").write_bytes(b"no picture")
    with pytest.raises(st.StaindaError, match=r"1 of 2 slides.*the others are complete.*broken\.png"):
        st.predict("runs/mine", ["slides/P0_SR.png", "slides/broken.png"], mpp=2.0, strategy="adabn")
    assert Path("predictions/P0_SR.geojson").is_file()
    shapes = st.predict("runs/mine", "slides/P0_SR.png", mpp=2.0, strategy="adabn", progress=False)
    assert pd.read_csv("predictions/slides.csv").set_index("slide").loc["P0_SR", "status"] == "kept"
    assert len(shapes) == pd.read_csv("predictions/slides.csv").set_index("slide").loc["P0_SR", "objects"]
    assert set(shapes["slide"]) <= {"P0_SR"} and Path(shapes.attrs["job"]).is_dir()
