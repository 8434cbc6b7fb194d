"""New slides: one bad slide costs itself alone, tables count what was found, what was done is kept."""

import contextlib
import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from blob_cohort import COLOURS, make_data, make_job
from make_run import make_run
from scanned_part import BOUNDS, write_scn

from stainda.annotations import read_shapes
from stainda.cli.app import app
from stainda.errors import StaindaError
from stainda.pool import Outcome
from stainda.prediction import Wanted
from stainda.progress import SILENT
from stainda.study.choosing import choose_job
from stainda.study.engines import prediction_pool
from stainda.study.new_slides import find_slides
from stainda.study.predicting import predict_slides
from stainda.training import train_on

CENTRES = [(60, 70), (150, 60), (110, 150), (210, 180), (40, 200)]


def section(domain="PAS@A", size=(261, 253)):
    """Five discs of radius 9 on tissue, glass around; sides that no tile or cell divides."""
    tissue, own, _ = (np.asarray(colour) for colour in COLOURS[domain])
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    image = np.ones((size[1], size[0], 3))
    image[15:245, 15:245] = tissue
    for cx, cy in CENTRES:
        image[(x - cx) ** 2 + (y - cy) ** 2 < 81] = own
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def train(folder, strategy):
    job = make_job(strategy, epochs=4, steps_per_epoch=12, targets=("SR@A",))
    train_on(job, make_data(job), folder)
    settings = json.loads((folder / "settings.json").read_text())
    settings["task"]["min_object_px"] = 60  # a network of 48 steps sees specks
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return train(tmp_path_factory.mktemp("jobs") / "plain", {})


@pytest.fixture(scope="module")
def adabn(tmp_path_factory):
    return train(tmp_path_factory.mktemp("jobs") / "adabn", {"name": "adabn", "norm": "per_domain"})


@pytest.fixture
def folder(tmp_path):
    """Three slides, one of them none, and a file of another kind."""
    place = tmp_path / "slides"
    place.mkdir()
    Image.fromarray(section()).save(place / "one.png")
    tifffile.imwrite(place / "two.ome.tif", section(), photometric="rgb", metadata={
        "axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm"})  # fmt: skip
    (place / "bad.tif").write_bytes(b"II*\0 but no slide")
    (place / "notes.txt").write_text("not a slide")
    return place


@pytest.fixture(scope="module")
def run(job, tmp_path_factory):
    """A run of several strategies; the job that is best of all has been trained."""
    made = make_run(tmp_path_factory.mktemp("runs") / "made", strategies=("source_only", "hed_augmentation", "oracle"),
                    registration=False, evidence=False)  # fmt: skip
    best = choose_job(made).folder
    for file in job.iterdir():
        shutil.copy(file, best / file.name)
    return made


def test_a_run_and_a_folder_with_one_bad_slide(run, folder, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["predict", str(run), str(folder), "--out", str(out), "--mpp", "0.5"])
    assert isinstance(result.exception, StaindaError) and result.exit_code != 0
    assert "1 of 3 slides could not be used; the others are complete" in str(result.exception)
    assert "bad.tif" in str(result.exception)
    best = choose_job(run)
    assert f"job: {best.folder}, seed {best.seed}" in result.output and "HED augmentation" in result.output
    assert "passed over, no slides: notes.txt" in result.output
    assert "objects for QuPath: 2 files" in result.output and "slides.csv" in result.output
    table = pd.read_csv(out / "slides.csv").set_index("slide")
    assert table["status"].to_dict() == {"bad": "failed", "one": "predicted", "two": "predicted"}
    assert "bad.tif" in table.loc["bad", "reason"] and (table["job"] == best.folder.name).all()
    good = table.loc[["one", "two"]]
    assert (good["objects"] == 5).all() and (good["mpp"] == 0.5).all() and (good["seconds"] > 0).all()
    np.testing.assert_allclose(good["tissue_area_mm2"], (230 * 0.5 / 1000) ** 2, rtol=0.05)
    np.testing.assert_allclose(good["density_per_mm2"], 5 / good["tissue_area_mm2"], rtol=1e-3)
    np.testing.assert_allclose(good["object_area_mm2"], 5 * np.pi * 4.5**2 / 1e6, rtol=0.25)
    objects = pd.read_csv(out / "objects.csv")
    assert objects.groupby("slide").size().to_dict() == {"one": 5, "two": 5}
    for name in ("one", "two"):
        features = json.loads((out / f"{name}.geojson").read_text())["features"]
        rows = objects[objects["slide"] == name]
        for feature, row in zip(features, rows.to_dict("records"), strict=True):
            sizes = feature["properties"]["measurements"]
            assert sizes["Area µm^2"] == pytest.approx(row["area_um2"], abs=1e-3)
            assert sizes["Max diameter µm"] == pytest.approx(row["max_diameter_um"], abs=1e-3)
            assert sizes["Equivalent diameter µm"] == pytest.approx(np.sqrt(4 * row["area_um2"] / np.pi), rel=1e-3)
            assert sizes["score"] == pytest.approx(row["score"], abs=1e-4)
            assert 9 * 0.8 < sizes["Max diameter µm"] < 9 * 1.4
    assert {row["path"] for row in csv.DictReader((out / "passed_over.csv").open())} == {str(folder / "notes.txt")}


