"""The tables. Times are milliseconds since the epoch, money is exact (see Dollars), contents are bytes as they came.

`requests` is updated often, so its rows are small: what requests have in common is in `segments`, and their contents
are in `params` and `answers`, a segment a row, which are pruned separately. These tables have no foreign keys:
thousands of rows are inserted together with their batch, and checking each would take a fifth of the time.
"""

from carpool_worker.models import indexes  # noqa: F401 - adds the indexes to the metadata
from carpool_worker.models.batches import Batch, LanePause, Refusal
from carpool_worker.models.calls import RealTimeCall
from carpool_worker.models.claude_keys import ClaudeKey
from carpool_worker.models.client_batches import ClientBatch
from carpool_worker.models.deliveries import DeliveryAttempt, DeliveryRow, Endpoint, ParkedReceiver
from carpool_worker.models.durations import BatchDuration
from carpool_worker.models.gateway_keys import BudgetWarning, GatewayKeyRow, GatewaySecret, WebhookSecret
from carpool_worker.models.requests import Cancellation, Request, Tag
from carpool_worker.models.segments import Answers, Params, Segment
from carpool_worker.models.totals import BatchStay, BatchTotal, PrunerPosition, SchemaSupport
from carpool_worker.models.turns import ClientTurn
from carpool_worker.models.unowned import UnownedBatch
from carpool_worker.models.usage import DailyUsage, UsageEntry

__all__ = [
    "Answers",
    "Batch",
    "BatchDuration",
    "BatchStay",
    "BatchTotal",
    "BudgetWarning",
    "Cancellation",
    "ClaudeKey",
    "ClientBatch",
    "ClientTurn",
    "DailyUsage",
    "DeliveryAttempt",
    "DeliveryRow",
    "Endpoint",
    "GatewayKeyRow",
    "GatewaySecret",
    "LanePause",
    "Params",
    "ParkedReceiver",
    "PrunerPosition",
    "RealTimeCall",
    "Refusal",
    "Request",
    "SchemaSupport",
    "Segment",
    "Tag",
    "UnownedBatch",
    "UsageEntry",
    "WebhookSecret",
]
