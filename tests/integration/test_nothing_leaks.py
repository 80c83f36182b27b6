"""No key is in the log or the errors of the hook. system/test_scheduler.py checks Airflow's own files and database."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest
from canary import APP_KEYS, FAULTS, REST_KEY, assert_free

from airflow_batch.exceptions import BatchError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.sandbox import BatchSandbox, Fault

CAMPAIGN = {"name": "abc", "live": False, "push_time": "2099-01-01T00:00:00", "messages": []}


@pytest.fixture
def canary(connect):
    with BatchSandbox(rest_key=REST_KEY, apps={"ios": APP_KEYS}) as sandbox:
        connect({**sandbox.connection(), "extra": {"timeout": [0.4, 0.4]}})
        yield sandbox


def everything_of(error):
    """Return all text that an error carries: itself, what it is chained to, its attributes, its pickle."""
    while error is not None:
        yield str(error)
        yield repr(error)
        yield repr(vars(error))
        yield "".join(traceback.format_exception(error))
        yield pickle.dumps(error).decode("latin-1")
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
@pytest.mark.parametrize("call", ["update", "view", "test"])
def test_no_key_is_in_the_errors_and_the_log_of_a_request_that_fails(canary, caplog, fault, call):
    caplog.set_level(logging.DEBUG)
    canary.inject(Fault(**{"times": None, **fault}))
    token = canary.add_campaign(CAMPAIGN)
    hook = BatchHook()
    try:
        if call == "update":
            returned = hook.update_campaign(token, {"live": True})
        else:
            returned = hook.get_campaign(token) if call == "view" else hook.test_connection()
        assert_free(repr(returned), "the answer")
    except BatchError as error:
        for text in everything_of(error):
            assert_free(text, f"the {type(error).__name__}")
    assert_free(caplog.text, "the log")
    assert_free(repr(hook) + repr(hook.get_conn()) + repr(hook.settings), "a repr")
    assert len(canary.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": f"https://{REST_KEY}:{APP_KEYS['live']}@api.batch.com"},
        {"host": "https://api.batch.com"},
        {"password": f"{REST_KEY}\n"},
        {"login": f"{APP_KEYS['live']} {APP_KEYS['dev']}"},
        {"extra": {"api_keys": [APP_KEYS["live"]]}},
        {"extra": {"timeout": REST_KEY}},
        {"extra": {"requests_per_second": [APP_KEYS["live"]]}},
        {"port": 1, "password": ""},
    ],
)
def test_no_key_is_in_the_errors_and_the_log_for_an_invalid_connection(canary, connect, caplog, wrong):
    caplog.set_level(logging.DEBUG)
    connect({**canary.connection(), **wrong})
    with pytest.raises(BatchError) as caught:
        BatchHook().get_conn()
    for text in everything_of(caught.value):
        assert_free(text, f"the {type(caught.value).__name__}")
    assert_free(caplog.text, "the log")
