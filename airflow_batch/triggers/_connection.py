"""How a trigger reaches Batch: the connection is read asynchronously, and each request blocks a thread of its own.

The HTTP client is the hook's, and it blocks. In threads, the triggerer's loop goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from airflow.sdk import BaseHook

from airflow_batch.exceptions import BatchConnectionError
from airflow_batch.hooks.batch import BatchHook

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="batch-trigger")
"""Not asyncio's own, which has few threads and resolves host names for every other trigger of the process."""


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call a function that blocks, in a thread. Its log lines find the trigger by the context."""
    run = contextvars.copy_context().run
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: run(function, *arguments))


async def hook_of(batch_conn_id: str, app: str | None = None) -> BatchHook:
    """Read a connection asynchronously: in a triggerer, Airflow cannot read a stored one in any other way.

    :raises BatchConnectionError: when it does not exist, or Airflow could not read it.
    :raises BatchConfigurationError: when it is wrong.
    """
    try:
        connection = await BaseHook.aget_connection(batch_conn_id)
    except Exception as error:
        # Transient: Airflow says "not defined" also if it failed to ask.
        problem = f"Connection {batch_conn_id!r} cannot be read: {type(error).__name__}."
    else:
        # Not in a thread: masking sends to Airflow's supervisor, which 3.1 allows in the event loop only.
        return BatchHook.from_connection(connection, app)
    raise BatchConnectionError(problem)  # outside, so that the other error, which may name a key, is not chained
