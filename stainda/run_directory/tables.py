"""The tables of a run directory about its sections: cohort, registration, annotations, review, pictures, patches."""

from __future__ import annotations

from dataclasses import replace

from stainda.run_directory.declaration import Column, Kind, Table


def columns(kind: Kind, optional: bool = False, /, **meanings: str) -> tuple[Column, ...]:
    """Columns of one kind, by name; ``class_`` stands for ``class``."""
    return tuple(Column(name.rstrip("_"), kind, meaning, optional) for name, meaning in meanings.items())


MANIFEST = Table(
    "rotations/<rotation>/manifest.csv",
    "the sections of a rotation with its own splits; columns as in every manifest",
    "study",
    columns=(
        *columns("text", slide="name of the slide, unique", patient="name of the patient",
                 block="block of tissue; its sections are consecutive"),
        *columns("integer", section="place of the section in the order of the cut"),
        *columns("text", stain="name of the stain", centre="name of the centre", scanner="name of the scanner",
                 path="the slide's file", annotations="files of its annotations, apart by `;`",
                 landmarks="files of its landmarks, apart by `;`"),
        *columns("number", mpp="pixel size of level 0, µm"),
        *columns("text", split="`train`, `val`, `test` or `all`, by patient",
                 annotation_origin="where annotations count from: `bounds`, `level0` or `auto`"),
        *columns("text", True, group="group of the patient, for comparing groups (`rejection`, `stable`)"),
    ),
)  # fmt: skip

COHORT = Table(
    "cohort.csv",
    "the manifest with the split, domain, role and size of each slide",
    "study",
    columns=(
        *MANIFEST.columns,
        *columns("text", domain="`STAIN@CENTRE`, or what the study takes for a domain",
                 role="`source`, `target` or `unused`"),
        *columns("integer", width="of level 0, pixels", height="of level 0, pixels",
                 n_shapes="annotated shapes; empty without annotations"),
    ),
)  # fmt: skip

SLIDES = Table(
    "slide_files.csv",
    "every slide of the manifest as it was when the last call began, and those that are left out",
    "study",
    see="resume",
    columns=(
        *columns("text", slide="name of the slide"),
        *columns("integer", row="of the manifest, whose header is row 1"),
        *columns("text", domain="`STAIN@CENTRE`, or what the study takes for a domain", state="`used` or `left out`",
                 reason="why it is left out"),
        *columns("integer", bytes="size of its file; empty where there is none",
                 changed="when its file was last changed, nanoseconds since 1970"),
        *columns("text", hash="of pieces spread over its file; empty where there is none",
                 decoders="hash of the versions of the libraries that decode slides: a slide is looked at again by "
                          "others"),
    ),
)  # fmt: skip

QUALITY = Table(
    "registration/quality.csv",
    "one row per section and the reference it was registered to",
    "registration",
    see="registration",
    columns=(
        *columns("text", block="the block", source="the section that was moved", target="the reference it was moved to",
                 status="`registered` (non-rigid), `rigid_only` or `refused`",
                 reason="why it fell back or was refused"),
        *columns("integer", n_matches="matched key points that survived the robust fit",
                 n_landmarks="landmarks present in both sections"),
        *columns("number",
                 tre_before_px="median target registration error before registration, level-0 pixels of the target; "
                               "empty without landmarks",
                 tre_rigid_px="the same after rigid registration",
                 tre_nonrigid_px="the same after non-rigid registration",
                 tre_px="median error of the transform that was kept",
                 tre_p90_px="90th percentile of the error for the transform that was kept",
                 tre_before_um="`tre_before_px` in µm", tre_rigid_um="`tre_rigid_px` in µm",
                 tre_nonrigid_um="`tre_nonrigid_px` in µm", tre_um="`tre_px` in µm", tre_p90_um="`tre_p90_px` in µm",
                 tissue_overlap="share of the smaller of the two tissues that lies on the other, 0 to 1",
                 agreement_before="local similarity of structure before registration, -1 to 1",
                 agreement_rigid="the same after rigid registration",
                 agreement_affine="the same after the affine step, where that was kept",
                 agreement_nonrigid="the same after non-rigid registration",
                 significance="how far that similarity lies above chance, standard deviations",
                 local="share of the section's parts that are in place by themselves, 0 to 1",
                 significance_unseen="`significance` after a deformation, in parts that it was not fitted to; only "
                                     "where the rigid placement left it too low",
                 local_unseen="`local`, the same",
                 spread="extent of the matches against that of the tissue, 0 to 1",
                 scale="factor from the section to the reference", rotation_degrees="rotation, degrees"),
        *columns("text", model="what the transform is made of: `rigid` or `affine`, and whose deformation"),
        *columns("integer",
                 pieces="pieces of tissue that have a transform each; empty: one for the whole section"),
        *columns("truth", mirrored="whether the section was turned over"),
        *columns("number",
                 stretch="larger over smaller axis of the affine step, natural logarithm",
                 adjusted_px="how far it was moved so that neighbours agree, root mean square, level-0 pixels "
                             "of the reference; empty: not at all",
                 unsure="share of the tissue where the deformation was damped because it is in doubt",
                 folds="points of the deformation's lattice, on tissue, where it folds (Jacobian not positive)",
                 area_change_p1="1st percentile of the local area change",
                 area_change_p99="99th percentile of the local area change",
                 round_trip_px="forward-backward error, level-0 pixels"),
        *columns("text", attempt="which way of registering it was"),
        *columns("number", seconds="wall-clock seconds of the block, divided by its pairs"),
        *columns("text", overlay="picture of the pair, below `registration/`"),
    ),
)  # fmt: skip

