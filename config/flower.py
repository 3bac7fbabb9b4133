"""Flower's options for Carpool, read by `carpool flower` where it is started. Each stands here with its default; take
the # away to change it. FLOWER_ and the name in capitals in the environment does the same; this file wins over it.
"""

# ruff: noqa: ERA001

# --- Who may look -----------------------------------------------------------------------------------------------------

# Users and their passwords. On an address that others can reach `carpool flower` does not start without; its pages and
# its API ask for them, /metrics and /healthcheck are open to whoever reaches the port. Keep them in the environment:
# FLOWER_BASIC_AUTH=ops:…,reader:…
# basic_auth = []

# Sign-on at Google, GitHub, GitLab or Okta instead: the e-mail addresses that may enter, and the provider's class, as
# https://flower.readthedocs.io/en/latest/auth.html has them.
# auth = ""
# auth_provider = None

# --- What they may do -------------------------------------------------------------------------------------------------

# Flower's buttons and its API control workers (shut down, grow, shrink or restart their pools, give and take queues),
# revoke tasks and send tasks. Here all of that is off, and the API answers 403: a batch is no task that it could revoke
# (see `carpool cancel`), and whoever may send tasks can spend money. With False it works, for all who may look.
# read_only = True

# --- The tasks page ---------------------------------------------------------------------------------------------------

# A batch is a row: `batch` and its model, how it stands, what it holds, how it went. RECEIVED: it fills, or waits to be
# sent. STARTED: Anthropic has it. RETRY: refused for now; the result says why. Runtime: how long Anthropic took, or has
# taken so far. There are more columns: kwargs (Anthropic's id and the headers), started, worker, retries, expires. In a
# window of less than 1,700 pixels long names wrap; without uuid, which leads to a row's own page, 1,350 are enough.
# tasks_columns = "name,state,args,result,received,runtime,uuid"

# "3 minutes ago". With False 2026-11-22 12:26:25.000; a row's own page has it so anyway.
# natural_time = True

# Rows that are kept in memory: batches, refused requests, and the tasks of services on the same Redis.
# max_tasks = 20_000

# Nothing is kept on disk: when Flower starts, or finds Redis again, the workers show it the newest 10,000 batches.
# persistent = False

# --- /metrics, for Prometheus -----------------------------------------------------------------------------------------

# Upper bounds, in seconds, of flower_task_runtime_seconds: how long Anthropic took, a histogram for each model
# (task="batch claude-haiku-4-5"). A batch is counted when it is completed, and not again when it is shown anew.
# task_runtime_metric_buckets = [
#     *(30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 2_700.0),
#     *(3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0, 57_600.0, 72_000.0, 86_400.0),
# ]

# Workers that went away are dropped from it after so many seconds.
# purge_offline_workers = 300
