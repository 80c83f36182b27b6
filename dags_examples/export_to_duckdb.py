"""Every night, campaigns and statistics into a database, with a view of the newest figures.

Batch changes the statistics of past dates. Each run reads again what was live or pushed in the last 30 days and
appends it; the views keep the newest row. So a run that is repeated, or whose files are loaded twice, does no harm.

The database is DuckDB, which needs no server. The tables and views are also those of PostgreSQL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, task

from airflow_batch.operators.export import BatchExportCampaignsOperator

TABLES = Path(__file__).with_name("export_tables.sql")
VIEWS = Path(__file__).with_name("export_views.sql")

with DAG(
    "export_to_duckdb",
    schedule="@daily",
    catchup=False,
    max_active_runs=1,  # DuckDB has one writer
    params={"folder": "file:///tmp/batch", "database": "/tmp/batch.duckdb"},
    tags=["batch", "example"],
    doc_md=__doc__,
):
    # [START export]
    export = BatchExportCampaignsOperator(
        task_id="export", destination="{{ params.folder }}", outlets=[Asset("batch_export")]
    )
    # [END export]

    # [START load]
    @task
    def load(exported: Any, params: Any = None) -> None:
        import duckdb

        with duckdb.connect(params["database"]) as database:
            database.execute(TABLES.read_text())
            database.begin()
            for table, url in exported["files"].items():
                quoted = url.replace("'", "''")
                database.execute(f"COPY batch_{table} FROM '{quoted}' (FORMAT json)")
            database.commit()
            database.execute(VIEWS.read_text())

    load(export.output)
    # [END load]
