"""Names of files: no two names share a file, no ending is halved, and one module knows how."""

from __future__ import annotations

import ast
import gzip
import itertools
import unicodedata
from pathlib import Path

import pytest

from stainda import names
from stainda.annotations.formats.adjacent import adjacent_annotations
from stainda.annotations.formats.registry import read_annotations
from stainda.cohort.manifest import inspect_manifest
from stainda.names import ending, existing, file_name, file_names, format_ending, joined_name, same_name, stem
from stainda.report.gallery import Field

PACKAGE = Path(names.__file__).parent
COMPOSED = unicodedata.normalize("NFC", "Müller Å")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
ALIKE = [
    "A 1", "A_1", "A-1", "A/1", "A\\1", "A:1", "A.1", "A1", "A 1 ", " A 1", "A 1.", "A  1", "a 1", "_A_1", ".A_1",
    COMPOSED, DECOMPOSED, "M_ller _", "患者一", "患者二", "___", "患", "者", "α", "β", "Ω", "\u2126", "",
    "con", "CON", "nul", "NUL.txt", "com1", "lpt9", "aux.b", "x" * 300, "x" * 299 + "y", "x" * 120, "x" * 121,
    "a\nb", "a\tb", "a?b", "a*b", "😀", "😁", "..", ".", "-", "B1__HE", "B1_-HE",
]  # fmt: skip


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def test_different_names_have_different_files_that_every_disk_can_hold():
    found = {name: file_name(name) for name in ALIKE}
    assert len(set(found.values())) == len(set(ALIKE))
    for name in [*found.values(), *(file_name(one) for one in found.values())]:
        assert name.isascii()
        assert 0 < len(name) <= 120
        assert not set(name) & set('/\\:*?"<>|\n\t')
        assert name[0] not in ". " and name[-1] not in ". "
        assert name.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt9")


def test_a_name_that_is_a_file_name_stays_readable():
    for name in ("P01_B1_03_PAS", "A 1", "A-1", "S1_2.5um", "HE@A", "a+b"):
        assert file_name(name) == name


def test_a_hash_cannot_be_imitated():
    assert file_name(file_name("A/1")) != file_name("A/1")
    assert file_name("_" + file_name("A/1")) != file_name("A/1")


def test_a_set_of_names_does_not_meet_on_a_disk_that_folds_case():
    found = file_names([*ALIKE, "pas", "PAS", "Pas"])
    assert len({folded(name) for name in found.values()}) == len(found)
    assert file_names(["PAS", "HE"]) == {"PAS": "PAS", "HE": "HE"}


def test_several_parts_make_one_name_each():
    parts = ["a", "b", "a__b", "b__a", "a_", "_b", "_", "__", "a/b", "患", "x" * 300, "a__b__a"]
    found = {one: joined_name(*one) for one in itertools.product(parts, repeat=3)}
    assert len(set(found.values())) == len(found)
    assert max(map(len, found.values())) <= 120
    assert joined_name("B1", "HE", "PAS") == "B1__HE__PAS"


@pytest.mark.parametrize(
    ("name", "base", "end", "written_as"),
    [
        ("x.ome.tif", "x", ".ome.tif", ".tif"), ("x.OME.TIFF", "x", ".ome.tiff", ".tiff"),
        ("x.geojson.gz", "x", ".geojson.gz", ".geojson"), ("x.nii.gz", "x", ".nii.gz", ".nii"),
        ("x.svs", "x", ".svs", ".svs"), ("S1_2.5um.svs", "S1_2.5um", ".svs", ".svs"), ("x", "x", "", ""),
        (".ome.tif", ".ome", ".tif", ".tif"), ("a.b.tif", "a.b", ".tif", ".tif"), ("x.gz", "x", ".gz", ".gz"),
        ("some.gene.tif", "some.gene", ".tif", ".tif"),
    ],
)  # fmt: skip
def test_endings(name, base, end, written_as):
    assert (stem(name), ending(name), format_ending(name)) == (base, end, written_as)
    assert names.with_ending(f"d.e/{name}", ".csv") == Path("d.e") / f"{base}.csv"


def test_same_name():
    assert same_name(COMPOSED) == same_name(DECOMPOSED) == same_name("MÜLLER  å")
    assert same_name("Muller") != same_name("Müller")


