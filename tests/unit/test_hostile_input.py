"""Whatever a user writes is accepted or refused with a BatchError, in bounded time and memory.

Payloads, windows, calendars, connections, lists of campaigns and arguments. What each of them means is in the tests of
its module.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
import yaml
from airflow.sdk import Connection
from hostile import APP, REST, assert_fit_to_show, examples, memory_below
from hypothesis import example, given
from hypothesis import strategies as st
from samples import TOKEN

from airflow_batch._airflow.backoff import delay_before_next
from airflow_batch._airflow.crons import MAX_CRON
from airflow_batch._campaigns import payload as payload_module
from airflow_batch._campaigns import rules
from airflow_batch._campaigns.payload import check_new, check_payload, payload_digest, read_live, read_reference
from airflow_batch._http.settings import read_settings
from airflow_batch._sync.desired import read_desired
from airflow_batch._values import check_token, read_duration, short_repr, type_name
from airflow_batch.calendars import nodes, read_calendar
from airflow_batch.calendars.words import show_lines
from airflow_batch.exceptions import BatchConfigurationError, BatchError, BatchPayloadError, BatchServerError
from airflow_batch.hooks.batch import BatchHook
from airflow_batch.operators.campaigns import BatchSetCampaignLiveOperator
from airflow_batch.operators.sync import BatchSyncCampaignsOperator
from airflow_batch.sandbox import FaultPlan
from airflow_batch.windows import CampaignWindow

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
HUGE = 10**5000
"""Python refuses to convert it to text, with a ValueError."""


def refusal(reader, /, *arguments, **named):
    """Return the text of the refusal, or None where there is a result."""
    try:
        reader(*arguments, **named)
    except BatchError as error:
        text = error
    else:
        return None
    assert_fit_to_show(text)
    return str(text)


def multiplied(levels, item="x"):
    """Return a list of so many levels that has 2 ** levels items and takes little memory: each level is there twice."""
    value = [item]
    for _ in range(levels):
        value = [value, value]
    return value


def endless():
    value = {}
    value["itself"] = value
    return value


NASTY = [
    *(HUGE, -HUGE, {HUGE: HUGE}, float("nan"), float("inf"), 1j, range(10**12), True),
    *("\ud800", "a\0b", "x" * 100_000, {"x" * 100_000: None}, "{{ x }}", "", b"bytes"),
    *(datetime.max, datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), date.min, timedelta.max),
    *(object(), {1}, Ellipsis, type, [], {}, endless()),
]


def one_of_these(values):
    """Return a strategy as ``st.sampled_from``, which would convert the values to text."""
    return st.integers(0, len(values) - 1).map(lambda index: values[index])


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=20),
        st.binary(max_size=5),
        st.datetimes(timezones=st.none() | st.timezones()),
        st.datetimes(),
        st.dates(),
        st.timedeltas(),
        one_of_these(NASTY),
        st.sampled_from(["now", "true", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-31T09:00"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters(), max_size=8) | one_of_these([1, None, HUGE, ("a",), "live"]), inner)
    ),
    max_leaves=8,
)

# --- payloads

NAMES = ("name", "live", "labels", "push_time", "local_push_time", "recurrence", "messages", "custom")
payloads = anything | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), anything, max_size=6)


@examples(200)
@given(payloads)
def test_any_payload_can_be_sent_and_sent_again_or_is_refused(payload):
    try:
        checked = check_payload(payload)
    except BatchPayloadError as error:
        refused = error
        assert_fit_to_show(refused)
        return
    text = json.dumps(checked, allow_nan=False)
    text.encode()
    # A checked payload passes the check unchanged.
    assert check_payload(json.loads(text)) == checked
    assert len(payload_digest(checked)) == 64
    refusal(check_new, checked)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"messages": multiplied(45)}, "too large"),
        ({"messages": [multiplied(45)] * 2}, "too large"),
        ({"messages": ["x" * 1_000_000] * 1_000}, "too large"),
        ({"messages": range(10**12)}, "too large"),
        ({"messages": endless()}, "deeper than 50 levels, or holds itself"),
        ({"x" * 1_000: {"y": float("nan")}}, "xxx... is nan"),
        ({"\ud800\n": {"y": HUGE}}, r"'\ud800\n.y' is a number of more digits"),
        ({"a": {HUGE: 1}}, "a has the key a value of type int"),
        ({"labels": multiplied(10)}, "labels must be a list"),
        ({"live": HUGE}, "a number of more digits"),
    ],
    ids=range(10),
)
def test_a_payload_that_is_too_large_or_too_deep_is_refused_with_its_place(payload, words, monkeypatch):
    monkeypatch.setattr(payload_module, "MAX_SIZE", 500_000)
    with memory_below(20):
        assert words in refusal(check_payload, payload)


@pytest.mark.parametrize("value", [multiplied(45), [multiplied(45)] * 10**6, "x" * 10**7, HUGE, endless(), [HUGE]],
                         ids=range(6))  # fmt: skip
def test_a_message_shows_any_value_in_at_most_eighty_characters(value):
    with memory_below(20):
        assert len(short_repr(value)) <= 80
    assert "must be true or false, not " in refusal(read_live, value)


# --- campaigns and lists of them

items = anything | st.dictionaries(
    one_of_these(["campaign", "app", "live", "expect_name", "definition", "x", HUGE]),
    anything | one_of_these([TOKEN, {"campaign_token": TOKEN, "app": None}, {"campaign_token": HUGE}, {"app": TOKEN}]),
)


@examples(150)
@given(anything | st.lists(items, max_size=3), st.none() | st.text(max_size=3))
@example([{HUGE: 1}], None)
@example([{"x" * 100_000: 1}], None)
@example([{"campaign": {HUGE: 1}, "live": True}], None)
def test_any_list_of_campaigns_is_read_or_refused(items, app):
    if refusal(read_desired, items, app) is None:
        read = read_desired(items, app)
        assert [check_token(campaign.token) for campaign in read] == [campaign.token for campaign in read]


@pytest.mark.parametrize("field", ["live", "definition", "campaign", "app", "expect_name"])
def test_a_list_of_campaigns_that_does_not_fit_into_memory_is_refused(field, monkeypatch):
    monkeypatch.setattr(payload_module, "MAX_SIZE", 500_000)
    item = {"campaign": TOKEN, "live": True, field: {"messages": multiplied(45)}}
    with memory_below(20):
        assert refusal(read_desired, [item]).startswith("campaigns[0]: ")


@examples(200)
@given(anything | st.dictionaries(st.just("campaign_token"), anything))
@example({HUGE: 1})
@example(dict.fromkeys(("x" * 100_000, "y"), 1))
def test_any_reference_to_a_campaign_is_read_or_refused(campaign):
    refusal(read_reference, campaign)


# --- windows

fields = st.text("0123456789*/,-LW#?hHrR@ ", max_size=8) | st.sampled_from(
    ["*", "0", "*/5", "1-5", "59-0", "31", "L", "5#5", "0-59/99999999999999999999", "MON", "1,2,3", "٣"]
)
crons = st.lists(fields, min_size=5, max_size=5).map(" ".join) | st.lists(fields, max_size=7).map(" ".join) | anything
moments = (
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.replace(second=0, microsecond=0))
    | st.datetimes().map(lambda moment: moment.isoformat(timespec="minutes"))
    | anything
)
zones = st.timezone_keys() | anything | st.timezones()
days = st.lists(st.dates() | st.dates().map(str) | anything, max_size=3) | anything
window_arguments = st.fixed_dictionaries(
    {"on": crons, "off": crons}, optional={"timezone": zones, "except_dates": days}
)
window_arguments |= st.fixed_dictionaries(
    {"start": moments, "end": moments}, optional={"timezone": zones, "except_dates": days}
)
window_arguments |= st.dictionaries(
    st.sampled_from(["on", "off", "start", "end", "timezone", "except_dates"]), anything, max_size=6
)


@examples(150)
@given(arguments=window_arguments, moment=st.datetimes(timezones=st.timezones()) | anything)
@example({"start": "0001-01-01T00:00", "end": "2026-01-01T00:00", "timezone": "Europe/Paris"}, NOW)
@example({"start": "2026-01-01T00:00", "end": "9999-12-31T23:59-12:00"}, NOW)
@example({"on": "0 9 * * *", "off": "0 18 * * *", "except_dates": ["0001-01-01", "9999-12-31"]}, NOW)
@example({"on": "0 9 * * *", "off": "0 18 * * *"}, datetime.min.replace(tzinfo=UTC))
@example({"on": "0 9 * * *", "off": "0 18 * * *"}, datetime.max.replace(tzinfo=UTC))
@example({"on": HUGE, "off": "0 9 * * *"}, NOW)
@example({"on": "0 9 * * *", "off": "0 18 * * *", "timezone": HUGE}, NOW)
@example({"on": "0 9 * * *", "off": "0 18 * * *", "timezone": "x" * 100_000}, NOW)
@example({"on": "0" * 1_000_000, "off": "0 9 * * *"}, NOW)
@example({"start": HUGE, "end": HUGE}, NOW)
@example({"on": "0 9 * * *", "off": "0 18 * * *", "except_dates": [HUGE]}, NOW)
@pytest.mark.filterwarnings("ignore:This CampaignWindow has no timezone")
def test_any_window_can_be_evaluated_or_is_refused(arguments, moment):
    if refusal(CampaignWindow, **arguments) is None:
        window = CampaignWindow(**arguments)
        window.is_live_at(NOW)
        window.next_changes(NOW, 2)
        window.timetable()
        assert window == CampaignWindow(**arguments)
        assert repr(window).isprintable()
        refusal(window.is_live_at, moment)
        refusal(window.next_changes, moment, 2)


def test_a_cron_that_lists_every_value_is_accepted():
    lists = [",".join(map(str, range(*ends))) for ends in ((60,), (24,), (1, 32), (1, 13), (7,))]
    assert len(" ".join(lists)) < MAX_CRON
    assert CampaignWindow(on=" ".join(lists), off="0 9 * * *", timezone="UTC").on == " ".join(lists)


# --- calendars

OFFICE = '{on: "0 9 * * 1-5", off: "0 18 * * 1-5"}'
CALENDAR = f"""\
timezone: Europe/Paris
x-office: &office
  - {OFFICE}
