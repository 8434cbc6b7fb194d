"""Every threshold a section or a registration must pass, in one place, each with its reason.

None of them uses VALIS's own error: its columns are inflated on large slides and wrong after a reflection.
A gate answers with the reason for a refusal, in words a person can act on, or with ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array

# --- before: is there anything to register? ---
MIN_TISSUE_SHARE = 0.002  # a needle biopsy on a large slide fills about 0.5 %; dust fills less
MIN_CONTRAST = 0.03  # optical density between the darkest and the brightest per cent of a blurred thumbnail. Glass with
# scanner noise (245 ± 3 grey levels) has 0.005, the palest IHC at hand 0.12

# --- after: is it the same tissue, plausibly placed? ---
MIN_MATCHES = 8  # a similarity needs 2; failures measured on two real pairs had 5 to 14 matches, successes 11 or more
SURE_MATCHES = 20  # from here on the number of matches raises no doubt of its own
MIN_SPREAD = 0.08  # of the matches, as a share of the tissue's own spread: half a section has 0.3 to 0.5, one corner
# 0.1; matches on a pen stroke or in one vessel fix a turn and a scale by chance only
MIN_SIGNIFICANCE = 3.5  # wrong placements of rat_kidney reach 2.6, the right rigid one 8 (see similarity.agreement)
MIN_SIGNIFICANCE_FEW = 6.0  # asked where matches are fewer than SURE_MATCHES; and of the transform that is kept in the
# end where they were sought only near where stainda laid the section before: then their number proves nothing, and the
# structures alone must
MIN_SIGNIFICANCE_SEARCHED = 12.0  # the same where the place was found by maximising this very agreement over all turns
# and shifts: the best of them reached 6.1 on tissue that has nothing in common, a right one 33
MIN_LOCAL = 0.3  # share of the section's parts that are in place by themselves; a tenth are by chance
MIN_SIGNIFICANCE_UNSEEN = 10.0  # the same two of parts that a deformation from the placement has not seen (see
MIN_LOCAL_UNSEEN = 0.4  # refinement.unseen_agreement), asked of tissue so stretched that no rigid placement makes it
# coincide, and of places that a search may have come to by chance: right ones of two sections stretched by 0.4 have
# 15 to 23 and 0.5 to 0.7, wrong ones and those of other patients at most 7.8 and 0.35 (seeds 1031 and 1409 of
# registration_scenarios.py)
SCALE_KNOWN = (0.8, 1.25)  # tissue shrinks and swells by some per cent between stains, when both mpp are known
SCALE_UNKNOWN = (0.33, 3.0)  # otherwise; VALIS itself gives up beyond 3
MAX_SHEAR = 0.2  # of the affine part; sections are flat tissue, not rubber
MIN_TISSUE_OVERLAP = 0.3  # of the smaller tissue: half a section may be missing, but the rest must lie on the other
MAX_CANVAS = 6.0  # box around both placed tissues over the larger tissue's own box: beyond it they are apart (VALIS
# has requested a canvas of 35 million pixels a side). Rotation has no limit: glass is laid in any way

# --- the wider search ---
MIN_PEAK = 4.0  # standard deviations of the best turn above the others: below it is not worth the time of VALIS
MIN_PEAK_STRETCHED = 5.0  # the same of the turn whose structures agree best after a deformation that has not seen them:
# right ones reached 6 and 7.5, the best of forty wrong ones 4.6 to 6.6
MIN_WAY = 6  # matches of the weakest step by which a section is laid on the reference before VALIS sees it; a proposal
# only, which the gates above judge

# --- non-rigid: is the deformation one tissue can have, and better than none? ---
MAX_FOLDED_SHARE = 0.001  # share of the lattice on tissue where the map turns over
AREA_CHANGE = (0.4, 2.5)  # 1st and 99th percentile of the local area change on tissue
MAX_ROUND_TRIP = 0.5  # P99 of forward-backward distance, pixels of the processed image
MIN_GAIN = 0.0  # non-rigid must raise the agreement of structures by more than this

# --- affine: what a cut and a glass do to a section as a whole ---
MAX_STRETCH = 0.12  # beyond the similarity: logarithm of the larger over the smaller axis; cutting compresses sections
# along the knife's way, mostly by less than a tenth
MAX_RESCALE = 0.1  # logarithm of the change of scale against the similarity's, which rests on matches all over

# --- local: parts in which a deformation is damped to the affine placement ---
LOCAL_AREA_CHANGE = (0.45, 2.2)  # narrower than AREA_CHANGE, which the whole must pass afterwards
MAX_LOSS = 0.07  # of agreement, mean of a neighbourhood: three standard deviations of what it varies by without reason
# (0.036 in a held-back square of a lung section, so some 0.023 in a neighbourhood, which is 2.5 times as large)
MAX_DISSENT = 0.02  # of the view's longer side: two independent deformations that lead so far apart are not both right
ALONE = 6  # view pixels: tissue of one section only, wider than twice this, is a tear, a fold or a loss
MAX_UNSURE = 0.5  # of the tissue: beyond it not much of a deformation is left
MAX_UNSURE_UNPROVEN = 0.2  # the same where the deformation alone shows that the placement is right: where it is damped,
# what it is damped to has not been shown to be right. Right ones had 0 to 0.06, a section laid 11 degrees wrong 0.5

# --- comparisons of sections in a block that contradict each other ---
LEAST_CYCLE = 0.1  # view pixels: finer disagreement of comparisons is never held against one of them
CONTRADICTION = 5.0  # times the usual disagreement of a block's comparisons
MAX_CYCLE = 0.006  # of the view's longer side (3 view pixels): and at least so far apart

# --- pieces of tissue that have moved on their own ---
MIN_PIECE = 0.06  # of the largest piece's tissue: smaller ones are crumbs, which go with the piece they lie at
MOST_PIECES = 12
PIECE_GAP = 0.02  # of the working image's longer side: tissue nearer to each other is one piece
PIECE_MARGIN = 0.03  # the same: how far around a piece its transform holds
OWN_WAY = 0.02  # of the view's longer side: matches of a piece that lead so far from the whole section's place
MIN_PIECE_GAIN = 0.03  # of agreement, pieces' mean: by so much placing them one by one must be better

# --- mirrored sections ---
FEW_MATCHES = 20  # below this the section is also tried turned over
MIRROR_FACTOR, MIRROR_SURPLUS = 2.0, 8  # and is taken so only with twice as many matches and eight more: five bad
# matches must never beat seventy good ones, as VALIS's own check_for_reflections allows


@dataclass(frozen=True)
class Placement:
    """Measurements for the placement gates, from stainda's working images.

    Attributes:
        n_matches: matches the rigid transform rests on.
        scale: reference pixels per section pixel. expected_scale: the same from both mpp, where known.
        rotation_degrees, shear: of the affine part. mirrored: the section was turned over before.
        turned: the affine part mirrors (beyond ``mirrored``).
        tissue_overlap: see ``similarity.tissue_overlap``. significance, local: see ``similarity.agreement``.
        spread: of the matches, where known (see ``attempts.spread``). canvas: box around both tissues over the larger
            tissue's box. mpp: micrometres per pixel of the section and of the reference, where known.
    """

    n_matches: int
    scale: float
    expected_scale: float | None
    rotation_degrees: float
    shear: float
    turned: bool
    tissue_overlap: float
    significance: float
    local: float = 1.0
    spread: float | None = None
    canvas: float = 1.0
    mpp: tuple[float | None, float | None] = (None, None)


def decompose(matrix: Array) -> tuple[float, float, float, bool]:
    """(scale, rotation in degrees, shear, mirrored) of an affine matrix (3, 3)."""
    linear = matrix[:2, :2]
    determinant = np.linalg.det(linear)
    scale = float(np.sqrt(abs(determinant)))
    unit = linear / scale
    if determinant < 0:
        unit = unit @ np.diag([-1.0, 1.0])
    stretch = np.linalg.svd(unit, compute_uv=False)
    rotation = np.degrees(np.arctan2(unit[1, 0] - unit[0, 1], unit[0, 0] + unit[1, 1]))
    return scale, float(rotation), float(np.log(stretch[0] / stretch[1])), bool(determinant < 0)


def refuse_blank(tissue: Array, thumbnail: Array) -> str | None:
    """Before: the reason why a section shows nothing to register."""
    from scipy import ndimage

    grey = np.clip(thumbnail.astype(np.float32).mean(axis=2), 1, 255)
    density = ndimage.gaussian_filter(-np.log10(grey / 255), 2)
    contrast = float(np.percentile(density, 99.5) - np.percentile(density, 0.5))
    if contrast < MIN_CONTRAST:
        return f"blank: optical density varies by {contrast:.3f} only (at least {MIN_CONTRAST})"
    share = float(tissue.mean())
    if share < MIN_TISSUE_SHARE:
        return f"no tissue: {share:.2%} of the slide (at least {MIN_TISSUE_SHARE:.2%})"
    return None


def refuse_placement(placement: Placement) -> str | None:
    """After the rigid step: the reason why the section cannot be where it should be, whatever its structures say."""
    if placement.n_matches < MIN_MATCHES:
        return f"too few matches: {placement.n_matches} (at least {MIN_MATCHES})"
    low, high = SCALE_KNOWN if placement.expected_scale else SCALE_UNKNOWN
    relative = placement.scale / (placement.expected_scale or 1.0)
    if not low <= relative <= high:
        return _implausible_scale(placement, relative, f"({low} to {high} allowed)")
    if placement.shear > MAX_SHEAR:
        return f"implausible shear: {placement.shear:.2f} (at most {MAX_SHEAR})"
    if placement.turned:
        return "the transform turns the section over although its mirror image matches no better"
    if placement.tissue_overlap < MIN_TISSUE_OVERLAP:
        return (
            f"tissues hardly overlap: {placement.tissue_overlap:.0%} of the smaller (at least {MIN_TISSUE_OVERLAP:.0%})"
        )
    if placement.canvas > MAX_CANVAS:
        return f"the sections lie far apart: {placement.canvas:.1f} times the larger one's box (at most {MAX_CANVAS:g})"
    if placement.spread is not None and placement.spread < MIN_SPREAD:
        return f"all matches lie in one place: spread {placement.spread:.2f} of the tissue's (at least {MIN_SPREAD})"
    return None


def refuse_structures(placement: Placement) -> str | None:
    """The reason why the structures do not show that a rigid placement is right."""
    needed = MIN_SIGNIFICANCE_FEW if placement.n_matches < SURE_MATCHES else MIN_SIGNIFICANCE
    if placement.significance < needed:
        return (
            f"structures do not coincide: agreement {placement.significance:.1f} standard deviations above chance "
            f"(at least {needed:g} with {placement.n_matches} matches)"
        )
    if placement.local < MIN_LOCAL:
        return f"only {placement.local:.0%} of the section is in place (at least {MIN_LOCAL:.0%})"
    return None


def refuse_unseen(significance: float, local: float) -> str | None:
    """Where they do not: the reason why parts that a deformation has not seen do not show it either."""
    if significance < MIN_SIGNIFICANCE_UNSEEN:
        return (
            f"nor do they after a deformation, in parts that it has not seen: {significance:.1f} (at least "
            f"{MIN_SIGNIFICANCE_UNSEEN:g})"
        )
    if local < MIN_LOCAL_UNSEEN:
        return (
            f"after a deformation {local:.0%} of the parts that it has not seen are in place (at least "
            f"{MIN_LOCAL_UNSEEN:.0%})"
        )
    return None


def _implausible_scale(placement: Placement, relative: float, allowed: str) -> str:
    """Nearly always it is the pixel size that is wrong, so the reason says where to look."""
    section, reference = (None if number is None else f"{number:g}" for number in placement.mpp)
    if placement.expected_scale:
        return (
            f"implausible scale: {relative:.2f} times that from the two pixel sizes {allowed}: section {section}, "
            f"reference {reference} µm per pixel. One of them is probably wrong: check the manifest's column mpp"
        )
    unknown = "both sections" if section == reference else "the section" if section is None else "the reference"
    return (
        f"implausible scale: {relative:.2f} times that of equal magnification {allowed}. The pixel size of {unknown} "
        "is not known: write the micrometres per pixel of both into the manifest's column mpp"
    )


def refuse_affine(matrix: Array) -> str | None:
    """The reason why an affine correction (3, 3) of a similarity is not one that cutting and mounting make."""
    scale, _, stretch, mirrors = decompose(matrix)
    if mirrors or stretch > MAX_STRETCH:
        most = np.exp(MAX_STRETCH)
        return f"affine stretches the section {np.exp(stretch):.2f} times in one direction (at most {most:.2f})"
    if abs(np.log(scale)) > MAX_RESCALE:
        return f"affine changes the scale {scale:.2f} times (at most {np.exp(MAX_RESCALE):.2f})"
    return None


def refuse_unproven(independent: bool, significance: float, searched: bool = False) -> str | None:
    """Of the transform that is kept: the reason why matches sought nearby only do not bear it out."""
    needed = MIN_SIGNIFICANCE_SEARCHED if searched else MIN_SIGNIFICANCE_FEW
    if independent or significance >= needed:
        return None
    return (
        f"structures do not coincide well enough: agreement {significance:.1f} standard deviations above chance (at "
        f"least {needed:g} for a section that was laid on the reference first)"
    )


@dataclass(frozen=True)
class Deformation:
    """Measurements by which the gates choose between a deformation and the rigid or affine placement it starts from
    (``agreement_rigid`` is that placement's). ``unsure``: share of the tissue where it was damped."""

    folded_share: float
    area_change_p1: float
    area_change_p99: float
    round_trip_p99: float
    agreement_rigid: float
    agreement_nonrigid: float
    unsure: float = 0.0


def refuse_deformation(deformation: Deformation) -> str | None:
    """After the non-rigid step: the reason why only the rigid transform is kept."""
    if deformation.folded_share > MAX_FOLDED_SHARE:
        return f"non-rigid folds {deformation.folded_share:.2%} of the tissue"
    low, high = AREA_CHANGE
    if deformation.area_change_p1 < low or deformation.area_change_p99 > high:
        return (
            f"non-rigid changes areas {deformation.area_change_p1:.2f} to {deformation.area_change_p99:.2f} times "
            f"({low} to {high} allowed)"
        )
    if not deformation.round_trip_p99 <= MAX_ROUND_TRIP:
        trip = deformation.round_trip_p99
        return f"non-rigid is not invertible: {trip:.2f} px forward and back (at most {MAX_ROUND_TRIP})"
    if deformation.unsure > MAX_UNSURE:
        return f"non-rigid is in doubt on {deformation.unsure:.0%} of the tissue (at most {MAX_UNSURE:.0%})"
    if not deformation.agreement_nonrigid > deformation.agreement_rigid + MIN_GAIN:
        return (
            f"non-rigid does not raise the agreement of structures ({deformation.agreement_rigid:.3f} rigid, "
            f"{deformation.agreement_nonrigid:.3f} non-rigid)"
        )
    return None


def refuse_doubtful(unsure: float) -> str | None:
    """Of a deformation without which a placement is not shown to be right: the reason why it shows too little."""
    if unsure <= MAX_UNSURE_UNPROVEN:
        return None
    return (
        f"structures coincide after a deformation alone, and that is in doubt on {unsure:.0%} of the tissue (at most "
        f"{MAX_UNSURE_UNPROVEN:.0%})"
    )


def turned_over(direct: int, mirrored: int) -> bool:
    """Whether the mirror image matches so much better that the section lies upside down."""
    return direct < FEW_MATCHES and mirrored >= MIRROR_FACTOR * direct and mirrored >= direct + MIRROR_SURPLUS
