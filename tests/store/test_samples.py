"""What the advisor samples: each request's own params, unpacked from its segment, as far as they are kept."""

from __future__ import annotations

import sqlalchemy as sa
from tests.fixtures.deliveries import completed_request
from tests.fixtures.segments import insert_requests

from carpool_worker.database import read, write
from carpool_worker.models import tables
from carpool_worker.store.reports import samples
from carpool_worker.store.requests import erasing

NOW = 1_800_000_000_000
BATCH = "b" * 32
USED = {"input_tokens": 3, "output_tokens": 4}


def test_each_request_comes_with_its_own_params_unless_they_were_erased_or_pruned(engine: sa.Engine) -> None:
    # Given four requests in two segments, by model, and one more whose params are no longer kept
    ids = [f"{number:032x}" for number in range(5)]
    models = ["small", "large", "small", "small", "pruned"]
    rows = [completed_request(id_, NOW, model=model, **USED) for id_, model in zip(ids, models, strict=True)]
    with write(engine) as connection:
        insert_requests(connection, rows, {id_: b'{"n":"%b"}' % id_.encode() for id_ in ids})
        found = connection.execute(sa.select(tables.segments))
        by_model = {row.model: row.id for row in found}
        connection.execute(sa.delete(tables.params).where(tables.params.c.id == by_model["pruned"]))
        # The third request, at the second place, is erased in place: its row still says where it was.
        erasing.erase(connection, tables.params, {by_model["small"]: [1]})

    # When
    with read(engine) as connection:
        answered = samples.answered_in(connection, BATCH, 10)
        bodies = {one.id: (one.model, body) for one, body in samples.bodies(connection, answered)}

    # Then
    assert len(answered) == 5
    assert {one.cache_read_tokens for one in answered} == {0}
    kept = [(ids[0], "small"), (ids[1], "large"), (ids[3], "small")]
    assert bodies == {id_: (model, b'{"n":"%b"}' % id_.encode()) for id_, model in kept}