campaigns:
  - name: Summer sale
    app: ios
    token: {TOKEN}
    windows:
      - {OFFICE}
      - {{start: 2026-07-04T10:00, end: 2026-07-05T20:00}}
    except_dates: [2026-12-25]
    definition: {{name: Summer sale, labels: [a], messages: [{{language: en, number: 1.5e3}}]}}
  - {{name: Second, token: abc, windows: *office, definition: sale.json}}
"""


@pytest.fixture
def read_file(tmp_path):
    """Return a function that writes a calendar, reads and shows it; it returns the text of the refusal or None."""
    (tmp_path / "sale.json").write_text('{"name": "Sale"}')
    path = tmp_path / "calendar.yaml"

    def read(text, definition=None):
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        if definition is not None:
            (tmp_path / "sale.json").write_bytes(definition)
        try:
            calendar = read_calendar(path)
        except BatchConfigurationError as error:
            refused = str(error)
            for line in refused.split("\n"):
                assert_fit_to_show(line)
            return refused if refused.startswith(f"{path}") else pytest.fail(refused)
        assert list(show_lines(calendar, NOW, 7))
        assert len(calendar.digest()) == 64
        assert calendar.timetable()
        assert read_desired(calendar.desired())
        return None

    return read


def spliced(parts):
    text, at, length, piece = parts
    at = min(at, len(text))
    return text[:at] + piece + text[at + length :]


pieces = st.text(st.characters(), max_size=6) | st.sampled_from(
    [
        *("&a ", "*a", "*office", "<<: ", "!!python/object:os.system ", "!!binary ", "!x ", "? ", "---\n", "...\n"),
        *("%YAML 9.9\n", "\0", "\t", "[", "{", "|", ">", '"', "'", "- ", ": ", "\n", "~", "null", "#", "\r", "@daily"),
        *("9" * 5000, "0001-01-01", "9999-12-31T23:59", "1e999", "[" * 60, "- " * 60),
        *("\x85", "\u2028", "\ufeff", "'\ud800'", '"\\ud800"', '"\\0"'),
    ]
)
spoilt = st.tuples(st.just(CALENDAR), st.integers(0, len(CALENDAR)), st.integers(0, 30), pieces).map(spliced)
spoilt |= st.tuples(spoilt, st.integers(0, len(CALENDAR)), st.integers(0, 30), pieces).map(spliced)
yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["timezone", "campaigns", "name", "token", "windows", "on", "off", "start", "end", "x-a",
                         "app", "except_dates", "definition"]) | st.text(max_size=5), inner, max_size=6),
    max_leaves=15,
)  # fmt: skip
calendars = st.one_of(
    spoilt,
    spoilt,
    st.text(max_size=80),
    st.binary(max_size=80),
    yaml_values.map(lambda value: yaml.safe_dump(value)),
    yaml_values.map(lambda value: CALENDAR.replace("[a]", yaml.safe_dump(value, default_flow_style=True).strip(".\n"))),
    st.sampled_from(["utf-16", "utf-32", "latin-1", "utf-8-sig", "cp037"]).map(lambda name: CALENDAR.encode(name)),
)


@examples(150)
@given(calendars)
@example(CALENDAR)
@example(CALENDAR.replace('off: "0 18', 'off: \U00018cd6"0 18'))
@example(CALENDAR.replace("1.5e3", "9" * 5000))
@example(CALENDAR.replace("1.5e3", "-" + "9" * 400))
@example(CALENDAR.replace("2026-12-25", "0001-01-01, 9999-12-31"))
@example(CALENDAR.replace("2026-07-04T10:00", "0001-01-01T00:00"))
@example(CALENDAR.replace("2026-07-05T20:00", "9999-12-31T23:59"))
@example(CALENDAR.replace("sale.json", '"a\\0b"'))
@example(CALENDAR.replace("sale.json", "."))
@example(CALENDAR.replace("Summer", "!" + "x" * 100_000 + " Summer"))
@example(CALENDAR.replace("app:", "x" * 900 + ":"))
def test_any_calendar_is_read_or_refused(read_file, text):
    read_file(text)


@examples(100)
@given(st.binary(max_size=60) | payloads.map(lambda value: (dumped(value) or "").encode()))
@example(b"[" * 100_000)
@example(b'{"name": ' + b"9" * 5000 + b"}")
@example(b'{"name": "abc", "a": NaN}')
@example(b'{"name": "\\ud800abc"}')
def test_any_definition_file_is_read_or_refused(read_file, content):
    read_file(CALENDAR, content)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5_000, "", "/"], ids=range(5))
def test_a_calendar_file_with_an_impossible_name_is_refused(tmp_path, name):
    assert refusal(read_calendar, tmp_path / name)


def aliased(line, count):
    """Return mappings, each made from the one before it by ``line``."""
    return "".join(f"x-{n}: &a{n} {line.format(n - 1)}\n" for n in range(1, count))


def with_definition(before, definition):
    campaign = f"{{name: Sale, token: abc, windows: [{OFFICE}], definition: {definition}}}"
    return f"{before}timezone: UTC\ncampaigns:\n- {campaign}\n"


BOMBS = {
    "a billion laughs": with_definition("x-0: &a0 {a: b}\n" + aliased("{{a: *a{0}, b: *a{0}}}", 45), "{a: *a44}"),
    "a billion laughs in lists": with_definition("x-0: &a0 [a]\n" + aliased("[*a{0}, *a{0}]", 45), "{a: *a44}"),
    "depth by aliases": with_definition("x-0: &a0 [a]\n" + aliased("[[[[[[[[*a{0}]]]]]]]]", 300), "{a: *a299}"),
    "depth": with_definition("", "{a: " + "[" * 5_000 + "]" * 5_000 + "}"),
    "merges": "x-a: &a {"
    + ",".join(f"k{n}: 0" for n in range(2_000))
    + "}\nx-b:\n"
    + "- {<<: *a}\n" * 2_000
    + CALENDAR,
    "a loop": with_definition("", "&a {a: *a}"),
    "a loop of merges": with_definition("", "&a {<<: *a}"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_short_calendar_that_expands_beyond_the_memory_is_refused(read_file, bomb, monkeypatch):
    monkeypatch.setattr(nodes, "MAX_VALUES", 50_000)
    with memory_below(150):
        refused = read_file(BOMBS[bomb])
    assert refused
    assert ", line " in refused


def test_windows_that_aliases_multiply_are_refused(read_file, monkeypatch):
    monkeypatch.setattr(nodes, "MAX_VALUES", 2_500)
    windows = ", ".join(f'{{on: "{minute} 9 * * *", off: "0 18 * * *"}}' for minute in range(60))
    campaigns = "".join(
        f"- {{name: Sale, token: t{n}, windows: *w, except_dates: [{date(2026, 1, 1) + timedelta(n)}]}}\n"
        for n in range(20)
    )
    refused = read_file(f"x-w: &w [{windows}]\ntimezone: UTC\ncampaigns:\n{campaigns}")
    assert "At most 2,500 values and keys are allowed, aliases included" in refused


@pytest.mark.parametrize("values", ["0,", "[],", "{a: b},"])
def test_a_calendar_of_too_many_values_is_refused_before_it_fills_the_memory(read_file, values, monkeypatch):
    monkeypatch.setattr(nodes, "MAX_VALUES", 5_000)
    text = CALENDAR + "x-a: [" + values * 500_000 + "]\n"
    assert len(text) > 1_000_000 or values == "0,"
    with memory_below(30):
        assert "At most 5,000 values and keys are allowed" in read_file(text)


# --- connections

extras = st.dictionaries(
    st.sampled_from(["api_keys", "timeout", "requests_per_second", "x", ""]) | st.text(max_size=5),
    anything
    | st.sampled_from([5, [1, 2], "[1, 2]", "1e999", {"ios": APP}, {"ios": REST}, {"": APP}, {"ios": 5}, 5e-324]),
    max_size=3,
)
hosts = st.text(st.characters(), max_size=15) | st.sampled_from(
    ["127.0.0.1", "http://127.0.0.1:99999", "http://[::1", "https://[v1.x]", "https://a:b@c", "https://a b", "https://é.x",
     "https://x?y", "file:///etc", "//x", "https://", "::1", "[::1]:5", "https://127.1", "localhost.", "http://2130706433",
     "https://x:٣", "https://x\u2100y", "x" * 100_000, "https://xn--", "https://.", "https://a..b", "http://[::1%25eth0]"]
)  # fmt: skip
texts = st.none() | st.text(st.characters(), max_size=10)


@examples(200)
@given(
    host=st.none() | hosts,
    schema=texts | st.sampled_from(["http", "https", "HTTP", "ftp"]),
    port=st.none() | st.integers(-(10**9), 10**9),
    login=texts | st.sampled_from([APP, REST]),
    password=texts | st.sampled_from([APP, REST]),
    extra=st.none() | st.text(st.characters(), max_size=20) | extras.map(lambda value: dumped(value)),
)
@example(
    None, None, None, APP, REST, '{"' + "x" * 100_000 + '": 1, ' + ", ".join(f'"{n}": 1' for n in range(999)) + "}"
)
@example("x" * 100_000, None, None, APP, REST, None)
@example(None, None, None, APP, REST, '{"timeout": ' + "9" * 4_000 + "}")
@example(None, None, None, APP, REST, '{"timeout": ' + "9" * 5_000 + "}")
@example(None, None, None, APP, REST, '{"requests_per_second": ' + "9" * 4_000 + "}")
@example(None, None, None, APP, REST, '{"requests_per_second": 5e-324}')
@example(None, None, None, None, REST, '{"api_keys": {"' + "x" * 100_000 + '": 5}}')
@example(None, None, None, APP, REST, "[" * 100_000)
def test_any_connection_is_read_or_refused(host, schema, port, login, password, extra):
    connection = Connection(
        conn_id="batch_default", conn_type="batch", host=host, schema=schema, port=port, login=login, password=password
    )
    connection.extra = extra
    if refusal(read_settings, connection) is None:
        settings = read_settings(connection)
        assert 0 < settings.timeout[0] <= 60
        assert settings.requests_per_second is None or 1 / settings.requests_per_second < 10**9
        for app in settings.api_keys:
            hook = BatchHook(app=app)
            hook.settings = settings
            assert hook.get_conn()


def dumped(value):
    with suppress(TypeError, ValueError, RecursionError):
        return json.dumps(value, skipkeys=True, default=repr)
    return None


# --- arguments


@examples(250)
@given(
    st.sampled_from(["throttle", "max_wait", "max_lateness", "read", "max_changes", "max_failures", "max_in_flight"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.timedeltas(),
)
def test_any_argument_of_an_operator_is_accepted_or_refused(name, value):
    if name in ("max_changes", "max_failures", "max_in_flight"):
        refusal(BatchSyncCampaignsOperator, task_id="task", campaigns=[], **{name: value})
    else:
        refusal(BatchSetCampaignLiveOperator, task_id="task", campaign=TOKEN, live=True, **{name: value})


# --- durations, faults, times


@pytest.mark.parametrize(
    "value", [86400000000000.0, HUGE, timedelta.max, timedelta(days=367), float("nan"), -1, 0], ids=type_name
)
def test_a_duration_above_a_year_or_not_above_zero_is_refused(value):
    assert "of at most 366 days" in refusal(read_duration, "max_wait", value)


@pytest.mark.parametrize("factor", [1e300, 10**9])
def test_a_backoff_with_a_huge_factor_stays_below_its_cap(factor):
    error = BatchServerError("down", status_code=500, endpoint="update")
    assert delay_before_next(error, 50, {}, factor=factor, cap=600) <= 600


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59", "0001-01-01T00:00:00"])
@pytest.mark.parametrize("field", ["push_time", "local_push_time"])
def test_the_first_and_the_last_possible_push_time_are_compared_with_now(field, moment):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    campaign = {"name": "News", "live": True, "messages": [{"language": "en", "body": "Hi"}], field: moment}
    assert rules.push_has_passed(campaign, now) is (field == "push_time" and moment.startswith("0001"))
    with suppress(OverflowError):
        assert (rules.push_moment(campaign, now) < now) is moment.startswith("0001")
    assert (rules.finished_warning(TOKEN, campaign, now) is not None) is (
        field == "local_push_time" and moment.startswith("0001")
    )


@examples(100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["script", "chances", "kind", "delay", "429", "headers"]), inner, max_size=3
            )
        ),
    )
)
def test_any_fault_file_is_read_or_refused(value):
    with suppress(ValueError):
        FaultPlan.from_json(json.dumps(value))
