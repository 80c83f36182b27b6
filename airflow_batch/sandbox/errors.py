"""What Batch documents and a server can be built on: the nine errors, the operations, the limits. Data only.

Belongs here: documented numbers and names. Does not belong here: anything that had to be guessed (contract.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

Operation = Literal["create", "update", "delete", "view", "list", "stats", "unknown"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
ErrorName = Literal[
    "AUTHENTICATION_INVALID",
    "API_MISUSE",
    "ROUTE_NOT_FOUND",
    "MISSING_PARAMETER",
    "MALFORMED_PARAMETER",
    "MALFORMED_JSON_BODY",
    "SERVER_ERROR",
    "MAINTENANCE_ERROR",
    "TOO_MANY_REQUESTS",
]


@dataclass(frozen=True)
class ApiError:
    """One documented error: its HTTP status, its code, and the text sent where no better one is known."""

    name: ErrorName
    status: int
    code: int
    message: str


# Names, statuses and codes: https://doc.batch.com/developer/api/mep/campaigns/update, "Failure". The texts are ours.
ERRORS: Mapping[ErrorName, ApiError] = MappingProxyType(
    {
        error.name: error
        for error in (
            ApiError("AUTHENTICATION_INVALID", 401, 10, "The REST API key in X-Authorization is missing or wrong."),
            ApiError("API_MISUSE", 403, 12, "This request is not allowed on this campaign or with this key."),
            ApiError("ROUTE_NOT_FOUND", 404, 20, "No such route or campaign. Check the path, the key and the token."),
            ApiError("MISSING_PARAMETER", 400, 30, "A required parameter is missing."),
            ApiError("MALFORMED_PARAMETER", 400, 31, "A parameter has a value that is not allowed."),
            ApiError("MALFORMED_JSON_BODY", 400, 32, "The body is not a JSON object."),
            ApiError("SERVER_ERROR", 500, 1, "The server failed. Try again later."),
            ApiError("MAINTENANCE_ERROR", 503, 2, "The service is down for maintenance. Try again later."),
            ApiError("TOO_MANY_REQUESTS", 429, 60, "Too many requests. Wait at least 5 seconds before trying again."),
        )
    }
)
# The delete and stats pages give SERVER_ERROR another code than the update page does.
OTHER_SERVER_ERROR_CODE = 0
OTHER_SERVER_ERROR: frozenset[Operation] = frozenset({"delete", "view", "list", "stats", "unknown"})

# https://doc.batch.com/api/campaigns/parameters and https://doc.batch.com/developer/api/mep/campaigns/list
NAME_MIN_LENGTH = 3
LABELS_MAX = 3
TIME_TO_LIVE_MAX = 2_419_200
LIST_LIMIT_DEFAULT = 10
LIST_LIMIT_MAX = 100


def error_code(name: ErrorName, operation: Operation) -> int:
    """Return the code in the body of error `name`: SERVER_ERROR is 1 for create and update, else 0."""
    if name == "SERVER_ERROR" and operation in OTHER_SERVER_ERROR:
        return OTHER_SERVER_ERROR_CODE
    return ERRORS[name].code


def error_for_status(status: int) -> ErrorName | None:
    """Return the documented error with this HTTP status (the first one for 400), or None."""
    return next((error.name for error in ERRORS.values() if error.status == status), None)
