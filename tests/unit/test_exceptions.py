"""One class for each failure: which one, whether the task stops, and that nothing of it is lost on its way."""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_batch._airflow.compat import AirflowException, AirflowFailException
from airflow_batch.exceptions import (
    ERRORS,
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
    error_class,
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


@pytest.mark.parametrize("kind", PERMANENT)
def test_a_permanent_failure_stops_the_task_at_once(kind):
    assert issubclass(kind, AirflowFailException)
    assert not kind.transient


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_transient_failure_may_be_run_again(kind):
    assert not issubclass(kind, AirflowFailException)
    assert kind.transient


@pytest.mark.parametrize("kind", PERMANENT + TRANSIENT)
def test_every_failure_can_be_caught_as_one_of_this_provider_or_of_airflow(kind):
    assert issubclass(kind, BatchError)
    assert issubclass(kind, AirflowException)


def test_only_a_refusal_for_rate_or_maintenance_is_throttled():
    assert {kind for kind in API_ERRORS if kind.throttled} == {BatchRateLimitError, BatchMaintenanceError}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, 10, BatchAuthenticationError),
        (403, 12, BatchApiMisuseError),
        (404, 20, BatchNotFoundError),
        (400, 30, BatchMissingParameterError),
        (400, 31, BatchMalformedParameterError),
        (400, 32, BatchMalformedJsonError),
        (500, 0, BatchServerError),
        (500, 1, BatchServerError),
        (503, 2, BatchMaintenanceError),
        (429, 60, BatchRateLimitError),
    ],
)
def test_each_documented_error_has_its_class(status, code, kind):
    assert error_class(status, code) is kind
    assert ERRORS[status, code][1] is kind


@pytest.mark.parametrize("code", [None, 0, 2, 10, 30, 60, 999, -1])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, BatchResponseError),
        (301, BatchResponseError),
        (304, BatchResponseError),
        (308, BatchResponseError),
        (402, BatchRequestError),
        (405, BatchRequestError),
        (408, BatchAmbiguousError),
        (409, BatchRequestError),
        (413, BatchRequestError),
        (422, BatchRequestError),
        (499, BatchRequestError),
        (500, BatchServerError),
        (501, BatchServerError),
        (502, BatchServerError),
        (504, BatchServerError),
        (599, BatchServerError),
        (401, BatchAuthenticationError),
        (403, BatchApiMisuseError),
        (404, BatchNotFoundError),
        (429, BatchRateLimitError),
    ],
)
def test_the_status_decides_whatever_the_code_says(status, code, kind):
    assert error_class(status, code) is kind


@pytest.mark.parametrize("code", [None, 0, 1, 10, 60])
def test_a_503_without_the_maintenance_code_is_a_server_error(code):
    assert error_class(503, code) is BatchServerError


@pytest.mark.parametrize("code", [None, 2, 12, 20])
def test_a_400_without_a_code_of_its_own_is_a_request_error(code):
    assert error_class(400, code) is BatchRequestError


ATTRIBUTES = {
    "status_code": 429,
    "error_code": 60,
    "error_name": "TOO_MANY_REQUESTS",
    "retry_after": 7.5,
    "endpoint": "update",
    "may_have_been_applied": True,
}


@pytest.mark.parametrize(
    "travel",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
@pytest.mark.parametrize("kind", API_ERRORS)
def test_a_failure_keeps_every_attribute_when_it_travels(kind, travel):
    arrived = travel(kind("Batch refused it.", **ATTRIBUTES))
    assert type(arrived) is kind
    assert str(arrived) == arrived.message == "Batch refused it."
    assert {name: getattr(arrived, name) for name in ATTRIBUTES} == ATTRIBUTES


@pytest.mark.parametrize("kind", [BatchConfigurationError, BatchPayloadError, BatchVerificationError])
def test_a_failure_without_a_request_travels_too(kind):
    arrived = pickle.loads(pickle.dumps(kind("It is wrong.")))
    assert (type(arrived), str(arrived)) == (kind, "It is wrong.")


@pytest.mark.parametrize("kind", API_ERRORS)
def test_what_is_not_known_is_none_and_a_write_is_not_assumed(kind):
    error = kind("No answer.")
    known = [error.status_code, error.error_code, error.error_name, error.retry_after, error.endpoint]
    assert known == [None] * 5
    assert error.may_have_been_applied is False
