// Drives a server with npm's openai and @ai-sdk/openai; prints one line of JSON for each check.
// Usage: chat.mjs <base url> ; the agents are those of tests/support/chat_site.py.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

const url = process.argv[2];
const say = (name, value) => console.log(JSON.stringify({ name, ...value }));
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any" });
const user = (content) => [{ role: "user", content }];
const look = {
  type: "function",
  function: {
    name: "look",
    parameters: { type: "object", properties: { place: { type: "string" } } },
  },
};

// --- openai ------------------------------------------------------------------------------------

const models = [];
for await (const model of client.models.list()) models.push(model.id);
say("models", { models });

const whole = await client.chat.completions.create({ model: "counter", messages: user("2+2") });
say("whole", { content: whole.choices[0].message.content, usage: whole.usage.total_tokens });

const stream = await client.chat.completions.create({
  model: "counter",
  messages: user("2+2"),
  stream: true,
  stream_options: { include_usage: true },
});
let said = "";
let usage = 0;
const reasons = [];
for await (const chunk of stream) {
  said += chunk.choices[0]?.delta.content ?? "";
  if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
  usage = chunk.usage?.total_tokens ?? usage;
}
say("stream", { content: said, usage, reasons });

const runner = client.chat.completions.runTools({
  model: "looker",
  messages: user("north south"),
  stream: true,
  tools: [
    {
      type: "function",
      function: {
        ...look.function,
        parse: JSON.parse,
        function: ({ place }) => `the ${place}`,
      },
    },
  ],
});
say("runTools", { content: await runner.finalContent() });

const refused = async (body) => {
  try {
    await client.chat.completions.create(body);
    return { error: null };
  } catch (error) {
    return { error: error.constructor.name, status: error.status, code: error.code };
  }
};
say("unknown", await refused({ model: "nobody", messages: user("x") }));
say("refused", await refused({ model: "counter", messages: user("x"), n: 2 }));
say("failed", await refused({ model: "broken", messages: user("x") }));
try {
  const broken = await client.chat.completions.create({
    model: "broken",
    messages: user("x"),
    stream: true,
  });
  for await (const chunk of broken) said = chunk.choices[0]?.delta.content ?? said;
  say("broken", { error: null });
} catch (error) {
  say("broken", { error: error.constructor.name, code: error.code, said });
}

const aborted = await client.chat.completions.create({
  model: "gated",
  messages: user("x"),
  stream: true,
});
for await (const chunk of aborted) if (chunk.choices[0]?.delta.content === "Hello") break;
say("aborted", {});

// --- ai and @ai-sdk/openai ---------------------------------------------------------------------

const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey: "any" });
const tools = {
  look: tool({
    inputSchema: jsonSchema(look.function.parameters),
    execute: async ({ place }) => `the ${place}`,
  }),
};

const generated = await generateText({ model: provider.chat("counter"), prompt: "2+2" });
say("generateText", {
  content: generated.text,
  reason: generated.finishReason,
  usage: generated.usage.totalTokens,
});

const trip = await generateText({
  model: provider.chat("looker"),
  prompt: "north south",
  tools,
  stopWhen: stepCountIs(3),
});
say("generateText tools", { content: trip.text, steps: trip.steps.length });

const streamed = streamText({
  model: provider.chat("looker"),
  prompt: "north south",
  tools,
  stopWhen: stepCountIs(3),
  onError: () => {},
});
const kinds = [];
let text = "";
for await (const part of streamed.fullStream) {
  if (kinds.at(-1) !== part.type) kinds.push(part.type);
  if (part.type === "text-delta") text += part.text;
}
say("streamText tools", { content: text, kinds, reason: await streamed.finishReason });

const failing = streamText({
  model: provider.chat("broken"),
  prompt: "x",
  maxRetries: 0,
  onError: () => {},
});
const problems = [];
for await (const part of failing.fullStream) {
  if (part.type === "error") problems.push(String(part.error?.message ?? part.error));
}
say("streamText broken", { problems, reason: await failing.finishReason.catch(() => "none") });

const controller = new AbortController();
const stopped = streamText({
  model: provider.chat("gated"),
  prompt: "x",
  abortSignal: controller.signal,
  onError: () => {},
});
for await (const part of stopped.fullStream) {
  if (part.type === "text-delta") controller.abort();
}
say("streamText aborted", {});
