"""The page of licences names what pyproject.toml does, and an audit that looked at nothing does not pass."""

import email
import subprocess
import sys
from pathlib import Path

import audit
import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("tomllib")
sys.path.insert(0, str(ROOT / "docs" / "_site"))
import licences  # noqa: E402


def test_the_page_names_every_package_and_extra_of_pyproject():
    text = licences.PAGE.read_text()
    named, more = text.split("## Needed by those")
    rows = [line.split(" | ") for line in named.splitlines() if line.startswith("| ")][2:]
    shown = {row[0].removeprefix("| "): row[2].removesuffix(" |").strip() for row in rows}
    assert shown == {package.name: package.extra for package in licences.direct()}, (
        "run python docs/_site/licences.py in an environment with all extras"
    )
    assert len(licences.listed(more)) > 50


@pytest.mark.parametrize("name", ["numpy", "torch", "pydantic", "pillow"])
def test_licences_are_those_of_the_installed_packages(name):
    assert licences.listed(licences.PAGE.read_text())[name] == licences.licence(name) != "not installed here"


def test_a_package_without_a_licence_names_its_file(monkeypatch):
    fields = {
        "License: " + "x" * 200: "see its LICENSE file",
        "License: MIT": "MIT",
        "License-Expression: 0BSD": "0BSD",
        "Classifier: License :: OSI Approved :: BSD License": "BSD License",
        "Name: x": "see its LICENSE file",
    }
    for line, expected in fields.items():
        package = type("Package", (), {"metadata": email.message_from_string(line + "\n\n")})
        monkeypatch.setattr(licences, "installed", lambda name, package=package: package)
        assert licences.licence("x") == expected


SAFE = {"name": "a", "version": "1", "vulns": []}
OVER = {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    "packages, status, said",
    [
        ([SAFE], audit.CLEAN, "1 packages audited"),
        ([SAFE, BAD], audit.VULNERABLE, "c 2: CVE-1, mended in 3"),
        ([SAFE, OVER], audit.NOT_AUDITED, "1 of 2 packages were audited; not: b"),
        ([OVER, BAD], audit.VULNERABLE, "1 of 2 packages"),
        ([], audit.NOT_AUDITED, "0 of 0"),
    ],
)
def test_an_audit_says_what_it_looked_at(packages, status, said):
    found, lines = audit.judged(packages)
    assert found == status and any(said in line for line in lines)


def test_an_audit_that_gives_no_answer_does_not_pass(tmp_path):
    program = tmp_path / "pip-audit"
    program.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "audit.py", "--program", program], capture_output=True, text=True
    )
    assert done.returncode == audit.NOT_AUDITED and "nothing was audited" in done.stderr and "no route" in done.stderr
