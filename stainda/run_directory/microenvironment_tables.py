"""The tables of the micro-environment: cells about structures, by structure, section, patient and group."""

from __future__ import annotations

from stainda.run_directory.declaration import File, Table
from stainda.run_directory.tables import columns

_BY = "microenvironment"
_WHO = columns("text", slide="name of the slide", patient="name of the patient", group="group of the patient",
               block="the block", stain="name of the stain")  # fmt: skip
_ZONE = (
    *columns("text", zone="`inside`, a ring such as `0-25` (signed distance in µm), or `beyond` all rings"),
    *columns("number", from_um="inner distance; empty inside", to_um="outer distance; empty beyond"),
)
_RATE = columns("number", density="cells per mm²", low="lower end of its interval", high="upper end of its interval")
_BIAS = columns(
    "number",
    error_bias="share by which the error of the outlines' places makes it too high (below 0: too low): displacing "
               "every outline once more by its error changes it by so much; inside and rings",
    corrected="the density without that share; of the bias of the phantom about half is taken away",
)  # fmt: skip

STRUCTURES = Table(
    "microenvironment/structures.csv",
    "one row per structure and measured section",
    _BY,
    see="microenvironment",
    columns=(
        *_WHO,
        *columns("text", id="of the outline", identity="the same for the structure in all sections of its block",
                 class_="its class", source="the section the outline was drawn (or detected) on",
                 outline="`own`, `propagated`, `files`, or `detected` (by the trained detector)"),
        *columns("number", confidence="of a propagated outline, 0 to 1",
                 error_um="how far the outline may be off, µm; 0 where it was drawn on this section",
                 x="of its centroid, level-0 pixels", y="of its centroid, level-0 pixels",
                 area_um2="of the outline", on_tissue_um2="of its part that is measured"),
        *columns("integer", cells="cells inside"),
        *columns("number", density="cells inside per mm²", nearest_um="from the outline to the nearest cell outside",
                 positive_share="share of its area that is stained, 0 to 1"),
    ),
)  # fmt: skip

ZONES = Table(
    "microenvironment/zones.csv",
    "one row per structure, measured section and zone; zones of neighbouring structures may overlap",
    _BY,
    see="microenvironment",
    columns=(
        *columns("text", slide="name of the slide", id="of the outline", identity="of the structure"),
        *_ZONE,
        *columns("integer", cells="cells in the zone"),
        *columns("number", area_um2="area of the zone on tissue, outside other structures"),
        *_RATE,
        *columns("number", positive_share="share of the zone that is stained, 0 to 1"),
        *columns(
            "truth",
            thin="the zone (inside: the radius of the structure) is thinner than the error of the outline's place",
        ),
    ),
)

SLIDES = Table(
    "microenvironment/sections.csv",
    "one row per measured section and zone, by the nearest structure: every cell is in one zone",
    _BY,
    see="microenvironment",
    per_rotation=True,
    columns=(
        *_WHO,
        *_ZONE,
        *columns("integer", structures="structures measured", cells="cells in the zone"),
        *columns("number", area_mm2="area of the zone, mm²"),
        *_RATE,
        *columns("text", interval="`bootstrap` over structures, with the error of their places, or `poisson`"),
        *_BIAS,
        *columns("integer", thin="structures whose place is less exact than the zone is wide"),
        *columns("number", error_um="median error of the structures' places, µm"),
    ),
)  # fmt: skip

PATIENTS = Table(
    "microenvironment/patients.csv",
    "one row per patient, stain and measure",
    _BY,
    see="microenvironment",
    per_rotation=True,
    columns=(
        *columns("text", patient="name of the patient", group="group of the patient", stain="name of the stain",
                 measure="`inside`, a ring, `beyond`, `tissue` (cells per mm²), `enrichment` (inside and rings over "
                         "beyond), `cells per structure`, `nearest` (µm), `stained` (share of the tissue); "
                         "compartments by name (`cortex`, `cortex, core`, `cortex, margin`)"),
        *columns("number", value="of the patient", low="lower end of its interval", high="upper end of its interval"),
        *_BIAS,
        *columns("integer", sections="measured sections", structures="structures measured on them"),
    ),
)  # fmt: skip

GROUPS = Table(
    "microenvironment/groups.csv",
    "differences between groups of patients, one row per measure and pair of groups",
    _BY,
    see="microenvironment",
    per_rotation=True,
    columns=(
        *columns("text", stain="name of the stain", measure="as in patients.csv", first="a group", second="another"),
        *columns("integer", n_first="patients of the first with a value", n_second="patients of the second"),
        *columns("number", mean_first="mean over patients", mean_second="mean over patients",
                 difference="second less first", low="lower end of its interval", high="upper end of its interval",
                 p="two-sided, permutation of patients", q="adjusted over measures (Benjamini, Hochberg)"),
        *columns("text", note="why there is no test"),
    ),
)  # fmt: skip

CURVES = Table(
    "microenvironment/curves.csv",
    "curves over distance with envelopes: cells about structures, and cells about cells",
    _BY,
    see="microenvironment",
    columns=(
        *columns("text", scope="`slide`, `patient`, `group` or `all`", name="which", stain="name of the stain",
                 function="`density` (by distance from the nearest outline, over that of the tissue), `cross_g` and "
                          "`cross_L`, `cross_K` (cells about the centres of structures), `g`, `L` and `K` (cells about "
                          "cells); g is the pair correlation, L is less r, in µm, K in µm²",
                 null="null hypothesis of the envelope: `shift`, `relabel` or `csr`; empty: none"),
        *columns("number", from_um="inner distance; empty inside", to_um="outer distance; empty beyond",
                 value="observed", low="lower end of the envelope", high="upper end of the envelope",
                 ci_low="lower end of the bootstrap interval over patients (of one patient, over sections); empty of "
                        "fewer than three",
                 ci_high="upper end of it", per_mm2="the observed density, cells per mm²",
                 p="of the whole curve, extreme rank length; the same in all its rows"),
        *columns("integer", simulations="of the null hypothesis"),
    ),
)  # fmt: skip

