"""Markdown and LaTeX: the numbers of the CSV, escaped, and well formed; compiled where a LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml
from make_run import make_run, review_and_annotators

from stainda.report import make_report
from stainda.report.drawings import Drawing
from stainda.report.exports import document, escaped, latex, markdown, write_tables
from stainda.report.insight_tables import effects
from stainda.report.plotting import view
from stainda.report.result_tables import differences, strategies_by_domain
from stainda.report.tables import Cell, PageTable, number, text


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
    table = strategies_by_domain(seen, "dice")
    assert write_tables(table, tmp_path) == ["md", "tex"]
    csv = table.frame.set_index(["strategy", "domain"])
    places = [column.split("\n")[0] for column in table.columns[1:]]
    rows = rows_of((tmp_path / "strategies_dice.tex").read_text())
    assert len(rows) == 3
    for name, cells in zip(seen.look.order, rows, strict=True):
        assert cells[0] == seen.run.label(name)
        for place, cell in zip(places, cells[1:], strict=True):
            one = csv.loc[(name, place)]
            kind = "range " * (one["interval_kind"] == "range")
            assert plain(cell) == f"{one['mean']:.2f} ({kind}{one['low']:.2f} to {one['high']:.2f})"
            assert f"| {plain(cell)} |" in (tmp_path / "strategies_dice.md").read_text()


def test_differences_and_probabilities_are_those_of_the_csv_rounded(seen):
    table = differences(seen, "dice")
    for cells, one in zip(rows_of(latex(table)), table.frame.to_dict("records"), strict=True):
        rounded = f"{one['difference']:+.2f}"
        assert plain(cells[2]).split()[0] == (rounded if float(rounded) else "0.00")
    table = effects(seen, "dice")
    for cells, one in zip(rows_of(latex(table)), table.frame.to_dict("records"), strict=True):
        assert plain(cells[2]) == f"{one['hedges_g']:.2f}"
        known = np.isfinite(one["p_better"])
        assert plain(cells[7]) == (f"{100 * one['p_better']:.0f} %" if known else "")


NASTY = PageTable(
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


def test_latex_is_balanced_and_every_row_has_every_column(seen):
    for table in (strategies_by_domain(seen, "dice"), effects(seen, "dice"), NASTY):
        tex = latex(table)
        bare = re.sub(r"\\[a-zA-Z]+|\\.", "", tex)
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        assert sorted(re.findall(r"\\begin\{(\w+)", tex)) == sorted(re.findall(r"\\end\{(\w+)", tex))
        kinds = re.search(r"\\begin\{tabular\}\{(.*)\}", tex)[1]
        kinds = re.sub(r">\{[^{}]*\}p\{[^{}]*\}", "p", kinds)
        assert {len(row) for row in rows_of(tex)} == {len(table.columns)} == {len(kinds)}


NASTY_TITLES = {
    "source_only": "Source_only 100 % & more ~ ^ #1 $x$",
    "dann": "[DANN] \\input{x} – µm ± 5 κ≥½ “q” 'ü' <b>",
    "few_shot": "*few* 中文 🙂 Ångström œuvre --k=8\tαΩ",
    "oracle": "Оракул | `id` \u202f«é» {}",
}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed: LaTeX cannot be compiled here")
def test_all_tables_of_a_run_with_hostile_titles_compile(tmp_path, monkeypatch):
    run = make_run(
        tmp_path / "run", test_patients=3, stains=("PAS", "SR"), centres=("A",), seeds=1, trials=2,
        strategies=tuple(NASTY_TITLES), costs=True,
    )  # fmt: skip
    review_and_annotators(run)
    study = yaml.safe_load((run / "study.yaml").read_text())
    for one in study["strategies"]:
        one["title"] = NASTY_TITLES[one["name"]]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(
        "stainda.report.writer.draw", lambda figure, name, caption, alt, *_: Drawing(name, "", caption, alt)
    )
    folder = make_report(run).parent / "tables"
    rows = [[text(f"[{index}]"), text("a_b " * 20), number(index)] for index in range(120)]
    for table in (
        NASTY,
        PageTable("several_pages", "Long & wide.", ["[a]", "* b", "c"], rows, pd.DataFrame(), "A note."),
    ):
        write_tables(table, folder)
    names = re.findall(r"\\input\{(\w+)\.tex\}", (folder / "all_tables.tex").read_text())
    assert {"strategies_dice", "annotator_pairs", "landmarks", "review", "cost", "models"} <= set(names)
    (folder / "all_tables.tex").write_text(document([*names, "nasty_name", "several_pages"]))
    out = tmp_path / "tex"
    out.mkdir()
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", f"-output-directory={out}"]
    done = subprocess.run([*command, "all_tables.tex"], cwd=folder, capture_output=True, timeout=300)
    told = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, told[-2000:]
    assert (out / "all_tables.pdf").stat().st_size > 10_000
    assert "Missing character" not in told, "a font lacks a letter, which is then silently left out"
    beyond = re.findall(r"(?:Float too large|Overfull .hbox).*\n.*", told)
    assert not beyond, "a table reaches beyond the page"


def test_letters_become_ascii_that_stands_for_them():
    known = {
        "µm²": r"\textmu{}m\textsuperscript{2}", "κ": r"$\kappa$", "Δ Α": r"$\Delta$ A", "é": r"\'{e}",
        "e\u0301": r"\'{e}", "中": r"U+4E2D\allowbreak{}",
        "Å": r"\r{A}", "ß": r"\ss{}", "--": "-{}-", "–": "--", "½": "1/2", "CO₂": "CO$_{2}$",
        "\u200b\ufeffx": "x", "\x00": " ", "−1": "$-$1",
    }  # fmt: skip
    for given, wanted in known.items():
        assert escaped(given) == wanted
    everything = "".join(map(chr, range(0x3000)))
    assert escaped(everything).isascii() and "\n" not in escaped(everything)


def test_a_row_cannot_become_an_argument_of_the_line_before_it():
    rows = [[text("[1cm] a")], [text("*")], [text("plain")]]
    lines = latex(PageTable("t", "T.", ["[x]"], rows, pd.DataFrame())).splitlines()
    assert [line for line in lines if line.endswith(r"\\")] == [
        r"{}[x] \\", r"{}[1cm] a \\", r"{}* \\", r"plain \\"
    ]  # fmt: skip


def test_long_tables_are_left_to_the_csv(tmp_path):
    rows = [[text(str(index)), number(index)] for index in range(301)]
    assert write_tables(PageTable("long", "Long.", ["a", "b"], rows, pd.DataFrame()), tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_every_letter_of_latex_is_escaped():
    for letter in r"&%$#_{}~^\<>|":
        assert escaped(letter) != letter
    assert escaped("plain 1.5 (a) [b]") == "plain 1.5 (a) [b]"
