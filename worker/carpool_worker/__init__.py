"""The half of Carpool that operators run: it pools, submits, polls, collects and delivers.

A request passes five stages, in this order. Each is a folder of `pipeline`; each agent in it is a function that a task
of `tasks.agents` calls. What an agent has done is in the tables, so any of them may be killed at any time:

1. `pipeline.inbox`: requests arrive in a Redis stream (`stream`); what can't be read is quarantined (`quarantine`).
2. `pipeline.batching`: `aggregator` fills the open batch of each lane and seals it; `stager` does so with rescheduled
   requests; `budgeter` releases those that waited for a budget; `canceler` applies cancel commands.
3. `pipeline.submission`: `admission` chooses what may be posted now; `submitter` posts it; `failures` decides what
   follows a refusal, and `splitter` halves a batch; `rescuer` settles what became of a post whose answer was lost.
4. `pipeline.collection`: `poller` asks which batches have ended; `collector` reads their results, and `conclusions`
   decides what follows from each.
5. `pipeline.delivery`: `courier` claims what is due and sends it through `channels`.

Beside them, `pipeline.pruner` deletes contents and keys once their retention is over.

Below the stages:

- `policies`, `money`, `prompt_cache` and `states` are pure decisions: no database, no Redis, no network.
- `store` has all SQL, `models` the tables, `migrations` their history, `database` transactions, `engines` connections.
- `claude` is the client of Anthropic's API; `coordination` is what processes share through Redis.
- `telemetry` writes logs and traces, `transition_log` a line for each transition once it is committed.
- `units` are the types of numbers, and `formatting` prints them; `outside_text` cleans what others wrote;
  `batch_bodies` spools creates; `settings`, `setting_files`, `setting_values` and `exceptions` serve all.

Above the stages:

- `views` are what an operator sees, as data; `operations` are what an operator does; `commands` put both on a terminal.
- `gateway` is the HTTP API for clients in any language, which are known by their keys.
- `app` is the Celery app, `tasks` are its tasks, `processes` the programs that `cli` starts.
- `console` is the web pages over views and operations.
- `metrics` and `flower` show it in Prometheus and Flower; `doctor`, `advisor`, `files`, `demo` and `simulator` are a
  feature each.
"""
