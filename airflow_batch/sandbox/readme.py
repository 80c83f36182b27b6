"""The tables of README.md, made from errors.py and contract.py so that the three never disagree.

Belongs here: how the tables look. Does not belong here: what they say.
"""

from __future__ import annotations

from airflow_batch.sandbox.contract import entries
from airflow_batch.sandbox.errors import ERRORS, error_code


def markdown() -> str:
    """Return the README's tables: the nine errors, then every behaviour with its label."""
    lines = ["| error (DOCUMENTED) | HTTP status | code |", "|---|---|---|"]
    for error in ERRORS.values():
        read, write = error_code(error.name, "list"), error_code(error.name, "update")
        code = str(write) if read == write else f"{write} where a route writes, {read} where it reads"
        lines.append(f"| `{error.name}` | {error.status} | {code} |")
    lines += ["", "| name | label | what the server does | choice | why | replaced by |", "|---|---|---|---|---|---|"]
    for row in entries():
        lines.append(f"| `{row.name}` | {row.label} | {row.does} | {row.choice} | {row.why} | {row.replaced_by} |")
    return "\n".join(lines)
