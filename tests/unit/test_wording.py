"""Which words and lines the check of the documents finds."""

from __future__ import annotations

import pytest
import wording


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The task looks at it.", "'looks'"),
        ("one\n\nIt is as wanted.", "'as wanted'"),
        ("In the Place of it.", "'In the Place of'"),
        ("A " + "long " * 24 + "line", "a line of"),
    ],
)
def test_a_private_word_and_a_long_line_are_found_in_a_document(text, found):
    (problem,) = wording.problems("page.md", text)
    assert found in problem
    assert problem.startswith(f"page.md:{text.count(chr(10)) + 1}:")


@pytest.mark.parametrize(
    "text",
    [
        "The key `wanted`, [a page](looks.md) and a warehouse; a wall clock.",
        "```python\nlooks = 'gate'\n```",
        "| " + "cell " * 40 + "|",
        "![" + "picture " * 20 + "](pictures/a.png)",
    ],
)
def test_code_links_tables_and_other_words_are_no_problem(text):
    assert list(wording.problems("page.md", text)) == []


CODE = '''"""Looks at a campaign."""


def test_it_tells_the_truth():
    wanted = 1  # in doubt
    raise ValueError(f"told {wanted} twice, see `looks`")
'''


def test_in_code_only_docstrings_comments_messages_and_test_names_count():
    found = [problem.split(": ")[0] for problem in wording.problems("module.py", CODE)]
    assert found == ["module.py:1", "module.py:4", "module.py:5", "module.py:6"]


def test_the_changelog_keeps_its_words():
    assert list(wording.problems("CHANGELOG.md", "The task looks at it.")) == []
