"""A local, stateful Batch server for demos and tests. See README.md in this directory.

Belongs here: what others import. It stands apart: nothing else in the package imports it, and it imports nothing of the
package that is outside.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_batch.sandbox.contract import Contract
    from airflow_batch.sandbox.faults import Fault, FaultPlan
    from airflow_batch.sandbox.log import RequestRecord
    from airflow_batch.sandbox.server import BatchSandbox

__all__ = ["BatchSandbox", "Contract", "Fault", "FaultPlan", "RequestRecord"]

_HOMES = {
    "BatchSandbox": "server",
    "Contract": "contract",
    "Fault": "faults",
    "FaultPlan": "faults",
    "RequestRecord": "log",
}


def __getattr__(name: str) -> Any:
    # pytest loads the plugin of this package in every run of a user's: the web server must not come with it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
