"""What Batch's pages or its clients say the server does, in rows that have no other form. Data only.

Belongs here: rows that are DOCUMENTED or OBSERVED. Does not belong here: anything that had to be guessed, and anything
that can be switched (contract.py).
"""

from __future__ import annotations

from airflow_batch.sandbox.labels import Entry

_SPEC = "a newer page"
DOCUMENTED: tuple[Entry, ...] = (
    Entry(
        "create",
        "DOCUMENTED",
        "201 with campaign_token (the name of the key: OBSERVED).",
        "Guide and view page.",
        _SPEC,
    ),
    Entry(
        "view",
        "DOCUMENTED",
        "The creation format plus campaign_token, from_api, dev_only, created_date; on trigger automations also "
        "trigger, an empty object.",
        "View page.",
        _SPEC,
    ),
    Entry("list", "DOCUMENTED", "from, limit (10, at most 100), live, from_api; newest first.", "List page.", _SPEC),
    Entry(
        "list_shape",
        "OBSERVED",
        "A bare array; items hold exactly campaign_token, from_api, dev_only, created_date, name, live.",
        "A production client selects these six.",
        "a capture of a page",
    ),
    Entry(
        "live_filter",
        "DOCUMENTED",
        "live true: running or completed. live false: stopped or draft.",
        "List page.",
        _SPEC,
    ),
    Entry("delete", "DOCUMENTED", "200, with a Live or a Dev key; the body is a choice.", "Delete page.", _SPEC),
    Entry(
        "stats",
        "DOCUMENTED",
        "campaign_token and detail: one row for each send date, with date, sent, sent_optins, direct_open, "
        "influenced_open, reengaged, errors.",
        "Stats page.",
        _SPEC,
    ),
    Entry(
        "stats_versions",
        "DOCUMENTED",
        "An A/B row has no sent_optins but versions a and b, each with the counters but for errors.",
        "The sample on the stats page.",
        _SPEC,
    ),
    Entry(
        "stats_before_sending",
        "OBSERVED",
        "detail is [] before anything was sent.",
        "Two clients guard for it.",
        "stats of a draft",
    ),
    Entry(
        "required",
        "DOCUMENTED",
        "Create needs name, live, messages and a time, else 400/30 (the error: INFERRED).",
        "Create page.",
        _SPEC,
    ),
    Entry(
        "limits",
        "DOCUMENTED",
        "name: 3 characters or more; labels: 3 at most; time_to_live: 28 days at most; else 400/31 (INFERRED).",
        "Parameters page.",
        _SPEC,
    ),
    Entry(
        "time_format",
        "DOCUMENTED",
        'push_time is "now" or yyyy-MM-ddTHH:mm:ss in UTC, without a zone.',
        "View sample and create page.",
        _SPEC,
    ),
    Entry(
        "one_time_or_other", "OBSERVED", "push_time and local_push_time together: 400/31.", "A client's schema.", _SPEC
    ),
    Entry(
        "server_error_code",
        "DOCUMENTED",
        "SERVER_ERROR has code 1 for create and update and 0 for all others "
        "(create, list and view: INFERRED from their siblings).",
        "Update, delete and stats pages.",
        "the cut-off failure lists",
    ),
)