LANDMARKS = Table(
    "registration/landmarks.csv",
    "landmark errors of every pair and block, as ANHIR reports them; only where sections have landmarks",
    "registration",
    see="transforms",
    columns=(
        *columns("text", block="the block", source="the section whose landmarks are mapped",
                 target="the section they are mapped to; `(mean of pairs)`, `(median of pairs)` for the block",
                 step="`before`, `rigid`, `non-rigid` or `between annotators`"),
        *columns("integer", n_landmarks="landmarks present in both sections"),
        *columns("number", tre_median_px="median target registration error, level-0 pixels of the target",
                 tre_mean_px="mean of it", tre_p90_px="90th percentile of it", tre_max_px="largest of it",
                 tre_median_um="`tre_median_px` in µm", tre_mean_um="`tre_mean_px` in µm",
                 tre_p90_um="`tre_p90_px` in µm", tre_max_um="`tre_max_px` in µm",
                 rtre_median="median error over the diagonal of the target", rtre_mean="mean of it",
                 rtre_max="largest of it", robustness="share of the landmarks that came nearer than before, 0 to 1"),
        *columns("text", reason="why there are no numbers"),
    ),
)  # fmt: skip

REPAIRS = Table(
    "annotations/repairs.csv",
    "what was repaired or dropped when annotations were read",
    "study",
    columns=(
        *columns("text", slide="name of the slide", annotator="name of the annotator, where a slide has several",
                 id="of the shape", class_="of the shape", action="`mended`, `dropped` or `kept`",
                 reason="what was wrong"),
    ),
)  # fmt: skip

CLASSES = Table(
    "annotations/classes.csv",
    "class names as found and what they became",
    "study",
    see="formats",
    columns=(
        *columns("text", slide="name of the slide", annotator="name of the annotator, where a slide has several",
                 centre="name of the centre", class_="the name as found", becomes="the name in the study",
                 what="`mapped`, `matched`, `kept`, `ignored`, `dropped` or `unknown`"),
        *columns("integer", shapes="how many shapes have it"),
        *columns("text", nearest="of an unknown name, the nearest known one"),
    ),
)  # fmt: skip

ANNOTATORS = Table(
    "annotations/annotators.csv",
    "where a slide has several annotators: how good each is, held against the fused shapes",
    "study",
    see="fusion",
    columns=(
        *columns("text", slide="name of the slide", class_="the class", annotator="name of the annotator"),
        *columns("integer", objects="how many he drew"),
        *columns("number", area_px="what he drew, level-0 pixels squared", sensitivity="STAPLE's estimate, 0 to 1",
                 specificity="STAPLE's estimate, 0 to 1", precision="share of his area that is in the fused area",
                 dice="of his area and the fused area", object_recall="share of the fused objects that he drew",
                 object_precision="share of his objects that are fused ones", weight="of his vote"),
    ),
)  # fmt: skip

ANNOTATOR_AGREEMENT = Table(
    "annotations/annotator_agreement.csv",
    "where a slide has several annotators: how far they agree",
    "study",
    see="fusion",
    columns=(
        *columns("text", slide="name of the slide", class_="the class", first="an annotator; `all` for all together",
                 second="another annotator"),
        *columns("number", dice="of the two areas", cohen_kappa="of the two, over the field around the objects",
                 fleiss_kappa="of all, over the field around the objects", object_f1="of the two, by objects"),
    ),
)  # fmt: skip

