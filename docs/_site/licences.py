"""Writes the page of licences of what stainda is built on, from the metadata of the installed packages.

``python docs/_site/licences.py`` in an environment with all extras (``make setup``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tables import table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "licences.md"
NOT_RUNTIME = ("test", "docs")
_LONG = 60
"""Characters from which a licence field is the text of the licence, and no name."""

_HEAD = """# Licences

stainda is under the MIT licence. This page lists what it is built on: every package that `pip install 'stainda[all]'`
brings on Linux, with the licence that its metadata names. It is written by `python docs/_site/licences.py`, and a
test compares it with `pyproject.toml`. Packages of tests and of this site are not listed.

- Metadata name the licence of a package, and not always those of the libraries in its wheel: `pyvips-binary` holds
  several under the LGPL, and the `nvidia-` packages are under NVIDIA's own terms.
- `aicspylibczi`, which `valis-wsi` asks for, is under the GPL. Whoever passes on an environment with the extra
  `registration` passes it on too; training, prediction and the report work without that extra.
- The wheel of `valis-wsi` holds SuperPoint and SuperGlue weights under a non-commercial licence. stainda never uses
  them.
- Weights that you fetch have licences of their own: [Start from a published encoder](../howto/encoders.md).

Known vulnerabilities of the pinned packages are looked up by `make audit` (pip-audit, which asks PyPI). Without a
connection it ends with status 3 and says how many packages were not audited; pip-audit alone would end with status 0.
"""


@dataclass(frozen=True)
class Package:
    """A package that stainda needs; ``extra``: the extra that brings it, empty where it is always needed."""

    name: str
    extra: str = ""


def direct() -> tuple[Package, ...]:
    """What pyproject.toml names, without the extras of tests and the site."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    packages: dict[str, Package] = {}
    for extra, lines in groups.items():
        for line in lines if extra not in NOT_RUNTIME else ():
            name = canonicalize_name(Requirement(line).name)
            if name != "stainda":
                packages.setdefault(name, Package(name, extra))
    return tuple(packages.values())


def indirect() -> tuple[str, ...]:
    """What those need in turn, in this environment."""
    known = {package.name for package in direct()}
    waiting, seen = sorted(known), set(known)
    while waiting:
        for name in _needs(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return tuple(sorted(seen - known))


def _needs(name: str) -> Iterator[str]:
    for line in (installed(name).requires or ()) if installed(name) is not None else ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(name: str) -> str:
    """As SPDX expression where the package gives one, else its classifiers, else its field where that is a name."""
    package = installed(name)
    if package is None:
        return "not installed here"
    if expression := package.metadata.get("License-Expression"):
        return expression
    classified = [line for line in package.metadata.get_all("Classifier", []) if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classified if not line.endswith("OSI Approved")]
    if names:
        return "; ".join(sorted(set(names)))
    field = package.metadata.get("License", "")
    return field if field and len(field) <= _LONG and "\n" not in field else "see its LICENSE file"


def page() -> str:
    """The page, from pyproject.toml and what is installed here."""
    rows = [(package.name, licence(package.name), package.extra) for package in sorted(direct(), key=lambda p: p.name)]
    more = [(name, licence(name)) for name in indirect()]
    return "\n".join(
        [
            _HEAD, "## Named by stainda", "", table(("package", "licence", "extra"), rows), "",
            "## Needed by those", "", table(("package", "licence"), more), "",
        ]
    )  # fmt: skip


def listed(text: str) -> dict[str, str]:
    """Packages named on the page, with their licences."""
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+?) \|", text, re.MULTILINE))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
