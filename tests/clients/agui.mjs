// Drives a stock AG-UI client: node agui.mjs <package> <url> <scene>…; prints a line of JSON for each.
const [packageName, url, ...chosen] = process.argv.slice(2);
const { HttpAgent } = await import(packageName);

process.on("unhandledRejection", (error) => told("unhandled", { error: String(error) }));
console.warn = (...words) => told("warning", { words: words.map(String).join(" ") });
console.error = (...words) => told("problem", { words: words.map(String).join(" ") });

function told(name, facts) {
  process.stdout.write(`${JSON.stringify({ name, ...facts })}\n`);
}

/** An agent that can also join: what `connectAgent` asks of a client. */
class Joining extends HttpAgent {
  connect(input) {
    return new HttpAgent({ url: `${this.url}/connect` }).run(input);
  }
}

let threads = 0;
function agent(name, threadId = `${packageName.replaceAll("/", "-")}/${++threads}`) {
  const made = new Joining({ url: `${url}/agui/${name}`, threadId });
  made.events = [];
  made.subscribe({
    onEvent: ({ event }) => {
      made.events.push(event);
    },
  });
  return made;
}

let said = 0;
function user(made, content) {
  made.addMessage({ id: `user-${++said}`, role: "user", content });
  return made;
}

async function post(path, body) {
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

const facts = (made) => ({
  events: made.events,
  messages: made.messages,
  state: made.state,
  interrupts: made.pendingInterrupts,
});

/** Resolves at the first event for which `test` holds. */
function seen(made, test) {
  return new Promise((resolve) => {
    made.subscribe({
      onEvent: ({ event, messages }) => {
        if (test(event, messages)) resolve(event);
      },
    });
  });
}

const spoke = (event) => event.type === "TEXT_MESSAGE_CONTENT";
const open = () => user(agent("opener"), "open it").runAgent();
const tools = [
  {
    name: "pick_colour",
    description: "Lets the user pick a colour.",
    parameters: { type: "object", properties: { of: { type: "string" } } },
  },
];

const scenes = {
  async text() {
    const made = user(agent("talker"), "hi");
    const { result, newMessages } = await made.runAgent();
    user(made, "and again");
    await made.runAgent();
    return { ...facts(made), result, newMessages };
  },

  async tools() {
    const made = user(agent("adder"), "2 and 2?");
    await made.runAgent();
    return facts(made);
  },

  async frontend() {
    const made = user(agent("painter"), "paint it");
    let pending;
    made.subscribe({
      onRunFinishedEvent: (params) => {
        pending ??= params.pendingToolCallIds ?? null;
      },
    });
    await made.runAgent({ tools });
    const call = made.messages.at(-1).toolCalls[0];
    const args = JSON.parse(call.function.arguments);
    made.addMessage({ id: "picked", role: "tool", toolCallId: call.id, content: "green" });
    await made.runAgent({ tools });
    return { ...facts(made), pending, args };
  },

  async goOn() {
    const made = user(agent("painter"), "paint it");
    await made.runAgent({ tools });
    user(made, "never mind");
    await made.runAgent({ tools });
    return facts(made);
  },

  async approve() {
    const made = user(agent("payer"), "pay");
    await made.runAgent();
    const asked = made.pendingInterrupts;
    const resume = [{ interruptId: asked[0].id, status: "resolved", payload: { approved: true } }];
    await made.runAgent({ resume });
    return { ...facts(made), asked };
  },

  async edit() {
    const made = user(agent("payer"), "pay");
    await made.runAgent();
    const payload = { approved: true, editedArgs: { amount: 1 } };
    const [{ id }] = made.pendingInterrupts;
    await made.runAgent({ resume: [{ interruptId: id, status: "resolved", payload }] });
    return facts(made);
  },

  async dismiss() {
    const made = user(agent("payer"), "pay");
    await made.runAgent();
    const [{ id }] = made.pendingInterrupts;
    await made.runAgent({ resume: [{ interruptId: id, status: "cancelled" }] });
    return facts(made);
  },

  async approveElsewhere() {
    const made = user(agent("payer"), "pay");
    await made.runAgent();
    const other = agent("payer", made.threadId);
    await other.connectAgent();
    const asked = other.pendingInterrupts;
    await other.runAgent({
      resume: [{ interruptId: asked[0].id, status: "resolved", payload: true }],
    });
    return { ...facts(other), asked };
  },

  async failure() {
    const made = user(agent("broken"), "hi");
    let error;
    made.subscribe({
      onRunErrorEvent: ({ event }) => {
        error = event;
      },
    });
    await made.runAgent();
    return { ...facts(made), error };
  },

  async refused() {
    const refusals = [];
    for (const name of ["nobody", "talker"]) {
      try {
        await agent(name).runAgent();
      } catch (error) {
        refusals.push(String(error));
      }
    }
    return { refusals };
  },

  async graph() {
    const made = user(agent("counting"), "count");
    await made.runAgent();
    return facts(made);
  },

  async team() {
    const made = user(agent("boss"), "find out");
    await made.runAgent();
    return facts(made);
  },

  async retry() {
    const made = user(agent("retrying"), "write");
    await made.runAgent();
    const idle = agent("retrying", made.threadId);
    await idle.connectAgent();
    return { ...facts(made), idle: idle.messages };
  },

  async stop() {
    const made = user(agent("gated"), "wait");
    const speaking = seen(made, spoke);
    const running = made.runAgent({ runId: `stop-${packageName}` });
    await speaking;
    const body = { threadId: made.threadId, runId: `stop-${packageName}` };
    const stopped = await post("/agui/gated/stop", body);
    await running;
    const twice = await post("/agui/gated/stop", body);
    return { ...facts(made), stopped, twice };
  },

  async stopFirst() {
    const made = user(agent("talker"), "wait");
    const body = { threadId: made.threadId, runId: `first-${packageName}` };
    const stopped = await post("/agui/talker/stop", body);
    await made.runAgent({ runId: body.runId });
    return { ...facts(made), stopped };
  },

  async reconnect() {
    const made = user(agent("gated"), "wait");
    const speaking = seen(made, spoke);
    const running = made.runAgent();
    await speaking;
    const other = agent("gated", made.threadId);
    const joined = seen(other, spoke);
    const watching = other.connectAgent();
    const first = await joined;
    await open();
    await Promise.all([running, watching]);
    const idle = agent("gated", made.threadId);
    await idle.connectAgent();
    return {
      ...facts(other),
      first,
      there: made.messages,
      idle: { messages: idle.messages, events: idle.events },
    };
  },

  async cut() {
    const made = user(agent("gated"), "wait");
    let error;
    made.subscribe({
      onRunErrorEvent: ({ event }) => {
        error = event;
      },
    });
    const speaking = seen(made, spoke);
    const running = made.runAgent();
    await speaking;
    told("speaking", {});
    await running;
    return { ...facts(made), error };
  },
};

for (const name of chosen) told(name, await scenes[name]());
