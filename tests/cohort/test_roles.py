"""Which domains teach and which are tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from stainda.cohort import Cohort, Section, check_annotated, resolve_roles
from stainda.config import ProtocolConfig
from stainda.errors import ConfigError


def cohort(splits=("train", "val", "test"), stains=("PAS", "SR"), centres=("A", "B")) -> Cohort:
    return Cohort(
        tuple(
            Section(f"{c}{s}{t}", f"{c}{s}", f"{c}{s}", i, t, c, Path("/x"), annotations=Path("/x.geojson"), split=s)
            for c in centres
            for s in splits
            for i, t in enumerate(stains)
        )
    )


def test_rest_is_every_domain_that_is_no_source():
    roles = resolve_roles(cohort(), ProtocolConfig(sources=("PAS@A",)))
    assert roles.sources == ("PAS@A",)
    assert roles.targets == ("SR@A", "PAS@B", "SR@B")
    assert [roles.role(name) for name in ("PAS@A", "SR@B", "none")] == ["source", "target", "unused"]
    assert roles.domain_keys == ("stain", "centre")


def test_patterns_name_domains_and_sources_are_left_out_of_the_targets():
    roles = resolve_roles(cohort(), ProtocolConfig(sources=("PAS@A",), targets=("PAS@*",), visible="nothing"))
    assert roles.targets == ("PAS@B",)
    assert roles.visible == "nothing"


def test_an_unknown_domain_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'PSA@A'.*Did you mean 'PAS@A'"):
        resolve_roles(cohort(), ProtocolConfig(sources=("PSA@A",)))


def test_a_domain_is_not_both():
    with pytest.raises(ConfigError, match="source and target"):
        resolve_roles(cohort(), ProtocolConfig(sources=("PAS@A",), targets=("PAS@A", "SR@A")))


def test_no_target_left_is_an_error():
    with pytest.raises(ConfigError, match="no domain is left"):
        resolve_roles(cohort(), ProtocolConfig(sources=("*",)))


def test_missing_patients_are_all_named():
    with pytest.raises(ConfigError) as caught:
        resolve_roles(cohort(splits=("train",)), ProtocolConfig(sources=("PAS@A",), targets=("SR@A", "SR@B")))
    text = str(caught.value)
    assert "source domains (PAS@A) is in 'val'" in text
    assert "target domain 'SR@A' is in 'test'" in text
    assert "target domain 'SR@B' is in 'test'" in text
    assert "'train'" not in text.split("Add patients")[0]


def test_one_patient_marked_all_has_every_role_it_needs():
    roles = resolve_roles(cohort(splits=("all",), centres=("A",)), ProtocolConfig(sources=("PAS@*",)))
    assert roles.targets == ("SR@A",)


def test_unassigned_splits_are_refused():
    with pytest.raises(ConfigError, match="has no split"):
        resolve_roles(cohort(splits=(None,)), ProtocolConfig(sources=("PAS@A",)))


def test_sources_without_annotations_are_refused():
    from dataclasses import replace

    found = cohort()
    roles = resolve_roles(found, ProtocolConfig(sources=("PAS@A",)))
    check_annotated(found, roles)
    bare = replace(
        found,
        sections=tuple(replace(one, annotations=None) if one.split == "train" else one for one in found),
    )
    with pytest.raises(ConfigError, match=r"no train section of the source domains .* has annotations"):
        check_annotated(bare, roles)
