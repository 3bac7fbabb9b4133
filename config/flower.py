"""Flower's options for Carpool: `carpool flower` reads this file when it is here. FLOWER_* in the environment works
for what is not set below; the password belongs there: FLOWER_BASIC_AUTH=user:password.
"""

# A batch is a row: its model is in the name, what it holds in the arguments, what became of it in the result.
tasks_columns = "name,uuid,state,args,result,received,runtime,worker"

# Rows that are kept in memory, batches and agents' tasks together; the tables have all of them.
max_tasks = 20_000

# Nothing is written to disk: after a restart Flower shows what happens from then on.
persistent = False

# Workers that went away disappear after this many seconds.
purge_offline_workers = 300

# Times as they are, not "a minute ago".
natural_time = False
