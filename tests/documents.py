"""Holds the documents against the code: ``python tests/documents.py``. With ``--write`` it mends the snippets.

What belongs here: whether every link leads somewhere, every snippet is what its source says, and every name in the
documents still exists. What does not: whether the sources run, which is for the tests that run them.

A snippet names its source in a comment before its block: ``<!-- from: dags_examples/summer_sale.py -->`` for a whole
file, ``<!-- from: docs/examples/pool.py#toggle -->`` for what stands between ``[START toggle]`` and ``[END toggle]``.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import errors_page
import export_page
import wording

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCED = {"python", "yaml", "json"}
"""Languages whose blocks must come from a file."""
SOURCES = ("*.py", "*.toml", "*.cfg", "*.yaml", "*.json", "*.html", "*.sh", "Makefile")
NOT_OURS = {"ALLOW_QUOTED_NULLS", "DAGRUN_QUEUED_AT", "KubernetesExecutor", "REQUESTS_CA_BUNDLE", "max_active_tasks"}
"""Names of other programs that documents use, and no file of ours does."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
SNIPPET = re.compile(r"<!-- from: ([^#\s]+)(?:#(\w+))? -->\n+( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
NAME = re.compile(r"[A-Za-z_][\w]*")


class Document(NamedTuple):
    path: Path
    text: str
    root: Path = CHECKOUT

    @property
    def prose(self) -> str:
        """The text with its code blocks blanked, so that lines keep their numbers."""
        return FENCE.sub(lambda block: "\n" * block.group().count("\n"), self.text)

    def at(self, position: int) -> str:
        return f"{self.path.relative_to(self.root)}:{self.text.count(chr(10), 0, position) + 1}"


def problems(document: Document) -> Iterator[str]:
    """Say what is wrong in a document, each with its place."""
    yield from _snippets(document)
    yield from _links(document)
    yield from _names(document)


def _snippets(document: Document) -> Iterator[str]:
    sourced = set()
    for match in SNIPPET.finditer(document.text):
        sourced.add(match.end())
        path, region = match[1], match[2]
        try:
            expected = source_of(document.root / path, region)
        except (OSError, LookupError) as error:
            yield f"{document.at(match.start())}: no snippet in {path}: {error}"
            continue
        if match[5] != textwrap.indent(expected, match[3]):
            yield f"{document.at(match.start())}: the snippet is not what {path} says (--write corrects it)"
    for match in FENCE.finditer(document.text):
        if not match[2]:
            yield f"{document.at(match.start())}: a block without a language"
        if match[2] in SOURCED and match.end() not in sourced:
            yield f"{document.at(match.start())}: a {match[2]} block without a source"


def source_of(path: Path, region: str | None) -> str:
    """Return a file's text, or that of a region of it without its indent and its own marks.

    :raises LookupError: when there is no such region.
    """
    text = path.read_text(encoding="utf-8")
    if region is not None:
        match = re.search(rf"^[^\n]*\[START {region}\][^\n]*\n(.*?)^[^\n]*\[END {region}\]", text, re.M | re.S)
        if match is None:
            raise LookupError(f"no region {region!r}")
        text = textwrap.dedent(match[1])
    return re.sub(r"^[^\n]*\[(START|END) \w+\][^\n]*\n", "", text, flags=re.M).strip("\n") + "\n"


def mended(document: Document) -> str:
    """Return the document with every snippet as its source says, where there is one."""

    def renew(match: re.Match[str]) -> str:
        try:
            expected = source_of(document.root / match[1], match[2])
        except (OSError, LookupError):
            return match.group()
        head = match.group()[: match.start(5) - match.start()]
        return f"{head}{textwrap.indent(expected, match[3])}{match[3]}```"

    return SNIPPET.sub(renew, document.text)


def _links(document: Document) -> Iterator[str]:
    for match in LINK.finditer(document.prose):
        target = match[1] or match[2]
        if re.match(r"https://[\w.-]+(/|$)|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (document.path.parent / path).resolve() if path else document.path
        if "://" in target or not aim.exists():
            yield f"{document.at(match.start())}: the link to {target} leads nowhere"
        elif anchor and anchor not in anchors(aim.read_text(encoding="utf-8")):
            yield f"{document.at(match.start())}: {path or 'this document'} has no heading for #{anchor}"


def anchors(text: str) -> set[str]:
    """Return the anchors that a page of GitHub gives the headings of a text."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _names(document: Document) -> Iterator[str]:
    for match in CODE.finditer(document.prose):
        code = match[1]
        if missing := _missing(code, document):
            yield f"{document.at(match.start())}: `{code}` names what is not there: {missing}"


def _missing(code: str, document: Document) -> str | None:
    if command := re.fullmatch(r"make ([\w-]+)(?: \w+=\S+)*", code):
        target = rf"^{command[1]}:"
        return None if re.search(target, (document.root / "Makefile").read_text(), re.M) else command[1]
    if re.fullmatch(r"(\.?[\w-]+/)+[\w.-]*\*?[\w.-]*", code) and (code.split("/")[0] in _top(document.root)):
        return None if any(document.root.glob(code.rstrip("/"))) else code
    if dotted := re.fullmatch(r"(?:python -m )?(airflow_batch(?:\.\w+)+)(?:[( ].*)?", code):
        return None if _importable(dotted[1], document.root) else dotted[1]
    for name in NAME.findall(re.sub(r'"[^"]*"', '""', code)):
        if _is_our_style(name) and name not in _words(document.root) | NOT_OURS:
            return str(name)
    return None


def _is_our_style(name: str) -> bool:
    """Return whether a word is a name of code, and not of everyday: it has an underscore or a capital inside."""
    return "_" in name.strip("_") or bool(re.match(r"[A-Z]+[a-z0-9]+[A-Z]", name))


def _importable(dotted: str, root: Path) -> bool:
    """Return whether a dotted name is a module, or a name that stands in one."""
    path = root.joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent if path.parent.is_dir() else path.parent.with_suffix(".py")
    file = module / "__init__.py" if module.is_dir() else module
    return file.is_file() and path.name in _words_of(file)


@cache
def _top(root: Path) -> frozenset[str]:
    return frozenset(path.name for path in root.iterdir())


@cache
def _words(root: Path) -> frozenset[str]:
    """Return every name that the sources hold; texts count, comments and docstrings of ours do as well."""
    paths = [root / name for name in _listed(root, *SOURCES)]
    return frozenset().union(*(_words_of(path) for path in paths if path.is_file() and path != Path(__file__)))


@cache
def _words_of(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        text = " ".join(token.string for token in tokens if token.type != tokenize.COMMENT)
    return frozenset(NAME.findall(text))


def documents(root: Path = CHECKOUT) -> list[Document]:
    """Return the documents of the checkout, tracked or new."""
    return [Document(root / name, (root / name).read_text(encoding="utf-8"), root) for name in _listed(root, "*.md")]


def _listed(root: Path, *patterns: str) -> list[str]:
    """Return the files of the checkout, tracked or new."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in set(listed) if (root / name).is_file())


def main() -> int:
    if "--write" in sys.argv[1:]:
        for document in documents():
            document.path.write_text(mended(document), encoding="utf-8")
        (CHECKOUT / errors_page.PAGE).write_text(errors_page.written(CHECKOUT), encoding="utf-8")
        for path, text in export_page.written(CHECKOUT).items():
            (CHECKOUT / path).write_text(text, encoding="utf-8")
    found = [problem for document in documents() for problem in problems(document)]
    found += [*errors_page.disagreements(CHECKOUT), *export_page.disagreements(CHECKOUT)]
    found += [*wording.check(CHECKOUT, _listed(CHECKOUT, *wording.CHECKED))]
    print("\n".join(found) or f"{len(documents())} documents: links, snippets and names hold.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
