"""What a DAG author writes about one campaign. Thin: render, check, call the hook, shape the result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_batch.campaigns import differences, read_reference
from airflow_batch.exceptions import (
    BatchApiMisuseError,
    BatchNotFoundError,
    BatchPayloadError,
    BatchRepeatRefusedError,
)
from airflow_batch.operators.base import BatchOperator
from airflow_batch.payloads import check_payload, payload_digest, sends_at_once, stops
from airflow_batch.policies.retry import MAX_WAIT, MAX_WAIT_TO_STOP
from airflow_batch.results import CampaignResult, iso_utc, text_or_none

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_batch.hooks.batch import BatchHook


class BatchUpdateCampaignOperator(BatchOperator):
    """Update a push campaign, for instance to switch it on or off.

    Batch asks for "at least the same number of parameters you used when you first created your campaign", while its own
    example sends only ``name`` and ``live`` (https://doc.batch.com/developer/api/mep/campaigns/update). What is given
    here is sent as it is, checked (:func:`airflow_batch.payloads.check_payload`).

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param payload: Parameters to send: an object, or the name of a ``.json`` file next to the DAG (or in the DAG's
        ``template_searchpath``), which is rendered and parsed. Templated.
    :param batch_conn_id: Airflow connection of type ``batch``. Templated.
    :param app: App to act for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    The result in XCom is a :class:`~airflow_batch.results.CampaignResult`. ``changed`` is null where an earlier
    attempt may have written and the campaign was found as wanted.

    An attempt that follows one that may have been applied looks at the campaign first, where the key can read, and
    sends only what is not as wanted. A write that sends a push at once (``live`` with ``push_time`` ``now``) is never
    sent again blindly.

    :raises BatchPayloadError: before anything is sent, when campaign or payload are wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "payload", "batch_conn_id", "app")
    template_fields_renderers: ClassVar[dict[str, str]] = {"payload": "json"}
    ui_color = "#f4e4ff"

    def __init__(self, *, campaign: Any, payload: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign
        self.payload = payload

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the fields, and the file that ``payload`` names, so that the Rendered Templates page shows it."""
        super().render_template_fields(context, jinja_env)
        self.payload = self._load_payload(context)

    def execute(self, context: Context) -> CampaignResult:
        """Send the update and return its result."""
        token, app = read_reference(self.campaign)
        # A mapped task is not rendered by its own class, so its file is loaded here.
        payload = check_payload(self._load_payload(context))
        hook = self.hook_for(app)
        max_wait = self.max_wait or (MAX_WAIT_TO_STOP if stops(payload) else MAX_WAIT)
        return self.give_way(context, max_wait, lambda: self._update(context, hook, token, payload))

    def _update(self, context: Context, hook: BatchHook, token: str, payload: dict[str, Any]) -> CampaignResult:
        attempt = context["ti"].try_number
        if self.may_have_been_applied(context):
            requested_at = datetime.now(UTC)
            seen = self._look(hook, token)
            if seen is not None and not differences(payload, seen):
                self.log.info(
                    "Campaign %r is as wanted; an earlier attempt may have written it. Nothing is sent again.", token
                )
                return _result(hook, token, payload, seen, None, None, attempt, requested_at)
            self._check_repeatable(payload, token, seen)
        requested_at = datetime.now(UTC)
        status = hook.update_campaign(token, payload)
        result = _result(hook, token, payload, {}, True, status, attempt, requested_at)
        self.log.info(
            "Updated campaign %r%s: %s. Batch confirmed with %s on attempt %s.",
            token,
            f" (app {hook.app!r})" if hook.app else "",
            ", ".join(f"{name}={payload[name]!r}" for name in ("live", "name", "push_time") if name in payload)
            or f"{len(payload)} parameters",
            status,
            attempt,
        )
        return result

    def _look(self, hook: BatchHook, token: str) -> dict[str, Any] | None:
        """Return the campaign as it is now, None where the key cannot read it."""
        try:
            return hook.get_campaign(token)
        except (BatchApiMisuseError, BatchNotFoundError) as error:
            self.log.info("An earlier attempt may have written, and looking at the campaign is not possible: %s", error)
            return None

    def _check_repeatable(self, payload: Mapping[str, Any], token: str, seen: Mapping[str, Any] | None) -> None:
        """Stop before a push could go out twice: unless the campaign is seen not to be live."""
        if not sends_at_once(payload) or (seen is not None and seen.get("live") is False):
            return
        why = (
            "this API key cannot read it"
            if seen is None
            else f"it is live, but {', '.join(differences(payload, seen))} is not as wanted"
        )
        raise BatchRepeatRefusedError(
            f"An earlier attempt to set campaign {token!r} live with push_time 'now' may have sent the push, and "
            f"whether it did cannot be told: {why}. It is not sent again. Look at the campaign in Batch's dashboard; "
            "if nothing was sent, create it anew or give it a push_time in the future.",
            endpoint="update",
            may_have_been_applied=True,
        )

    def _load_payload(self, context: Context) -> Any:
        """Return the payload, parsed where it is the name of a JSON file or JSON text.

        Only a payload that is itself such a string is a file. Airflow's ``template_ext`` would take every nested string
        that ends in ``.json`` for one, a deep link for instance.
        """
        payload = self.payload
        if not isinstance(payload, str):
            return payload
        source = "payload"
        if payload.strip().endswith(".json"):
            source = f"payload file {payload.strip()!r}"
            payload = self._render_file(payload.strip(), context)
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise BatchPayloadError(
                f"{source} is not JSON: {error}. Give an object, JSON text, or a .json file next to the DAG."
            ) from None

    def _render_file(self, name: str, context: Context) -> str:
        import jinja2

        env = self.get_template_env()
        try:
            if env.loader is None:
                raise jinja2.TemplateNotFound(name)
            template = env.get_template(name)
        except jinja2.TemplateNotFound:
            places = ", ".join(getattr(env.loader, "searchpath", [])) or "no folder (the task is in no DAG)"
            raise BatchPayloadError(f"payload file {name!r} was not found in {places}.") from None
        # generate() gives text in a DAG with render_template_as_native_obj, too, where render() would not.
        return "".join(str(part) for part in template.generate(dict(context)))


class BatchGetCampaignStatsOperator(BatchOperator):
    """Leave a campaign's statistics in XCom.

    Reads once. To wait until there is something to read, put a sensor before it.

    :param campaign: Token of the campaign, or the result of another Batch task (``other.output``). Templated.
    :param batch_conn_id: Airflow connection of type ``batch``, with a Live API key. Templated.
    :param app: App to read for, where the connection has ``api_keys``; else that of the given result. Templated.

    The other arguments are those of :class:`~airflow_batch.operators.base.BatchOperator`: ``throttle``, ``max_wait``.

    The result is ``{"campaign_token", "app", "detail": [row, ...]}``, its rows as
    :meth:`~airflow_batch.hooks.batch.BatchHook.get_campaign_stats` gives them: counters for each date of sending, and
    the open rate.

    :raises BatchPayloadError: before anything is sent, when the campaign is wrong.
    :raises BatchApiError: one of its subclasses; permanent ones fail the task at once.
    """

    template_fields: Sequence[str] = ("campaign", "batch_conn_id", "app")
    ui_color = "#e9e0ff"

    def __init__(self, *, campaign: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.campaign = campaign

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the statistics and return them."""
        token, app = read_reference(self.campaign)
        hook = self.hook_for(app)
        stats = self.give_way(context, self.max_wait or MAX_WAIT, lambda: hook.get_campaign_stats(token))
        self.log.info("Campaign %r has statistics of %s dates.", token, len(stats["detail"]))
        return {"campaign_token": token, "app": hook.app, "detail": stats["detail"]}


def _result(
    hook: BatchHook,
    token: str,
    payload: Mapping[str, Any],
    seen: Mapping[str, Any],
    changed: bool | None,
    http_status: int | None,
    attempt: int,
    requested_at: datetime,
) -> CampaignResult:
    live = payload.get("live", seen.get("live"))
    return {
        "campaign_token": token,
        "app": hook.app,
        "action": "update",
        "live": live if isinstance(live, bool) else None,
        "name": text_or_none(payload.get("name", seen.get("name"))),
        "changed": changed,
        "http_status": http_status,
        "attempt": attempt,
        "requested_at": iso_utc(requested_at),
        "completed_at": iso_utc(datetime.now(UTC)),
        "payload_digest": payload_digest(payload),
    }
