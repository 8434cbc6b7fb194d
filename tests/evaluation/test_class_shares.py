"""Shares of classes, from counts made by hand."""

import numpy as np
import pandas as pd
import pytest

from stainda.evaluation.class_shares import class_shares
from stainda.evaluation.confusion import confusion_rows

CLASSES = ("negative", "positive")


def _rows(patient, objects, pixels=None):
    counts = {"objects": np.array(objects), **({} if pixels is None else {"pixels": np.array(pixels)})}
    return confusion_rows(counts, CLASSES, {"strategy": "a", "patient": patient})


def test_shares_are_of_what_is_annotated_and_of_what_is_predicted():
    #                      background, negative, positive
    rows = pd.DataFrame(_rows("P1", [[0, 2, 1], [1, 4, 1], [0, 1, 4]], [[50, 0, 0], [0, 30, 0], [0, 10, 60]]))
    table = class_shares(rows, CLASSES, ["strategy", "patient"]).set_index(["unit", "class"])
    assert table.loc[("objects", "positive"), "annotated"] == pytest.approx(5 / 11)  # 6 negative, 5 positive
    assert table.loc[("objects", "positive"), "predicted"] == pytest.approx(6 / 13)
    assert table.loc[("pixels", "positive"), "annotated"] == pytest.approx(0.7)
    assert table.loc[("pixels", "positive"), "predicted"] == pytest.approx(0.6)
    assert table.groupby("unit")[["predicted", "annotated"]].sum().to_numpy() == pytest.approx(1.0)


def test_a_patient_of_whom_nothing_was_found_has_no_predicted_share():
    rows = pd.DataFrame(
        [*_rows("P1", [[0, 1, 1], [0, 1, 0], [0, 0, 1]]), *_rows("P2", [[0, 0, 0], [3, 0, 0], [1, 0, 0]])]
    )
    table = class_shares(rows, CLASSES, ["patient"]).set_index(["patient", "class"])
    assert np.isnan(table.loc[("P2", "positive"), "predicted"])
    assert table.loc[("P2", "positive"), "annotated"] == pytest.approx(0.25)
    assert table.loc[("P1", "positive"), "predicted"] == pytest.approx(0.5)


def test_slides_of_a_patient_are_added_up():
    rows = pd.DataFrame(
        [*_rows("P1", [[0, 0, 0], [0, 9, 0], [0, 0, 1]]), *_rows("P1", [[0, 0, 0], [0, 0, 0], [0, 0, 10]])]
    )
    table = class_shares(rows, CLASSES, ["patient"]).set_index("class")
    assert table.loc["positive", "annotated"] == pytest.approx(11 / 20)
