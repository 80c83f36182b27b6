"""What one campaign update costs on an open connection: our share of it is what the provider adds to requests.

For a loopback host our session searches for no proxy (``trust_env`` is off), which alone makes it faster than a default
session. So each of the two settings is compared with a bare session that has the same one.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import loopback
import requests
from airflow.providers.http.hooks.http import HttpHook
from report import Spread, table, verdict

from airflow_batch._campaigns.payload import check_payload
from airflow_batch.hooks.batch import BatchHook

ROUNDS = 40
CALLS = 3
"""Calls of one subject before the next one's turn: few, so that a slow moment of the machine falls on all of them."""
MAX_RATIO = 1.15
TOKEN = "0123456789abcdef0123456789abcdef"
REST_KEY, APP_KEY = "loopback-rest-key", "LOOPBACKAPPKEY"
TIMEOUT = (10.0, 30.0)

BARE_OFF, OURS_OFF = "Session.post (trust_env off)", "BatchHook (trust_env off)"
BARE_ON, OURS_ON = "Session.post (trust_env on)", "BatchHook (trust_env on)"
HTTP_HOOK = "HttpHook.run"

TINY = {"live": True}
CAMPAIGN = {
    "name": "Summer sale, second reminder",
    "live": True,
    "push_time": "2027-06-21T09:30:00",
    "local_push_time": "2027-06-21T09:30:00",
    "labels": ["sale", "summer", "reminder"],
    "deeplink": "https://shop.example.com/sale/summer?utm_source=push&utm_campaign=second_reminder",
    "gcm_collapse_key": {"enabled": True, "key": "summer_sale"},
    "targeting": {
        "segments": ["ENGAGED", "DORMANT"],
        "languages": ["en", "fr"],
        "geozones": ["paris", "lyon", "lille"],
        "custom_audiences": ["buyers_last_year", "newsletter_readers"],
        "audiences_operator": "OR",
        "query": '{"$and": [{"bt.age": {"$gt": 18}}, {"e.cart_abandoned": {"$exists": true}}]}',
    },
    "media": {"icon": "https://cdn.example.com/sale/icon.png", "picture": "https://cdn.example.com/sale/banner.jpg"},
    "messages": [
        {"language": "en", "title": "Last days of the sale", "body": "Up to 50% off until Sunday. Tap to see."},
        {"language": "fr", "title": "Derniers jours des soldes", "body": "Jusqu'à -50 % d'ici dimanche."},
    ],
}

Call = Callable[[], Any]


def run() -> Iterator[str]:
    """Measure the two payloads one after the other, each on connections that are open already."""
    yield f"  One call against a loopback server in another process; {ROUNDS} rounds, {CALLS} calls a turn."
    yield "  All send the same headers and body; only BatchHook checks and encodes the payload in each call."
    yield "  trust_env off: what BatchHook sets for a loopback host. On: what it sets for api.batch.com, and"
    yield "  the default of a Session (which then searches for a ~/.netrc in each call; BatchHook does not)."
    yield f"  {HTTP_HOOK} (trust_env on) makes a Session in each call, but keeps its socket open."
    with loopback.running() as port:
        for name, payload in (("a campaign", CAMPAIGN), ("the smallest update", TINY)):
            body = json.dumps(check_payload(payload), allow_nan=False).encode()
            times = _measure(_subjects(port, payload, body))
            yield f"\n  {name}, {len(body)} bytes"
            yield _table(times)
            yield from _targets(times)


def _subjects(port: int, payload: Mapping[str, Any], body: bytes) -> dict[str, Call]:
    os.environ["AIRFLOW_CONN_BATCH_BENCHMARK"] = json.dumps(
        {"conn_type": "batch", "host": f"http://127.0.0.1:{port}", "password": REST_KEY, "login": APP_KEY}
    )
    os.environ["AIRFLOW_CONN_HTTP_BENCHMARK"] = json.dumps({"conn_type": "http", "host": f"http://127.0.0.1:{port}"})
    return {
        BARE_OFF: _bare(port, body, trust_env=False),
        OURS_OFF: _ours(payload, trust_env=False),
        BARE_ON: _bare(port, body, trust_env=True),
        OURS_ON: _ours(payload, trust_env=True),
        HTTP_HOOK: _http_hook(body),
    }


def _ours(payload: Mapping[str, Any], *, trust_env: bool) -> Call:
    hook = BatchHook("batch_benchmark")
    hook.get_conn().trust_env = trust_env
    return lambda: hook.update_campaign(TOKEN, payload)


def _bare(port: int, body: bytes, *, trust_env: bool) -> Call:
    session = requests.Session()
    session.headers.update(_headers())
    session.trust_env = trust_env
    url = f"http://127.0.0.1:{port}{_path()}"
    return lambda: session.post(url, data=body, timeout=TIMEOUT)


def _http_hook(body: bytes) -> Call:
    hook = HttpHook(http_conn_id="http_benchmark")
    return lambda: hook.run(_path(), data=body, headers=_headers(), extra_options={"timeout": TIMEOUT})


def _headers() -> dict[str, str]:
    return {
        "X-Authorization": REST_KEY,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "airflow-provider-batch/0.0.0 apache-airflow/0.0.0",
    }


def _path() -> str:
    return f"/1.1/{APP_KEY}/campaigns/update/{TOKEN}"


def _measure(subjects: Mapping[str, Call]) -> dict[str, list[float]]:
    """Return each subject's microseconds for one call, round by round."""
    for call in subjects.values():
        _warm_up(call)
    # What is loaded by now is never freed. Without the freeze, the collector would traverse all of Airflow repeatedly,
    # in the turn of any subject.
    gc.collect()
    gc.freeze()
    rounds = [_round(subjects) for _ in range(ROUNDS)]
    return {name: [found[name] for found in rounds] for name in subjects}


def _warm_up(call: Call) -> None:
    for _ in range(20):
        answer = call()
        if getattr(answer, "status_code", answer) != 200:
            raise RuntimeError(f"The loopback server was to answer 200: {answer}")


def _round(subjects: Mapping[str, Call]) -> dict[str, float]:
    """Take as many turns as there are subjects, so that each one goes first once."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    for _ in subjects:
        for name in order:
            found[name] += [_timed(subjects[name]) for _ in range(CALLS)]
        order.append(order.pop(0))
    return {name: median(values) for name, values in found.items()}


def _timed(call: Call) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1000


def _table(times: Mapping[str, list[float]]) -> str:
    rows = [
        (
            name,
            Spread.of(values).text(0),
            Spread.of_ratios(values, times[BARE_OFF]).text(2),
            Spread.of_ratios(values, times[BARE_ON]).text(2),
        )
        for name, values in times.items()
    ]
    return table(("one call", "us", "x Session.post off", "x Session.post on"), rows)


def _targets(times: Mapping[str, list[float]]) -> Iterator[str]:
    for ours, bare in ((OURS_OFF, BARE_OFF), (OURS_ON, BARE_ON)):
        ratio = Spread.of_ratios(times[ours], times[bare]).median
        more = Spread.of(a - b for a, b in zip(times[ours], times[bare], strict=True)).median
        yield (
            f"  Target: at most {MAX_RATIO} x {bare}: {ratio:.3f}, "
            f"{abs(more):.0f} us {'slower' if more > 0 else 'faster'}, {verdict(ratio <= MAX_RATIO)}"
        )