@pytest.mark.parametrize(("stored", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_path_is_found_in_the_other_unicode_form(stored, asked, tmp_path):
    folder = tmp_path / stored
    folder.mkdir()
    (folder / f"{asked}.svs").write_bytes(b"x")  # folder and file of different forms
    for path in (tmp_path / asked / f"{asked}.svs", tmp_path / asked / f"{stored}.svs"):
        assert existing(path).is_file()
    assert existing(tmp_path / "no" / f"{asked}.svs") == tmp_path / "no" / f"{asked}.svs"


HEADER = "slide,patient,block,section,stain,centre,path"


@pytest.mark.parametrize(("stored", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_manifest_finds_the_file_in_the_other_form(stored, asked, tmp_path):
    (tmp_path / f"{stored}.svs").write_bytes(b"x")
    (tmp_path / "m.csv").write_text(f"{HEADER}\n{asked},P,B,1,HE,A,{asked}.svs\n", "utf-8")
    report = inspect_manifest(tmp_path / "m.csv")
    assert not report.faults
    assert report.sections[0].path.is_file()


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("slide", COMPOSED, DECOMPOSED), ("slide", "Pas", "PAS"), ("block", COMPOSED, DECOMPOSED), ("block", "b", "B"),
        ("stain", COMPOSED, DECOMPOSED), ("centre", COMPOSED, DECOMPOSED), ("patient", COMPOSED, DECOMPOSED),
    ],
)  # fmt: skip
def test_names_that_differ_only_by_case_or_unicode_form_are_a_fault(column, one, other, tmp_path):
    rows = []
    for number, value in enumerate((one, other), start=1):
        row = {"slide": f"s{number}", "patient": "P", "block": "B", "section": str(number), "stain": "HE",
               "centre": "A", "path": f"{number}.svs", column: value}  # fmt: skip
        rows.append(",".join(row.values()))
    (tmp_path / "m.csv").write_text("\n".join([HEADER, *rows]), "utf-8")
    report = inspect_manifest(tmp_path / "m.csv", check_files=False)
    assert any(fault.row == 3 and column in fault.message for fault in report.faults)


def test_the_gallery_names_a_picture_for_each_slide():
    fields = [Field(name, "d", "source", "", 1, 1, ()) for name in ALIKE]
    assert len({field.file for field in fields}) == len(set(ALIKE))


GEOJSON = (
    b'{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon", '
    b'"coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}, "properties": {"classification": {"name": "g"}}}]}'
)


@pytest.mark.parametrize("slide", ["x.ome.tif", "x.ome.tiff", "x.OME.TIF"])
@pytest.mark.parametrize(
    "name", ["x.geojson", "x.ome.geojson", "{slide}.geojson", "x.geojson.gz", "x_annotations.geojson", "X.geojson"]
)
def test_annotations_beside_a_slide_of_a_compound_ending_are_found(slide, name, tmp_path):
    path = tmp_path / name.format(slide=slide)
    path.write_bytes(gzip.compress(GEOJSON) if name.endswith(".gz") else GEOJSON)
    (tmp_path / "x2.geojson").write_bytes(GEOJSON)
    assert adjacent_annotations(tmp_path / slide) == [path]
    assert list(read_annotations(path)["class"]) == ["g"]


def test_annotations_are_found_in_the_other_unicode_form_and_beside_names_with_dots(tmp_path):
    (tmp_path / f"{DECOMPOSED}.geojson").write_bytes(GEOJSON)
    assert len(adjacent_annotations(tmp_path / f"{COMPOSED}.svs")) == 1
    (tmp_path / "S1_2.5um.geojson").write_bytes(GEOJSON)
    (tmp_path / "S1_2.geojson").write_bytes(GEOJSON)
    assert adjacent_annotations(tmp_path / "S1_2.5um.svs") == [tmp_path / "S1_2.5um.geojson"]


# where a path's own ``stem`` and ``suffix`` are right: its ending has one part, it is no slide and no annotation
OWN_ENDINGS = {
    "names.py": "the one place that knows endings",
    "files.py": "the name of a file that is being written; only its last part must stay",
    "config/pieces.py": "pieces of a study are NAME.yaml",
    "models/weight_files.py": "weights are .safetensors",
    "run_directory/declaration.py": "tables are .parquet",
    "cohort/scan.py": "x.ome.geojson next to x.ome.tif: the older spelling of the name is looked for as well",
    "annotations/unpacking.py": "what is in an archive, after the ending of the packing was taken off",
    "annotations/formats/registry.py": "the ending of a member of an archive, of unpacking.py",
    "annotations/formats/cytomine.py": "the ending of a member of an archive, of unpacking.py",
    "annotations/geojson.py": "the ending of a member of an archive, of unpacking.py",
    "cli/predict.py": "files that stainda predict wrote itself",
    "study/slide_prediction.py": "files that stainda predict wrote itself",
}


def test_only_one_module_takes_names_of_slides_apart():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Attribute) and node.attr in ("stem", "suffix", "with_suffix", "with_stem")):
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id == "names"):  # stainda.names itself
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == set(OWN_ENDINGS), "use stainda.names, and list no file that does"


NAMED = ("slide", "block", "stain", "strategy", "domain", "centre", "patient", "annotator")


def _raw(node: ast.JoinedStr) -> list[str]:
    """The names that an f-string with a file's ending puts into the name as they are."""
    last = node.values[-1]
    if not (isinstance(last, ast.Constant) and str(last.value).startswith(".") and 3 < len(last.value) < 10):
        return []
    values = [one.value for one in node.values if isinstance(one, ast.FormattedValue)]
    ids = [
        one.attr if isinstance(one, ast.Attribute) else one.id
        for one in values
        if hasattr(one, "attr") or hasattr(one, "id")
    ]
    return [one for one in ids if one in NAMED]


def test_no_file_is_named_after_a_slide_without_file_name():
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr) and _raw(node):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {_raw(node)}")
    assert not found, "use stainda.names.file_name"
