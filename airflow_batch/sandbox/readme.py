"""The tables of README.md, made from errors.py, documented.py and contract.py so that they never disagree.

Belongs here: the form of the tables. Does not belong here: their content.
"""

from __future__ import annotations

from airflow_batch.sandbox.contract import entries
from airflow_batch.sandbox.errors import ERRORS, error_code


def markdown() -> str:
    """Return the README's tables: the nine errors, then every behaviour with its label."""
    lines = ["| error (DOCUMENTED) | HTTP status | code |", "|---|---|---|"]
    for error in ERRORS.values():
        write, other = error_code(error.name, "update"), error_code(error.name, "list")
        code = str(write) if other == write else f"{write} for create and update, else {other}"
        lines.append(f"| `{error.name}` | {error.status} | {code} |")
    lines += ["", "| name | label | what the server does | choice | why | replaced by |", "|---|---|---|---|---|---|"]
    for row in entries():
        lines.append(f"| `{row.name}` | {row.label} | {row.does} | {row.choice} | {row.why} | {row.replaced_by} |")
    return "\n".join(lines)
