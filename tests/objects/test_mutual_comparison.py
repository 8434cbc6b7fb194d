"""Objects of consecutive sections: one identity, support and doubt, with analytic answers."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.annotations import make_shapes, read_shapes, write_geojson
from stainda.objects.support import SupportRules, identity_table, mutual_comparison

SECTIONS = ("PAS", "JONES", "SR", "CD68")
CENTRES = np.array([(200, 200), (600, 200), (200, 700), (700, 700)], float)


def same(points):
    return points


def section(centres, radius=50.0, score=0.7, cls="glomerulus"):
    radii = np.broadcast_to(radius, len(centres))
    return make_shapes([shapely.Point(*xy).buffer(r) for xy, r in zip(centres, radii, strict=True)], cls, score=score)


def logit(p):
    return np.log(p / (1 - p))


def maps(names=SECTIONS):
    return dict.fromkeys(names, same)


def test_every_object_has_one_identity_in_all_sections_whatever_their_frames():
    """Sections turned, shifted and scaled; the maps undo it."""
    shapes, to_frame = {}, {}
    for index, name in enumerate(SECTIONS):
        turn, scale, shift = np.deg2rad(20 * index), 1 + 0.3 * index, np.array([50.0 * index, -30 * index])
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        order = np.random.default_rng(index).permutation(len(CENTRES))
        table = section(CENTRES[order])
        table["name"] = [str(one) for one in order]
        table["geometry"] = [shapely.transform(one, lambda p, m=matrix, s=shift: p @ m.T + s) for one in table.geometry]
        shapes[name] = table
        to_frame[name] = lambda p, m=matrix, s=shift: (p - s) @ np.linalg.inv(m).T
    found = mutual_comparison(shapes, to_frame)
    pairs = {(row["name"], row["identity"]) for table in found.values() for row in table.to_dict("records")}
    assert len(pairs) == len(CENTRES), "one identity per object, one object per identity"
    # reach 2: the sections in the middle have three witnesses, those at the ends two
    assert [set(found[name]["support"]) for name in SECTIONS] == [{2}, {3}, {3}, {2}]
    assert all((table["support"] == table["witnesses"]).all() for table in found.values())


def test_the_score_follows_the_stated_rule():
    rules = SupportRules(found=0.75, by_chance=0.15, persistence=0.9, reach=1)
    shapes = {"a": section(CENTRES[:1], score=0.6), "b": section(CENTRES[:1], score=0.5), "c": section([(9000, 9000)])}
    found = mutual_comparison(shapes, maps("abc"), rules)
    chance = 0.75 * 0.9
    supported = np.log(1 + 0.5 * (chance / 0.15 - 1))
    doubted = np.log((1 - chance) / (1 - 0.15))
    assert logit(found["a"]["score"][0]) == pytest.approx(logit(0.6) + supported)
    both = logit(0.5) + np.log(1 + 0.6 * (chance / 0.15 - 1)) + doubted
    assert logit(found["b"]["score"][0]) == pytest.approx(both)
    assert found["b"]["supported_by"][0] == "a" and found["b"]["doubted_by"][0] == "c"
    assert found["a"]["own_score"][0] == 0.6 and shapes["a"]["score"][0] == 0.6, "what was given is not changed"


def test_a_spurious_object_is_doubted_and_a_true_one_supported():
    shapes = {name: section(CENTRES) for name in SECTIONS}
    shapes["SR"] = section([*CENTRES, (450, 450)])
    found = mutual_comparison(shapes, maps())
    row = found["SR"].iloc[4]
    assert (row["support"], row["witnesses"]) == (0, 3)
    assert row["score"] < 0.1 < 0.7 < found["SR"]["score"][:4].min()
    assert row["identity"] not in set().union(*(found[name]["identity"] for name in ("PAS", "JONES", "CD68")))


def test_an_object_missed_in_one_section_keeps_its_identity_and_the_gap_is_told():
    shapes = {name: section(CENTRES if name != "JONES" else CENTRES[1:]) for name in SECTIONS}
    found = mutual_comparison(shapes, maps())
    assert found["PAS"]["identity"][0] == found["SR"]["identity"][0] == found["CD68"]["identity"][0]
    row = next(row for row in identity_table(found, maps()) if row["identity"] == found["PAS"]["identity"][0])
    assert (row["sections"], row["missing_in"]) == (3, "JONES")
    assert (row["x"], row["y"]) == pytest.approx((200, 200))
    assert found["PAS"]["doubted_by"][0] == "JONES"
    alone = mutual_comparison(shapes, maps(), SupportRules(reach=1))
    assert alone["PAS"]["identity"][0] != alone["SR"]["identity"][0], "with reach 1 nothing bridges the gap"


def test_near_neighbours_are_not_swapped_by_a_shift():
    """Two objects 70 px apart, all shifted by 30 px: nearest alone would pair the wrong ones and leave one over."""
    first = np.array([(200, 200), (270, 200), (340, 200)], float)
    shapes = {"a": section(first, 30), "b": section(np.add(first, (30, 0)), 30)}
    found = mutual_comparison(shapes, maps("ab"), SupportRules(error=12))
    assert found["a"]["identity"].tolist() == found["b"]["identity"].tolist()


def test_one_missing_of_near_neighbours_does_not_shift_the_others():
    first = np.array([(200, 200), (270, 200), (340, 200)], float)
    shapes = {"a": section(first[:2], 30), "b": section(first[1:], 30)}
    found = mutual_comparison(shapes, maps("ab"), SupportRules(error=25))  # gate 90: wrong pairs fit too
    assert found["a"]["identity"][1] == found["b"]["identity"][0]
    assert found["a"]["identity"][0] != found["b"]["identity"][1]


def test_gates_of_size_and_of_registration_error():
    here = {"a": section(CENTRES[:1], 50)}
    inside, outside = SupportRules(size_ratio=2.0), SupportRules(size_ratio=1.9)
    larger = here | {"b": section(CENTRES[:1], 50 * np.sqrt(1.95))}
    assert mutual_comparison(larger, maps("ab"), inside)["a"]["support"][0] == 1
    assert mutual_comparison(larger, maps("ab"), outside)["a"]["support"][0] == 0
    # gate: 3 · 10 + 50 / 2 = 55 px
    for shift, support in ((54, 1), (56, 0)):
        moved = here | {"b": section(np.add(CENTRES[:1], (shift, 0)), 50)}
        found = mutual_comparison(moved, maps("ab"), SupportRules(error={"a": 10.0, "b": 4.0}))
        assert found["b"]["support"][0] == support


def test_other_classes_are_other_objects_and_points_have_no_size():
    shapes = {"a": section(CENTRES), "b": section(CENTRES, cls="tubule")}
    found = mutual_comparison(shapes, maps("ab"))
    assert found["a"]["support"].sum() == 0
    points = {name: make_shapes([shapely.Point(xy) for xy in CENTRES + shift], "nucleus") for name, shift in
              (("a", 0), ("b", 2), ("c", 4))}  # fmt: skip
    found = mutual_comparison(points, maps("abc"), SupportRules(error=2))
    assert found["a"]["identity"].tolist() == found["c"]["identity"].tolist()


def test_a_section_bears_no_witness_for_what_it_does_not_show():
    shapes = {"a": section(CENTRES), "b": section(CENTRES[:2])}
    visible = {"b": shapely.box(0, 0, 1000, 400)}
    found = mutual_comparison(shapes, maps("ab"), visible=visible)
    assert found["a"]["witnesses"].tolist() == [1, 1, 0, 0]
    assert found["a"]["score"][2] == pytest.approx(0.7), "neither supported nor doubted"


def test_what_has_no_place_is_nobody_elses_and_nobody_witnesses_for_it():
    def left_half(points):
        return np.where(points[:, :1] < 400, points, np.nan)

    shapes = {name: section(CENTRES + shift, score=score) for name, shift, score in (("a", 0, 0.3), ("b", 3000, 0.9))}
    shapes["c"] = section(CENTRES, score=0.6)
    to_frame = {"a": left_half, "b": left_half, "c": same}  # nothing of b has a place
    found = mutual_comparison(shapes, to_frame)
    assert found["a"]["support"].tolist() == [1, 0, 1, 0] and found["a"]["witnesses"].tolist() == [2, 0, 2, 0]
    assert found["a"]["score"][[1, 3]].tolist() == pytest.approx([0.3, 0.3]), "as it was"
    assert found["b"]["witnesses"].tolist() == [0] * 4 and found["b"]["score"].tolist() == pytest.approx([0.9] * 4)
    everything = [identity for table in found.values() for identity in table["identity"]]
    assert len(set(everything)) == len(everything) - 2
    rows = {row["identity"]: row for row in identity_table(found, to_frame)}
    assert rows[found["b"]["identity"][0]]["found_in"] == "b" and np.isnan(rows[found["b"]["identity"][0]]["x"])


def test_numbers_of_the_cut_count_not_places_in_the_list():
    shapes = {"late": section(CENTRES), "early": section(CENTRES), "far": section(CENTRES)}
    found = mutual_comparison(shapes, maps(shapes), order={"early": 1, "late": 2, "far": 9})
    assert list(found) == ["late", "early", "far"]
    assert found["far"]["witnesses"].tolist() == [0] * 4
    assert set(found["far"]["identity"]).isdisjoint(found["late"]["identity"])
    with pytest.raises(ValueError, match="same number"):
        mutual_comparison(shapes, maps(shapes), order=dict.fromkeys(shapes, 1))


def test_identity_and_support_survive_geojson_and_empty_sections_are_fine(tmp_path):
    shapes = {"a": section(CENTRES), "b": section(CENTRES), "c": make_shapes([], "")}
    found = mutual_comparison(shapes, maps("abc"), name="B1")
    assert len(found["c"]) == 0 and "identity" in found["c"]
    back = read_shapes(write_geojson(found["a"], tmp_path / "a.geojson"))
    assert back["properties"][0]["metadata"]["identity"] == found["a"]["identity"][0] == "B1/glomerulus-1"
    assert back["properties"][0]["measurements"] == {"support": 1, "witnesses": 2}
    assert back["score"][0] == pytest.approx(found["a"]["score"][0])


def test_chains_of_many_objects_are_consistent_and_quick():
    """2,000 objects with jitter over five sections, a tenth missed in each: identities follow the truth."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(50), np.arange(40)), -1).reshape(-1, 2) * 120.0
    shapes = {}
    for name in "abcde":
        seen = np.flatnonzero(rng.random(len(grid)) < 0.9)
        table = section(grid[seen] + rng.normal(0, 4, (len(seen), 2)), rng.uniform(27, 33, len(seen)))
        table["name"] = [str(one) for one in seen]
        shapes[name] = table
    found = mutual_comparison(shapes, maps("abcde"), SupportRules(error=6))
    truth: dict[str, set[str]] = {}
    for table in found.values():
        assert table["identity"].is_unique, "an identity has at most one object per section"
        for name, identity in zip(table["name"], table["identity"], strict=True):
            truth.setdefault(identity, set()).add(name)
    assert all(len(names) == 1 for names in truth.values()), "no identity spans two true objects"
    assert len(truth) <= 2000 * 1.02, "objects are split only where three sections in a row missed them"


