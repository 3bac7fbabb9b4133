"""The models' tables as typed `sa.Table`s, for statements such as `sa.select(batches.c.id)`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import SQLModel

import carpool_worker.models.audit
import carpool_worker.models.batches
import carpool_worker.models.calls
import carpool_worker.models.claude_keys
import carpool_worker.models.client_batches
import carpool_worker.models.deliveries
import carpool_worker.models.durations
import carpool_worker.models.gateway_keys
import carpool_worker.models.requests
import carpool_worker.models.segments
import carpool_worker.models.totals
import carpool_worker.models.turns
import carpool_worker.models.unowned
import carpool_worker.models.usage  # noqa: F401 - these modules define the tables

_tables = SQLModel.metadata.tables

batches: sa.Table = _tables["batches"]
pauses: sa.Table = _tables["lane_pauses"]
refusals: sa.Table = _tables["refusals"]
batch_totals: sa.Table = _tables["batch_totals"]
batch_stays: sa.Table = _tables["batch_stays"]
claude_keys: sa.Table = _tables["claude_keys"]
unowned: sa.Table = _tables["unowned_batches"]
client_turns: sa.Table = _tables["client_turns"]
client_batches: sa.Table = _tables["client_batches"]

requests: sa.Table = _tables["requests"]
tags: sa.Table = _tables["tags"]
segments: sa.Table = _tables["segments"]
params: sa.Table = _tables["params"]
answers: sa.Table = _tables["answers"]
real_time_calls: sa.Table = _tables["real_time_calls"]
cancellations: sa.Table = _tables["cancellations"]

deliveries: sa.Table = _tables["deliveries"]
attempts: sa.Table = _tables["delivery_attempts"]
parked_receivers: sa.Table = _tables["parked_receivers"]
endpoints: sa.Table = _tables["endpoints"]

usage: sa.Table = _tables["usage"]
usage_entries: sa.Table = _tables["usage_entries"]
durations: sa.Table = _tables["durations"]

gateway_keys: sa.Table = _tables["gateway_keys"]
gateway_secrets: sa.Table = _tables["gateway_secrets"]
budget_warnings: sa.Table = _tables["budget_warnings"]
webhook_secrets: sa.Table = _tables["webhook_secrets"]

audit_log: sa.Table = _tables["audit_log"]
pruner_positions: sa.Table = _tables["pruner_positions"]
schema_support: sa.Table = _tables["schema_support"]
