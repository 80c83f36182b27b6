"""A local, stateful Batch server for demos and tests. See README.md in this directory.

Belongs here: what others import. It stands apart: nothing else in the package imports it, and it imports nothing of the
package that is outside.
"""

from __future__ import annotations

from airflow_batch.sandbox.contract import Contract
from airflow_batch.sandbox.faults import Fault, FaultPlan
from airflow_batch.sandbox.log import RequestRecord
from airflow_batch.sandbox.server import BatchSandbox

__all__ = ["BatchSandbox", "Contract", "Fault", "FaultPlan", "RequestRecord"]
