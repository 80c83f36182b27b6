"""Makes the tables in docs/operators/export-campaigns.md and dags_examples/export_tables.sql from the export's columns.

``python tests/documents.py --write`` writes both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_batch._export.tables import TABLES, ColumnType, Table

PAGE = Path("docs/operators/export-campaigns.md")
SCRIPT = Path("dags_examples/export_tables.sql")
BEGIN, END = "<!-- columns: from airflow_batch/_export/tables.py -->\n", "<!-- columns: end -->"
SQL_TYPES: Mapping[ColumnType, str] = {"boolean": "BOOLEAN", "integer": "BIGINT", "number": "DOUBLE PRECISION"}
HEAD = "-- The tables of BatchExportCampaignsOperator, for DuckDB and PostgreSQL. Made from the package's code.\n"


def markdown(table: Table) -> str:
    rows = "\n".join(f"| `{column.name}` | {column.type} | {column.about} |" for column in table.columns)
    return f"### {table.name}\n{table.about}\n\n| column | type | meaning |\n|---|---|---|\n{rows}\n"


def create(table: Table) -> str:
    types = {column.name: SQL_TYPES.get(column.type, "TEXT") for column in table.columns}
    types["exported_at"] = "TIMESTAMPTZ"
    columns = ",\n".join(f"    {name} {kind}" for name, kind in types.items())
    return f"CREATE TABLE IF NOT EXISTS batch_{table.name} (\n{columns}\n);\n"


def written(root: Path) -> dict[Path, str]:
    """Return what the two files should be."""
    page = (root / PAGE).read_text(encoding="utf-8")
    tables = "\n" + "\n".join(map(markdown, TABLES))
    made = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}{tables}{END}", page, flags=re.S)
    return {PAGE: made, SCRIPT: HEAD + "\n".join(map(create, TABLES))}


def disagreements(root: Path) -> Iterator[str]:
    """Say which of the two files is not what the code says."""
    for path, text in written(root).items():
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text:
            yield f"{path}: not what airflow_batch/_export/tables.py says (--write corrects it)"
