"""The working directory that the documents are typed in: the files and runs they name, made small."""

from __future__ import annotations

import shutil
from pathlib import Path

from readme_lines import type_the_readme
from report.make_run import make_run

from stainda.annotations import convert_annotations
from stainda.cohort import read_manifest
from stainda.files import write_csv

ROOT = Path(__file__).parents[2]
PATIENT = "2021-014"


def make_desk(desk: Path) -> dict[str, str]:
    """Make the folder with a laboratory's slides, the README's study of them, finished studies, and single files.

    ``desk`` has to be the working directory. What the README's lines printed is returned.

    ============================  =====================================================================
    ``slides/``                   slides of four patients, two stains, two centres, outlines next to them
    ``studies/mine``, ``runs/mine``  what the README's lines made of them
    ``mine.csv``                  their manifest
    ``runs/quickstart`` …         finished studies as ``report.make_run`` writes them
    ``PAS.svs``, ``HE.svs`` …     slides and files of annotations, landmarks and matrices by the documents' names
    ``studies/`` …                what is in the repository
    ============================  =====================================================================
    """
    for name in ("studies", "configs", "data_manifests", "benchmarks"):
        shutil.copytree(ROOT / name, desk / name)
    said = type_the_readme(desk, ["registration.method=identity"])
    _scan(desk)
    first, *others = (desk / "runs" / name for name in ("quickstart", "from_pas", "from_sr", "longer"))
    make_run(first, test_patients=4, strategies=("source_only", "hed_augmentation", "dann"))
    for other in others:
        shutil.copytree(first, other)
    _single_files(desk)
    return said


def _scan(desk: Path) -> None:
    from typer.testing import CliRunner

    from stainda.cli.app import app

    pattern = "Centre {centre}/{patient}_{block}_{section}_{stain}.tif"
    words = ["manifest", "scan", str(desk / "slides"), "--pattern", pattern, "--out", str(desk / "mine.csv")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def _single_files(desk: Path) -> None:
    sections = {section.stain: section for section in read_manifest(desk / "mine.csv") if PATIENT in section.patient}
    names = {"PAS": ("PAS.svs", "slide.svs", "slides/PAS.svs"), "SR": ("HE.svs", "CD68.svs")}
    for stain, files in names.items():
        for name in files:
            shutil.copy(sections[stain].path, desk / name)
    drawn = sections["PAS"].annotations
    for name in ("glomeruli.geojson", "annotations.geojson", "alice.geojson"):
        shutil.copy(drawn, desk / name)
    for name, kind in (("asap.xml", "asap"), ("bob.xml", "asap"), ("carol.json", "labelme")):
        convert_annotations(drawn, desk / name, target_format=kind)
    for person in ("alice", "bob"):
        (desk / person).mkdir()
        shutil.copy(desk / "bob.xml", desk / person / "S1.xml")
    rows = [{"annotator": person, "reliability": 0.8} for person in ("alice", "bob")]
    write_csv(desk / "table.csv", rows, ("annotator", "reliability"))
    (desk / "names.csv").write_text("from,to\nGlomerulus,glomerulus\n", encoding="utf-8")
    (desk / "matrix.csv").write_text("1,0,7\n0,1,9\n", encoding="utf-8")
    corners = [(40, 40), (460, 60), (450, 470), (60, 440), (250, 260)]
    for name, shift in (("in.csv", 0), ("PAS.csv", 0), ("HE.csv", 5)):
        rows = [{"id": number, "x": x + shift, "y": y + shift} for number, (x, y) in enumerate(corners)]
        write_csv(desk / name, rows, ("id", "x", "y"))
    for section in sections.values():  # a flat folder too, as the help of manifest scan has it
        shutil.copy(section.path, desk / "slides" / f"{section.slide}.svs")
    block = next((desk / "runs" / "mine" / "registration").glob(f"*{PATIENT}*"))
    place = desk / "runs" / "x" / "registration" / "b1"
    shutil.copytree(block, place)
    for file in block.glob("*_PAS.*"):
        for target in (place / f"PAS{file.suffix}", desk / f"PAS{file.suffix}"):
            shutil.copy(file, target)
