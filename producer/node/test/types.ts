// What TypeScript sees: the SDK's own types, and `batches`. This file is checked, not run.
import type SDK from '@anthropic-ai/sdk';
import Anthropic, { type ClientOptions } from '@carpool/anthropic';

const options: ClientOptions = { baseURL: 'http://127.0.0.1:8080' };
const client: SDK = new Anthropic(options);

const params: Anthropic.MessageCreateParamsNonStreaming = {
  model: 'claude-haiku-4-5',
  max_tokens: 64,
  messages: [{ role: 'user', content: 'Hello' }],
};
const message: Anthropic.Message = await client.messages.create(params);
const batch: Anthropic.Messages.MessageBatch = await client.batches.create({
  requests: [{ custom_id: 'item-0', params }],
});
for await (const line of await client.batches.results(batch.id)) {
  const outcome: 'succeeded' | 'errored' | 'canceled' | 'expired' = line.result.type;
  console.log(line.custom_id, outcome, message.usage.output_tokens);
}

// @ts-expect-error: a message needs a model
await client.messages.create({ max_tokens: 64, messages: [] });
// @ts-expect-error: the name of the option is baseURL
new Anthropic({ base_url: 'http://127.0.0.1:8080' });
