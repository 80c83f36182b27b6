"""The types of the arguments that operators, sensors and the notifier take. Nothing here runs.

A template is text for Python, so ``str`` is part of most types. Where only some texts are allowed, the classes check
them when the DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import XComArg

from airflow_batch.windows import CampaignWindow

CampaignReference = str | Mapping[str, Any] | XComArg
"""A token, the result of a Batch task, the output of a task, or a template of one of them."""
Live = bool | str | CampaignWindow | XComArg
"""Of texts, ``true``, ``false`` (in any case) and templates are allowed."""
Payload = Mapping[str, Any] | str | XComArg
"""An object, JSON text, the name of a ``.json`` file, the output of a task, or a template."""
Campaigns = Sequence[Mapping[str, Any]] | str | XComArg
"""A list of objects, or the same as for a payload."""
Duration = timedelta | float
"""A timedelta, or seconds."""
Lateness = Duration | Literal["auto"] | None
Read = Literal["auto", "never"]
Throttle = Literal["reschedule", "retry"]
SensorMode = Literal["reschedule", "poke"]
