"""Every scheme expanded: sources, targets and patients of each turn, worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from stainda.cohort import Cohort, Section, assign_folds, assign_splits, rotations, sources_left_out
from stainda.config import ProtocolConfig
from stainda.config.load import validated
from stainda.errors import ConfigError

DOMAINS = ("PAS@A", "SR@A", "PAS@B", "SR@B")


def cohort(patients=4, stains=("PAS", "SR"), centres=("A", "B"), annotated=True) -> Cohort:
    return Cohort(
        tuple(
            Section(
                f"{c}{p}{s}", f"{c}{p}", f"{c}{p}", i, s, c, Path(f"/{c}{p}{s}"),
                annotations=Path("/x.geojson") if annotated else None,
            )
            for c in centres
            for p in range(patients)
            for i, s in enumerate(stains)
        )
    )  # fmt: skip


def turns(protocol: ProtocolConfig, of: Cohort | None = None) -> dict:
    return {rotation.name: rotation for rotation in rotations(of or cohort(), protocol, 1)}


def test_all_pairs_has_every_domain_as_the_source_once():
    found = turns(ProtocolConfig(scheme="all_pairs"))
    assert list(found) == list(DOMAINS)
    for name, one in found.items():
        assert one.roles.sources == (name,) and set(one.roles.targets) == set(DOMAINS) - {name}
        assert one.protocol.scheme == "one_to_all" and not one.protocol.rotates
    assert list(turns(ProtocolConfig(scheme="all_pairs", sources=("PAS@*",)))) == ["PAS@A", "PAS@B"]


def test_a_domain_without_annotations_is_only_a_target():
    bare = Cohort(
        tuple(replace(section, annotations=None) if section.stain == "SR" else section for section in cohort())
    )
    found = turns(ProtocolConfig(scheme="all_pairs"), bare)
    assert list(found) == ["PAS@A", "PAS@B"]
    assert "SR@B" in found["PAS@A"].roles.targets


def test_leave_one_out_takes_all_domains_of_the_others():
    centres = turns(ProtocolConfig(scheme="leave_one_centre_out"))
    assert {name: centre.roles.sources for name, centre in centres.items()} == {
        "without_A": ("PAS@B", "SR@B"), "without_B": ("PAS@A", "SR@A"),
    }  # fmt: skip
    assert centres["without_A"].roles.targets == ("PAS@A", "SR@A")
    stains = turns(ProtocolConfig(scheme="leave_one_stain_out", leave_out=("SR",)))
    assert list(stains) == ["without_SR"]
    assert stains["without_SR"].roles.sources == ("PAS@A", "PAS@B")
    assert stains["without_SR"].roles.targets == ("SR@A", "SR@B")
    labels = turns(ProtocolConfig(scheme="leave_one_centre_out", sources=("PAS@*",)))
    assert labels["without_B"].roles.sources == ("PAS@A",) and labels["without_B"].roles.targets == ("PAS@B", "SR@B")


def test_pooled_teaches_and_tests_every_domain():
    [one] = rotations(cohort(), ProtocolConfig(scheme="pooled"), 1)
    assert one.roles.sources == DOMAINS and one.roles.targets == ()


def test_one_to_all_is_what_it_was():
    [one] = rotations(cohort(), ProtocolConfig(sources=("PAS@A",)), 1)
    plain = assign_splits(cohort(), ProtocolConfig(sources=("PAS@A",)).split, 1)
    assert one.cohort == plain and one.roles.targets == DOMAINS[1:]


def test_folds_test_every_patient_once_and_leak_none():
    found = turns(ProtocolConfig(scheme="all_pairs", folds=2))
    assert list(found)[:2] == ["PAS@A.fold_1", "PAS@A.fold_2"] and found["SR@B.fold_2"].group == "SR@B"
    tested = [patient for name in ("PAS@A.fold_1", "PAS@A.fold_2") for patient in found[name].patients("test")]
    assert sorted(tested) == sorted(cohort().patients)
    for one in found.values():
        parts = [set(one.patients(split)) for split in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 8
        for centre in "AB":
            assert [sum(name[0] == centre for name in part) for part in parts] == [1, 1, 2]


def test_folds_depend_on_neither_the_order_of_rows_nor_chance():
    shares = (0.5, 0.2, 0.3)
    one = assign_folds(cohort(6), 3, shares, 1)
    two = assign_folds(replace(cohort(6), sections=cohort(6).sections[::-1]), 3, shares, 1)
    for a, b in zip(one, two, strict=True):
        splits = [{row.patient: row.split for row in cohort_} for cohort_ in (a, b)]
        same = {name: set(split for patient, split in splits[0].items() if patient == name) for name in splits[0]}
        assert same == {name: {splits[1][name]} for name in splits[1]} or splits[0].keys() == splits[1].keys()
    other = assign_folds(cohort(6), 3, shares, 2)
    assert any(a != b for a, b in zip(one, other, strict=True))


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"centre 'A' has 4 patients, fewer than the 5 folds.*to 4 or less"):
        turns(ProtocolConfig(sources=("PAS@A",), folds=5))
    given = Cohort(tuple(replace(section, split="train") for section in cohort()))
    with pytest.raises(ConfigError, match=r"into 'train', and folds test every patient once.*Empty the column split"):
        turns(ProtocolConfig(sources=("PAS@A",), folds=2), given)


def test_centres_of_one_patient_are_left_out_one_by_one():
    """As in MoNuSeg: the left-out patient is tested, the others are split over all centres together."""
    sites = cohort(patients=1, stains=("HE",), centres=tuple("ABCDEF"))
    protocol = ProtocolConfig(
        scheme="leave_one_centre_out", left_out_patients="test", split_within="cohort", split=(0.6, 0.4, 0.0),
        visible="nothing",
    )  # fmt: skip
    found = turns(protocol, sites)
    assert len(found) == 6
    for name, one in found.items():
        assert one.patients("test") == (f"{name[-1]}0",)
        assert [len(one.patients(split)) for split in ("train", "val")] == [3, 2]
    with pytest.raises(ConfigError, match=r"rotation 'without_A': .*is in 'val'"):
        turns(protocol.model_copy(update={"left_out_patients": "split", "split_within": "centre"}), sites)


@pytest.mark.parametrize("changes", [{}, {"targets": ("PAS@*",)}, {"sources": ("PAS@*",)}, {"targets": ("SR@B",)}])
def test_nothing_of_a_left_out_centre_is_seen_whichever_of_its_stains_is_tested(changes):
    protocol = ProtocolConfig(scheme="leave_one_centre_out", leave_out=("B",), left_out_patients="test", **changes)
    splits = {section.patient: section.split for section in turns(protocol)["without_B"].cohort}
    assert [splits[f"B{number}"] for number in range(4)] == ["test"] * 4
    assert {splits[f"A{number}"] for number in range(4)} == {"train", "val", "test"}


def test_a_source_without_a_target_has_no_turn():
    protocol = ProtocolConfig(scheme="all_pairs", sources=("PAS@*",), targets=("PAS@A",))
    found = turns(protocol)
    assert list(found) == ["PAS@B"] and found["PAS@B"].roles.targets == ("PAS@A",)
    assert sources_left_out(cohort(), protocol) == {"PAS@A": "protocol.targets names no other domain to test it on"}
    bare = Cohort(
        tuple(replace(section, annotations=None) if section.stain == "SR" else section for section in cohort())
    )
    assert list(sources_left_out(bare, protocol)) == ["PAS@A", "SR@A", "SR@B"]
    assert sources_left_out(bare, ProtocolConfig(scheme="leave_one_centre_out")) == {}
    with pytest.raises(ConfigError, match=r"leaves no domain to test for any source \(PAS@A\)"):
        turns(ProtocolConfig(scheme="all_pairs", sources=("PAS@A",), targets=("PAS@A",)))


def test_words_that_mean_nothing_are_answered_with_what_does():
    with pytest.raises(ConfigError, match=r"centre 'C'.*Known: A, B|centre 'C'.*Did you mean"):
        turns(ProtocolConfig(scheme="leave_one_centre_out", leave_out=("C",)))
    with pytest.raises(ConfigError, match="has only 'A'"):
        turns(ProtocolConfig(scheme="leave_one_centre_out"), cohort(centres=("A",)))
    with pytest.raises(ConfigError, match="Add stain to 'domain'"):
        turns(ProtocolConfig(scheme="leave_one_stain_out"), replace(cohort(), domain_keys=("centre",)))
    for values, message in (
        ({"scheme": "one_to_all"}, "needs sources"),
        ({"scheme": "pooled", "targets": ["SR@A"]}, "pooled has no targets"),
        ({"scheme": "all_pairs", "leave_out": ["A"]}, "leave_out is for"),
        ({"scheme": "leave_one_center_out"}, "Did you mean 'leave_one_centre_out'"),
    ):
        with pytest.raises(ConfigError, match=message):
            validated(ProtocolConfig, values, "study")
