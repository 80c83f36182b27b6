"""One class for each failure, and the rule that picks the class from an HTTP status.

Permanent failures also derive from ``AirflowFailException``, so that a task stops at once on every Airflow version;
the others are transient and are run again. How a response is read belongs to ``_http/responses.py``, when to run again
to ``policies/retry.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from airflow_batch._airflow.compat import AirflowException, AirflowFailException, AirflowSkipException


class BatchError(AirflowException):
    """Base of every failure of this provider. Its text never holds a key."""

    transient: ClassVar[bool] = False
    """True when the same call may succeed later."""

    @property
    def details(self) -> dict[str, Any]:
        """What is known besides the message: the keyword arguments that make such an error. JSON values."""
        return {}

    def explained(self, more: str) -> Self:
        """Return the same failure with a sentence more, for one who knows what the request was for."""
        return type(self)(f"{self} {more}", **self.details)


class BatchConfigurationError(AirflowFailException, BatchError):
    """The connection or an operator's argument is wrong. Raised before anything is sent."""


class BatchPayloadError(AirflowFailException, BatchError):
    """The campaign or its payload is wrong. Raised before anything is sent."""


class BatchReadOnlyError(AirflowFailException, BatchError):
    """The connection never writes (extra ``dry_run``). Raised before anything is sent."""


class BatchNotCreatedError(AirflowSkipException, BatchError):
    """The campaign was not created, because its creation was a dry run. Airflow skips the task."""


class BatchVerificationError(BatchError):
    """The campaign is not as it was written."""

    transient = True


class BatchParametersLostError(AirflowFailException, BatchVerificationError):
    """After a write the campaign lacks what it had before."""

    transient = False


class BatchChangeRefusedError(AirflowFailException, BatchError):
    """The change is refused for what the campaign is, before anything is sent."""


class BatchSyncError(AirflowFailException, BatchError):
    """More campaigns failed than allowed, and trying again does not help."""


class BatchSyncIncompleteError(BatchError):
    """More campaigns failed than allowed, some for a reason that may pass."""

    transient = True


class BatchExportError(AirflowFailException, BatchError):
    """More campaigns could not be read than allowed, and trying again does not help."""


class BatchExportIncompleteError(BatchError):
    """An export could not be completed, for a reason that may pass."""

    transient = True


class BatchStateError(BatchError):
    """Airflow's task state store did not take a record without which nothing may be sent."""

    transient = True


class BatchClockError(BatchError):
    """The worker's clock and Batch's disagree about whether a window is open."""

    transient = True


class BatchApiError(BatchError):
    """A request failed.

    :param message: What happened, in one line, for the reader of a log.
    :param status_code: HTTP status, None when no response was read.
    :param error_code: Batch's own number (10, 12, 20, 30, 31, 32, 60, 0, 1, 2), None when the body has none.
    :param error_name: Batch's own name, such as ``TOO_MANY_REQUESTS``; None when neither body nor status names it.
    :param retry_after: Seconds the server asked to wait, None when it did not ask.
    :param endpoint: ``create``, ``update``, ``delete``, ``view``, ``stats`` or ``list``.
    :param may_have_been_applied: True when a write may have taken effect although it failed.
    """

    may_be_rescheduled: bool = True
    """False where an earlier request of the attempt may have been applied and nothing keeps that for the next one."""

    throttled: ClassVar[bool] = False
    """True when Batch refused the request for its rate or for maintenance; nothing was applied."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error_code: int | None = None,
        error_name: str | None = None,
        retry_after: float | None = None,
        endpoint: str | None = None,
        may_have_been_applied: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code: int | None = status_code  # type: ignore[assignment]
        self.error_code = error_code
        self.error_name = error_name
        self.retry_after = retry_after
        self.endpoint = endpoint
        self.may_have_been_applied = may_have_been_applied

    @property
    def details(self) -> dict[str, Any]:
        """What is known besides the message: the keyword arguments that make such an error. JSON values."""
        names = ("status_code", "error_code", "error_name", "retry_after", "endpoint", "may_have_been_applied")
        return {name: getattr(self, name) for name in names}


class BatchAuthenticationError(AirflowFailException, BatchApiError):
    """401: the keys are not accepted."""


class BatchApiMisuseError(AirflowFailException, BatchApiError):
    """403: the keys are accepted, the call is not allowed."""


class BatchNotFoundError(AirflowFailException, BatchApiError):
    """404: no such campaign or route."""


class BatchRequestError(AirflowFailException, BatchApiError):
    """Any other refusal of the request (4xx)."""


class BatchMissingParameterError(BatchRequestError):
    """400 / 30: the payload lacks a parameter."""


class BatchMalformedParameterError(BatchRequestError):
    """400 / 31: a parameter of the payload is malformed."""


class BatchMalformedJsonError(BatchRequestError):
    """400 / 32: the body is not the JSON that Batch expects."""


class BatchRepeatRefusedError(AirflowFailException, BatchApiError):
    """An earlier attempt may have sent the push, and Batch does not show whether it did: it is not sent again."""


class BatchWaitExceededError(AirflowFailException, BatchApiError):
    """Batch asked to wait longer than the task's ``max_wait`` allows."""


