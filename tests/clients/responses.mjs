// Responses as the clients of the JavaScript world get them. Prints one line of JSON for each look.
// Usage: responses.mjs <url of the server>

import { createOpenAI } from '@ai-sdk/openai';
import { jsonSchema, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';

const url = `${process.argv[2]}/v1`;
const client = new OpenAI({ apiKey: 'none', baseURL: url, maxRetries: 0 });
const provider = createOpenAI({ apiKey: 'none', baseURL: url });
const tell = (name, what) => console.log(JSON.stringify({ name, ...what }));
const parameters = { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] };
const looking = { type: 'function', name: 'look', description: 'Look.', parameters, strict: false };

async function streamed() {
  const stream = client.responses.stream({ model: 'counter', input: '2 + 2?' });
  let text = '';
  const types = [];
  stream.on('response.output_text.delta', (event) => (text += event.delta));
  stream.on('event', (event) => types.push(event.type));
  const final = await stream.finalResponse();
  const kinds = final.output.map((item) => item.type);
  tell('streamed', { text, output: final.output_text, kinds, last: types.at(-1), id: final.id });
}

async function calledBack() {
  const asked = { model: 'looker', tools: [looking] };
  const first = await client.responses.stream({ ...asked, input: 'sea sky' }).finalResponse();
  const input = first.output
    .filter((item) => item.type === 'function_call')
    .map((call) => ({
      type: 'function_call_output',
      call_id: call.call_id,
      output: `the ${JSON.parse(call.arguments).place}`,
    }));
  const second = client.responses.stream({ ...asked, input, previous_response_id: first.id });
  tell('calledBack', { output: (await second.finalResponse()).output_text });
}

async function resumed() {
  const asked = { model: 'counter', input: '2 + 2?', background: true };
  const { id } = await client.responses.create(asked);
  const stream = await client.responses.retrieve(id, { stream: true });
  const all = [];
  for await (const event of stream) all.push(event);
  const rest = [];
  const later = await client.responses.retrieve(id, { stream: true, starting_after: 5 });
  for await (const event of later) rest.push(event);
  const same = JSON.stringify(all.slice(6)) === JSON.stringify(rest);
  const helper = client.responses.stream({ response_id: id, starting_after: 5 });
  tell('resumed', { same, output: (await helper.finalResponse()).output_text });
}

async function ended() {
  const failed = await client.responses.stream({ model: 'broken', input: 'x' }).finalResponse();
  const stream = client.responses.stream({ model: 'gated', input: 'x', background: true });
  let created;
  stream.once('response.created', (event) => (created = event.response.id));
  stream.once('response.output_text.delta', () => client.responses.cancel(created));
  const cancelled = await stream.finalResponse();
  const refused = await client.responses.create({ model: 'nobody', input: 'x' }).catch((e) => e);
  tell('ended', {
    failed: failed.status,
    cancelled: [cancelled.status, cancelled.output_text],
    refused: [refused.constructor.name, refused.code],
  });
}

async function partsOf(result) {
  const parts = [];
  for await (const part of result.fullStream) parts.push(part);
  return parts;
}

async function withTheAiSdk() {
  const look = tool({
    description: 'Look.',
    inputSchema: jsonSchema(parameters),
    execute: async ({ place }) => `the ${place}`,
  });
  const asked = { model: provider('looker'), tools: { look }, stopWhen: stepCountIs(3) };
  const said = [{ role: 'user', content: 'sea sky' }];
  const result = streamText({ ...asked, instructions: 'Look well.', messages: said });
  const parts = await partsOf(result);
  const steps = await result.steps;
  said.push(...(await result.response).messages, { role: 'user', content: 'land' });
  const next = streamText({ ...asked, instructions: 'Look well.', messages: said });
  await partsOf(next);
  tell('aiSdk', {
    texts: [await result.text, await next.text],
    steps: steps.map((step) => step.finishReason),
    ids: steps.map((step) => step.response.id),
    next: (await next.steps).map((step) => step.response.id),
    errors: parts.filter((part) => part.type === 'error').map((part) => `${part.error}`),
  });
}

async function withToolsOfTheServer() {
  const result = streamText({ model: provider.responses('counter'), prompt: '2 + 2?' });
  const parts = await partsOf(result);
  const called = parts.find((part) => part.type === 'tool-call');
  const answered = parts.find((part) => part.type === 'tool-result');
  tell('aiSdkServerTools', {
    text: await result.text,
    reasoning: await result.reasoningText,
    call: [called.toolName, called.input],
    result: answered.output.output,
    reason: await result.finishReason,
    usage: (await result.usage).totalTokens > 0,
  });
}

async function withApprovals() {
  const model = provider.responses('keeper');
  const messages = [{ role: 'user', content: 'go' }];
  const asking = streamText({ model, messages });
  const request = (await partsOf(asking)).find((part) => part.type === 'tool-approval-request');
  messages.push(...(await asking.response).messages);
  const approvalId = request.approvalId;
  const response = { type: 'tool-approval-response', approvalId, approved: true, providerExecuted: true };
  messages.push({ role: 'tool', content: [response] });
  const going = streamText({ model, messages });
  await partsOf(going);
  tell('aiSdkApproval', { text: await going.text, tool: request.toolCall?.toolName });
}

async function withAFailure() {
  const errors = [];
  const onError = ({ error }) => errors.push(error.message ?? `${error}`);
  const result = streamText({ model: provider('broken'), prompt: 'x', onError, maxRetries: 0 });
  await partsOf(result);
  tell('aiSdkFailure', { errors, reason: await result.finishReason });
}

for (const look of [
  streamed,
  calledBack,
  resumed,
  ended,
  withTheAiSdk,
  withToolsOfTheServer,
  withApprovals,
  withAFailure,
]) {
  await look();
}
