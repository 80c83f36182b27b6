"""What the sandbox assumes about Batch's server where Batch does not document it: one table, each row with a label.

Belongs here: every behaviour that Batch does not document, with the reason and what would replace it. A capture of the
real service changes a default here and nowhere else. Rows without a choice cannot be switched yet.
Does not belong here: rows that are documented and cannot be switched (documented.py), the nine errors and the limits
(errors.py), the code that acts on a choice (rules.py, service.py, state.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from airflow_batch.sandbox.documented import DOCUMENTED
from airflow_batch.sandbox.errors import ErrorName
from airflow_batch.sandbox.labels import Choice, Entry, check_choices, choices_of

UpdateMode = Literal["strict", "merge", "replace"]
Check = Literal["authentication", "throttle", "route"]


_TRANSITION = "The documentation forbids it and lists nine errors, but not which of them; 403/12 fits best."


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The switchable choices. `Contract()` has the defaults; a test passes other values by name.

    A field that names an error says which error refuses the request; None there means the request is accepted.
    Raises ValueError for a value that is not allowed.
    """

    error_keys: Annotated[
        tuple[str, str, str],
        Choice(
            "OBSERVED",
            "Error bodies hold these keys: code (int), type (the name), message.",
            "A PHP client documents them; two others read code and message.",
        ),
    ] = ("code", "type", "message")
    checks_order: Annotated[
        tuple[Check, Check, Check],
        Choice(
            "UNKNOWN",
            "A request is checked in this order; the body comes last.",
            "A limit per company needs to know the company first.",
            "429s seen with a wrong key",
        ),
    ] = ("authentication", "throttle", "route")
    unknown_app_key: Annotated[
        ErrorName,
        Choice(
            "UNKNOWN",
            "An app key of no app is refused.",
            "It is a wrong key; 404/20 is possible too, as it stands in the route.",
        ),
    ] = "AUTHENTICATION_INVALID"
    unknown_token: Annotated[
        ErrorName,
        Choice("INFERRED", "A token that is unknown, or another app's, is refused.", "404/20 is the only 404 listed."),
    ] = "ROUTE_NOT_FOUND"
    wrong_method: Annotated[
        ErrorName, Choice("UNKNOWN", "A known path with another method is refused.", "No 405 is listed.")
    ] = "ROUTE_NOT_FOUND"
    content_type: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "A body whose Content-Type is not application/json is refused with this error.",
            "The header is shown but nothing says that it is checked.",
        ),
    ] = None
    dev_key_view: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "A Dev key may not view a campaign.",
            "The documentation says only Live keys are supported, but not what others get.",
        ),
    ] = "API_MISUSE"
    dev_key_list: Annotated[
        ErrorName | None,
        Choice("INFERRED", "A Dev key may list campaigns.", "The documentation says 'your Live key', without 'only'."),
    ] = None
    dev_key_stats: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "A Dev key may not read the stats of a campaign.",
            "The documentation says only Live keys are supported, but not what others get.",
        ),
    ] = "API_MISUSE"
    dev_key_is_dev_only: Annotated[
        bool,
        Choice(
            "INFERRED",
            "A campaign created with a Dev key has dev_only true.",
            "Such a campaign reaches builds with the Dev key only.",
            "view of such a campaign",
        ),
    ] = True
    timing_parameters: Annotated[
        tuple[str, ...],
        Choice(
            "INFERRED",
            "Create needs at least one of these, else 400/30.",
            "A client's schema asks for one of the first two; a recurring campaign has its own.",
            "the timing section of the parameters page",
        ),
    ] = ("push_time", "local_push_time", "recurrence")
    past_push_time: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "A push_time in the past is accepted; a value here refuses it.",
            "Nothing is said about it, and view gives back past times.",
        ),
    ] = None
    update_mode: Annotated[
        UpdateMode,
        Choice(
            "UNKNOWN",
            "merge: the top-level keys given overlay the campaign. strict: all parameters it has must be given. "
            "replace: what is given becomes the campaign.",
            "The documentation asks for as many parameters as at creation or more; its example has two, a client one.",
            'an update of {"live": false}, then a view',
        ),
    ] = "merge"
    update_success_body: Annotated[
        Literal["{}", ""],
        Choice(
            "INFERRED",
            "The body of a successful update.",
            "The sibling APIs answer {}; a client's mocks have no body at all.",
        ),
    ] = "{}"
    too_few_parameters: Annotated[
        ErrorName,
        Choice(
            "UNKNOWN",
            "Strict mode: an update without a parameter the campaign has is refused.",
            "Names are compared, not their number: a number alone would let one parameter stand for another.",
        ),
    ] = "MISSING_PARAMETER"
    null_asks_removal: Annotated[
        bool,
        Choice(
            "UNKNOWN",
            "On update a null value asks to remove the parameter; False: it is ignored.",
            "There is no other way to ask for a removal when keys are merged.",
        ),
    ] = True
    timing_is_one_slot: Annotated[
        bool,
        Choice(
            "INFERRED",
            "Giving local_push_time where the campaign has push_time (or the reverse) is no removal.",
            "The two exclude each other, so a change of one into the other replaces it.",
        ),
    ] = True
    removed_parameter: Annotated[
        ErrorName, Choice("UNKNOWN", "Removing a parameter (top level only) is refused.", _TRANSITION)
    ] = "API_MISUSE"
    recurring_to_one_time: Annotated[
        ErrorName, Choice("UNKNOWN", "Taking `recurrence` away is refused.", _TRANSITION)
    ] = "API_MISUSE"
    complete_to_live: Annotated[
        ErrorName, Choice("UNKNOWN", "An update with live true on a complete campaign is refused.", _TRANSITION)
    ] = "API_MISUSE"
    dashboard_update: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "Updating a campaign made in the dashboard is refused.",
            "The page allows updates of campaigns created from the API, and names no error.",
        ),
    ] = "API_MISUSE"
    delete_success_body: Annotated[
        Literal["{}", ""],
        Choice("INFERRED", "The body of a successful delete.", "As for update; the page gives only the status."),
    ] = "{}"
    dashboard_delete: Annotated[
        ErrorName | None,
        Choice(
            "UNKNOWN",
            "A campaign made in the dashboard can be deleted; a value here refuses it.",
            "The update page limits itself to campaigns from the API; nothing like it is known of delete.",
        ),
    ] = None
    ab_test_parameter: Annotated[
        str,
        Choice(
            "UNKNOWN",
            "The generated stats of a campaign that has this parameter have versions a and b.",
            "The A/B part of the parameters page is not readable.",
            "the parameters page",
        ),
    ] = "ab_test"
    complete_by_push_time: Annotated[
        bool,
        Choice(
            "INFERRED",
            "A one-time campaign is complete once it is live and its push_time has passed; it stays so.",
            "There is no state to read, only live. Other campaigns (recurring, trigger automations) are complete only "
            "when a test says so.",
            "setting a sent campaign live",
        ),
    ] = True
    list_limit_above_max: Annotated[
        Literal["clamp"] | ErrorName,
        Choice(
            "UNKNOWN", "A list limit above 100 counts as 100.", "100 is documented as the maximum, not what lies above."
        ),
    ] = "clamp"
    list_bad_value: Annotated[
        ErrorName,
        Choice(
            "UNKNOWN",
            "from or limit not a number, limit below 1, or a flag not true or false: refused.",
            "It is the error with that name, though the list page's errors are not readable.",
        ),
    ] = "MALFORMED_PARAMETER"
    collapse_key_in_view: Annotated[
        Literal["string", "object"],
        Choice(
            "DOCUMENTED",
            "View gives gcm_collapse_key as plain text.",
            "The page's sample does, though clients send an object.",
            "a view of such a campaign",
        ),
    ] = "string"
    collapse_key_text: Annotated[
        ErrorName | None,
        Choice(
            "INFERRED",
            "A gcm_collapse_key that is plain text is refused on create and update.",
            "Clients send an object, so what view gives is not what update takes.",
        ),
    ] = "MALFORMED_PARAMETER"
    message_language_in_view: Annotated[
        bool,
        Choice(
            "DOCUMENTED",
            "View gives each message with its language.",
            "The page's sample does; one client's fixture does not.",
            "a view",
        ),
    ] = True

    def __post_init__(self) -> None:
        check_choices(self)
        if sorted(self.checks_order) != sorted(get_args(Check)):
            raise ValueError("checks_order holds authentication, throttle and route, once each")


