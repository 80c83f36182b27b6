"""Files of an export: the storage to which they go, and how rows are written. Knows nothing of Batch.

A file is made on the worker's disk and then put to the destination, so that it appears there whole or not at all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Protocol

from airflow_batch._export.tables import ColumnType, Row, Table
from airflow_batch._values import short_repr
from airflow_batch.exceptions import BatchConfigurationError, BatchPayloadError

FileFormat = Literal["jsonl", "csv", "parquet"]
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "adl", "az", "wasb", "wasbs"})
"""Where an upload appears when it is complete. Elsewhere a file is renamed when it is."""
UNFINISHED = ".tmp"


class Storage:
    """A folder in any storage that Airflow's ObjectStoragePath knows.

    :param destination: A URL such as ``s3://aws_default@bucket/batch``, or an ObjectStoragePath.
    :raises BatchPayloadError: for anything else.
    """

    def __init__(self, destination: Any) -> None:
        from airflow.sdk import ObjectStoragePath

        if not isinstance(destination, ObjectStoragePath):
            is_url = isinstance(destination, str) and "://" in destination
            # Of file://data/batch the worker's current folder would be a part.
            if not is_url or (destination.startswith("file:") and not destination.startswith("file:///")):
                raise BatchPayloadError(
                    "destination must be a URL such as 's3://aws_default@bucket/batch' or 'file:///data/batch', or an "
                    f"ObjectStoragePath, not {short_repr(destination)}."
                )
            destination = ObjectStoragePath(destination)
        self._fs = destination.fs
        self._root = str(destination.path).rstrip("/")
        protocol = destination.protocol or "file"
        # Without the connection id, which a database that loads the file does not understand.
        self.url = f"{protocol}://{self._root}"
        self._renames = protocol not in OBJECT_STORES

    def url_of(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.url}/{name}"

    def put(self, local: Path, name: str, staging: str) -> None:
        """Copy a local file; it replaces one of the same name.

        :param staging: The folder in which the copy is made where the storage shows a file before it is complete.
        """
        target = f"{self._root}/{name}"
        if not self._renames:
            self._fs.put_file(str(local), target)
            return
        # A process that Airflow takes for dead may still write: the copies of two attempts must differ.
        unfinished = f"{self._root}/{staging}/{secrets.token_hex(4)}{UNFINISHED}"
        for path in (target, unfinished):
            self._fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        self._fs.put_file(str(local), unfinished)
        self._fs.mv(unfinished, target)

    def find(self, folder: str) -> list[str]:
        """Return the names of the files below a folder, sorted."""
        self._fs.invalidate_cache()
        start = f"{self._root}/"
        return sorted(str(path).removeprefix(start) for path in self._fs.find(f"{start}{folder}"))

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file."""
        with self._fs.open(f"{self._root}/{name}", "rb") as file:
            yield from file

    def remove(self, folder: str) -> None:
        """Remove a folder with all that is in it."""
        with suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{folder}", recursive=True)


class RowFile(Protocol):
    """A local file of rows."""

    def write(self, row: Row) -> None:
        """Add a row."""

    def close(self) -> None:
        """Complete the file."""


def open_rows(path: Path, table: Table, file_format: FileFormat) -> RowFile:
    """Return a new local file for the rows of a table."""
    return _FILES[file_format](path, table)


def check_format(file_format: FileFormat) -> None:
    """Check that files of this format can be written here.

    :raises BatchConfigurationError: for Parquet without pyarrow.
    """
    if file_format == "parquet":
        try:
            import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
        except ImportError:
            raise BatchConfigurationError(
                "file_format='parquet' needs pyarrow: pip install 'airflow-provider-batch[parquet]'."
            ) from None


class _TextFile:
    def __init__(self, path: Path, table: Table) -> None:
        self._names = table.names
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")

    def close(self) -> None:
        self._file.close()


class _JsonLines(_TextFile):
    """An object in each line, with all columns."""

    def write(self, row: Row) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Csv(_TextFile):
    """RFC 4180 with a header and LF. Text is quoted, so that an empty text differs from null, which is nothing."""

    def __init__(self, path: Path, table: Table) -> None:
        super().__init__(path, table)
        self._file.write(",".join(self._names) + "\n")

    def write(self, row: Row) -> None:
        self._file.write(",".join(_csv_value(row[name]) for name in self._names) + "\n")


def _csv_value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else json.dumps(value)


class _Parquet:
    """Typed columns, in row groups of so many rows, or of so many characters where the rows are long."""

    BATCH, BATCH_CHARACTERS = 2_000, 4_000_000

    def __init__(self, path: Path, table: Table) -> None:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from pyarrow import parquet

        types: Mapping[ColumnType, Any] = {
            "boolean": pyarrow.bool_(),
            "integer": pyarrow.int64(),
            "number": pyarrow.float64(),
        }
        columns = [(column.name, types.get(column.type, pyarrow.string())) for column in table.columns]
        self._schema = pyarrow.schema(columns)
        self._writer = parquet.ParquetWriter(str(path), self._schema)
        self._batch_of = pyarrow.RecordBatch.from_pylist
        self._rows: list[Row] = []
        self._characters = 0

    def write(self, row: Row) -> None:
        self._rows.append(row)
        self._characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(self._rows) >= self.BATCH or self._characters >= self.BATCH_CHARACTERS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(self._batch_of(self._rows, schema=self._schema))
            self._rows, self._characters = [], 0


_FILES: Mapping[FileFormat, type[_JsonLines | _Csv | _Parquet]] = {
    "jsonl": _JsonLines,
    "csv": _Csv,
    "parquet": _Parquet,
}