class BatchTransientApiError(BatchApiError):
    """Base of the failed requests that may succeed later."""

    transient = True


class BatchResponseError(BatchTransientApiError):
    """A redirect, or a 2xx whose body is not what the endpoint promises; a write may have been applied."""


class BatchNotVisibleError(BatchTransientApiError):
    """404 of view: the campaign may be too new to show, or the token or the app is wrong."""


class BatchRateLimitError(BatchTransientApiError):
    """429: too many requests. Batch asks to wait at least 5 seconds; further requests may still be refused."""

    throttled = True


class BatchMaintenanceError(BatchTransientApiError):
    """503 / 2: Batch is under maintenance."""

    throttled = True


class BatchServerError(BatchTransientApiError):
    """Any other 5xx; a write may have been applied."""


class BatchConnectionError(BatchTransientApiError):
    """DNS, connect or TLS handshake failed: nothing was sent."""


class BatchAmbiguousError(BatchTransientApiError):
    """Timeout, reset or close after the first byte was sent (or 408); a write may have been applied."""


ERRORS: dict[tuple[int, int], tuple[str, type[BatchApiError]]] = {
    (401, 10): ("AUTHENTICATION_INVALID", BatchAuthenticationError),
    (403, 12): ("API_MISUSE", BatchApiMisuseError),
    (404, 20): ("ROUTE_NOT_FOUND", BatchNotFoundError),
    (400, 30): ("MISSING_PARAMETER", BatchMissingParameterError),
    (400, 31): ("MALFORMED_PARAMETER", BatchMalformedParameterError),
    (400, 32): ("MALFORMED_JSON_BODY", BatchMalformedJsonError),
    (500, 0): ("SERVER_ERROR", BatchServerError),
    (500, 1): ("SERVER_ERROR", BatchServerError),
    (503, 2): ("MAINTENANCE_ERROR", BatchMaintenanceError),
    (429, 60): ("TOO_MANY_REQUESTS", BatchRateLimitError),
}
"""The errors Batch documents, by HTTP status and error code.

Source: the Failure sections of the campaigns API (update, delete, stats); SERVER_ERROR carries 1 on write pages and 0
on read pages.
"""

_BY_STATUS = {status: kind for (status, _), (_, kind) in ERRORS.items() if status in (401, 403, 404, 429)}


def error_class(status_code: int, error_code: int | None) -> type[BatchApiError]:
    """Return the class of a response that is not a 2xx. The status decides; the code, when known, only refines it."""
    if error_code is not None and (status_code, error_code) in ERRORS:
        return ERRORS[status_code, error_code][1]
    if status_code == 408 or status_code < 200:
        return BatchAmbiguousError
    if status_code < 400:
        return BatchResponseError
    return _BY_STATUS.get(status_code, BatchServerError if status_code >= 500 else BatchRequestError)
