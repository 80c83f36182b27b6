"""Makes the list in docs/errors.md from airflow_batch/exceptions.py, and finds differences between the two.

What belongs here: what a user does about each error, and how the list is laid out. When an error is raised and whether
it is transient come from the exceptions themselves. ``python tests/documents.py --write`` writes the page.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = Path("docs/errors.md")
EXCEPTIONS = Path("airflow_batch/exceptions.py")
BEGIN, END = "<!-- errors: from airflow_batch/exceptions.py -->\n", "<!-- errors: end -->"
WIDTH = 120


class Help(NamedTuple):
    """The help for an error that only this page has.

    :param message: Part of the message, with ``…`` for what varies; ``{status}`` is what ``ERRORS`` names. It must
        occur in the package's sources.
    :param advice: What to do.
    """

    message: str
    advice: str


REFUSED = "Batch refused the …: {status}"
HELP: Mapping[str, Help] = {
    "BatchError": Help(
        "The campaign was not switched by the callback: …",
        "Catch this class for every failure of the provider. By itself it is raised by the notifier, whose log has the "
        "cause, and by a deferred sensor if worker and triggerer run different versions of the provider.",
    ),
    "BatchConfigurationError": Help(
        "Connection … has no login and no extra api_keys",
        "The message names the argument or the field of the connection, and what is allowed. Correct it: "
        "[Connection](connection.md).",
    ),
    "BatchPayloadError": Help(
        "The campaign token is …: a template may have rendered to nothing",
        "The message names the parameter and what is allowed. Check the rendered fields of the task; see "
        "[payload and definition](operators/common.md#payload-and-definition).",
    ),
    "BatchReadOnlyError": Help(
        "connection … has dry_run",
        "Use an operator, which makes a dry run through such a connection, or set `dry_run` to false: "
        "[a connection that never writes](connection.md#a-connection-that-never-writes).",
    ),
    "BatchNotCreatedError": Help(
        "does not exist, because its creation was a dry run",
        "Nothing: the task is skipped, because an earlier one was a [dry run](operators/common.md#dry-run).",
    ),
    "BatchVerificationError": Help(
        "Batch confirmed the update of campaign …",
        "Wait for the retry, which reads the campaign again. If it fails, check in Batch's dashboard whether somebody "
        "else changes the campaign.",
    ),
    "BatchParametersLostError": Help(
        "but lost … by a write. Send them again",
        "Send the parameters again with [BatchUpdateCampaignOperator](operators/update-campaign.md), or restore the "
        "campaign in the dashboard.",
    ),
    "BatchChangeRefusedError": Help(
        "is one-time and its push time … UTC has passed",
        "The message says why: another name than `expect_name`, a campaign created in the dashboard, a push time that "
        "has passed, a parameter that would be removed, what has changed since an approval, or more than "
        "`max_changes`. Correct the task or the campaign, or ask for an approval again in a new DAG run.",
    ),
    "BatchSyncError": Help(
        "… of … campaigns failed, more than max_failures=…",
        "Read the report in XCom: it has an error for each campaign that failed.",
    ),
    "BatchSyncIncompleteError": Help(
        "Some campaigns are still to be stopped",
        "Wait for the retry, which compares again. If it fails, read the report in XCom.",
    ),
    "BatchExportError": Help(
        "… campaigns could not be read, more than max_failures=…",
        "Read the result in XCom: it has an error for each campaign. Allow some with `max_failures`; see "
        "[export](operators/export-campaigns.md).",
    ),
    "BatchExportIncompleteError": Help(
        "The task was stopped. What was read is kept in part files",
        "Wait for the retry, which continues after what was read.",
    ),
    "BatchStateError": Help(
        "Airflow's task state store did not take",
        "Wait for the retry. If it fails, check that workers reach Airflow's API server. Delete the draft that the "
        "message names.",
    ),
    "BatchClockError": Help(
        "The clocks disagree about the window of campaign",
        "Correct the worker's clock (NTP), or the proxy that sets the `Date` header.",
    ),
    "BatchApiError": Help(
        "Batch refused the …: …",
        "Catch this class for every failed request. Its attributes (`status_code`, `error_code`, `retry_after`, "
        "`may_have_been_applied`) are in the API reference.",
    ),
    "BatchAuthenticationError": Help(
        REFUSED,
        "Check the connection with **Test**: `password` is the company REST API key, `login` or `api_keys` the app API "
        "key. After a [rotation](../SECURITY.md#rotate-a-key), clear the task.",
    ),
    "BatchApiMisuseError": Help(
        REFUSED,
        "Use a Live API key to read. For a write, check in Batch's dashboard what the key may do.",
    ),
    "BatchNotFoundError": Help(
        REFUSED,
        "Check the token, and that `app` is the app of the campaign.",
    ),
    "BatchRequestError": Help(
        REFUSED,
        "Read Batch's explanation in the message and correct the payload. If Batch refuses the form that its own view "
        'shows, pass `definition` and `read="never"`.',
    ),
    "BatchMissingParameterError": Help(REFUSED, "Add the parameter that the message names."),
    "BatchMalformedParameterError": Help(REFUSED, "Correct the parameter that the message names."),
    "BatchMalformedJsonError": Help(
        REFUSED,
        "Check which proxy stands between the worker and Batch: the provider sends valid JSON. Report it if there is "
        "none.",
    ),
    "BatchRepeatRefusedError": Help(
        "so it is not sent again",
        "Check in Batch's dashboard whether the push went out. A new DAG run sends it again; clearing the task does "
        "not.",
    ),
    "BatchWaitExceededError": Help(
        "Batch asks to wait …, but this task waits at most … (max_wait)",
        "Run the task later, or raise `max_wait`.",
    ),
    "BatchTransientApiError": Help("Batch refused the …: …", "Catch this class for every request worth repeating."),
    "BatchResponseError": Help(
        "Batch answered the … with …, but not with …",
        "Check the connection's host and the proxies: this is usually another server's answer. A redirect is not "
        "followed.",
    ),
    "BatchNotVisibleError": Help(
        "A new campaign may take a while to show.",
        "Wait for the retry. If it fails, check the token and `app`.",
    ),
    "BatchRateLimitError": Help(
        REFUSED,
        "Nothing: the task is rescheduled. If it is often throttled, set `requests_per_second`, use a pool, or use "
        "[BatchSyncCampaignsOperator](operators/sync-campaigns.md).",
    ),
    "BatchMaintenanceError": Help(REFUSED, "Nothing: the task is rescheduled."),
    "BatchServerError": Help(REFUSED, "Wait for the retry, which reads the campaign before it writes."),
    "BatchConnectionError": Help(
        "Nothing was sent for the …: connecting to … failed",
        "Check the connection (it also stands for one that does not exist), DNS, proxies and certificates.",
    ),
    "BatchAmbiguousError": Help(
        "No answer to the …",
        "Wait for the retry, which reads the campaign before it writes. If it happens often, check the network, or "
        "raise `timeout` in the connection.",
    ),
}
BY_STATUS = {"BatchRequestError": "400", "BatchServerError": "500 SERVER_ERROR"}
"""For classes of several statuses."""


class Failure(NamedTuple):
    """An exception class as its source has it."""

    name: str
    summary: str
    transient: bool
    throttled: bool
    statuses: tuple[str, ...]


def failures(source: str) -> list[Failure]:
    """Return the exception classes of a module, in its order."""
    tree = ast.parse(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    statuses = _statuses(tree)
    return [
        Failure(
            name,
            " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()),
            _attribute(classes, name, "transient"),
            _attribute(classes, name, "throttled"),
            tuple(statuses.get(name, ())),
        )
        for name, node in classes.items()
    ]


def _attribute(classes: Mapping[str, ast.ClassDef], name: str, attribute: str) -> bool:
    """Return a boolean class attribute, which may be inherited."""
    node = classes.get(name)
    if node is None:
        return False
    for line in node.body:
        targets = [line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            return bool(ast.literal_eval(line.value))
    return any(_attribute(classes, base.id, attribute) for base in node.bases if isinstance(base, ast.Name))


def _statuses(tree: ast.Module) -> dict[str, list[str]]:
    """Return what ``ERRORS`` says of each class, such as ``429 TOO_MANY_REQUESTS (code 60)``."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "ERRORS":
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                (status, code), (name, cls) = ast.literal_eval(key), value.elts
                found.setdefault(cls.id, []).append(f"{status} {name.value} (code {code})")
    return found


