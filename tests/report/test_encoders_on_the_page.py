"""The table of compared encoders stands on the page where there is one, and nowhere else."""

from __future__ import annotations

from make_run import make_run

from stainda.report import load_run, make_report
from stainda.report.encoder_figures import encoders
from stainda.run_directory.result_tables import ENCODERS

ROW = {
    "encoder": "uni", "start": "uni.safetensors", "against": "centre", "robustness_index": 0.82, "chance": 0.5, "k": 7,
    "balanced_accuracy": 0.9, "performance_drop": -0.031, "n_patches": 300, "n_patients": 9,
}  # fmt: skip


def test_the_table_of_the_page(tmp_path):
    root = make_run(tmp_path / "run")
    assert encoders(load_run(root)) is None
    ENCODERS.write(ENCODERS.at(root).parent, [ROW, {**ROW, "encoder": "uni@random", "performance_drop": None}])
    table = encoders(load_run(root))
    assert table is not None
    assert [cell.text for cell in table.rows[0]][:4] == ["uni", "uni.safetensors", "centre", "0.82"]
    assert table.rows[0][6].text == "-3.1 %" and table.rows[1][6].text == "–"
    make_report(root)
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    section = page[page.index('id="domain-gap"') : page.index('id="centres"')]
    assert "Encoders: tissue, or centre and stain" in section and "uni@random" in section
    assert (root / "report" / "tables" / "encoders.csv").is_file()