@pytest.mark.parametrize("where", ["processes", pytest.param("dask", marks=pytest.mark.slow)])
def test_slides_side_by_side_are_predicted_as_one_after_the_other(job, folder, tmp_path, where, monkeypatch):
    """Also of paths that start where this process is, and where a slide cannot be used."""
    monkeypatch.chdir(tmp_path)
    alone = predict_slides(job, ["slides"], "alone", mpp=0.5)
    with contextlib.ExitStack() as stack:
        address = None
        if where == "dask":
            distributed = pytest.importorskip("distributed")
            cluster = stack.enter_context(distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
            ))  # fmt: skip
            with distributed.Client(cluster) as client:
                client.run(os.chdir, "/")
            address = cluster.scheduler_address
        pool = prediction_pool(job, 2, address, SILENT)
        done = predict_slides(job, ["slides"], "many", mpp=0.5, pool=pool)
        assert [result.status for result in done.results] == [result.status for result in alone.results]
        names = {file.name for file in Path("alone").rglob("*") if file.is_file()}
        assert len(names) == 7
        for name in names - {"slides.csv"}:
            [one], [other] = Path("alone").rglob(name), Path("many").rglob(name)
            assert one.read_bytes() == other.read_bytes(), name
        one, other = (pd.read_csv(f"{place}/slides.csv").drop(columns="seconds") for place in ("alone", "many"))
        pd.testing.assert_frame_equal(one.drop(columns="reason"), other.drop(columns="reason"))
        again = predict_slides(job, ["slides"], "many", mpp=0.5, pool=pool)
    assert [result.status for result in again.results] == ["failed", "kept", "kept"]


class _Dies:
    """A pool whose workers die of one slide."""

    count, waiting, running = 1, False, ()

    def __init__(self, function):
        self.function, self.ended, self.deaths = function, [], 0

    @property
    def busy(self):
        return bool(self.ended)

    def submit(self, key, payload, alone=False):
        dead = key == "two"
        self.deaths += dead
        value = None if dead else self.function(key, payload)
        self.ended.append(Outcome(key, value, "it died" if dead else None, unexpected=dead))

    def completed(self, advance, seconds=None):
        ended, self.ended = self.ended, []
        return ended


def test_a_slide_whose_worker_dies_again_is_listed_with_the_reason(job, folder, tmp_path):
    pools = []

    @contextlib.contextmanager
    def pool(function):
        pools.append(_Dies(function))
        yield pools[0]

    done = predict_slides(job, [folder], tmp_path / "out", mpp=0.5, pool=pool)
    assert [result.status for result in done.results] == ["failed", "predicted", "failed"]
    assert pools[0].deaths == 2 and done.results[2].reason == f"{folder / 'two.ome.tif'}: it died"


def test_what_was_done_is_kept_until_something_changes(job, folder, tmp_path):
    out = tmp_path / "out"
    (folder / "bad.tif").unlink()

    def states(**options):
        return [result.status for result in predict_slides(job, [folder], out, **{"mpp": 0.5, **options}).results]

    assert states() == ["predicted", "predicted"]
    before = (out / "objects.csv").read_bytes(), (out / "one.geojson").stat().st_mtime_ns
    assert states() == ["kept", "kept"]
    assert ((out / "objects.csv").read_bytes(), (out / "one.geojson").stat().st_mtime_ns) == before
    assert pd.read_csv(out / "slides.csv")["objects"].tolist() == [5, 5]
    os.utime(folder / "one.png")
    assert states() == ["kept", "kept"], "another time is no other slide"
    assert states(overwrite=True) == ["predicted", "predicted"]
    (out / "one.geojson").unlink()
    assert states() == ["predicted", "kept"]
    assert states(wanted=Wanted(maps=True)) == ["predicted", "predicted"]
    assert states(threshold=0.3) == ["predicted", "predicted"]
    Image.fromarray(section("SR@A")).save(folder / "one.png")
    assert states(threshold=0.3) == ["predicted", "kept"]


