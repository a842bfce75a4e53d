"""What the page on tracing shows is what happens."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tracing.md"


def test_the_page_is_true() -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    text = PAGE.read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(text, {}, "tracing.md", str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=options)
    runner.run(test)
    assert runner.summarize().attempted > 5
    assert not runner.failures
