"""Transforms go out to other programs and come in from them, checked against SimpleITK and against formulas."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline
from warped_pictures import FRAME, SIZE, bent, smooth_picture

from stainda.errors import RegistrationError
from stainda.files import write_csv
from stainda.registration.exchange.importing import Ends, Import, import_transform, told_kind
from stainda.registration.exchange.inert import array_or_self, read_inert
from stainda.registration.exchange.itk_field import sidecar, write_field
from stainda.registration.exchange.ome_tiff import write_ome_tiff
from stainda.registration.exchange.valis_folder import from_valis, read_valis
from stainda.registration.transforms import Between, Transform
from stainda.slides import open_slide

ENDS = Ends("a", "ref", SIZE, FRAME, 0.25, 0.5)
POINTS = np.random.default_rng(1).uniform((100, 100), (900, 700), (400, 2))
MATRIX = np.array([[0.9, -0.2, 35.0], [0.25, 1.1, -20], [0, 0, 1]])


def apply(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


# --- affine matrices ---
@pytest.mark.parametrize("suffix", ["csv", "json", "npy", "txt"])
def test_a_matrix_in_every_file_and_both_directions(tmp_path, suffix) -> None:
    path = tmp_path / f"m.{suffix}"
    if suffix == "npy":
        np.save(path, MATRIX)
    elif suffix == "json":
        path.write_text(json.dumps({"matrix": MATRIX.tolist()}))
    else:
        path.write_text("\n".join((", " if suffix == "csv" else " ").join(map(str, row)) for row in MATRIX[:2]))
    push = import_transform(Import(path, direction="push", units="px"), ENDS)
    np.testing.assert_allclose(push.to_frame(POINTS), apply(MATRIX, POINTS))
    pull = import_transform(Import(path, direction="pull", units="px"), ENDS)
    np.testing.assert_allclose(pull.from_frame(POINTS), apply(MATRIX, POINTS))
    assert push.about["imported_from"] == path.name and push.about["kind"] == "affine"


def test_units_downsample_and_origin(tmp_path) -> None:
    np.save(tmp_path / "m.npy", MATRIX)

    def moved(**said) -> np.ndarray:
        return import_transform(Import(tmp_path / "m.npy", direction="push", **said), ENDS).to_frame(POINTS)

    np.testing.assert_allclose(moved(units="um"), apply(MATRIX, POINTS * 0.25) / 0.5)
    np.testing.assert_allclose(moved(units="mm"), apply(MATRIX, POINTS * 0.00025) / 0.0005)
    np.testing.assert_allclose(moved(units="px", downsample=4, frame_downsample=2), apply(MATRIX, POINTS / 4) * 2)
    np.testing.assert_allclose(
        moved(units="px", downsample=4, frame_downsample=2, origin="centre"),
        (apply(MATRIX, POINTS / 4 - 0.5) + 0.5) * 2,
    )


def test_nothing_is_guessed(tmp_path) -> None:
    np.save(tmp_path / "m.npy", MATRIX)
    with pytest.raises(RegistrationError, match="which way it maps"):
        import_transform(Import(tmp_path / "m.npy", units="px"), ENDS)
    with pytest.raises(RegistrationError, match="what its coordinates count"):
        import_transform(Import(tmp_path / "m.npy", direction="push"), ENDS)
    with pytest.raises(RegistrationError, match="pixel size"):
        import_transform(Import(tmp_path / "m.npy", direction="push", units="um"), Ends("a", "ref", SIZE, FRAME))
    with pytest.raises(RegistrationError, match="is no 'pul'"):
        import_transform(Import(tmp_path / "m.npy", direction="pul", units="px"), ENDS)  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match="Did you mean 'affine'"):
        import_transform(Import(tmp_path / "m.npy", kind="afine", direction="pull", units="px"), ENDS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("singular.csv", "1,2,0\n2,4,0", "no inverse"),
        ("four.csv", "1,2,3,4\n1,2,3,4", "shape"),
        ("words.csv", "a,b,c\nd,e,f", "no matrix of numbers"),
        ("nan.csv", "nan,0,0\n0,1,0", "not affine"),
        ("projective.csv", "1,0,0\n0,1,0\n0.1,0,1", "not affine"),
        ("empty.csv", "", "empty"),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_file(tmp_path, name, content, reason) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RegistrationError, match=reason) as caught:
        import_transform(Import(tmp_path / name, kind="affine", direction="push", units="px"), ENDS)
    assert name in str(caught.value)


def test_a_pickled_array_is_refused(tmp_path) -> None:
    np.save(tmp_path / "m.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(RegistrationError, match=r"no matrix of numbers"):
        import_transform(Import(tmp_path / "m.npy", direction="push", units="px"), ENDS)


# --- landmarks ---
def landmark_files(tmp_path, source: np.ndarray, target: np.ndarray) -> Import:
    for name, points in (("s.csv", source), ("t.csv", target)):
        rows = [{"id": f"L{i}", "x": x, "y": y} for i, (x, y) in enumerate(points)]
        write_csv(tmp_path / name, rows, ("id", "x", "y"))
    return Import(tmp_path / "s.csv", landmarks=tmp_path / "t.csv")


def test_a_thin_plate_spline_meets_every_landmark_both_ways(tmp_path) -> None:
    target = np.random.default_rng(0).uniform((50, 50), (1050, 850), (60, 2))
    source = bent(amplitude=3.0).from_frame(target)
    found = import_transform(landmark_files(tmp_path, source, target), ENDS)
    assert np.abs(found.to_frame(source) - target).max() < 0.05
    assert np.abs(found.from_frame(target) - source).max() < 0.05
    assert found.about["n_landmarks"] == 60 and 0 < found.about["left_out_px"] < 30


def test_the_spline_is_bookstein_s(tmp_path) -> None:
    """Against the closed form: sum of w r² log r² plus an affine part, solved directly."""
    target = np.array([[100.0, 100], [900, 120], [500, 420], [130, 700], [880, 690], [450, 200]])
    source = target + np.array([[5.0, -3], [-6, 4], [12, 9], [0, 3], [-4, -8], [7, 0]])

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r2 = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        return r2 * np.log(np.where(r2 == 0, 1, r2))

    ones = np.column_stack([np.ones(6), target])
    system = np.block([[kernel(target, target), ones], [ones.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.vstack([source, np.zeros((3, 2))]))
    queries = np.random.default_rng(0).uniform((150, 150), (850, 650), (300, 2))
    expected = kernel(queries, target) @ weights[:6] + np.column_stack([np.ones(300), queries]) @ weights[6:]
    found = import_transform(landmark_files(tmp_path, source, target), ENDS)
    assert np.abs(found.from_frame(queries) - expected).max() < 0.02


def test_three_landmarks_give_the_affine_map_and_smoothing_bends_less(tmp_path) -> None:
    source = np.array([[10.0, 20], [900, 50], [300, 700]])
    found = import_transform(landmark_files(tmp_path, source, apply(MATRIX, source)), ENDS)
    np.testing.assert_allclose(found.matrix, MATRIX, atol=1e-8)
    many = np.random.default_rng(0).uniform((50, 50), (1000, 700), (40, 2))
    noisy = apply(MATRIX, many) + np.random.default_rng(1).normal(0, 3, many.shape)
    what = landmark_files(tmp_path, many, noisy)
    bends = [
        np.abs(made.to_frame(POINTS) - apply(MATRIX, POINTS)).mean()
        for made in (import_transform(Import(what.file, landmarks=what.landmarks, smoothing=s), ENDS) for s in (0, 1))
    ]
    assert bends[1] < 0.6 * bends[0]


def test_landmarks_that_cannot_be_used_are_named(tmp_path) -> None:
    good = np.random.default_rng(0).uniform((50, 50), (1000, 700), (20, 2))
    swapped = good.copy()
    swapped[[3, 4]] = good[[4, 3]]
    with pytest.raises(RegistrationError, match=r"folds .*near the landmarks.*L[34]"):
        import_transform(landmark_files(tmp_path, good, swapped), ENDS)
    double = good.copy()
    double[7] = double[2]
    with pytest.raises(RegistrationError, match=r"one place in the section: L[27] and L[27]"):
        import_transform(landmark_files(tmp_path, double, good), ENDS)
    line = np.stack([np.arange(20.0) * 30, np.arange(20.0) * 20], axis=1)
    with pytest.raises(RegistrationError, match="frame lie on one line"):
        import_transform(landmark_files(tmp_path, good, line), ENDS)
    with pytest.raises(RegistrationError, match="at least three"):
        import_transform(landmark_files(tmp_path, good[:2], good[:2]), ENDS)
    only = Import(landmark_files(tmp_path, good, good).file)
    with pytest.raises(RegistrationError, match="the frame's are needed"):
        import_transform(only, ENDS)


# --- ITK, against SimpleITK ---
def physical(sitk, kind: str):
    centre = [210.0, 340.0]
    if kind == "affine":
        made = sitk.AffineTransform(2)
        made.SetMatrix([0.9, -0.2, 0.15, 1.1])
        made.SetTranslation([12.0, -7.0])
        made.SetCenter(centre)
    elif kind == "euler":
        made = sitk.Euler2DTransform(centre, 0.3, [4.0, -9.0])
    elif kind == "similarity":
        made = sitk.Similarity2DTransform(1.2, 0.3, [4.0, -9.0], centre)
    elif kind == "bspline":
        made = sitk.BSplineTransform(2, 3)
        made.SetTransformDomainOrigin([-20.0, -20.0])
        made.SetTransformDomainPhysicalDimensions([1140.0, 940.0])
        made.SetTransformDomainMeshSize([9, 7])
        count = len(made.GetParameters())
        made.SetParameters(np.random.default_rng(0).uniform(-12, 12, count).tolist())
    else:
        made = sitk.CompositeTransform([physical(sitk, "euler"), physical(sitk, "bspline"), physical(sitk, "affine")])
    return made


@pytest.mark.parametrize("kind", ["affine", "euler", "similarity", "bspline", "composite"])
def test_itk_transforms_as_text_map_as_simpleitk_does(tmp_path, kind) -> None:
    sitk = pytest.importorskip("SimpleITK")
    made = physical(sitk, kind)
    sitk.WriteTransform(made, str(tmp_path / "t.tfm"))
    assert told_kind(tmp_path / "t.tfm") == "itk"
    found = import_transform(Import(tmp_path / "t.tfm", direction="pull", units="px"), ENDS)
    expected = np.array([made.TransformPoint((p - 0.5).tolist()) for p in POINTS]) + 0.5
    # where points leave its grid, ITK's B-spline stops with a jump, which no lattice can follow
    share = 95 if kind == "composite" else 100
    limit = 1e-6 if found.forward is None else 0.02
    assert np.percentile(np.abs(found.from_frame(POINTS) - expected), share) < limit
    assert (found.forward is None) == (kind in ("affine", "euler", "similarity"))
    turned = import_transform(Import(tmp_path / "t.tfm", direction="push", units="px"), ENDS)
    assert np.percentile(np.abs(turned.to_frame(POINTS) - expected), share) < limit


@pytest.mark.parametrize("name", ["f.nii.gz", "f.nii", "f.mha", "f.nrrd"])
@pytest.mark.parametrize("units", ["px", "mm"])
def test_an_exported_field_moves_points_in_simpleitk_and_comes_back(tmp_path, name, units) -> None:
    sitk = pytest.importorskip("SimpleITK")
    transform = bent()
    sizes = {"mpp": 0.25, "frame_mpp": 0.5} if units == "mm" else {}
    path = write_field(transform, tmp_path / name, units=units, **sizes)
    warp = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    frame_pixel, section_pixel = (0.0005, 0.00025) if units == "mm" else (1.0, 1.0)
    moved = np.array([warp.TransformPoint(((p - 0.5) * frame_pixel).tolist()) for p in POINTS]) / section_pixel + 0.5
    assert np.abs(moved - transform.from_frame(POINTS)).max() < 0.1
    back = import_transform(Import(path), Ends("a", "ref", SIZE, FRAME))
    assert np.abs(back.from_frame(POINTS) - transform.from_frame(POINTS)).max() < 0.1
    assert np.abs(back.to_frame(POINTS) - transform.to_frame(POINTS)).max() < 0.1
    with pytest.raises(RegistrationError, match="direction is pull according to"):
        import_transform(Import(path, direction="push"), ENDS)
    sidecar(path).unlink()
    with pytest.raises(RegistrationError, match="what its coordinates count"):
        import_transform(Import(path), ENDS)


def test_simpleitk_resamples_the_picture_we_show(tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    pixels = smooth_picture(tmp_path / "a.png", SIZE)
    transform = bent()
    path = write_field(transform, tmp_path / "f.nii.gz")
    warp = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    grid = sitk.Image(list(FRAME), sitk.sitkUInt8)
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(sitk.GetImageFromArray(pixels[..., 0]), grid, warp, sitk.sitkLinear, 255.0)
    )
    with open_slide(tmp_path / "a.png") as slide:
        ours = transform.image(slide)[..., 0]
    centres = np.stack(np.meshgrid(np.arange(FRAME[0]), np.arange(FRAME[1])), axis=2).reshape(-1, 2) + 0.5
    there = transform.from_frame(centres)
    inside = ((there > 3) & (there < np.array(SIZE) - 3)).all(axis=1).reshape(ours.shape)
    assert inside.mean() > 0.5
    assert np.abs(theirs[inside].astype(int) - ours[inside]).max() <= 3


def test_the_nifti_is_ras_for_programs_without_itk(tmp_path) -> None:
    """The raw file, where NIfTI-1 has it: the grid with x and y negated, the vectors as ITK has them."""
    pytest.importorskip("SimpleITK")
    shift = Transform.affine("a", SIZE, "ref", FRAME, np.array([[1.0, 0, -30], [0, 1, -20], [0, 0, 1]]))
    raw = write_field(shift, tmp_path / "f.nii").read_bytes()
    assert int.from_bytes(raw[68:70], "little") in (1006, 1007)  # DISPVECT or VECTOR
    affine = np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    assert affine[0, 0] < 0 and affine[1, 1] < 0
    kind = {16: "<f4", 64: "<f8"}[int.from_bytes(raw[70:72], "little")]
    start = int(np.frombuffer(raw, "<f4", 1, 108)[0])
    values = np.frombuffer(raw, kind, offset=start)
    assert np.allclose(values[0], 30) and np.allclose(values[-1], 20)


def test_a_file_that_is_no_field_is_refused(tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.Image([8, 8], sitk.sitkFloat32), str(tmp_path / "grey.mha"))
    (tmp_path / "garbage.nii").write_bytes(b"garbage" * 100)
    for name, reason in (("grey.mha", "not a displacement field"), ("garbage.nii", "cannot be read")):
        with pytest.raises(RegistrationError, match=reason):
            import_transform(Import(tmp_path / name, direction="pull", units="px"), ENDS)


# --- elastix ---
def elastix_text(kind: str, parameters: list[float], more: str = "") -> str:
    values = " ".join(map(str, parameters))
    return (
        f'(Transform "{kind}")\n(NumberOfParameters {len(parameters)})\n(TransformParameters {values})\n'
        f'(FixedImageDimension 2)\n(MovingImageDimension 2)\n(HowToCombineTransforms "Compose")\n{more}\n'
    )


def test_elastix_parameters_map_as_their_formulas_say(tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    spline = physical(sitk, "bspline")
    fixed = spline.GetFixedParameters()
    grid = (
        f"(GridSize {int(fixed[0])} {int(fixed[1])})\n(GridIndex 0 0)\n(GridSpacing {fixed[4]} {fixed[5]})\n"
        f"(GridOrigin {fixed[2]} {fixed[3]})\n(GridDirection 1 0 0 1)\n(BSplineTransformSplineOrder 3)\n"
        '(InitialTransformParameterFileName "/elsewhere/TransformParameters.0.txt")'
    )
    rigid = elastix_text("EulerTransform", [0.3, 4, -9], "(CenterOfRotationPoint 210 340)")
    (tmp_path / "TransformParameters.0.txt").write_text(rigid)
    path = tmp_path / "TransformParameters.1.txt"
    path.write_text(elastix_text("BSplineTransform", list(spline.GetParameters()), grid))
    assert told_kind(path) == "elastix"
    what = Import(path, direction="pull", units="px")
    euler = physical(sitk, "euler")
    expected = np.array([spline.TransformPoint(euler.TransformPoint((p - 0.5).tolist())) for p in POINTS]) + 0.5
    inside = ((expected > 60) & (expected < [1000, 800])).all(axis=1)
    assert inside.sum() > 100
    assert np.abs(import_transform(what, ENDS).from_frame(POINTS) - expected)[inside].max() < 0.05
    (tmp_path / "TransformParameters.0.txt").unlink()
    with pytest.raises(RegistrationError, match="is not next to it"):
        import_transform(what, ENDS)


def test_elastix_transforms_that_are_not_read_say_what_to_do(tmp_path) -> None:
    (tmp_path / "t.txt").write_text(elastix_text("SplineKernelTransform", [1.0]))
    with pytest.raises(RegistrationError, match="transformix -def all"):
        import_transform(Import(tmp_path / "t.txt", direction="pull", units="px"), ENDS)
    (tmp_path / "t.txt").write_text(elastix_text("AffineTransform", [1.0] * 12))
    with pytest.raises(RegistrationError, match="12 parameters, not the 6"):
        import_transform(Import(tmp_path / "t.txt", direction="pull", units="px"), ENDS)


# --- VALIS, without unpickling ---
@pytest.fixture
def valis_folder(tmp_path, monkeypatch):
    """A registrar as VALIS pickles it, of classes that exist only while it is written."""
    module = types.ModuleType("valis.registration")
    made = {}
    for name in ("Valis", "Slide"):
        made[name] = type(name, (), {"__module__": "valis.registration"})
        setattr(module, name, made[name])
    random = np.random.default_rng(0)
    box, canvas = [28.5, 14.3, 1066, 708], (764, 1123)
    slides = {}
    for number, name in enumerate(("HE", "PanCK")):
        slide = made["Slide"]()
        field = np.zeros((2, 708, 1066)) if number else bent_field()
        slide.__dict__.update(
            name=name, src_f=f"/elsewhere/{name}.jpg", stored_dxdy=False, _bk_dxdy_np=field, _fwd_dxdy_np=-field,
            M=np.array([[1.01, 0.011, -9.8], [-0.011, 1.01, 0.1], [0, 0, 1]]) if number == 0 else np.eye(3),
            processed_img_shape_rc=np.array([692, 1024]) if number == 0 else np.array([660, 1024]),
            reg_img_shape_rc=np.array([696, 1024]), aligned_slide_shape_rc=np.array(canvas),
            slide_dimensions_wh=np.array([[1164, 787]] if number == 0 else [[1123, 724]]),
            xy_matched_to_prev=random.normal(size=(33, 2)),
        )  # fmt: skip
        slides[name] = slide
    whole = made["Valis"]()
    whole.__dict__.update(
        slide_dict=slides, reference_img_f="/elsewhere/PanCK.jpg", _full_displacement_shape_rc=np.array(canvas),
        _non_rigid_bbox=[np.float64(side) for side in box],
    )  # fmt: skip
    (tmp_path / "rk" / "data").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "valis.registration", module)
    monkeypatch.setitem(sys.modules, "valis", types.ModuleType("valis"))
    (tmp_path / "rk" / "data" / "rk_registrar.pickle").write_bytes(pickle.dumps(whole))
    monkeypatch.undo()
    return tmp_path, slides


def bent_field() -> np.ndarray:
    y, x = np.mgrid[:708, :1066]
    return np.stack([6 * np.sin(y / 80), 4 * np.cos(x / 100)])


def test_a_valis_folder_maps_as_valis_s_own_formulas(valis_folder) -> None:
    folder, slides = valis_folder
    assert told_kind(folder) == "valis"
    ends = Ends("HE", "PanCK", (1164, 787), (1123, 724))
    found = import_transform(Import(folder), ends)
    one, other = slides["HE"], slides["PanCK"]
    # warp_tools.warp_xy: scale to the processed image, inverse of M, scale to the field, add it, scale to the canvas
    whole = np.zeros((2, 764, 1123))
    whole[:, 14 : 14 + 708, 28 : 28 + 1066] = one._fwd_dxdy_np
    points = POINTS * [1164 / 1024, 787 / 692]
    rigid = apply(np.linalg.inv(one.M), points * [1024 / 1164, 692 / 787])
    lattice = rigid * [1123 / 1024, 764 / 696]
    splines = [RectBivariateSpline(np.arange(764), np.arange(1123), part) for part in whole]
    lattice = lattice + np.stack([s(lattice[:, 1], lattice[:, 0], grid=False) for s in splines], axis=1)
    processed = apply(other.M, lattice * [1024 / 1123, 696 / 764])
    expected = processed * [1123 / 1024, 724 / 660]
    inside = (lattice > 60).all(axis=1) & (lattice < [1050, 680]).all(axis=1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found.to_frame(points)[inside], expected[inside], atol=2e-3)
    assert found.about["n_matches"] == 33


def test_a_valis_folder_of_other_slides_or_without_its_registrar_says_so(valis_folder) -> None:
    folder, _ = valis_folder
    with pytest.raises(RegistrationError, match="1164 x 787 px, but the slide HE has 99 x 99"):
        import_transform(Import(folder), Ends("HE", "PanCK", (99, 99), (1123, 724)))
    with pytest.raises(RegistrationError, match="Did you mean 'HE'"):
        from_valis(read_valis(folder), "HEE", "PanCK", (1164, 787), (1123, 724))
    bounds = Ends("HE", "PanCK", (2000, 2000), (1123, 724), bounds=(100, 50, 1164, 787))
    plain = import_transform(Import(folder), Ends("HE", "PanCK", (1164, 787), (1123, 724)))
    shifted = import_transform(Import(folder), bounds).to_frame(POINTS + np.array([100, 50]))
    np.testing.assert_allclose(shifted, plain.to_frame(POINTS))
    (folder / "rk" / "data" / "rk_registrar.pickle").unlink()
    (folder / "rk" / "data" / "displacements").mkdir()
    (folder / "rk" / "data" / "displacements" / "HE_bk_dxdy.tiff").touch()
    with pytest.raises(RegistrationError, match="neither the matrices nor the place"):
        import_transform(Import(folder), ENDS)


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_pickle_is_parsed_and_never_run(tmp_path) -> None:
    proof = tmp_path / "executed"
    (tmp_path / "x_registrar.pickle").write_bytes(pickle.dumps(Hostile(str(proof))))
    with pytest.raises(RegistrationError, match="not a VALIS result"):
        read_valis(tmp_path)
    assert not proof.exists()
    (tmp_path / "x_registrar.pickle").write_bytes(b"\x80\x04garbage")
    with pytest.raises(RegistrationError, match="damaged"):
        read_valis(tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_parsed_values_are_those_that_were_written(tmp_path, protocol) -> None:
    values = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "n": [1, -(2**40), 1.5, None, True, "µ", (1, 2, 3, 4)], "s": np.float64(2.5), "big": np.arange(3, dtype=">i4"),
    }  # fmt: skip
    (tmp_path / "v.pickle").write_bytes(pickle.dumps(values, protocol))
    found = read_inert(tmp_path / "v.pickle")
    for key in ("a", "f", "big", "s"):
        np.testing.assert_array_equal(array_or_self(found[key]), values[key])
    assert found["n"] == values["n"]


# --- OME-TIFF ---
def test_a_warped_slide_as_a_pyramid_that_we_and_tifffile_open(tmp_path) -> None:
    import tifffile

    smooth_picture(tmp_path / "a.png", SIZE)
    between = Between(bent("a", 1), Transform.affine("b", SIZE, "ref", FRAME, MATRIX))
    path = tmp_path / "out.ome.tif"
    with open_slide(tmp_path / "a.png") as slide:
        write_ome_tiff(between, slide, path, mpp=0.5, compression="deflate")
        expected = between.image(slide)
        half = between.image(slide, downsample=2)
    with open_slide(path) as made:
        assert made.size == SIZE and made.mpp == pytest.approx(0.5)
        np.testing.assert_array_equal(made.read(0, 0, *SIZE), expected)
        assert [round(level.downsample) for level in made.levels] == [1, 2]
        np.testing.assert_array_equal(made.read(0, 0, *half.shape[1::-1], level=1), half)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome and file.pages[0].is_tiled and 'PhysicalSizeX="0.5"' in file.ome_metadata
    assert not list(tmp_path.glob(".stainda*"))
    with open_slide(tmp_path / "a.png") as slide, pytest.raises(RegistrationError, match="named"):
        write_ome_tiff(between, slide, tmp_path / "out.tif")


def test_jpeg_pyramids_are_near_the_picture(tmp_path) -> None:
    smooth_picture(tmp_path / "a.png", SIZE)
    with open_slide(tmp_path / "a.png") as slide:
        write_ome_tiff(bent(), slide, tmp_path / "j.ome.tif", downsample=2, mpp=0.5)
        expected = bent().image(slide, downsample=2)
    with open_slide(tmp_path / "j.ome.tif") as made:
        assert made.mpp == pytest.approx(1.0)
        assert np.abs(made.read(0, 0, *made.size).astype(int) - expected).mean() < 3