def test_on_the_phantom_identities_are_the_true_ones_and_support_tells_true_from_false(tmp_path):
    """Glomeruli of one block through its true maps, as a poor detector would find them in each stain."""
    from stainda.config import PhantomConfig
    from stainda.phantom import make_cohort
    from stainda.phantom.maps import true_map

    config = PhantomConfig(patients=1, centres=("A",), stains=SECTIONS, size=768, mpp=1.5, gap_sections=2, seed=3)
    make_cohort(config, tmp_path)
    rng = np.random.default_rng(0)
    shapes, to_frame, order = {}, {}, {}
    for path in sorted((tmp_path / "annotations").glob("*.geojson")):
        true = read_shapes(path)
        true = true[rng.random(len(true)) > 0.1].reset_index(drop=True)  # a tenth is missed
        moved = [shapely.affinity.translate(one, *rng.normal(0, 4, 2)) for one in true.geometry]
        false = [shapely.Point(*xy).buffer(60) for xy in rng.uniform(80, 690, (5, 2))]
        names = [*true["name"], *("false" for _ in false)]
        scores = rng.uniform(0.3, 0.7, len(names))  # the detector cannot distinguish them
        shapes[path.stem] = make_shapes([*moved, *false], "glomerulus", name=names, score=scores)
        to_frame[path.stem] = true_map(tmp_path / "truth" / f"{path.stem}.npz").to_frame
        order[path.stem] = 3 * len(order)  # two sections of three were discarded
    found = mutual_comparison(shapes, to_frame, SupportRules(error=8, reach=6), order=order)
    rows = [row for table in found.values() for row in table.to_dict("records")]
    first = {row["name"]: row["identity"] for row in rows if row["name"] != "false"}
    kept = [first[row["name"]] == row["identity"] for row in rows if row["name"] != "false"]
    assert len(kept) > 30 and np.mean(kept) > 0.9, "one identity per glomerulus throughout the block"
    true, false = (np.array([r["score"] for r in rows if (r["name"] == "false") == is_false]) for is_false in (0, 1))
    assert (true > 0.5).mean() > 0.9 and (false > 0.5).mean() < 0.2


def test_an_object_without_a_place_in_the_frame_meets_nothing():
    """Two objects of a section lie in a tissue piece that has no partner: the map gives them no place."""
    shapes = {name: section(CENTRES) for name in "ab"}

    def torn(points):
        return np.where(points[:, :1] > 550, np.nan, points)

    found = mutual_comparison(shapes, {"a": same, "b": torn})
    lost = CENTRES[:, 0] > 500
    assert found["b"]["support"].to_numpy()[lost].tolist() == [0, 0]
    assert found["b"]["support"].to_numpy()[~lost].tolist() == [1, 1]
    assert len({*found["a"]["identity"], *found["b"]["identity"]}) == 6
