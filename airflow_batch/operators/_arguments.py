"""The arguments of operators, sensors and the notifier: their types, and what is checked when a DAG is parsed.

A template is text for Python, so ``str`` is part of most types. Where only some texts are allowed, a check finds others
when the DAG is parsed, not when the task runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Literal, get_args

from airflow.sdk import XComArg

from airflow_batch._airflow.task_context import MAP_INDEX_TEMPLATE
from airflow_batch._campaigns.payload import check_live_argument, read_live
from airflow_batch._values import check_choice, short_repr
from airflow_batch.exceptions import BatchConfigurationError
from airflow_batch.policies.retry import RetryDefaults
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
Verify = Literal["auto", "always", "never"]
Throttle = Literal["reschedule", "retry"]
SensorMode = Literal["reschedule", "poke"]


def _check_live(live: Any) -> None:
    if hasattr(live, "is_live_at") and not isinstance(live, CampaignWindow):  # such as LiveWindows, of a calendar
        raise BatchConfigurationError(
            f"live is {short_repr(live)}. A CampaignWindow, True, False, their text, a template and the output of "
            "another task are allowed. For the campaigns of a calendar, use BatchSyncCampaignsOperator."
        )
    check_live_argument(live)


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "live": _check_live,
    "read": partial(check_choice, "read", choices=get_args(Read)),
    "verify": partial(check_choice, "verify", choices=get_args(Verify)),
    "throttle": partial(check_choice, "throttle", choices=get_args(Throttle)),
}


def check_arguments(**arguments: Any) -> None:
    """Check those of the arguments that may have a few values only.

    :raises BatchConfigurationError: for another value.
    """
    for name in arguments.keys() & _CHECKS.keys():
        _CHECKS[name](arguments[name])


def read_desired_live(live: Any) -> bool | CampaignWindow:
    """Return a rendered ``live``: a boolean, or the window.

    :raises BatchPayloadError: for anything else.
    """
    return live if isinstance(live, CampaignWindow) else read_live(live)


class TaskArguments(RetryDefaults):
    """Mixin that checks the arguments of mapped tasks as those of plain ones, and gives both the same defaults."""

    own_arguments: ClassVar[frozenset[str]] = frozenset()
    """Those that have another meaning than in the other operators, and are not checked like theirs."""

    @classmethod
    def task_defaults(cls) -> dict[str, Any]:
        """Return the defaults of arguments that neither the task nor ``default_args`` give."""
        return {**super().task_defaults(), "map_index_template": MAP_INDEX_TEMPLATE}

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Start a mapped task. See ``BaseOperator.partial``."""
        check_arguments(**{name: value for name, value in kwargs.items() if name not in cls.own_arguments})
        return super().partial(**kwargs)