def test_slides_of_one_name_are_kept_apart(job, tmp_path):
    places = []
    for centre in "ab":
        places.append(tmp_path / centre / "x.png")
        places[-1].parent.mkdir()
        Image.fromarray(section()).save(places[-1])
    out = tmp_path / "out"
    done = predict_slides(job, places, out)
    assert [result.slide for result in done.results] == ["a_x", "b_x"]
    assert sorted(path.name for path in out.glob("*.geojson")) == ["a_x.geojson", "b_x.geojson"]
    alone, later = tmp_path / "alone", []
    for place in places:  # in two calls
        later += [result.slide for result in predict_slides(job, [place], alone).results]
    assert later == ["x", "x.png"] and len(list(alone.glob("*.geojson"))) == 2
    assert [result.status for result in predict_slides(job, places, alone).results] == ["kept", "kept"]


def test_names_are_those_of_qupath_and_never_the_same(tmp_path):
    def names(*files):
        return [slide.name for slide in find_slides([tmp_path / file for file in files]).slides]

    assert names("x.ome.tif", "y.svs", "z_2.5um.svs") == ["x", "y", "z_2.5um"]
    assert names("x.ome.tif", "x.svs") == ["x.ome.tif", "x.svs"]
    assert names("a/x.svs", "b/x.svs", "a/x.svs") == ["a_x", "b_x"]
    assert names("p/a/x.svs", "q/a/x.svs") == ["p_a_x", "q_a_x"]
    odd = names("a/x.svs", "b/X.svs", "a_x.svs", "con.svs")
    assert len({name.casefold() for name in odd}) == 4 and "con" not in odd
    with pytest.raises(StaindaError, match="no slide in"):
        find_slides([_empty(tmp_path / "empty")])


def _empty(path):
    path.mkdir()
    return path


def test_a_manifest_tells_pixel_size_and_domain_of_its_rows(adabn, tmp_path):
    for name in ("one", "two", "three"):
        Image.fromarray(section("SR@A")).save(tmp_path / f"{name}.png")
    manifest = tmp_path / "new.csv"
    manifest.write_text(
        "slide,patient,block,section,stain,centre,path,mpp\n"
        "one,P1,B1,1,SR,A,one.png,0.25\ntwo,P1,B1,2,JONES,Z,two.png,0.5\n"
        "three,P2,B2,1,SR,A,three.png,minus\ngone,P3,B3,1,SR,A,gone.png,\n"
    )
    done = predict_slides(adabn, [manifest], tmp_path / "out")
    assert [result.status for result in done.results] == ["predicted", "predicted", "failed", "failed"]
    one, two, three, gone = done.results
    assert (one.row["mpp"], two.row["mpp"]) == (0.25, 0.5)
    assert one.row["domain"] == "SR@A" and "batch statistics of SR@A, from its training" in one.row["notes"]
    assert "JONES@Z is none of the domains" in two.row["notes"] and "re-estimated from" in two.row["notes"]
    assert "row 4: mpp 'minus'" in three.reason and "gone.png: there is no such file" in gone.reason
    assert any("kept per domain" in note for note in done.notes)


def test_stain_and_centre_choose_the_statistics(adabn, tmp_path):
    Image.fromarray(section("SR@A")).save(tmp_path / "one.png")

    def note(**options):
        [one] = predict_slides(adabn, [tmp_path / "one.png"], tmp_path / "out", overwrite=True, **options).results
        return one.row["notes"]

    assert "of SR@A, from its training patches" in note(stain="sr", centre="A")
    assert note().startswith("batch statistics re-estimated from")
    assert note(stain="SR").startswith("domain not known: centre not reported; batch statistics re-estimated")


def test_a_strategy_that_compares_sections_says_what_is_left_out(tmp_path):
    folder = train(tmp_path / "job", {"name": "agreeing", "after": "cross_stain_agreement"})
    Image.fromarray(section()).save(tmp_path / "one.png")
    done = predict_slides(folder, [tmp_path / "one.png"], tmp_path / "out")
    assert done.results[0].n_objects == 5
    assert len(done.notes) == 1 and "that step is left out" in done.notes[0]


