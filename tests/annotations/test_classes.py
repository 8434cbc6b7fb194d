"""Tables of class names: what is mapped, ignored, dropped, and what nobody knows."""

from __future__ import annotations

import pytest
import shapely

from stainda.annotations import (
    IGNORE,
    ClassMap,
    PixelGrid,
    class_key,
    convert_annotations,
    make_shapes,
    matched_classes,
    rasterise,
    read_class_table,
    read_shapes,
    unknown_classes,
    write_geojson,
)
from stainda.errors import AnnotationError

NAMES = {"Glom": "glomerulus", "Glomerulus (sclerotic)": "glomerulus", "Artefact": "ignore", "Tubule": "drop"}


def boxes(*classes):
    return make_shapes([shapely.box(10 * i, 0, 10 * i + 10, 10) for i in range(len(classes))], list(classes))


def test_classes_are_mapped_ignored_dropped_and_counted():
    table = ClassMap.of(NAMES, known=["glomerulus"])
    given = boxes("Glom", "Glom", "Glomerulus (sclerotic)", "Artefact", "Tubule", "glomerulus", "vessel")
    shapes, rows = table.apply(given)
    assert shapes["class"].tolist() == ["glomerulus"] * 3 + [IGNORE, "glomerulus", "vessel"]
    assert {row["class"]: (row["becomes"], row["what"], row["shapes"]) for row in rows} == {
        "Glom": ("glomerulus", "mapped", 2),
        "Glomerulus (sclerotic)": ("glomerulus", "mapped", 1),
        "Artefact": (IGNORE, "ignored", 1),
        "Tubule": ("", "dropped", 1),
        "glomerulus": ("glomerulus", "kept", 1),
        "vessel": ("vessel", "unknown", 1),
    }
    assert given["class"].tolist()[0] == "Glom", "what was given is not changed"


def test_ignored_shapes_become_ignored_pixels_and_never_background():
    from stainda.annotations import IGNORE_CLASSES

    shapes, _ = ClassMap.of(NAMES).apply(boxes("Glom", "Artefact", "Tubule"))
    ignored = shapes[shapes["class"].isin(IGNORE_CLASSES)]
    labels = rasterise(shapes, ["glomerulus"], PixelGrid(0, 0, 3, 1, 10), ignored)
    assert labels.tolist() == [[1, 255, 0]]


def test_spelling_is_forgiven_but_an_exact_rule_goes_first():
    table = ClassMap.of({"Glom": "glomerulus", "GLOM": "ignore"})
    assert table.becomes("Glom")[0] == "glomerulus" and table.becomes("GLOM")[0] == IGNORE
    assert table.becomes("  glom ")[0] == "glomerulus"
    assert table.becomes("Ignore*") == (IGNORE, "ignored"), "QuPath's own needs no rule"


def test_a_rule_for_a_centre_or_format_goes_before_one_for_all(tmp_path):
    (tmp_path / "map.csv").write_text(
        "from,to,centre,format\n1,glomerulus,,\n1,tubule,B,\n1,ignore,B,mask\n1,drop,,voc\n"
    )
    table = read_class_table(tmp_path / "map.csv")
    found = [table.becomes("1", *place)[0] for place in (("A", ""), ("B", "asap"), ("B", "mask"), ("A", "voc"))]
    assert found == ["glomerulus", "tubule", IGNORE, ""]


def test_unknown_classes_are_told_with_the_nearest_name():
    table = ClassMap.of({"Glom": "glomerulus"}, known=["glomerulus", "tubule"])
    _, rows = table.apply(boxes("Glomerulis", "Tubulez", "xyz", "xyz", ""))
    assert unknown_classes([*rows, *rows]) == [
        "(no class) (2 shapes)",
        "Glomerulis (2 shapes, perhaps 'glomerulus')",
        "Tubulez (2 shapes, perhaps 'tubule')",
        "xyz (4 shapes)",
    ]


def test_convert_ignores_and_drops_and_says_so(tmp_path):
    write_geojson(boxes("Glom", "Artefact", "Tubule", "Glommerulus"), tmp_path / "in.geojson")
    (tmp_path / "map.csv").write_text("from,to\nGlom,glomerulus\nArtefact,ignore\nTubule,drop\n")
    contents = convert_annotations(
        tmp_path / "in.geojson", tmp_path / "out.geojson", classes=read_class_table(tmp_path / "map.csv")
    )
    assert sorted(read_shapes(tmp_path / "out.geojson")["class"]) == ["Glommerulus", IGNORE, "glomerulus"]
    told = {row[0]: row[1:3] for row in contents.changes}
    assert told["Tubule"] == ("dropped", "the table of classes drops its class")
    assert told["Glommerulus"][0] == "kept" and "'Glom'" in told["Glommerulus"][1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from,to,center\na,b,c\n", "not 'from' and 'to'"),
        ("from,to\na,\n", r"row 2.*'a' has no new name.*drop"),
        ("from,to,centre\na,b,X\na,c,X\n", r"row 3.*two new names"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(text, reason, tmp_path):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(AnnotationError, match=reason):
        read_class_table(tmp_path / "map.csv")


@pytest.mark.parametrize(
    ("drawn", "asked"),
    [
        ("Glomerulus", "glomerulus"), ("glomeruli", "glomerulus"), ("GLOMERULUS", "glomerulus"),
        ("Glomerulus ", "glomerulus"), ("Nuclei", "nucleus"), ("nucleus", "Nuclei"), ("tubules", "tubule"),
        ("Tubuli", "tubulus"), ("Papillae", "papilla"), ("arteries", "artery"), ("Vessel lumen", "vessel_lumen"),
        ("vessel lumina", "vessel_lumen"), ("Mitoses", "mitosis"), ("Casts", "cast"), ("Sclerotic-Glomeruli",
        "sclerotic glomerulus"), ("boxes", "box"), ("Septa", "septum"), ("Adenomata", "adenoma"),
    ],
)  # fmt: skip
def test_a_class_is_matched_in_any_case_and_number(drawn, asked):
    assert ClassMap.of({}, known=["other", asked]).becomes(drawn) == (asked, "matched")
    assert ClassMap.of({asked: "target"}).becomes(drawn) == ("target", "mapped"), "so is the old name of a rule"
    assert ClassMap.of({"xyz": drawn}, known=[asked]).becomes("xyz") == (asked, "mapped"), "and the new one"


@pytest.mark.parametrize(
    ("one", "other"),
    [("glomerulus", "tubule"), ("artery", "arteriole"), ("nucleus", "nucleolus"), ("cast", "cas"), ("mass", "mas")],
)
def test_different_things_stay_apart(one, other):
    assert class_key(one) != class_key(other)
    assert ClassMap.of({}, known=[one]).becomes(other) == (other, "unknown")


def test_an_exact_name_goes_before_one_of_another_number():
    table = ClassMap.of({}, known=["Tubule", "tubules"])
    assert table.becomes("tubules") == ("tubules", "kept") and table.becomes("Tubule") == ("Tubule", "kept")


def test_what_was_matched_is_told_with_its_count():
    _, rows = ClassMap.of({}, known=["glomerulus"]).apply(boxes("Glomerulus", "Glomerulus", "glomeruli", "glomerulus"))
    assert matched_classes(rows) == [
        "'Glomerulus' is 'glomerulus' (2 shapes)",
        "'glomeruli' is 'glomerulus' (1 shapes)",
    ]
