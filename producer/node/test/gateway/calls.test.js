// Every call of the client's messages, batches and models, against a real gateway: CARPOOL_URL and ANTHROPIC_API_KEY say where.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import Anthropic, { BadRequestError, NotFoundError } from '@carpool/anthropic';

const client = new Anthropic();
const model = 'claude-haiku-4-5';
/** @type {Anthropic.MessageCreateParamsNonStreaming} */
const params = { model, max_tokens: 64, messages: [{ role: 'user', content: 'Hello, Claude' }] };
const answer = '[simulated] An answer to: Hello, Claude';
const requests = ['a', 'b', 'c'].map((custom_id) => ({ custom_id, params }));

/** @param {Anthropic.Message} message */
function text(message) {
  return message.content.map((block) => (block.type === 'text' ? block.text : '')).join('');
}

/** @param {string} id */
async function ended(id) {
  let batch = await client.batches.retrieve(id);
  while (batch.processing_status !== 'ended') {
    await sleep(200);
    batch = await client.batches.retrieve(id);
  }
  return batch;
}

test('messages.create', async () => {
  assert.equal(text(await client.messages.create(params)), answer);
});

test('messages.create with a key of its own is one request, however often it is called', async () => {
  const options = { idempotencyKey: `greeting-${Date.now()}` };
  const answers = await Promise.all([client.messages.create(params, options), client.messages.create(params, options)]);
  const again = await client.messages.create(params, options);
  assert.deepEqual(new Set([...answers, again].map((message) => message.id)).size, 1);
});

test('messages.create with stream', async () => {
  const events = [];
  for await (const event of await client.messages.create({ ...params, stream: true })) events.push(event.type);
  assert.equal(events[0], 'message_start');
  assert.equal(events.at(-1), 'message_stop');
});

test('messages.stream', async () => {
  let streamed = '';
  const stream = client.messages.stream(params).on('text', (part) => (streamed += part));
  assert.equal(text(await stream.finalMessage()), answer);
  assert.equal(streamed, answer);
});

test('messages.parse', async () => {
  const schema = { type: 'object', properties: { age: { type: 'integer' } }, required: ['age'], additionalProperties: false };
  const message = await client.messages.parse({ ...params, output_config: { format: { type: 'json_schema', schema } } });
  assert.ok(Number.isInteger(JSON.parse(text(message)).age));
});

test('messages.countTokens', async () => {
  assert.ok((await client.messages.countTokens({ model, messages: params.messages })).input_tokens > 0);
});

test('an error has its true type', async () => {
  await assert.rejects(client.messages.create({ ...params, messages: [] }), BadRequestError);
});

test('models.list and models.retrieve', async () => {
  const ids = [];
  for await (const one of client.models.list({ limit: 1 })) ids.push(one.id);
  assert.ok(ids.length > 1);
  assert.equal((await client.models.retrieve(/** @type {string} */ (ids[0]))).id, ids[0]);
});

test('batches.create, batches.retrieve, batches.results', async () => {
  const batch = await client.batches.create({ requests });
  assert.equal(batch.request_counts.processing, 3);
  assert.deepEqual((await ended(batch.id)).request_counts.succeeded, 3);
  /** @type {Record<string, string | undefined>} */
  const answers = {};
  for await (const { custom_id, result } of await client.batches.results(batch.id)) {
    answers[custom_id] = result.type === 'succeeded' ? text(result.message) : result.type;
  }
  assert.deepEqual(answers, { a: answer, b: answer, c: answer });
});

test('batches.cancel, batches.delete', async () => {
  const { id } = await client.batches.create({ requests });
  assert.notEqual((await client.batches.cancel(id)).processing_status, 'in_progress');
  await ended(id);
  assert.equal((await client.batches.delete(id)).type, 'message_batch_deleted');
  await assert.rejects(client.batches.retrieve(id), NotFoundError);
});

test('batches.list by both cursors', async () => {
  const older = await client.batches.create({ requests });
  const newer = await client.batches.create({ requests });
  const listed = [];
  for await (const batch of client.batches.list({ limit: 1 })) listed.push(batch.id);
  assert.ok(listed.includes(older.id));
  assert.ok(listed.indexOf(newer.id) < listed.indexOf(older.id));
  const before = await client.batches.list({ before_id: older.id, limit: 1_000 });
  assert.ok(before.data.some((batch) => batch.id === newer.id));
});

test('beta.messages.create', async () => {
  const message = await client.beta.messages.create({ ...params, betas: ['output-300k-2026-03-24'] });
  assert.equal(message.stop_reason, 'end_turn');
});
