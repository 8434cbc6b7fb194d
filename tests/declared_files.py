"""What a run directory holds against what is declared of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stainda.run_directory.contents import declared
from stainda.run_directory.declaration import Table


def faults_of_run(root: Path) -> list[str]:
    """Files that are not declared, and tables whose header or cells are not as declared."""
    told = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if name.startswith("rotations/") and name.count("/") > 1 and not name.endswith("/manifest.csv"):
            name = name.split("/", 2)[2]  # a rotation's folder is a run directory
        found = declared(name)
        if found is None:
            told.append(f"{name} is not declared")
        elif isinstance(found, Table):
            told += [f"{name}: {fault}" for fault in (*found.faults(_header(path)), *_cells(found, path))]
    return told


def _header(path: Path) -> list[str]:
    return list(pd.read_parquet(path).columns if path.suffix == ".parquet" else pd.read_csv(path, nrows=0).columns)


def _cells(declaration: Table, path: Path) -> list[str]:
    table = declaration.read_file(path)
    told = []
    for name, kind in declaration.kinds(list(table.columns)).items():
        there, dtype = table[name].dropna(), table[name].dtype.kind
        fits = {
            "text": dtype == "O",
            "number": dtype in "iuf",
            "integer": dtype in "iuf" and bool((there % 1 == 0).all()),
            "truth": dtype == "b" or there.empty,
        }
        if not fits[kind]:
            told.append(f"{name} is no {kind}: {there.head(3).tolist()}")
    return told
