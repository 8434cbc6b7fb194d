"""Annotation formats beside QuPath's GeoJSON: one module per format, one registry, one way to read and write."""

from stainda.annotations.formats.beside import annotation_finder, annotations_beside
from stainda.annotations.formats.registry import (
    FORMATS,
    Format,
    read_annotations,
    sniff_format,
    what_is_lost,
    write_annotations,
)

__all__ = [
    "FORMATS",
    "Format",
    "annotation_finder",
    "annotations_beside",
    "read_annotations",
    "sniff_format",
    "what_is_lost",
    "write_annotations",
]
