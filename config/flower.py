"""Flower's options for Carpool, read by `carpool flower` from the folder where it is started. Each is listed with its
default; remove the # to change it. FLOWER_ and the name in capitals in the environment does the same; this file wins.
"""

# ruff: noqa: ERA001

# --- Who has access ---------------------------------------------------------------------------------------------------

# Users and their passwords. On an address that other machines can reach, `carpool flower` does not start without them.
# Its pages and its API ask for them; /metrics and /healthcheck are open to anyone who can reach the port. Keep them in
# the environment: FLOWER_BASIC_AUTH=ops:…,reader:…
# basic_auth = []

# Sign-on with Google, GitHub, GitLab or Okta instead: the e-mail addresses that have access, and the provider's class;
# see https://flower.readthedocs.io/en/latest/auth.html.
# auth = ""
# auth_provider = None

# --- What they may do -------------------------------------------------------------------------------------------------

# Flower's buttons and its API control workers (shut down, grow, shrink or restart their pools, give and take queues),
# revoke tasks and send tasks. Here all of that is off, and the API answers 403: a batch is not a task that it could
# revoke (see `carpool cancel`), and anyone who can send tasks can spend money. False turns it on for everyone.
# read_only = True

# --- The tasks page ---------------------------------------------------------------------------------------------------

# A batch is a row: `batch` and its model, its state, its contents, its result. RECEIVED: it is filling, or waits to be
# sent. STARTED: Anthropic has it. RETRY: refused for now; the result says why. Runtime: how long Anthropic took, or has
# taken so far. There are more columns: kwargs (Anthropic's id and the headers), started, worker, retries, expires.
# Names and costs fit a window of 1,400 pixels; below 1,700 the uuid, which links to a row's own page, is shortened.
# tasks_columns = "name,state,args,result,received,runtime,uuid"

# "3 minutes ago". With False: 2026-11-22 12:26:25.000, as on a row's own page.
# natural_time = True

# How many rows are kept in memory: batches, refused requests, and the tasks of services on the same Redis.
# max_tasks = 20_000

# Nothing is kept on disk: when Flower starts or reconnects to Redis, workers publish the newest 10,000 batches again.
# persistent = False

# --- /metrics, for Prometheus -----------------------------------------------------------------------------------------

# Upper bounds, in seconds, of flower_task_runtime_seconds: how long Anthropic took, a histogram for each model
# (task="batch claude-haiku-4-5"). A batch is counted once, when it is completed.
# task_runtime_metric_buckets = [
#     *(30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 2_700.0),
#     *(3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0, 57_600.0, 72_000.0, 86_400.0),
# ]

# Seconds after which workers that have gone are removed from it.
# purge_offline_workers = 300
