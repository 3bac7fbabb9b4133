// Message Batches through the gateway: a script for Anthropic's SDK, with nothing but the import changed.
//
//     source .carpool/env      # of a `carpool up`: where its gateway is, and a key for it
//     npm install @anthropic-ai/sdk ./producer/node
//     node docs/examples/node_batches.js
import { setTimeout as sleep } from 'node:timers/promises';

import Anthropic from '@carpool/anthropic'; // was: '@anthropic-ai/sdk'

const items = ['The kettle boils in a minute.', 'It broke after a day, terrible.', 'I love it.'];
const client = new Anthropic();

const batch = await client.batches.create({
  requests: items.map((item, i) => ({
    custom_id: `item-${i}`,
    params: {
      model: 'claude-haiku-4-5',
      max_tokens: 1024,
      messages: [{ role: 'user', content: `Summarize this in one sentence: ${item}` }],
    },
  })),
});

let status = batch;
while (status.processing_status !== 'ended') {
  await sleep(1_000);
  status = await client.batches.retrieve(batch.id);
}

for await (const result of await client.batches.results(batch.id)) {
  console.log(result.custom_id, result.result.message?.content[0]?.text ?? result.result.type);
}
