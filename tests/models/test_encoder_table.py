"""The table of docs/howto/encoders.md is the one that the files of configs/models/ make."""

from __future__ import annotations

from pathlib import Path

from stainda.models.known_weights import encoder_table, known_weights
from stainda.models.named_classes import CLASSES

ROOT = Path(__file__).parents[2]


def test_the_documented_table_is_made_from_the_files():
    text = (ROOT / "docs" / "howto" / "encoders.md").read_text(encoding="utf-8")
    table = text.partition("holds it equal -->\n")[2].partition("<!-- end -->")[0]
    wanted = encoder_table(known_weights(ROOT))
    assert table == wanted, f"put this between the two marks of docs/howto/encoders.md:\n{wanted}"
    for words in CLASSES.values():
        assert all(f"`{word}`" in text for word in words)
