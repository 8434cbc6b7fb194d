"""Which strategy the answer names first, for those who go on with it: ``stainda predict``."""

from __future__ import annotations

import numpy as np

from stainda.evaluation.analysis import Analysis
from stainda.evaluation.groups import contenders
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.run import LoadedRun
from stainda.report.summary_text import answer_measure, headline, overall_differences, shown_to_be_better
from stainda.report.tables import decimal, signed


def named_first(run: LoadedRun, analysis: Analysis) -> tuple[str, str] | None:
    """Of those without target labels the strategy that the answer names first, and why; ``None``: none has a score.

    The one shown to be better than the baseline by the largest margin; else the one with the largest gain; the baseline
    where none has a gain. Without a baseline the one with the highest mean.
    """
    baseline, rows = run.study.baseline, overall_differences(analysis, answer_measure(run.study))
    base = run.label(baseline)
    if len(rows):
        leader, best = shown_to_be_better(rows, 1 - run.study.evaluation.level), str(rows["difference"].idxmax())
        if leader is not None:
            return leader, f"shown to be better than {base} on the targets ({signed(rows.loc[leader, 'difference'])})"
        if rows.loc[best, "difference"] > 0:
            against = f"{signed(rows.loc[best, 'difference'])} against {base}, which no test shows"
            return best, f"the largest gain over the targets ({against})"
        return baseline, "the baseline; none of the others scored higher on the targets"
    results = headline(analysis.results, answer_measure(run.study))
    for domain, where in ((ALL_TARGETS, "the targets"), (ALL_SOURCES, "all domains")):
        means = results[(results["domain"] == domain) & np.isfinite(results["mean"])].set_index("strategy")["mean"]
        means = means.loc[contenders(run.study, means.index)]
        if len(means):
            return str(means.idxmax()), f"the highest mean over {where} ({decimal(means.max())})"
    return None
