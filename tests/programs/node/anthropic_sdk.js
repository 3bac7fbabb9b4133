// Anthropic's Node SDK, as it comes from its package: every call of its messages, batches and models.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import Anthropic, { BadRequestError, NotFoundError } from '@anthropic-ai/sdk';

const model = 'claude-haiku-4-5';
const messages = [{ role: 'user', content: 'Hello, Claude' }];
const params = { model, max_tokens: 64, messages };
const answer = '[simulated] An answer to: Hello, Claude';
const client = new Anthropic();

const text = (message) => message.content.map((block) => block.text ?? '').join('');
const ok = (what) => console.log(`ok: ${what}`);

assert.equal(text(await client.messages.create(params)), answer);
ok('messages.create');

const { data, response, request_id } = await client.messages.create(params).withResponse();
assert.equal(text(data), answer);
assert.match(request_id, /^req_/);
assert.equal(response.status, 200);
ok('messages.create with its response');

const events = [];
for await (const event of await client.messages.create({ ...params, stream: true })) events.push(event.type);
assert.equal(events[0], 'message_start');
assert.equal(events.at(-1), 'message_stop');
ok('messages.create with stream');

let streamed = '';
const stream = client.messages.stream(params).on('text', (part) => (streamed += part));
assert.equal(text(await stream.finalMessage()), answer);
assert.equal(streamed, answer);
ok('messages.stream');

const schema = { type: 'object', properties: { age: { type: 'integer' } }, required: ['age'] };
const tool = { name: 'save', description: 'Saves.', input_schema: schema };
const called = await client.messages.create({ ...params, tools: [tool], tool_choice: { type: 'tool', name: 'save' } });
assert.equal(called.stop_reason, 'tool_use');
assert.ok(Number.isInteger(called.content[0].input.age));
ok('a tool that must be called');

const parsed = await client.messages.parse({
  ...params,
  output_config: { format: { type: 'json_schema', schema: { ...schema, additionalProperties: false } } },
});
assert.ok(Number.isInteger(JSON.parse(text(parsed)).age));
ok('messages.parse');

assert.ok((await client.messages.countTokens({ model, messages })).input_tokens > 0);
ok('messages.countTokens');

const models = [];
for await (const one of client.models.list({ limit: 1 })) models.push(one.id);
assert.ok(models.length > 1);
assert.equal((await client.models.retrieve(models[0])).id, models[0]);
ok('models.list, models.retrieve');

const requests = ['a', 'b', 'c'].map((custom_id) => ({ custom_id, params }));
const batch = await client.messages.batches.create({ requests });
assert.equal(batch.request_counts.processing, 3);
let status = batch;
while (status.processing_status !== 'ended') {
  await sleep(200);
  status = await client.messages.batches.retrieve(batch.id);
}
const results = {};
for await (const line of await client.messages.batches.results(batch.id)) results[line.custom_id] = line.result;
assert.deepEqual(Object.keys(results).sort(), ['a', 'b', 'c']);
assert.equal(text(results.a.message), answer);
ok('batches.create, batches.retrieve, batches.results');

const second = await client.messages.batches.create({ requests });
const canceled = await client.messages.batches.cancel(second.id);
assert.ok(['canceling', 'ended'].includes(canceled.processing_status));
ok('batches.cancel');

const listed = [];
for await (const one of client.messages.batches.list({ limit: 1 })) listed.push(one.id);
assert.ok(listed.indexOf(second.id) < listed.indexOf(batch.id));
const before = await client.messages.batches.list({ before_id: batch.id, limit: 1_000 });
assert.ok(before.data.some((one) => one.id === second.id));
ok('batches.list by both cursors');

assert.equal((await client.messages.batches.delete(batch.id)).type, 'message_batch_deleted');
await assert.rejects(client.messages.batches.retrieve(batch.id), NotFoundError);
ok('batches.delete');

const beta = await client.beta.messages.create({ ...params, betas: ['output-300k-2026-03-24'] });
assert.equal(text(beta), answer);
ok('beta.messages.create');

await assert.rejects(client.messages.create({ ...params, messages: [] }), BadRequestError);
ok('an error of the right kind: BadRequestError');
