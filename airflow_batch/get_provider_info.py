"""What Airflow reads about this provider when any component starts. Imports nothing, so that start-up stays fast.

The connection form is described here once: Airflow 3.2 and later read it from this dictionary, and the hook hands the
same ``ui-field-behaviour`` to Airflow 3.1 (with underscores in its keys).
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": ["string", "null"]}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {"password": "Company REST API key", "login": "App API key", "host": "Base URL"},
    "placeholders": {
        "password": "sent as X-Authorization; Batch dashboard > Settings > General",
        "login": "Live, Dev or SDK key of one app (leave empty when extra has api_keys)",
        "host": "https://api.batch.com",
        "extra": '{"api_keys": {"ios": "...", "android": "..."}, "timeout": [10, 30]}',
    },
}


CONNECTION_FIELDS: dict[str, Any] = {
    "api_keys": {
        "label": "App API keys by app",
        "description": 'JSON such as {"ios": "...", "android": "..."}, instead of App API key',
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout in seconds",
        "description": "A number, or [connect, read]; left empty, [10, 30]",
        "schema": _TEXT,
    },
    "requests_per_second": {
        "label": "Ceiling of requests per second",
        "description": "For many requests in one task; left empty, the pace is found",
        "schema": {"type": ["number", "null"]},
    },
    "burst": {
        "label": "Requests at once",
        "description": "How many may go out together before the ceiling holds; left empty, 1",
        "schema": {"type": ["integer", "null"]},
    },
    "dry_run": {
        "label": "Never write (dry run)",
        "description": "Tasks compare and report; nothing is sent that changes a campaign",
        "schema": {"type": "boolean", "default": False},
    },
}


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Batch", "python-modules": list(names)}]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in the shape of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-batch",
        "name": "Batch (batch.com)",
        "description": "Update and switch `Batch <https://batch.com/>`__ push campaigns from Airflow.",
        "integrations": [
            {
                "integration-name": "Batch",
                "external-doc-url": "https://doc.batch.com/developer/api/mep/campaigns",
                "tags": ["service"],
            }
        ],
        "hooks": _modules("airflow_batch.hooks.batch"),
        "operators": _modules(
            "airflow_batch.operators.approval",
            "airflow_batch.operators.campaigns",
            "airflow_batch.operators.export",
            "airflow_batch.operators.sync",
        ),
        "sensors": _modules("airflow_batch.sensors.campaigns"),
        "triggers": _modules("airflow_batch.triggers.campaigns", "airflow_batch.triggers.events"),
        "asset-uris": [{"schemes": ["batch"], "handler": None}],
        "notifications": ["airflow_batch.notifications.campaigns.SetCampaignLiveNotifier"],
        "connection-types": [
            {
                "hook-class-name": "airflow_batch.hooks.batch.BatchHook",
                "hook-name": "Batch (batch.com)",
                "connection-type": "batch",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }
