// LangChain's ChatAnthropic, for JavaScript.
import assert from 'node:assert/strict';

import { ChatAnthropic } from '@langchain/anthropic';
import { tool } from '@langchain/core/tools';
import { z } from 'zod';

const answer = '[simulated] An answer to: Hello, Claude';
const model = new ChatAnthropic({ model: 'claude-haiku-4-5', maxTokens: 64 });
const ok = (what) => console.log(`ok: ${what}`);

assert.equal((await model.invoke('Hello, Claude')).text, answer);
ok('invoke');

assert.deepEqual((await model.batch(Array(5).fill('Hello, Claude'))).map((message) => message.text), Array(5).fill(answer));
ok('batch of 5');

let streamed = '';
for await (const chunk of await model.stream('Hello, Claude')) streamed += chunk.text;
assert.equal(streamed, answer);
ok('stream');

const Person = z.object({ name: z.string(), age: z.number().int() });
assert.ok(Person.safeParse(await model.withStructuredOutput(Person).invoke('Who?')).success);
ok('withStructuredOutput');

const weather = tool(({ city }) => `It rains in ${city}.`, {
  name: 'weather',
  description: 'The weather in a city.',
  schema: z.object({ city: z.string() }),
});
const [call] = (await model.bindTools([weather], { tool_choice: 'weather' }).invoke('Weather?')).tool_calls;
assert.equal(call.name, 'weather');
ok('bindTools');
