#!/bin/sh
# Prints the users of Redis' ACL for Carpool, one for each of its parts, each with its own password and with just the
# keys, channels and commands that it uses. Whoever gets hold of one part's password can't read what other parts keep.
#
#     sh users.sh > users.acl        # then `aclfile users.acl` in redis.conf, or `ACL LOAD`
#
# The passwords are read from REDIS_PASSWORD_AGGREGATE and so on, one for each user below; only their hashes are
# printed. docs/operations.md has a line that makes them. Written for database 0 (REDIS_DATABASE names another) and
# for an empty key_prefix.
set -eu

database=${REDIS_DATABASE:-0}

user() {  # its name, then its rules
    name=$1
    shift
    variable=REDIS_PASSWORD_$(printf %s "$name" | tr '[:lower:]' '[:upper:]')
    eval "password=\${$variable:?choose a password for the user $name of Redis}"
    hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
    echo "user $name on #$hash resetkeys resetchannels $*"
}

# Everything but what administers the server, or looks at or removes what is not one's own.
commands='+@all -@admin -@dangerous +info'

# Celery's queues, what workers have taken and not acknowledged, and its remote control.
celery='~carpool.* ~carpool:unacked* ~_kombu.binding*.carpool* ~_kombu.binding*.reply.carpool* ~*.carpool.pidbox* ~_kombu.binding_deadlines'
celery="$celery &/$database.carpool.pidbox &/$database.reply.carpool.pidbox"
# Who subscribes to a pattern needs the very pattern, what others publish is below the last.
celery="$celery &/$database.carpool.events/worker.* &/$database.carpool.events/*"

# Quotas of clients and keys, and how much of each is used.
quotas='~carpool:quota* ~carpool:loads ~carpool:reserved'

# What all agents share: locks, alarms for beat, and Flower's request for rows. Nothing of it has contents.
agent="$commands $celery $quotas ~carpool:lock:* ~carpool:alarms ~carpool:flower-refresh"

# The inbox and its counters: requests that no worker has read yet, with their prompts. And which idempotency keys were
# used for what, as digests.
inbox="$quotas ~carpool:{*}:* ~carpool:keyed* ~carpool:inbox ~carpool:queued"

# Who waits for answers, and the answers on their way to them.
replies='~carpool:waits ~carpool:waiting* ~carpool:reply:*'

# Nobody else may do anything; PING lets a health check see that the server is there.
echo 'user default on nopass resetkeys resetchannels -@all +ping'

user aggregate "$agent $inbox $replies ~carpool:quarantine ~carpool:gateway:accepted:*"
user submit "$agent ~carpool:rate-limited*"
user call "$agent $replies ~carpool:rate-limited* ~carpool:calls-*"
# It counts the requests that wait, in the inbox too, with a script that names the streams.
user poll "$agent $inbox $replies ~carpool:rate-limited* ~carpool:calls-* ~carpool:polled ~carpool:gateway:accepted:*"
user collect "$agent ~carpool:rate-limited* $replies"
# It also puts task callbacks into the queues of services. Name these instead of ~* where Redis has other things.
user deliver "$agent $replies ~*"
user enqueue "$agent $inbox ~carpool:refused-messages"
user beat "$commands $celery %R~carpool:quotas ~carpool:alarms ~carpool:heartbeat ~carpool:lock:* %R~carpool:waits %R~carpool:{*}:* %R~carpool:inbox"
user gateway "$commands $inbox $replies ~carpool:gateway:* ~carpool:gateways ~carpool:alarms &carpool:gateway:*"
user flower "$commands $celery"
# It shows and does what an operator's commands show and do.
user console "$commands +config|get $celery ~carpool:*"
user metrics "+@read +@connection +info %R~carpool:* %R~carpool.*"

# Services: they append to the inbox, and wait for answers. Give each its own user with the same rules if they don't
# trust each other with the answers that wait in Redis.
# They may also send Celery messages to the door for those who have nothing but Celery.
user producer "+@read +@write +@blocking +@scripting +@connection +@transaction +@pubsub +waitaof -@dangerous +info $inbox $replies ~carpool:alarms ~carpool.enqueue* ~_kombu.binding*.carpool.enqueue*"

# Whoever runs `carpool status`, `doctor`, `quarantine`, `purge`, and all other commands.
user operator "$commands +config|get +bgrewriteaof $celery ~carpool:*"
