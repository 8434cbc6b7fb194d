"""Known vulnerabilities of the pinned packages: ``make audit``. Needs PyPI's service, or OSV's (``--service osv``).

Where the service does not answer, pip-audit passes over every package and ends with "No known vulnerabilities found"
and status 0. This script counts what was looked at, and ends with status 3 where that is not all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3


def judged(packages: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Exit status and lines about what pip-audit says of each package (its JSON, ``dependencies``)."""
    passed_over = [package["name"] for package in packages if "skip_reason" in package]
    lines = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    audited = len(packages) - len(passed_over)
    if passed_over or not packages:
        lines.append(
            f"{audited} of {len(packages)} packages were audited; not: {', '.join(passed_over[:5]) or 'any'}"
            f"{' and more' if len(passed_over) > 5 else ''}. The service does not know them, or does not answer: "
            "run this where PyPI can be reached"
        )
    else:
        lines.append(f"{audited} packages audited")
    if any(package.get("vulns") for package in packages):
        return VULNERABLE, lines
    return (NOT_AUDITED if passed_over or not packages else CLEAN), lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi")
    parser.add_argument("--program", default="pip-audit", help="where pip-audit lies")
    given = parser.parse_args()
    command = [
        given.program, "--requirement", ROOT / "constraints.txt", "--no-deps", "--disable-pip", "--format", "json",
        "--progress-spinner", "off", "--vulnerability-service", given.service,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(done.stderr.strip()[-1000:], file=sys.stderr)
        print("nothing was audited: pip-audit gave no answer; run this where PyPI can be reached", file=sys.stderr)
        return NOT_AUDITED
    status, lines = judged(packages)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
