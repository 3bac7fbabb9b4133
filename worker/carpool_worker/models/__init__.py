"""The tables. Times are milliseconds since the epoch, money is exact (see Dollars), contents are bytes as they came.

`requests` is updated often, so its rows are small: the contents are in `params` and `answers`, which are pruned
separately. These tables have no foreign keys: thousands of rows are inserted together with their batch, and checking
each would take a fifth of the time.
"""

from carpool_worker.models import indexes  # noqa: F401 - adds the indexes to the metadata
from carpool_worker.models.batches import Batch, LanePause, Refusal
from carpool_worker.models.deliveries import DeliveryAttempt, DeliveryRow, Endpoint
from carpool_worker.models.durations import BatchDuration
from carpool_worker.models.requests import AnswerRow, Cancellation, Params, Request
from carpool_worker.models.usage import DailyUsage

__all__ = [
    "AnswerRow",
    "Batch",
    "BatchDuration",
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