IDENTITIES = Table(
    "microenvironment/identities.csv",
    "structures identified across the sections of their block",
    _BY,
    see="microenvironment",
    columns=(
        *columns("text", block="the block", identity="of the structure", class_="its class"),
        *columns("number", x_um="of its centre in the frame", y_um="of its centre in the frame"),
        *columns("integer", sections="that show it", profiles="drawn outlines that the volume rests on"),
        *columns("number", volume_um3="Cavalieri's estimate; of a structure that is not whole a lower bound",
                 volume_error="coefficient of error of it (sampling, outlines, profiles missed); empty of fewer than "
                              "three profiles, and where the block has fewer than ten runs of four",
                 volume_low="lower end of its interval, of whole structures", volume_high="upper end of it"),
        *columns("truth", whole="the sections before and after it do not show it"),
        *columns("text", found_in="the sections"),
    ),
)  # fmt: skip

COMPARTMENTS = Table(
    "microenvironment/compartments.csv",
    "cells, stained area and intensity by compartment",
    _BY,
    see="microenvironment",
    columns=(
        *_WHO,
        *columns("text", compartment="class of the area; `tissue` is all",
                 part="`all`, `core` or `margin` (on either side of the border)",
                 outline="`own`, `propagated`, `files` or `detected`, as in structures.csv"),
        *columns("integer", cells="cells there"),
        *columns("number", area_mm2="its area on tissue, mm²"),
        *_RATE,
        *columns("number", positive_share="share of it that is stained, 0 to 1",
                 h_score="100 to 300, of detected cells by their optical density"),
    ),
)  # fmt: skip

CLUSTERING = Table(
    "microenvironment/clustering.csv",
    "how clustered the cells of a section are",
    _BY,
    see="microenvironment",
    columns=(
        *_WHO,
        *columns("integer", cells="cells on tissue", squares="squares of the map that are at least half tissue"),
        *columns("number", clark_evans="mean distance to the next cell over that under randomness (below 1: clustered)",
                 morisita="Morisita's index of the squares (above 1: clustered)",
                 moran="Moran's I of the densities of neighbouring squares", moran_p="its p, by permutation",
                 hot_share="share of the squares that are hot spots (Getis and Ord's G*, q below 0.05)"),
    ),
)  # fmt: skip

ERRORS = Table(
    "microenvironment/errors.csv",
    "error of the registration between sections, as it was used",
    _BY,
    see="microenvironment",
    columns=(
        *columns("text", block="the block", source="the section outlines come from", target="the section they go to"),
        *columns("number", error_um="median over the places", p90_um="90th percentile"),
        *columns("text", evidence="`landmarks`, `images`, `landmarks and images`, `unknown`"),
        *columns("integer", nodes="places"),
    ),
)

LEFT_OUT = Table(
    "microenvironment/left_out.csv",
    "what was not measured, and why",
    _BY,
    see="microenvironment",
    columns=(
        *columns("text", slide="name of the slide", what="`section`, `structures` or `cells`"),
        *columns("integer", number="how many"),
        *columns("text", reason="why"),
    ),
)

CELLS = File(
    "microenvironment/cells/<slide>.geojson",
    "the cells on tissue with distance and stain as measurements (QuPath)",
    _BY,
    see="microenvironment",
)
OUTLINES = File(
    "microenvironment/structures/<slide>.geojson", "the structures with counts and densities as measurements", _BY,
    see="microenvironment",
)  # fmt: skip
MAP = File(
    "microenvironment/maps/<slide>.geojson", "squares of tissue with cells per mm² as measurements", _BY,
    see="microenvironment",
)  # fmt: skip
MAP_IMAGE = File(
    "microenvironment/maps/<slide>.ome.tiff", "the same as an image, cells per mm², float32", _BY,
    see="microenvironment",
)  # fmt: skip
METHODS = File("microenvironment/methods.txt", "what was done, for a paper", _BY, see="microenvironment")
DETECTED = File(
    "detections/structures/<slide>.geojson", "structures that the trained detector found on the section", "study",
    see="microenvironment",
)  # fmt: skip
DETECTED_PROPAGATED = File(
    "detections/annotations/propagated/<slide>.geojson", "the same, propagated to the sections whose cells count",
    "registration", see="microenvironment",
)  # fmt: skip
DETECTED_CELLS = File(
    "detections/cells/<slide>.geojson", "cells that the trained detector found on the section", "study",
    see="microenvironment",
)  # fmt: skip
DETECTIONS = File(
    "detections/**",
    "what the detectors wrote (`predicted/`, as `stainda predict`), and the tables of the propagation (`annotations/`)",
    "study", see="microenvironment",
)  # fmt: skip
INPUTS = File("microenvironment/inputs.json", "hash of what the measurements depend on", _BY)

MICROENVIRONMENT_TABLES: tuple[Table, ...] = (
    STRUCTURES, ZONES, SLIDES, PATIENTS, GROUPS, CURVES, IDENTITIES, COMPARTMENTS, CLUSTERING, ERRORS, LEFT_OUT,
)  # fmt: skip
MICROENVIRONMENT_FILES: tuple[File, ...] = (
    CELLS, OUTLINES, MAP, MAP_IMAGE, METHODS, INPUTS, DETECTED, DETECTED_PROPAGATED, DETECTED_CELLS, DETECTIONS,
)  # fmt: skip
