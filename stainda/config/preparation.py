"""Settings of what comes before training: the synthetic cohort, registration, propagation and fusion of annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from stainda.config.frozen import Frozen


class MacrophageLawConfig(Frozen):
    """Macrophages of a synthetic section as a Poisson process whose rate is a known function of the signed distance
    to the nearest glomerulus; every section has its own cells, whatever structure they fall on."""

    inside: float = Field(80.0, ge=0, description="cells per mm² within a glomerulus")
    rings_um: tuple[float, ...] = Field(
        (25.0, 50.0, 100.0), min_length=1, description="outer distances of the rings around glomeruli, micrometres"
    )
    ring_rates: tuple[float, ...] = Field((400.0, 280.0, 180.0), description="cells per mm² of each ring")
    beyond: float = Field(100.0, ge=0, description="cells per mm² farther away")
    attracting: float = Field(0.0, ge=0, le=1, description="share of the glomeruli that attract cells")
    attraction: float = Field(2.0, gt=0, description="factor on the rates in and around these glomeruli")
    group_factors: dict[str, float] = Field(
        default_factory=dict, description="factor on the rates in and around glomeruli, by group; 1 where not named"
    )
    patient_sd: float = Field(0.0, ge=0, description="standard deviation, between patients, of the logarithm of rates")

    @model_validator(mode="after")
    def _consistent(self) -> MacrophageLawConfig:
        if len(self.rings_um) != len(self.ring_rates):
            raise ValueError("rings_um and ring_rates must be equally long")
        if list(self.rings_um) != sorted({*self.rings_um}) or self.rings_um[0] <= 0:
            raise ValueError("rings_um must increase from above 0")
        if min((*self.ring_rates, *self.group_factors.values())) < 0:
            raise ValueError("rates and factors must not be negative")
        return self


class AnnotatorConfig(Frozen):
    """The quality of a simulated annotator; the default draws the true outlines."""

    missed: float = Field(0.0, ge=0, le=1, description="share of the objects that are not drawn")
    invented: float = Field(0.0, ge=0, description="objects drawn where none is, for each true one")
    shift_um: float = Field(0.0, ge=0, description="by which outlines are off, standard deviation along each axis")
    grown_um: float = Field(0.0, description="by which outlines are too wide; below 0: too narrow")


class PhantomConfig(Frozen):
    """A synthetic cohort. One patient belongs to one centre and gives one block, cut into one section per stain."""

    patients: int = Field(8, ge=1, description="each gives one block at one centre")
    stains: tuple[str, ...] = Field(
        ("PAS", "JONES", "SR", "CD68"), description="one section of each block per stain, in this order"
    )
    centres: tuple[str, ...] = Field(
        ("A", "B"), description="each with its own scanner and staining; patients belong to them in turn"
    )
    size: int = Field(2048, ge=256, description="width and height of a section, level-0 pixels")
    mpp: float = Field(0.5, gt=0, description="micrometres per level-0 pixel at the first centre")
    thickness_um: float = Field(3.0, gt=0, description="thickness of a section, micrometres")
    gap_sections: int = Field(0, ge=0, description="sections discarded between two kept ones")
    difficulty: float = Field(1.0, ge=0, le=3, description="scales deformation and the differences between centres")
    artefacts: tuple[Literal["mirror", "tear", "fold", "bubble", "pen", "blank"], ...] = Field(
        (), description="what is damaged or in the way on some sections"
    )
    seed: int = Field(1, description="the same seed makes the same cohort")
    groups: tuple[str, ...] = Field(
        (), description="groups of patients (column 'group' of the manifest); the patients of a centre belong in turn"
    )
    macrophage_law: MacrophageLawConfig | None = Field(
        None, description="macrophages by a known law of the distance to glomeruli; default: clusters, in interstitium"
    )

    sclerotic_shares: dict[str, float] = Field(
        default_factory=dict, description="share of sclerotic glomeruli by group; 0.12 where not named"
    )
    touching: float = Field(
        0.0, ge=0, le=1, description="share of the glomeruli seen on a section that touch another one, in pairs"
    )
    contact_depth: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="by which glomeruli that touch are pressed into each other, share of the smaller "
        "one's radius; they then share a flat border. 0: their outlines merely meet",
    )
    medulla: float = Field(
        0.0, ge=0, lt=1, description="share of a section's tissue that is medulla, where there are no glomeruli"
    )
    positive_tubules: tuple[float, float] | None = Field(
        None,
        description="share of tubules with stained membranes in PDL1 sections: each patient's lies between these",
    )
    annotated: tuple[Literal["sclerosis", "tubules", "vessels", "macrophages"], ...] = Field(
        (),
        description="what is annotated besides glomeruli; 'sclerosis': sclerotic glomeruli are a class of their own; "
        "'macrophages' are points",
    )
    annotators: dict[str, AnnotatorConfig] = Field(
        default_factory=dict, description="simulated annotators by name, of known quality; none: the truth is annotated"
    )
    annotated_at: tuple[str, ...] = Field(
        (), description="centres whose sections these annotators draw, others being annotated by the truth; empty: all"
    )

    @model_validator(mode="after")
    def _known_groups(self) -> PhantomConfig:
        factors = self.macrophage_law.group_factors if self.macrophage_law else {}
        named = {"group_factors": factors, "sclerotic_shares": self.sclerotic_shares}
        for setting, of_groups in named.items():
            if unknown := [name for name in of_groups if name not in self.groups]:
                groups = ", ".join(self.groups) or "none"
                raise ValueError(f"{setting} names {unknown[0]!r}; the groups are {groups}")
        if not all(0 <= share <= 1 for share in self.sclerotic_shares.values()):
            raise ValueError("sclerotic_shares must lie between 0 and 1")
        if unknown := [name for name in self.annotated_at if name not in self.centres]:
            raise ValueError(f"annotated_at names {unknown[0]!r}; the centres are {', '.join(self.centres)}")
        if len(self.annotators) == 1:
            raise ValueError("annotators are two or more: the files of several are fused")
        if self.annotators and "macrophages" in self.annotated:
            raise ValueError("annotators draw outlines, and macrophages are points: leave one of them out")
        if self.contact_depth and not self.touching:
            raise ValueError("contact_depth is of glomeruli that touch, and none do: set touching above 0")
        low, high = self.positive_tubules or (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ValueError("positive_tubules are two shares from 0 to 1, the lower one first")
        return self


class RegistrationConfig(Frozen):
    """How the sections of a block are brought into one frame; the thresholds of the gates live in the room."""

    method: Literal["valis", "identity", "import"] = Field(
        "valis",
        description="valis registers; identity: the sections are aligned already; import: transforms made elsewhere",
    )
    imports: Path | None = Field(
        None, description="table of transforms made elsewhere, for method 'import'; see docs/howto/transforms.md"
    )
    from_run: Path | None = Field(
        None,
        validation_alias=AliasChoices("from", "from_run"),
        description="('from') a run directory whose registration is taken over: same slides, same settings",
    )
    reference: str = Field(
        "auto", description="'auto' (most matches with the others), 'first', or the name of a slide or stain"
    )
    detector: Literal["kaze", "kaze_extended", "vgg", "daisy", "disk_lightglue"] = Field(
        "kaze_extended", description="key points that VALIS matches; disk_lightglue needs weights"
    )
    processing: Literal["optical_density", "colourful", "haematoxylin"] = Field(
        "optical_density", description="what of the colours is matched"
    )
    max_dim: int = Field(512, ge=128, description="longest side of the image of VALIS's rigid step, pixels")
    nonrigid_dim: int | None = Field(
        None, ge=128, description="the same of its non-rigid step; default: 1.5 max_dim; more is micro-registration"
    )
    nonrigid: bool = Field(True, description="also a non-rigid step, where the rigid one has passed its checks")
    deformation: Literal["both", "own", "valis"] = Field(
        "both",
        description="whose deformations are tried: stainda's own and VALIS's, or one of them; valis: no affine step",
    )
    pieces: Literal["auto", "none"] = Field(
        "auto",
        description="auto: pieces of tissue that have moved on their own are registered one by one where that fits "
        "better",
    )
    adjust: Literal["auto", "none"] = Field(
        "auto",
        description="auto: the placed sections of a block of three or more are compared with their neighbours, and "
        "moved together so that errors do not add up",
    )


class PropagationConfig(Frozen):
    """Which shapes are propagated across the sections of a block, and when one is dropped."""

    classes: tuple[str, ...] = Field((), description="empty: every class")
    sources: tuple[str, ...] = Field(
        (), description="stains whose annotations are propagated; empty: the source domains of the protocol, or all"
    )
    min_tissue: float = Field(0.5, ge=0, le=1, description="share of the shape that must lie on tissue of the target")
    min_area_ratio: float = Field(0.5, gt=0, description="objects whose area shrinks below this share are dropped")
    max_area_ratio: float = Field(2.0, gt=0, description="objects whose area grows beyond this multiple are dropped")
    min_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of a Dice of at least 0.5; less sure objects are ignored pixels in training",
    )
    between: Literal["interpolate", "nearest", "majority", "staple"] = Field(
        "interpolate", description="how the outlines of several annotated sections become one"
    )
    spacing_um: float = Field(
        3.0, gt=0, description="micrometres from one section number to the next: thickness, and what was discarded"
    )
    micro: bool | Literal["auto"] = Field(
        "auto",
        description="micro-registration: align the neighbourhood of each area once more at its own scale; auto: where "
        "areas measure fewer than 32 pixels on the view of 512 pixels on which their section is registered",
    )
    weights: bool = Field(False, description="train with per-pixel weights: an object counts by its confidence")


FusionMethod = Literal["majority", "staple", "weighted"]
"""How the votes of several annotators are counted."""


class FusionConfig(Frozen):
    """How the shapes of several annotators of one slide become one set; see docs/howto/fusion.md."""

    method: FusionMethod = Field("majority", description="how votes are counted")
    reliability: Path | None = Field(
        None, description="table for 'weighted': annotator, reliability; default: each one's mean Dice with the others"
    )
    resolution: float = Field(0.25, gt=0, description="corners are moved to a grid this fine, level-0 pixels")
    point_radius: float | None = Field(
        None, gt=0, description="points take part as discs of this radius, level-0 pixels; empty: points are left out"
    )
    ignore_from: float = Field(
        0.5,
        ge=0,
        description="what this share of the annotators drew without winning is ignored; other dissent is background",
    )