PROPAGATION = Table(
    "annotations/propagation.csv",
    "one row per annotated object and other section of its block",
    "registration",
    see="propagation",
    columns=(
        *columns("text", id="of the object", class_="of the object", source="the section it was drawn on",
                 target="the section it was propagated to",
                 status="`kept`, `ignored` (too doubtful to train on), `dropped` (could not be placed) or `rejected`",
                 reason="why"),
        *columns("number", area_ratio="area on the target over area on the source",
                 confidence="probability that the outline is right, 0 to 1"),
        *columns("text", block="the block"),
        *columns("number", tissue_share="share of the object on tissue of the target, 0 to 1",
                 above_chance="match of the neighbourhood, standard deviations above that of shifted places",
                 round_trip_px="forward-backward error at its centre, level-0 pixels"),
        *columns("integer", sections_apart="sections between source and target, counted in cuts"),
        *columns("number", exists="probability that the object is there, 0 to 1"),
        *columns("text", label="what training sees there: `object`, `ignored` or `nothing`",
                 object="id under which it is written, the same for all outlines of one object",
                 object_source="the section on which the shape of that id was drawn",
                 outline="how the outline came about"),
        *columns("number", offset="how far away it would match best, widths of the object",
                 typical="log likelihood ratio of looking like its kind; empty with fewer than six objects",
                 dissent="how far the outlines of several sources disagree, 0 to 1"),
        *columns("text", against="sections that speak against it"),
        *columns("number", micro_px="how far micro-registration moved the outline, level-0 pixels of the target; 0 "
                 "where it was tried and not kept, empty where it was not tried",
                 micro_gain="by how much squares held back from it agree better, -2 to 2"),
    ),
)  # fmt: skip

AGREEMENT = Table(
    "annotations/agreement.csv",
    "propagated shapes against the target's own annotations, where it has any; they score and serve nothing else",
    "registration",
    columns=(
        *columns("text", target="the section", class_="the class", id="of the propagated shape"),
        *columns("number", dice="of the two areas; 0 where one is missing, empty for points and lines",
                 centroid_distance_px="between the centroids, level-0 pixels"),
        *columns("text", own_id="of the target's own shape", source="the section it was propagated from",
                 found="`both`, `propagated only` or `own only`"),
        *columns("number", confidence="of the propagated shape, 0 to 1"),
    ),
)  # fmt: skip

REVIEW_LOG = Table(
    "review/log.csv",
    "every decision ever made; it is only appended to",
    "review",
    see="review",
    columns=(
        *columns("text", time="ISO 8601, UTC", reviewer="who decided", id="of the object", class_="of the object",
                 block="the block", source="the section it was drawn on", target="the section it was propagated to",
                 decision="`accept`, `reject`, `unsure`, `nudge`, `redraw` or `none` (taken back)",
                 before="the decision before, or `none`", old_geometry="hash of the outline before",
                 new_geometry="hash of the outline after"),
    ),
)  # fmt: skip

APPLIED = Table(
    "review/applied.csv",
    "what the last run did with each decision of the review",
    "review",
    see="review",
    columns=(
        *columns("text", id="of the object", class_="of the object", block="the block",
                 source="the section it was drawn on", target="the section it was propagated to",
                 decision="`accept`, `reject`, `unsure`, `nudge` or `redraw`", reviewer="who decided",
                 time="ISO 8601, UTC", status="`applied` or `stale`", reason="why it is stale"),
    ),
)  # fmt: skip

FIELDS = Table(
    "fields/fields.csv",
    "where on the slide each field of view lies",
    "patches",
    columns=(
        *columns("text", slide="name of the slide"),
        *columns("number", x="of the upper left corner, level-0 pixels", y="of the upper left corner, level-0 pixels"),
        *columns("integer", width="of the picture, pixels", height="of the picture, pixels"),
        *columns("number", downsample="level-0 pixels per pixel of the picture"),
    ),
)  # fmt: skip

GALLERY = Table(
    "object_gallery/gallery.csv",
    "objects shown in all sections of their block: a row per object and section, in the order of the cut",
    "study",
    columns=(
        *columns("integer", place="of the object among those shown, from 1"),
        *columns("text", kind="`worst` or `typical`"),
        *columns("integer", of="how many objects were ranked", trainings="how many trainings were compared",
                 scored_sections="scored sections of the block",
                 missed="trainings times sections that missed it", tried="trainings times sections that could find it"),
        *columns("number", false_um2="area of false detections in the field of view, over all of these, µm²"),
        *columns("text", block="the block", patient="name of the patient", object="name of the object",
                 class_="of the object", frame="the section whose level-0 pixels the field is in",
                 registration="hash of what the block's registration depends on"),
        *columns("number", x="upper left corner of the field of view, level-0 pixels of `frame`",
                 y="upper left corner of the field of view, level-0 pixels of `frame`",
                 side="of the field of view, level-0 pixels of `frame`", um_per_px="pixel size of `frame`, µm"),
        *columns("text", slide="the section shown"),
        *columns("integer", section="its place in the order of the cut"),
        *columns("text", stain="of the section", centre="of the section", domain="of the section",
                 role="of its domain", shape="id of the object's outline in `annotations/own/`",
                 image="the picture, below the run directory", reason="why there is no picture"),
    ),
)  # fmt: skip

