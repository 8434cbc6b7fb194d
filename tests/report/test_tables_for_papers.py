"""Markdown and LaTeX: the numbers of the CSV, escaped, and well formed; compiled where a LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import pandas as pd
import pytest
from make_run import make_run

from stainda.report.exports import document, escaped, latex, markdown, write_tables
from stainda.report.insight_tables import effects
from stainda.report.plotting import view
from stainda.report.result_tables import differences, strategies_by_domain
from stainda.report.tables import Cell, Table, number, text


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    run = make_run(
        tmp_path_factory.mktemp("tables") / "run", test_patients=4, stains=("PAS", "SR"), seeds=1, trials=1,
        strategies=("source_only", "dann", "oracle"), registration=False, failed_job=False,
    )  # fmt: skip
    return view(run)


def rows_of(tex: str) -> list[list[str]]:
    body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")]
    return [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if line.endswith(r"\\")]


def plain(cell: str) -> str:
    return cell.replace("$-$", "-").replace(r"\%", "%")


def test_every_number_of_the_latex_table_is_that_of_the_csv_rounded(seen, tmp_path):
    table = strategies_by_domain(seen.run, seen.analysis, "dice", seen.look)
    assert write_tables(table, tmp_path) == ["md", "tex"]
    csv = table.frame.set_index(["strategy", "domain"])
    places = [column.split("\n")[0] for column in table.columns[1:]]
    rows = rows_of((tmp_path / "strategies_dice.tex").read_text())
    assert len(rows) == 3
    for name, cells in zip(seen.look.order, rows, strict=True):
        assert cells[0] == seen.run.label(name)
        for place, cell in zip(places, cells[1:], strict=True):
            one = csv.loc[(name, place)]
            assert plain(cell) == f"{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
            assert f"| {plain(cell)} |" in (tmp_path / "strategies_dice.md").read_text()


def test_differences_and_probabilities_are_those_of_the_csv_rounded(seen):
    table = differences(seen.run, seen.analysis, seen.look, "dice")
    for cells, one in zip(rows_of(latex(table)), table.frame.to_dict("records"), strict=True):
        rounded = f"{one['difference']:+.2f}"
        assert plain(cells[2]).split()[0] == (rounded if float(rounded) else "0.00")
    table = effects(seen, "dice")
    for cells, one in zip(rows_of(latex(table)), table.frame.to_dict("records"), strict=True):
        assert plain(cells[2]) == f"{one['hedges_g']:.2f}" and plain(cells[7]) == f"{100 * one['p_better']:.0f} %"


NASTY = Table(
    "nasty_name", r"50 % of $x_1$ & \input{secret}", ["A_b", "n\nn = 3"],
    [[text(r"a&b_c\d{e}~^#|"), number(-1.5)], [text("line\nbreak"), Cell("0.10", "0.05 to 0.15", 0.1, True)]],
    pd.DataFrame(), "Note µm² ≥ 3 − 1",
)  # fmt: skip


def test_text_cannot_become_latex_commands_or_table_cells():
    tex = latex(NASTY)
    assert r"\input{secret}" not in tex and r"\textbackslash{}input\{secret\}" in tex
    assert all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in tex.splitlines() if line.endswith(r"\\"))
    assert r"\begin{tabular}{lr}" in tex and "$-$1.50" in tex and "0.10 (0.05 to 0.15)" in tex
    assert not set(tex) - set(map(chr, range(128))), "letters that LaTeX fonts may lack"
    lines = markdown(NASTY).splitlines()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines if line.startswith("|"))


def test_latex_is_balanced_and_compiles_where_a_latex_is_installed(seen, tmp_path):
    tables = [strategies_by_domain(seen.run, seen.analysis, "dice", seen.look), effects(seen, "dice"), NASTY]
    for table in tables:
        write_tables(table, tmp_path)
        tex = (tmp_path / f"{table.name}.tex").read_text()
        bare = re.sub(r"\\.", "", tex)
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        assert sorted(re.findall(r"\\begin\{(\w+)", tex)) == sorted(re.findall(r"\\end\{(\w+)", tex))
        widths = {len(row) for row in rows_of(tex)}
        assert widths == {len(table.columns)} == {len(re.search(r"tabular\}\{(\w+)", tex).group(1))}
    (tmp_path / "all.tex").write_text(document([table.name for table in tables]))
    engine = next((name for name in ("pdflatex", "xelatex", "tectonic") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("structure checked; no LaTeX is installed to compile it")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if engine != "tectonic" else []
    done = subprocess.run([engine, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]


def test_long_tables_are_left_to_the_csv(tmp_path):
    rows = [[text(str(index)), number(index)] for index in range(301)]
    assert write_tables(Table("long", "Long.", ["a", "b"], rows, pd.DataFrame()), tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_every_letter_of_latex_is_escaped():
    for letter in r"&%$#_{}~^\<>|":
        assert escaped(letter) != letter
    assert escaped("plain 1.5 (a) [b]") == "plain 1.5 (a) [b]"
