#!/bin/sh
# The gateway by plain HTTP, for whatever language has no SDK:
#
#     source .carpool/env      # of a `carpool up`: where its gateway is, and a key for it
#     sh docs/examples/curl.sh
set -eu

ask() { curl --silent --show-error --fail --header "x-api-key: $ANTHROPIC_API_KEY" "$@"; }
params='{"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello, Claude"}]}'

# One call, held until its answer is there. curl sets no time limit of its own.
ask "$ANTHROPIC_BASE_URL/v1/messages" --header "content-type: application/json" --data "$params"
echo

# The same without waiting: 202 says where the answer will be.
place=$(ask "$ANTHROPIC_BASE_URL/v1/messages" --header "content-type: application/json" --header "Prefer: respond-async" \
    --header "Idempotency-Key: greeting-$$" --data "$params" --output /dev/null --write-out '%header{location}')
while answer=$(ask "$ANTHROPIC_BASE_URL$place" --header "Prefer: wait=60" --write-out ' %{http_code}') && [ "${answer##* }" = 202 ]; do
    sleep 1
done
echo "${answer% *}"
