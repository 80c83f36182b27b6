"""What the check of the documents finds. The documents themselves are checked by ``make lint``."""

from __future__ import annotations

import subprocess

import documents
import pytest
from documents import Document, mended, problems


@pytest.fixture
def page(tmp_path):
    """Return a function that makes a page of a small checkout."""
    (tmp_path / "example.py").write_text("before = 1\n# [START part]\nif True:\n    part = 2\n# [END part]\n")
    (tmp_path / "other.md").write_text("# Some heading: here\n")
    (tmp_path / "Makefile").write_text("demo:\n\techo\n")
    (tmp_path / "airflow_batch").mkdir()
    (tmp_path / "airflow_batch" / "hooks.py").write_text("class BatchHook:\n    def get_conn(self): ...\n")
    subprocess.run(["git", "init", "--quiet", "."], cwd=tmp_path, check=True)

    def make(text: str) -> Document:
        path = tmp_path / "page.md"
        path.write_text(text)
        return Document(path, text, tmp_path)

    return make


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md) [b](other.md#some-heading-here) [c](https://batch.com) [d](#own)\n# Own\n",
        "`BatchHook.get_conn`, `airflow_batch.hooks.BatchHook` and `airflow_batch/hooks.py`",
        "`make demo` and `make demo KEEP=1`",
        '`live`, `True`, `0 9 * * 1-5` and `"no_such_name"` are no names of code',
        "<!-- from: example.py#part -->\n```python\nif True:\n    part = 2\n```\n",
        "<!-- from: example.py -->\n```python\nbefore = 1\nif True:\n    part = 2\n```\n",
        "```bash\nmake nothing\n```\n",
    ],
)
def test_what_holds_is_no_problem(page, text):
    assert list(problems(page(text))) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\n[a](nowhere.md)", "page.md:2: the link to nowhere.md leads nowhere"),
        ("[a](other.md#no-such)", "other.md has no heading for #no-such"),
        ("[a](http://batch.com)", "leads nowhere"),
        ('<img alt="x" src="none.png">', "none.png leads nowhere"),
        ("`BatchHok.get_conn`", "BatchHok"),
        ("`get_con()`", "get_con"),
        ("`airflow_batch.hooks.Other`", "airflow_batch.hooks.Other"),
        ("`make nothing`", "nothing"),
        ("`airflow_batch/other.py`", "airflow_batch/other.py"),
        ("```python\nx = 1\n```\n", "a python block without a source"),
        ("<!-- from: example.py#part -->\n```python\nold = 1\n```\n", "is not what example.py says"),
        ("```\nx = 1\n```\n", "a block without a language"),
        ("<!-- from: example.py#none -->\n```python\n```\n", "no snippet in example.py"),
        ("<!-- from: none.py -->\n```python\n```\n", "no snippet in none.py"),
    ],
)
def test_what_does_not_is_named_with_its_place(page, text, said):
    documents._words.cache_clear()
    (problem,) = problems(page(text))
    assert said in problem
    assert problem.startswith("page.md:")


def test_a_snippet_is_brought_up_to_date_and_the_rest_is_left(page):
    old = "before\n<!-- from: example.py#part -->\n```python\nold\n```\nafter\n"
    new = mended(page(old))
    assert new == "before\n<!-- from: example.py#part -->\n```python\nif True:\n    part = 2\n```\nafter\n"
    assert list(problems(page(new))) == []
