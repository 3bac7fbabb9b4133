"""The tables. Times are milliseconds since the epoch, money is exact (see Dollars), contents are bytes as they came.

`requests` is hot and narrow; what a request says and what Claude answered stand apart in `params` and `answers`,
so that both can be pruned alone. The bulk tables have no foreign keys: rows arrive by the ten thousand in one
transaction with the batch they belong to, and a check for each would cost a fifth of the way.
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