def test_maps_open_elsewhere(job, tmp_path):
    openslide = pytest.importorskip("openslide")
    large = np.full((1100, 1300, 3), 255, np.uint8)
    large[:253, :261] = section()
    Image.fromarray(large).save(tmp_path / "one.png")
    [one] = predict_slides(job, [tmp_path / "one.png"], tmp_path / "out", mpp=0.5,
                           wanted=Wanted(maps=True, overlay=True)).results  # fmt: skip
    path = tmp_path / "out" / "maps" / "one.ome.tif"
    assert path in one.files
    with tifffile.TiffFile(path) as file:
        assert file.is_ome and file.series[0].shape == (1100, 1300) and len(file.series[0].levels) == 3
        assert 'Name="glomerulus"' in file.ome_metadata and 'PhysicalSizeX="0.5"' in file.ome_metadata
        found = file.series[0].asarray()
        assert file.pages.first.is_tiled
        small = file.series[0].levels[2].asarray()
    assert found[150, 110] > 200 and found[700:].max() == 0
    np.testing.assert_allclose(small[30:40, 20:30], found[120:160, 80:120].reshape(10, 4, 10, 4).mean((1, 3)), atol=1.5)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (1300, 1100)
        seen = np.asarray(slide.read_region((100, 140), 0, (20, 20)))[..., 0]
    np.testing.assert_array_equal(seen, found[140:160, 100:120])
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "one.jpg"))
    assert overlay.shape == (1100, 1300, 3)
    greens = np.argwhere((overlay[..., 1] > 150) & (overlay[..., 0] < 90))
    distances = np.min([np.hypot(*(greens[:, ::-1] + 0.5 - centre).T) for centre in CENTRES], axis=0)
    assert len(greens) > 100 and np.abs(distances - 9).max() < 4


def test_coordinates_are_those_of_qupath_on_slides_with_a_scanned_part(job, tmp_path):
    slide = write_scn(tmp_path / "leica.scn")
    level0 = []
    for origin, corner in (("auto", BOUNDS[:2]), ("bounds", BOUNDS[:2]), ("level0", (0, 0))):
        [one] = predict_slides(job, [slide], tmp_path / origin, threshold=1e-9, wanted=Wanted(origin=origin)).results
        document = json.loads(one.geojson.read_text())
        assert document["stainda"].get("bounds", (0, 0))[:2] == (list(corner) if corner != (0, 0) else (0, 0))
        shapes = read_shapes(one.geojson)
        level0.append(shapes.total_bounds)
        first = np.asarray(document["features"][0]["geometry"]["coordinates"][0])
        np.testing.assert_allclose(first + corner, np.asarray(shapes.geometry.iloc[0].exterior.coords))
    np.testing.assert_allclose(level0, [level0[0]] * 3)
    assert level0[0][0] < 700 and level0[0][2] > 1500, "the tissue is from 680 to 1560"


def test_no_pixel_size_no_micrometres(job, tmp_path):
    Image.fromarray(section()).save(tmp_path / "one.png")
    [one] = predict_slides(job, [tmp_path / "one.png"], tmp_path / "out").results
    assert one.row["density_per_mm2"] is None and one.row["mpp"] is None
    names = set(json.loads(one.geojson.read_text())["features"][0]["properties"]["measurements"])
    assert names == {"Area px^2", "Max diameter px", "Equivalent diameter px", "score"}
    bounds = read_shapes(one.geojson).total_bounds
    assert (bounds >= 0).all() and bounds[2] <= 261 and bounds[3] <= 253


def test_a_map_on_disk_gives_the_same(job, tmp_path, monkeypatch):
    Image.fromarray(section()).save(tmp_path / "one.png")
    wanted = Wanted(maps=True)
    [one] = predict_slides(job, [tmp_path / "one.png"], tmp_path / "memory", wanted=wanted).results
    monkeypatch.setattr("stainda.prediction.objects.LARGE", 100)
    monkeypatch.setattr("stainda.prediction.components.BAND_VALUES", 3000)
    [two] = predict_slides(job, [tmp_path / "one.png"], tmp_path / "disk", wanted=wanted).results
    a, b = read_shapes(one.geojson), read_shapes(two.geojson)
    assert len(a) == len(b) == 5
    np.testing.assert_allclose(a.area, b.area, rtol=1e-2)
    for folder in ("memory", "disk"):
        assert tifffile.imread(tmp_path / folder / "maps" / "one.ome.tif").shape == (253, 261)
