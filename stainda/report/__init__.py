"""Figures and the page, made from the files of a run alone: nothing here trains or registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.report.comparing import make_comparison
    from stainda.report.figure_titles import catalogue
    from stainda.report.loading import load_run
    from stainda.report.page import make_report
    from stainda.report.plotting import make_plot, plot, save_plot, view
    from stainda.report.run import LoadedRun

_HOMES = {
    "make_report": "page", "load_run": "loading", "LoadedRun": "run", "plot": "plotting", "view": "plotting",
    "make_plot": "plotting", "save_plot": "plotting", "catalogue": "figure_titles", "make_comparison": "comparing",
}  # fmt: skip

__all__ = [
    "make_report", "make_comparison", "plot", "view", "make_plot", "save_plot", "catalogue", "load_run", "LoadedRun",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # matplotlib and jinja2 are slow to import
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"stainda.report.{_HOMES[name]}"), name)
