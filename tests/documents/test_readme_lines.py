"""The README's lines with VALIS; test_commands_of_the_documents.py types them with sections taken as aligned."""

from __future__ import annotations

import pytest
from readme_lines import check_what_came, type_the_readme


@pytest.mark.slow
@pytest.mark.valis
def test_the_lines_of_the_readme_lead_from_a_folder_to_objects_on_a_new_slide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_what_came(tmp_path, type_the_readme(tmp_path, ["registration.nonrigid=false"]))
