"""Every name of the Python surface has an example in its docstring, and each example gives what it says."""

import doctest
import inspect

import pytest

import stainda as st

VERBS = [name for name in st.__all__ if inspect.isfunction(getattr(st, name))]
CLASSES = [st.Cohort, st.Registration, st.Propagation, st.Run]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for thing in [*(getattr(st, name) for name in VERBS), *CLASSES]:
        found += finder.find(thing, thing.__name__, globs={})
    return [one for one in found if one.examples]


EXAMPLES = _examples()
NEEDS_A_RUN = "runs/mine"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_an_example_gives_what_it_says(example, request):
    request.getfixturevalue("finished" if NEEDS_A_RUN in example.docstring else "desk")
    told = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    example.globs = {"st": st}
    runner.run(example, out=told.append, clear_globs=False)
    assert not runner.failures, "".join(told)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_says_what_it_takes_gives_and_refuses_and_shows_it(name):
    text = inspect.getdoc(getattr(st, name))
    assert "Raises:" in text and "Example:" in text
    assert name in {example.name for example in EXAMPLES}
    if len(inspect.signature(getattr(st, name)).parameters) > 1:
        described = text.partition("Args:")[2].partition("Returns:")[0]
        for parameter in inspect.signature(getattr(st, name)).parameters:
            assert f"{parameter}:" in described or f"{parameter}," in described, parameter


@pytest.mark.parametrize("thing", CLASSES, ids=lambda one: one.__name__)
def test_every_class_shows_how_it_is_used(thing):
    assert thing.__name__ in {example.name for example in EXAMPLES}
