"""What a run directory, a folder of weights or a table from elsewhere holds: records, tables, settings, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from hostile_files import NUMBERS, TOKENS, Case

from stainda.errors import RecordError

BINARY = (*NUMBERS, *TOKENS[:8])
WORKING = {"state": "running", "stage": "train", "stage_started": 1.0, "updated": 2.0, "started": 0.0, "pid": 1,
           "host": "elsewhere", "rotation": "", "reason": "", "stages": {"train": "running", "report": "waiting"},
           "expected": {"train": 10.0, "report": 3.0},
           "task": {"name": "train", "done": 3.0, "total": 9.0, "earlier": 0.0, "started": 1.0, "note": ""},
           "running": [{"job": "a", "strategy": "dann", "trial": 0, "seed": 1}]}  # fmt: skip
CLASS_TABLE = "from,to\nGlom,glomerulus\nglomeruli,glomerulus\ntubule,drop\n"
RELIABILITY_TABLE = "annotator,reliability\nA,0.9\nB,0.8\n"
IMPORT_TABLE = "slide,frame,file,downsample\na,b,t.json,4\nc,b,u.json,1\n"


def _reader(function: str) -> Callable[[Path], Any]:
    """A reader of the package by its place there, imported when it is called."""
    module, _, name = f"stainda.{function}".rpartition(".")
    return lambda path: getattr(import_module(module), name)(path)


def _run(file: str) -> Callable[[Path], Path]:
    """A small run directory; ``*`` in ``file`` stands for the first of several."""

    def make(folder: Path) -> Path:
        from make_run import make_run

        make_run(
            folder, test_patients=2, stains=("PAS", "SR"), strategies=("source_only", "dann"), seeds=1, trials=1,
            registration=file.startswith("registration"),
        )  # fmt: skip
        (folder / "progress.json").write_text(json.dumps(WORKING))
        return sorted(folder.glob(file))[0]

    return make


def _root(path: Path) -> Path:
    return next(folder for folder in path.parents if (folder / "study.yaml").exists())


def _report(path: Path) -> object:
    from stainda.report.loading import load_run

    return load_run(_root(path))


def _status(path: Path) -> object:
    from stainda.study.status import read_status

    return read_status(_root(path))


def _page(path: Path) -> object:
    from stainda.report import make_report

    return make_report(_root(path))


def _cells(folder: Path) -> Path:
    import pandas as pd

    table = pd.read_parquet(_run("records.parquet")(folder)).head(20)
    (folder / "cells.parquet").touch()
    table.to_csv(folder / "cells.csv", index=False)
    return folder / "cells.csv"


def _read_cells(path: Path) -> object:
    """Parquet of the changed table: its cells and columns have other kinds."""
    import pandas as pd
    import pyarrow

    try:
        pd.read_csv(path, low_memory=False).to_parquet(path.with_suffix(".parquet"))
    except (ValueError, UnicodeError, OverflowError, MemoryError, pyarrow.ArrowException) as error:
        raise RecordError("no table can be made of it") from error
    return _reader("evaluation.read_records")(path.with_suffix(".parquet"))


def _network():
    from stainda.config import ModelConfig
    from stainda.models import build_model

    return build_model(ModelConfig(name="unet", params={"depth": 2, "width": 4}), 3, 2)


def _weights(folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file(_network().state_dict(), folder / "network.safetensors", {"stainda": '{"mean": [0.5], "std": [0.2]}'})
    return folder / "network.safetensors"


_KEPT: dict[str, object] = {}


def _read_weights(path: Path) -> object:
    from stainda.models.weights import load_weights

    return load_weights(_KEPT.setdefault("network", _network()), path)


def _read_checkpoint(path: Path) -> object:
    from stainda.strategies.detector import load_weights_into

    load_weights_into(_KEPT.setdefault("network", _network()), path)
    return None


def _torch_file(folder: Path) -> Path:
    import torch

    torch.save({"state_dict": {"a.weight": torch.zeros(3, 4), "a.bias": torch.ones(3)}}, folder / "weights.pth")
    return folder / "weights.pth"


def _statistics(folder: Path) -> Path:
    import torch

    from stainda.strategies.norm.statistics import save_statistics

    values = {"bn.running_mean": torch.zeros(4), "bn.running_var": torch.ones(4)}
    save_statistics(folder / "statistics.safetensors", {"PAS@A": values, "SR@A": values})
    return folder / "statistics.safetensors"


def _text(name: str, text: str, read: Callable[[Path], object], **more: object) -> Case:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return Case(name, make, read, **more)  # type: ignore[arg-type]


def _moved(read: Callable[[Path], tuple]) -> Callable[[Path], object]:
    return lambda path: read(path)[0](np.array([[0.0, 0.0], [30.0, 20.0]]))


def _make_field(folder: Path) -> Path:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.zeros((6, 8, 2)), isVector=True)
    sitk.WriteImage(image, str(folder / "field.mha"))
    return folder / "field.mha"


def _valis(folder: Path) -> Path:
    """A pickle of plain values, as VALIS writes one of objects."""
    import pickle

    slide = {"M": np.eye(3), "slide_dimensions_wh": np.array([[400, 300]]), "reg_img_shape_rc": (30, 40)}
    (folder / "a_registrar.pickle").write_bytes(pickle.dumps({"slide_dict": {"a": slide}, "name": "a", "n": 3}))
    return folder / "a_registrar.pickle"


def _cluster(path: Path) -> object:
    from stainda.study.dask_engine import load_cluster

    return load_cluster(str(path))


def _strategy(path: Path) -> object:
    from stainda.config.load import load_strategy

    return load_strategy("mine", path.parents[2])


def _own_strategy(folder: Path) -> Path:
    path = folder / "configs" / "strategies" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(STRATEGY)
    return path


ITK = """#Insight Transform File V1.0
#Transform 0
Transform: AffineTransform_double_2_2
Parameters: 1 0.1 0 1 3 5
FixedParameters: 20 15
"""
ELASTIX = """(Transform "AffineTransform")
(NumberOfParameters 6)
(TransformParameters 1 0.1 0 1 3 5)
(InitialTransformParametersFileName "NoInitialTransform")
(FixedImageDimension 2)
(MovingImageDimension 2)
(CenterOfRotationPoint 20 15)
"""
BSPLINE = """(Transform "BSplineTransform")
(NumberOfParameters 32)
(TransformParameters 1 2 3 4 5 6 7 8 1 2 3 4 5 6 7 8 1 2 3 4 5 6 7 8 1 2 3 4 5 6 7 8)
(InitialTransformParametersFileName "NoInitialTransform")
(FixedImageDimension 2)
(MovingImageDimension 2)
(GridSize 4 4)
(GridSpacing 10 10)
(GridOrigin -10 -10)
(GridDirection 1 0 0 1)
"""
CLUSTER = """system: slurm
host: 10.0.0.1
cores: 4
memory: 16 GB
walltime: '04:00:00'
before: [module load cuda]
"""
STRATEGY = """title: Mine
view: greyscale
augment: [geometry, {name: hed, sigma: {default: 0.05, low: 0.0, high: 0.2}}]
labels: source
"""

RUN_FILES = {
    "study.yaml": 0.25, "trials.csv": 0.5, "cohort.csv": 0.5, "environment.json": 0.25, "unsupervised.csv": 0.25,
    "objects.parquet": 0.25, "jobs/*/result.json": 0.5, "jobs/*/training.csv": 0.5, "records.parquet": 0.25,
}  # fmt: skip
WRITTEN = ("report", ".report-new", "results.csv")
"""What a report writes into a run directory."""
STATUS_FILES = ("progress.json", "trials.csv", "study.yaml")

CASES = [
    *(Case(f"run's {file}", _run(file), _report, BINARY if file.endswith("parquet") else TOKENS, share=share)
      for file, share in RUN_FILES.items()),
    *(Case(f"status of {file}", _run(file), _status) for file in STATUS_FILES),
    Case("page of trials.csv", _run("trials.csv"), _page, share=0.02, writes=WRITTEN, seconds=20),
    Case("page of cohort.csv", _run("cohort.csv"), _page, share=0.02, writes=WRITTEN, seconds=20),
    Case("page of training.csv", _run("jobs/*/training.csv"), _page, share=0.02, writes=WRITTEN, seconds=20),
    Case("records", _run("records.parquet"), _reader("evaluation.read_records"), BINARY),
    Case("records with other cells", _cells, _read_cells),
    Case("starting weights", _weights, _read_weights, BINARY),
    Case("checkpoint", _weights, _read_checkpoint, BINARY),
    Case("weights of torch", _torch_file, _reader("models.conversion.read_checkpoint"), BINARY),
    Case("statistics of domains", _statistics, _reader("strategies.norm.statistics.load_statistics"), BINARY),
    Case("displacement field", _make_field, _moved(_reader("registration.exchange.itk_field.read_field")), BINARY),
    Case("result of VALIS", _valis, _reader("registration.exchange.inert.read_inert"), BINARY),
    _text("classes.csv", CLASS_TABLE, _reader("annotations.classes.read_class_table")),
    _text("reliability.csv", RELIABILITY_TABLE, _reader("annotations.annotators.read_reliability")),
    _text("imports.csv", IMPORT_TABLE, _reader("registration.exchange.table.read_import_table")),
    _text("affine.txt of ITK", ITK, _moved(_reader("registration.exchange.itk_text.read_itk_text"))),
    _text("affine.txt of elastix", ELASTIX, _moved(_reader("registration.exchange.itk_text.read_elastix"))),
    _text("bspline.txt of elastix", BSPLINE, _moved(_reader("registration.exchange.itk_text.read_elastix"))),
    _text("cluster.yaml", CLUSTER, _cluster),
    Case("strategy", _own_strategy, _strategy),
]  # fmt: skip
