"""One class for each failure: whether Airflow retries it, and that it can be pickled.

Which response raises which class is in test_responses.py.
"""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_batch._airflow.compat import AirflowException, AirflowFailException
from airflow_batch.exceptions import (
    BatchAmbiguousError,
    BatchApiError,
    BatchApiMisuseError,
    BatchAuthenticationError,
    BatchConfigurationError,
    BatchConnectionError,
    BatchError,
    BatchMaintenanceError,
    BatchMalformedJsonError,
    BatchMalformedParameterError,
    BatchMissingParameterError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRateLimitError,
    BatchRepeatRefusedError,
    BatchRequestError,
    BatchResponseError,
    BatchServerError,
    BatchVerificationError,
    BatchWaitExceededError,
)

PERMANENT = [
    BatchConfigurationError,
    BatchPayloadError,
    BatchAuthenticationError,
    BatchApiMisuseError,
    BatchNotFoundError,
    BatchRequestError,
    BatchMissingParameterError,
    BatchMalformedParameterError,
    BatchMalformedJsonError,
    BatchRepeatRefusedError,
    BatchWaitExceededError,
]
TRANSIENT = [
    BatchRateLimitError,
    BatchMaintenanceError,
    BatchServerError,
    BatchConnectionError,
    BatchAmbiguousError,
    BatchResponseError,
    BatchVerificationError,
]


def family(kind):
    return {kind}.union(*map(family, kind.__subclasses__()))


API_ERRORS = sorted(family(BatchApiError), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", PERMANENT + TRANSIENT)
def test_only_a_permanent_failure_stops_the_task_at_once(kind):
    assert issubclass(kind, AirflowFailException) is (kind in PERMANENT)
    assert kind.transient is (kind in TRANSIENT)
    assert issubclass(kind, BatchError)
    assert issubclass(kind, AirflowException)


def test_only_a_refusal_for_rate_or_maintenance_is_throttled():
    assert {kind for kind in API_ERRORS if kind.throttled} == {BatchRateLimitError, BatchMaintenanceError}


ATTRIBUTES = {
    "message": "Batch refused it.",
    "status_code": 429,
    "error_code": 60,
    "error_name": "TOO_MANY_REQUESTS",
    "retry_after": 7.5,
    "endpoint": "update",
    "may_have_been_applied": True,
}


@pytest.mark.parametrize("kind", [*API_ERRORS, BatchConfigurationError, BatchPayloadError, BatchVerificationError])
def test_a_failure_keeps_its_message_and_every_attribute_when_it_is_pickled_or_copied(kind):
    attributes = ATTRIBUTES if issubclass(kind, BatchApiError) else {}
    error = kind(**attributes) if attributes else kind("Batch refused it.")
    for arrived in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(arrived) is kind
        assert str(arrived) == "Batch refused it."
        assert {name: getattr(arrived, name) for name in attributes} == attributes


@pytest.mark.parametrize("kind", API_ERRORS)
def test_a_failure_without_details_has_none_and_assumes_no_write(kind):
    error = kind("No answer.")
    known = [error.status_code, error.error_code, error.error_name, error.retry_after, error.endpoint]
    assert known == [None] * 5
    assert error.may_have_been_applied is False
