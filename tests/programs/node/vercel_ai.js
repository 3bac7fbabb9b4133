// Vercel's AI SDK with its Anthropic provider. Its base URL ends in /v1, unlike that of Anthropic's own SDKs.
import assert from 'node:assert/strict';

import { createAnthropic } from '@ai-sdk/anthropic';
import { generateObject, generateText, streamText, tool } from 'ai';
import { z } from 'zod';

const answer = '[simulated] An answer to: Hello, Claude';
const anthropic = createAnthropic({ baseURL: `${process.env.ANTHROPIC_BASE_URL}/v1` });
const model = anthropic('claude-haiku-4-5');
const prompt = 'Hello, Claude';
const ok = (what) => console.log(`ok: ${what}`);

assert.equal((await generateText({ model, prompt })).text, answer);
ok('generateText');

let streamed = '';
for await (const part of streamText({ model, prompt }).textStream) streamed += part;
assert.equal(streamed, answer);
ok('streamText');

const Person = z.object({ name: z.string(), age: z.number().int() });
assert.ok(Person.safeParse((await generateObject({ model, prompt, schema: Person })).object).success);
ok('generateObject');

const weather = tool({ description: 'The weather in a city.', inputSchema: z.object({ city: z.string() }) });
const { toolCalls } = await generateText({ model, prompt, tools: { weather }, toolChoice: 'required' });
assert.equal(toolCalls[0].toolName, 'weather');
ok('a tool that must be called');
