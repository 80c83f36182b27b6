"""Finds words of this project's former private vocabulary, and lines of documents that are too long to review.

What belongs here: which words to replace, by what, and where that is checked. ``make lint`` runs it with the other
checks of the documents (``tests/documents.py``); ``python tests/wording.py FILE...`` checks any files.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

CHECKED = ("*.md", "*.py")
"""Files that are checked, as patterns of ``git ls-files``."""
EXCEPT = ("CHANGELOG.md", "tests/wording.py")
"""The changelog describes earlier versions in their words; the others have the words as data."""
WIDTH = 120

WORDS: Mapping[str, str] = {
    r"house|rooms?|walls?(?! (?:time|clock))|wings?": "package, module, layer",
    r"(?:gives?|giving|gave) way": "reschedule when throttled",
    r"looks?|looked|looking": "read, poll, check",
    r"doubts?|doubtful": "may have been applied, ambiguous",
    r"tells?|told|telling": "say, log, determine, detect",
    r"(?:as )?wanted": "desired, in the desired state",
    r"(?:keeps?|keeping|kept) quiet|(?:ask(?:s|ed)? for|of|keeps?) silence": "back off",
    r"quiet": "muted",
    r"(?:Batch's|the server's) word": "confirmation, Retry-After",
    r"the page says": "the documentation says",
    r"in (?:the )?place of": "instead of",
    r"what it was created from": "the original payload",
    r"campaigns? of the dashboard": "campaign created in the dashboard",
    r"clock (?:is|was) moved|moved clock": "the clock is set forward",
    r"costs? nothing": "does not use",
    r"blindly": "without checking",
    r"(?:between|more|of|all|no|two|three|many|several|\d+) tries": "attempts, retries",
    r"a clear\b(?! \w)": "a cleared task",
    r"held": "kept",
    r"(?:turnstile|gate|blink)s?": "rate limiter",
    r"lends?|lent": "copy, share",
    r"slip of the pen": "typo",
    r"as good as can be": "optimal",
    r"judges?|judged|judging": "validate, check",
    r"(?:gives?|gave) up": "stop retrying, fail",
    r"is played|are played": "is faked, is simulated",
}
"""Patterns of whole words, whatever the case, and what to write instead."""
_WORD = re.compile("|".join(rf"(?P<w{index}>\b(?:{pattern})\b)" for index, pattern in enumerate(WORDS)), re.I)
_CODE = re.compile(
    r"<!-- tables: begin -->.*<!-- tables: end -->|```.*?^ *```|`[^`\n]*`|\]\([^)\s]*\)|https?://\S+|<!--.*?-->",
    re.M | re.S,
)
"""What is no prose: code, addresses, and the sandbox's tables, which are made from its code."""
_LONG = re.compile(r"^\s*(\||<img|!\[)|\]\([^)]{60,}\)")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)


def problems(name: str, text: str) -> Iterator[str]:
    """Say which words of a file to replace and which of its lines are too long."""
    prose = _blank(_CODE, text) if name.endswith(".md") else _prose_of_code(text)
    if name not in EXCEPT:
        for match in _WORD.finditer(prose):
            better = list(WORDS.values())[int((match.lastgroup or "w0")[1:])]
            yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: say {better} instead of {match[0]!r}"
    if name.endswith(".md"):
        for number, line in enumerate(_blank(_FENCE, text).splitlines(), 1):
            if len(line.rstrip()) > WIDTH and not _LONG.search(line):
                yield f"{name}:{number}: a line of {len(line.rstrip())} characters, more than {WIDTH}"


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Return the text with what matches turned into blanks, so that positions stay."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _prose_of_code(text: str) -> str:
    """Return the comments and the texts (docstrings, messages) of Python code, and the names of tests, in place."""
    kept = [re.sub(r"\S", " ", line) for line in text.splitlines(keepends=True)]
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        string = token.string
        if token.type == tokenize.NAME and string.startswith("test_"):
            string = string.replace("_", " ")
        elif token.type not in kinds or (token.type == tokenize.STRING and not re.search(r"\s", string)):
            continue  # no prose: a text without a blank is a key or a name
        string = _blank(re.compile(r"``[^`]*``|`[^`]*`|\{[^{}]*\}|https?://\S+"), string)
        for offset, line in enumerate(string.split("\n")):
            row, column = token.start[0] - 1 + offset, token.start[1] if offset == 0 else 0
            if row < len(kept):
                kept[row] = kept[row][:column] + line + kept[row][column + len(line) :]
    return "".join(kept)


def check(root: Path, names: list[str]) -> list[str]:
    """Return the problems of the files of a checkout."""
    return [problem for name in names for problem in problems(name, (root / name).read_text(encoding="utf-8"))]


if __name__ == "__main__":
    found = check(Path.cwd(), sys.argv[1:])
    print("\n".join(found))
    sys.exit(bool(found))
