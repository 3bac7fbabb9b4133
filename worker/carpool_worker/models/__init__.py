"""The tables. Times are milliseconds since the epoch, money is exact (see Dollars), contents are bytes as they came.

`requests` is updated often and narrow: what a request says and what Claude answered are kept apart, in `params` and
`answers`, and can be pruned separately. These tables have no foreign keys: thousands of rows arrive in one transaction
with their batch, and a check of each would take a fifth of the whole time.
"""

from carpool_worker.models import indexes  # noqa: F401 - they belong to the metadata
from carpool_worker.models.batches import Batch, LanePause, Refusal
from carpool_worker.models.deliveries import DeliveryAttempt, DeliveryRow, Endpoint
from carpool_worker.models.requests import AnswerRow, Cancellation, Params, Request
from carpool_worker.models.usage import DailyUsage

__all__ = [
    "AnswerRow",
    "Batch",
    "Cancellation",
    "DailyUsage",
    "DeliveryAttempt",
    "DeliveryRow",
    "Endpoint",
    "LanePause",
    "Params",
    "Refusal",
    "Request",
]
