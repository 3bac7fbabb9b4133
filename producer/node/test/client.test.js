// The client's own parts, against a server in this process that fails as a gateway can.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';

import SDK from '@anthropic-ai/sdk';
import Anthropic, { APIConnectionError, Anthropic as Named } from '@carpool/anthropic';

/** @type {Anthropic.MessageCreateParamsNonStreaming} */
const PARAMS = {
  model: 'claude-haiku-4-5',
  max_tokens: 64_000, // more than the SDK allows itself without a timeout of its own
  messages: [{ role: 'user', content: 'Hello' }],
};
const MESSAGE = JSON.stringify({
  id: 'msg_01',
  type: 'message',
  role: 'assistant',
  model: 'claude-haiku-4-5',
  content: [{ type: 'text', text: 'Hi.' }],
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: { input_tokens: 1, output_tokens: 1 },
});

/** @type {import('node:http').Server} */
let server;
/** @type {string} */
let url;
/** @type {import('node:http').IncomingMessage[]} */
let requests;
/** What each request is answered with, in order. @type {((response: import('node:http').ServerResponse) => void)[]} */
let answers;

before(async () => {
  server = createServer((request, response) => {
    requests.push(request);
    request.resume().once('end', () => (answers.shift() ?? answered)(response));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  url = `http://127.0.0.1:${port}`;
});
after(() => server.close());
beforeEach(() => {
  [requests, answers] = [[], []];
  delete process.env.CARPOOL_URL;
  delete process.env.ANTHROPIC_BASE_URL;
});

/** @param {import('node:http').ServerResponse} response */
function answered(response) {
  response.setHeader('content-type', 'application/json').end(MESSAGE);
}

/** @param {import('node:http').ServerResponse} response */
function cutAfterTheFirstSpace(response) {
  response.setHeader('content-type', 'application/json').write(' ', () => response.destroy());
}

/** @param {import('@anthropic-ai/sdk').ClientOptions} options */
function connect(options = {}) {
  return new Anthropic({ apiKey: 'cr_test', baseURL: url, ...options });
}

/** @param {Anthropic.Message} message */
function text(message) {
  return message.content.map((block) => (block.type === 'text' ? block.text : '')).join('');
}

test('the gateway is where CARPOOL_URL says, else ANTHROPIC_BASE_URL', () => {
  process.env.ANTHROPIC_BASE_URL = 'http://two.example.com';
  assert.equal(new Anthropic({ apiKey: 'cr_test' }).baseURL, 'http://two.example.com');
  process.env.CARPOOL_URL = 'http://one.example.com';
  assert.equal(new Anthropic({ apiKey: 'cr_test' }).baseURL, 'http://one.example.com');
  assert.equal(connect().baseURL, url);
});

test('without an address there is no client, as its calls would go to Anthropic and cost twice as much', () => {
  assert.throws(() => new Anthropic({ apiKey: 'cr_test' }), /CARPOOL_URL or ANTHROPIC_BASE_URL must be set/);
});

test("it is the SDK's own client, with a day of patience and its batches at hand", () => {
  const client = connect();
  assert.ok(client instanceof SDK);
  assert.equal(Named, Anthropic);
  assert.equal(client.timeout, 24 * 60 * 60 * 1000);
  assert.equal(client.batches, client.messages.batches);
  assert.equal(connect({ timeout: 5_000 }).timeout, 5_000);
});

test('each call has a key of its own, which its repeats send too', async () => {
  // Given a call that is refused once
  answers = [(response) => response.writeHead(529, { 'retry-after-ms': '1' }).end('{}')];

  // When
  const client = connect();
  await client.messages.create(PARAMS);
  await client.messages.create(PARAMS);

  // Then
  const [first, repeat, second] = requests.map((request) => request.headers['idempotency-key']);
  assert.ok(first);
  assert.equal(repeat, first);
  assert.notEqual(second, first);
});

test('a key of the caller takes its place', async () => {
  await connect().messages.create(PARAMS, { idempotencyKey: 'invoice-42' });
  assert.equal(requests[0]?.headers['idempotency-key'], 'invoice-42');
});

test('a call whose answer was cut off is repeated with the same key, and says so', async () => {
  // Given
  answers = [cutAfterTheFirstSpace];

  // When
  const message = await connect().messages.create(PARAMS);

  // Then
  assert.equal(text(message), 'Hi.');
  assert.equal(requests.length, 2);
  assert.equal(requests[0]?.headers['idempotency-key'], requests[1]?.headers['idempotency-key']);
  assert.equal(requests[1]?.headers['x-stainless-retry-count'], '1');
});

test('the true error of a call that was cut off comes with its repeat', async () => {
  const refusal = { type: 'error', error: { type: 'invalid_request_error', message: 'max_tokens: too many' } };
  answers = [
    cutAfterTheFirstSpace,
    (response) => response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify(refusal)),
  ];
  await assert.rejects(connect().messages.create(PARAMS), /max_tokens: too many/);
});

test('a call whose answers are always cut off fails with an error of the SDK', async () => {
  answers = [cutAfterTheFirstSpace, cutAfterTheFirstSpace];
  await assert.rejects(connect({ maxRetries: 1 }).messages.create(PARAMS), APIConnectionError);
  assert.equal(requests.length, 2);
});

test('a call that its caller gave up is not repeated', async () => {
  const controller = new AbortController();
  answers = [
    (response) => {
      response.setHeader('content-type', 'application/json').write(' ', () => controller.abort());
    },
  ];
  await assert.rejects(connect().messages.create(PARAMS, { signal: controller.signal }));
  assert.equal(requests.length, 1);
});

test('clients made by withOptions behave in the same way', async () => {
  answers = [cutAfterTheFirstSpace];
  const client = connect().withOptions({ timeout: 7_000 });
  assert.equal(client.timeout, 7_000);
  assert.equal(client.middleware.length, connect().middleware.length);
  assert.equal(text(await client.messages.create(PARAMS)), 'Hi.');
  assert.equal(requests[0]?.headers['idempotency-key'], requests[1]?.headers['idempotency-key']);
});

test('answers keep their headers and their request id', async () => {
  answers = [
    (response) => {
      response.setHeader('request-id', 'req_01').setHeader('x-carpool-cost', '0.000015');
      answered(response);
    },
  ];
  const { request_id, response } = await connect().messages.create(PARAMS).withResponse();
  assert.equal(request_id, 'req_01');
  assert.equal(response.headers.get('x-carpool-cost'), '0.000015');
});