FACTS: tuple[Entry, ...] = (
    Entry(
        "now",
        "INFERRED",
        'push_time "now" is stored as the moment of the write.',
        "View's sample gives a time.",
        "a view of such a campaign",
    ),
    Entry(
        "repeated_create",
        "INFERRED",
        "A repeated create makes a second campaign.",
        "No idempotency key is documented.",
        "two creates of one payload",
    ),
    Entry(
        "unknown_parameters",
        "UNKNOWN",
        "Parameters the sandbox does not know are stored as they are.",
        "Much of the parameters page is not readable.",
        "the parameters page",
    ),
    Entry(
        "server_fields",
        "UNKNOWN",
        "campaign_token, from_api, dev_only, created_date and trigger in a payload are ignored.",
        "View gives them, and a client may send back what it got.",
        "an update that carries them",
    ),
    Entry(
        "update_order",
        "UNKNOWN",
        "An update is checked for malformed values, then the rules, then missing parameters.",
        "Some order is needed.",
        "an update that breaks two rules",
    ),
    Entry(
        "list_stopped_after_sending",
        "UNKNOWN",
        "A campaign that is stopped after it was sent is listed with live false.",
        "It is both stopped and completed; a campaign is listed by the live it shows.",
        "a list with live=true after such a stop",
    ),
    Entry(
        "deleted",
        "INFERRED",
        "A deleted campaign is an unknown token from then on, for another delete too; it is in no list.",
        "There is no state a deleted campaign could be shown in.",
        "a view and a second delete",
    ),
    Entry(
        "delete_any_state",
        "UNKNOWN",
        "A campaign can be deleted whether it is a draft, running, stopped or complete.",
        "No state that forbids it is known.",
        "a delete of a running campaign",
    ),
    Entry(
        "delete_request_body",
        "INFERRED",
        "A body sent with a delete is not read.",
        "The page shows none and lists no error about one.",
        "a delete with a malformed body",
    ),
    Entry(
        "pushes",
        "UNKNOWN",
        "A one-time campaign sends a push when its push_time passes while it is live, and again at each accepted write "
        'that leaves it live with a push_time that has passed and says "now", switches it on or changes that time.',
        "The worst that a write can do.",
        "a write to a campaign that was sent",
    ),
    Entry(
        "kept_values",
        "UNKNOWN",
        "An update may repeat what the campaign holds, whatever the documented rules for it are.",
        "Older campaigns may hold what is refused today, and a client sends back what view shows.",
        "an update of a campaign with four labels",
    ),
    Entry(
        "message_versions",
        "INFERRED",
        "messages may be an object of lists, one for each A/B version.",
        "A production client reads view's messages so; requests are taken to have the same form.",
        "a view of an A/B campaign",
    ),
    Entry(
        "stats_rows",
        "INFERRED",
        "A one-time campaign that is live when its push_time has passed has one row, dated that time's day in UTC. "
        "Other campaigns have only the rows a test sets.",
        "One row for each send date; when others are sent is not modelled.",
        "stats of a recurring campaign",
    ),
    Entry(
        "stats_numbers",
        "UNKNOWN",
        "The numbers are small and generated from the token (so from the seed); the row is there at once.",
        "No push is really sent, and no delay is documented.",
        "stats right after a push time",
    ),
    Entry(
        "throttle",
        "UNKNOWN",
        "One token bucket for the whole company; off unless asked for.",
        "No number of requests is documented; a client paces itself at 60 a minute.",
        "a capture of 429s",
    ),
    Entry(
        "retry_after",
        "UNKNOWN",
        "429 carries no Retry-After unless asked for.",
        "No page mentions the header.",
        "headers of a 429",
    ),
    Entry(
        "date_header", "INFERRED", "Every answer has a Date header.", "HTTP servers send one.", "headers of any answer"
    ),
    Entry(
        "sdk_key",
        "UNKNOWN",
        "An app has a live and a dev key; the SDK key is not modelled.",
        "It is named, but its difference from the Live key is not documented.",
        "a description of the SDK key",
    ),
)


def entries() -> Iterator[Entry]:
    """Yield every row: the switchable choices first, then the rest."""
    defaults = Contract()
    for name, (_, choice) in choices_of(Contract).items():
        default = f"`{getattr(defaults, name)!r}`"
        yield Entry(name, choice.label, choice.does, choice.why, choice.replaced_by, default)
    yield from DOCUMENTED
    yield from FACTS
