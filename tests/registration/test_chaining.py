"""Sections laid on their neighbours: from the placed ones outwards, composed, and refused where no neighbour fits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from stainda.config import RegistrationConfig
from stainda.registration import gates
from stainda.registration.assessment import Assessment
from stainda.registration.chaining import chained
from stainda.registration.outcomes import BlockNotes
from stainda.registration.proposals import Proposal
from stainda.registration.results import REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Transform, from_backward, map_points

SIZE = 400
NAMES = [f"s{index}" for index in range(7)]
REFERENCE = "s3"


def image(name: str, mirrored: bool = False) -> SectionImage:
    matrix = np.eye(3)
    matrix[:2, 2] = -0.5
    shape = (SIZE, SIZE)
    found = SectionImage(name, np.full((*shape, 3), 200, np.uint8), np.ones(shape, bool), matrix, shape, 1.0)
    return found.turned_over() if mirrored else found


def turned(name: str, onto: str, degrees: float, bent: float = 0.0) -> Transform:
    """A turn about the middle, and a smooth bend of so many pixels."""
    angle = np.radians(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:2, 2] = SIZE / 2 - matrix[:2, :2] @ np.full(2, SIZE / 2) + (4, -3)
    sizes = (SIZE, SIZE), (SIZE, SIZE)
    if not bent:
        return Transform.affine(name, sizes[0], onto, sizes[1], matrix)
    y, x = np.mgrid[: SIZE // 4 + 1, : SIZE // 4 + 1] * 4.0
    field = bent / 4 * np.stack([np.sin(x / 60) * np.cos(y / 70), np.cos(x / 80)])
    quarter = np.diag([0.25, 0.25, 1.0])
    affine = Transform(name, onto, *sizes, quarter, matrix @ np.linalg.inv(quarter))
    return from_backward(affine, field.astype(np.float32))


def proposal_of(transform: Transform, name: str) -> Proposal:
    bent = transform if transform.forward is not None else None
    return Proposal(image(name), transform.rigid, bent, 50, "all sections together")


def run(pair, placed=(REFERENCE,), bent=0.0, images=None, direct=50.0):
    """``direct``: significance of the sections that are placed on the reference; a number, or by name."""
    known = {name: turned(name, REFERENCE, 2.0, bent) for name in placed if name != REFERENCE}
    images = images or {name: image(name) for name in NAMES}
    assessed = {
        name: Assessment(
            REGISTERED, "", transform, {"significance": direct[name] if isinstance(direct, dict) else direct}
        )
        for name, transform in known.items()
    }
    config, notes = RegistrationConfig(max_dim=SIZE), BlockNotes()
    links = list(chained(images, assessed, images[REFERENCE], config, notes, pair))
    return known | {REFERENCE: Transform.identity(REFERENCE, (SIZE, SIZE))}, links


def of_links(significance, status=REGISTERED):
    """Stands in for the registration of pairs: agreement by pair of sections, in either order; others are refused."""
    tried = []

    def pair(mine, theirs, config, notes):
        tried.append((mine.slide, theirs.slide))
        height = significance.get((mine.slide, theirs.slide), significance.get((theirs.slide, mine.slide)))
        shown = turned(mine.slide, theirs.slide, 1.0, 2.0)
        if height is None:
            yield proposal_of(shown, mine.slide), Assessment(REFUSED, "too few matches: 3", None, {})
        else:
            yield proposal_of(shown, mine.slide), Assessment(status, "", shown, {"significance": height})

    return pair, tried


def way(links):
    """The link that holds, by section."""
    return {link.proposal.image.slide: link.neighbour for link in links if link.assessment.status != REFUSED}


@pytest.mark.parametrize("bent", [0.0, 3.0])
def test_transforms_are_composed_outwards(bent):
    def pair(mine, theirs, config, notes):
        found = turned(mine.slide, theirs.slide, 5.0, bent)
        status = REGISTERED if bent else RIGID_ONLY
        yield proposal_of(found, mine.slide), Assessment(status, "", found, {"significance": 60.0})

    known, links = run(pair, placed=("s2", "s3", "s4"), bent=bent)
    assert [(link.proposal.image.slide, link.neighbour) for link in links] == [
        ("s1", "s2"), ("s0", "s1"), ("s5", "s4"), ("s6", "s5"),
    ]  # fmt: skip
    points = np.random.default_rng(0).uniform(120, 280, (200, 2))
    one = links[0].assessment.transform
    assert one is not None and one.frame == REFERENCE and links[0].assessment.status != REFUSED
    first = turned("s1", "s2", 5.0, bent)
    expected = known["s2"].to_frame(first.to_frame(points))
    assert np.abs(one.to_frame(points) - expected).max() < (0.1 if bent else 1e-9)
    assert np.abs(one.from_frame(expected) - points).max() < (0.1 if bent else 1e-9)
    two = links[1].assessment.transform
    assert two is not None
    further = one.to_frame(turned("s0", "s1", 5.0, bent).to_frame(points))
    assert np.abs(two.to_frame(points) - further).max() < (0.2 if bent else 1e-9)
    assert np.abs(map_points(points, two, one) - turned("s0", "s1", 5.0, bent).to_frame(points)).max() < 0.3
    assert links[1].assessment.measures["attempt"] == "by way of s1: all sections together"
    assert links[1].assessment.reason.startswith("laid on its neighbour s1")


def test_what_fits_no_neighbour_stays_refused_and_is_stepped_over():
    asked = []

    def pair(mine, theirs, config, notes):
        asked.append((mine.slide, theirs.slide))
        found = turned(mine.slide, theirs.slide, 1.0)
        if "s2" in (mine.slide, theirs.slide):
            yield proposal_of(found, mine.slide), Assessment(REFUSED, "too few matches: 3", None, {})
        else:
            yield proposal_of(found, mine.slide), Assessment(RIGID_ONLY, "", found, {"significance": 60.0})

    _, links = run(pair, placed=("s3", "s4", "s5", "s6"))
    outcome = {link.proposal.image.slide: link.assessment.status for link in links if link.assessment.status != REFUSED}
    assert outcome == {}, "s1 is two away from the reference, with which it was tried before"
    assert asked == [("s2", "s4")]
    assert links[0].assessment.reason == "with its neighbour s4: too few matches: 3"
    assert links[0].assessment.transform is None
    asked.clear()
    _, links = run(pair, placed=("s1", "s3"))
    assert ("s2", "s1") in asked and ("s2", "s3") not in asked
    assert {link.proposal.image.slide for link in links if link.assessment.transform is not None} >= {"s0"}


def test_the_surest_links_are_chosen():
    pair, tried = of_links({("s4", "s5"): 12.0, ("s4", "s6"): 31.0, ("s5", "s6"): 31.5})
    _, links = run(pair, placed=("s0", "s1", "s2", "s6"))
    assert way(links) == {"s5": "s6", "s4": "s6"}
    assert tried == [("s5", "s6"), ("s4", "s5"), ("s4", "s2"), ("s4", "s6")], "the nearest is not sure: tried further"

    pair, tried = of_links({("s2", "s4"): 40.0, ("s1", "s2"): 9.0, ("s0", "s1"): 35.0, ("s0", "s2"): 8.0})
    _, links = run(pair, placed=("s4", "s5", "s6"))
    assert way(links) == {"s2": "s4", "s1": "s2", "s0": "s1"}
    assert ("s2", "s3") not in tried, "the reference was tried with its neighbours before"
    assert ("s1", "s4") in tried, "three away, as its link with s2 is not certain"
    assert tried.index(("s0", "s2")) < tried.index(("s0", "s1")), "every other way is tried before s1 is taken"


def test_a_link_that_is_not_sure_is_taken_when_no_other_is_left():
    pair, _ = of_links({("s2", "s1"): 15.0, ("s2", "s4"): 12.0, ("s0", "s1"): 14.0, ("s0", "s2"): 35.0})
    _, links = run(pair, placed=("s1", "s4", "s5", "s6"))
    assert way(links) == {"s2": "s1", "s0": "s2"}
    weaker = [link for link in links if link.assessment.status == REFUSED and link.proposal.image.slide == "s2"]
    assert [link.neighbour for link in weaker] == ["s4", "s5"] and weaker[0].assessment.transform is None
    assert "12.0 standard deviations, less certain than its place (15.0)" in weaker[0].assessment.reason
    last = [link for link in links if link.neighbour == "s2"][-1].assessment.transform
    base = next(link for link in links if link.proposal.image.slide == "s2" and link.neighbour == "s1").assessment
    points = np.random.default_rng(0).uniform(120, 280, (50, 2))
    expected = base.transform.to_frame(turned("s0", "s2", 1.0, 2.0).to_frame(points))
    assert np.abs(last.to_frame(points) - expected).max() < 0.3, "laid on the link that holds"


def test_what_lies_on_the_reference_unsurely_is_laid_on_a_neighbour():
    pair, tried = of_links({("s5", "s4"): 45.0, ("s6", "s5"): 20.0, ("s2", "s1"): 60.0})
    sure = {"s0": 40.0, "s1": 40.0, "s2": 10.0, "s4": 50.0, "s5": 12.0, "s6": 25.0}
    _, links = run(pair, placed=[name for name in NAMES if name != REFERENCE], direct=sure)
    assert way(links) == {"s5": "s4"}, "s6 agrees better where it is"
    assert not any(mine == "s2" for mine, _ in tried), "no section lies nearer to it than the reference"
    rigid, _ = of_links({("s5", "s4"): 45.0}, status=RIGID_ONLY)
    _, links = run(rigid, placed=[name for name in NAMES if name != REFERENCE], direct=sure)
    assert way(links) == {} and any("placed with a deformation already" in link.assessment.reason for link in links)


def test_pairs_are_shown_as_they_were_scanned():
    def pair(mine, theirs, config, notes):
        assert not mine.mirrored and not theirs.mirrored
        return iter(())

    images = {name: image(name, mirrored=name in ("s0", "s2")) for name in NAMES}
    known, links = run(pair, placed=("s2", "s3"), images=images)
    assert links == [] and set(known) == {"s2", "s3"}


def test_a_composition_that_does_not_come_back_is_kept_without_its_deformation(monkeypatch):
    def pair(mine, theirs, config, notes):
        found = turned(mine.slide, theirs.slide, 5.0, 3.0)
        yield proposal_of(found, mine.slide), Assessment(REGISTERED, "", found, {"significance": 60.0})

    monkeypatch.setattr(Transform, "round_trip", lambda self, points: np.full(len(points), 9.0))
    _, links = run(pair, placed=("s2", "s3"), bent=3.0)
    first = links[0].assessment
    assert first.status == RIGID_ONLY and first.transform is not None and first.transform.forward is None
    assert "cannot be joined" in first.reason and gates.MAX_ROUND_TRIP < 9.0


def test_far_sections_of_a_long_block_are_left_to_their_neighbours(monkeypatch):
    from stainda.registration.attempts import NEAR, RegistrationAttempts

    tried = []
    monkeypatch.setattr(RegistrationAttempts, "_attempt", lambda *_, **__: iter(()))
    monkeypatch.setattr(
        RegistrationAttempts, "_for_section", lambda self, one, frame, others: tried.append(one.slide) or iter(())
    )
    matches = SimpleNamespace(upside_down=lambda reference: {})
    for count, expected in ((2 * NEAR, 2 * NEAR - 1), (30, 2 * NEAR)):
        tried.clear()
        images = {f"t{index:02d}": image(f"t{index:02d}") for index in range(count)}
        middle = f"t{count // 2:02d}"
        outcomes = SimpleNamespace(placed=lambda slide: False, would_refuse=lambda one: False)
        attempts = RegistrationAttempts(images, middle, RegistrationConfig(), matches, outcomes)
        assert list(attempts.proposals()) == [] and len(tried) == expected