def templates(folder: Path) -> set[str]:
    """Return the texts of a package's sources, with ``…`` for what is filled in."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
    return found


def disagreements(root: Path) -> Iterator[str]:
    """Yield the differences between page, exceptions and this module."""
    known = failures((root / EXCEPTIONS).read_text(encoding="utf-8"))
    names = [failure.name for failure in known]
    for name in names:
        if name not in HELP:
            yield f"tests/errors_page.py: HELP lacks {name}: add a part of its message and what to do"
    for name in HELP:
        if name not in names:
            yield f"tests/errors_page.py: HELP names {name}, which {EXCEPTIONS} does not have"
    texts = templates(root / "airflow_batch")
    for name, help_ in HELP.items():
        expected = help_.message.replace("{status}", "…")
        if not any(expected in text for text in texts):
            yield f"tests/errors_page.py: no message of the package holds {expected!r}, which HELP has for {name}"
    if set(names) == set(HELP) and written(root) != (root / PAGE).read_text(encoding="utf-8"):
        yield f"{PAGE}: the list is not what {EXCEPTIONS} says (--write corrects it)"


def written(root: Path) -> str:
    """Return the page with a new list.

    :raises KeyError: for an exception class that ``HELP`` lacks.
    """
    page = (root / PAGE).read_text(encoding="utf-8")
    sections = "".join(_section(failure) for failure in failures((root / EXCEPTIONS).read_text(encoding="utf-8")))
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}{sections}{END}", page, flags=re.S)


def _section(failure: Failure) -> str:
    help_ = HELP[failure.name]
    if failure.throttled:
        kind = "Transient: the task is rescheduled without using a retry."
    elif failure.transient:
        kind = "Transient: Airflow's retries run the task again."
    else:
        kind = "Permanent: the task fails at once."
    if failure.name == "BatchNotCreatedError":
        kind = "No failure: Airflow skips the task."
    if failure.name in ("BatchError", "BatchApiError"):
        kind = "A base class: its subclasses say whether they are transient."
    message = help_.message.replace("{status}", BY_STATUS.get(failure.name, ", or ".join(failure.statuses)))
    lines = [f"- {kind}", f"- Message: `{message}`", f"- What to do: {help_.advice}"]
    summary = failure.summary.replace("``", "`")
    return "\n".join([f"## {failure.name}", _wrapped(summary), "", *(_wrapped(line, "  ") for line in lines), "", ""])


def _wrapped(text: str, indent: str = "") -> str:
    """Return a paragraph in lines of the page's width, with each link and each piece of code on one line."""
    whole = re.sub(r"`[^`]*`|\[[^\]]*\]", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.fill(whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")