GALLERY_LEFT_OUT = Table(
    "object_gallery/left_out.csv",
    "blocks and sections that are not shown, and why",
    "study",
    columns=columns("text", block="the block", slide="the section; empty for the whole block", reason="why"),
)

EARLIER_PATHS = {GALLERY.path: "through/through.csv", GALLERY_LEFT_OUT.path: "through/left_out.csv"}
"""Tables that a run directory of version 1 keeps elsewhere; they are read from there where the new ones are missing."""

EARLIER_COLUMNS = {GALLERY.path: {"asked": "scored_sections"}}
"""What columns of such tables are called now."""

PATCHES = Table(
    "patches/table.parquet",
    "one row per patch",
    "patches",
    columns=(
        *columns("text", slide="name of the slide", patient="name of the patient", block="the block"),
        *columns("integer", section="place of the section in the order of the cut"),
        *columns("text", stain="of the slide", centre="of the slide", scanner="of the slide", domain="of the slide",
                 split="`train` or `val`", kind="`labelled`, `unlabelled`, `propagated` or `oracle`",
                 around="what it was cut around: `object`, `near`, `negative`, `tissue` or `grid`"),
        *columns("number", x="of the upper left corner, level-0 pixels", y="of the upper left corner, level-0 pixels",
                 downsample="level-0 pixels per pixel of the patch", tissue="share of tissue, 0 to 1"),
        *columns("integer", n_objects="objects in it; missing where the patch has no label"),
    ),
    more=Column("px_<class>", "integer", "pixels of the class; missing where the patch has no label"),
)  # fmt: skip

SERIAL = Table(
    "patches/serial/table.parquet",
    "one row per pair of patches of registered sections, where a strategy learns from them",
    "patches",
    columns=(
        *columns("integer", one="row of the first patch in `patches/table.parquet`"),
        *columns("text", one_slide="slide of the first", one_domain="domain of the first",
                 two_slide="slide of the second",
                 two_domain="domain of the second"),
        *columns("number", x="upper left corner of the second, level-0 pixels",
                 y="upper left corner of the second, level-0 pixels",
                 radius="registration error, pixels of the patch"),
        *columns("integer", apart="sections between the two, counted in cuts"),
        *columns("number", sure="mean certainty of the correspondence, 0 to 1"),
    ),
)  # fmt: skip

SERIAL_TISSUE = replace(
    SERIAL,
    path="patches/serial_tissue/table.parquet",
    meaning="pairs that no annotation chose, where a strategy starts from training without labels; as of "
    "`patches/serial/table.parquet`",
    see="self_supervised",
)

SERIAL_VALIDATION = replace(
    SERIAL_TISSUE,
    path="patches/serial_validation/table.parquet",
    meaning="pairs of validation patients, by which training without labels is judged; as of "
    "`patches/serial/table.parquet`",
)

LABEL_OBJECTS = Table(
    "patches/objects.parquet",
    "the objects that patches of sources are labelled from, and those propagated to targets, where a strategy learns "
    "from a share of the labels",
    "patches",
    see="few_labels",
    columns=columns(
        "text", slide="the slide it lies on", id="of the shape", class_="of the shape", patient="name of the patient",
        domain="of the slide", split="of the patient", kind="`own` (annotated on a source) or `propagated`",
        made_of="of a propagated one: slide and id of the annotations it was made from",
        outline="well-known binary in hexadecimal digits, level-0 pixels",
    ),
)  # fmt: skip

PHANTOM_ARTEFACTS = Table(
    "phantom/artefacts.csv",
    "artefacts that the phantom put into its slides",
    "phantom",
    columns=columns("text", slide="name of the slide", artefact="what it is"),
)

TABLES: tuple[Table, ...] = (
    COHORT, SLIDES, QUALITY, LANDMARKS, REPAIRS, CLASSES, ANNOTATORS, ANNOTATOR_AGREEMENT, PROPAGATION, AGREEMENT,
    REVIEW_LOG, APPLIED, PATCHES, SERIAL, SERIAL_TISSUE, SERIAL_VALIDATION, LABEL_OBJECTS, FIELDS, GALLERY,
    GALLERY_LEFT_OUT, MANIFEST, PHANTOM_ARTEFACTS,
)  # fmt: skip
