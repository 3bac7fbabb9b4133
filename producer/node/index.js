/**
 * Anthropic's own client, with every call through Carpool's gateway.
 *
 *     import Anthropic from '@carpool/anthropic';
 *     const client = new Anthropic();   // CARPOOL_URL, else ANTHROPIC_BASE_URL; the key is in ANTHROPIC_API_KEY
 *
 * Only the address, the timeout and the idempotency key differ. The gateway answers when the batch of a call has ended,
 * so a call may take up to a day. A call whose connection broke is repeated; since the repeat has the same key, the
 * gateway gives it the same answer, which is paid for once. The SDK's option `idempotencyKey` sets a key of your own,
 * under which a program that was started again finds the answer of its earlier call.
 */
import { randomUUID } from 'node:crypto';

import SDK, { APIConnectionError } from '@anthropic-ai/sdk';

export * from '@anthropic-ai/sdk';

const TIMEOUT_MS = 24 * 60 * 60 * 1000;
const IDEMPOTENCY_HEADER = 'Idempotency-Key';

export class Anthropic extends SDK {
  /** @param {import('@anthropic-ai/sdk').ClientOptions} options */
  constructor({ baseURL, timeout = TIMEOUT_MS, middleware = [], ...options } = {}) {
    super({
      ...options,
      baseURL: baseURL ?? urlInEnvironment(),
      timeout,
      middleware: [...middleware.filter((one) => !OWN_MIDDLEWARE.includes(one)), ...OWN_MIDDLEWARE],
    });
  }

  /** Message Batches: the same as `messages.batches`. */
  get batches() {
    return this.messages.batches;
  }
}

export default Anthropic;

/**
 * Sends a key with each call, the same on its repeats: they have the call's options in common.
 *
 * @type {import('@anthropic-ai/sdk').Middleware}
 */
async function oneKeyACall(request, next, context) {
  const { options } = context;
  if (options && options.method !== 'get' && !request.headers.has(IDEMPOTENCY_HEADER)) {
    options.idempotencyKey ??= randomUUID();
    request.headers.set(IDEMPOTENCY_HEADER, options.idempotencyKey);
  }
  return next(request);
}

/**
 * Reads a call's whole answer where the SDK still repeats what failed.
 *
 * The gateway begins its answer early and ends the connection where the call turns out to have failed. The SDK repeats
 * calls only until an answer begins; what breaks later reaches the program as `TypeError: terminated`.
 *
 * @type {import('@anthropic-ai/sdk').Middleware}
 */
async function wholeAnswer(request, next, context) {
  const response = await next(request);
  if (!response.ok || context.options?.method !== 'post' || !isJson(response)) return response;
  try {
    return new Response(await response.arrayBuffer(), response);
  } catch (cause) {
    if (request.signal?.aborted) throw cause;
    throw new APIConnectionError({ message: 'The connection ended before the answer.', cause: asError(cause) });
  }
}

/** @type {readonly import('@anthropic-ai/sdk').Middleware[]} */
const OWN_MIDDLEWARE = [oneKeyACall, wholeAnswer];

/** @param {Response} response */
function isJson(response) {
  return response.headers.get('content-type')?.split(';')[0]?.trim() === 'application/json';
}

/** @param {unknown} cause */
function asError(cause) {
  return cause instanceof Error ? cause : new Error(String(cause));
}

function urlInEnvironment() {
  const url = process.env.CARPOOL_URL?.trim() || process.env.ANTHROPIC_BASE_URL?.trim();
  if (!url) throw new Error("CARPOOL_URL or ANTHROPIC_BASE_URL must be set to the gateway's URL, or baseURL be given");
  return url;
}
