"""The version, also in pyproject.toml, CITATION.cff and CHANGELOG.md."""

VERSION = "0.1.0"
