// Chats of the AI SDK, driven line by line: reads commands as JSON lines, answers each with one.
// The clients are the real ones; only what React would keep, the state, is kept here.

import readline from 'node:readline';

const packages = { 6: 'ai-6', 7: 'ai' };
const chats = new Map();
const transports = new Map();

class State {
  constructor(changed) {
    this.current = { status: 'ready', error: undefined, messages: [] };
    this.changed = changed;
  }
  get status() { return this.current.status; }
  set status(value) { this.current.status = value; this.changed(); }
  get error() { return this.current.error; }
  set error(value) { this.current.error = value; this.changed(); }
  get messages() { return this.current.messages; }
  set messages(value) { this.current.messages = value; this.changed(); }
  pushMessage = (message) => { this.messages = [...this.messages, structuredClone(message)]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((m, i) => (i === index ? structuredClone(message) : m));
  };
  snapshot = (thing) => structuredClone(thing);
}

function shown(chat) {
  return {
    status: chat.status,
    error: chat.error?.message ?? null,
    messages: chat.messages,
    finished: chat.finished,
    called: chat.called,
    data: chat.data,
    most: chat.most,
    requests: chat.requests,
  };
}

async function create({ name, version, transport, url, chatId, auto, body, shared, messages }) {
  const ai = await import(packages[version]);
  const waiting = [];
  let chat;
  const changed = () => {
    if (!chat) return;
    chat.most = Math.max(chat.most, chat.messages.length);
    for (const [index, [test, done]] of [...waiting.entries()].reverse()) {
      if (test(chat)) { waiting.splice(index, 1); done(shown(chat)); }
    }
  };
  class Chat extends ai.AbstractChat {}
  const make = () => transport === 'ws'
    ? new ai.WebSocketChatTransport({ url, body })
    : new ai.DefaultChatTransport({
      api: url,
      body,
      fetch: (...asked) => { created.requests += 1; return fetch(...asked); },
    });
  let wire = shared ? transports.get(shared) : undefined;
  if (!wire) wire = make();
  if (shared) transports.set(shared, wire);
  const whole = {
    approvals: ai.lastAssistantMessageIsCompleteWithApprovalResponses,
    tools: ai.lastAssistantMessageIsCompleteWithToolCalls,
  };
  whole.either = (said) => whole.approvals(said) || whole.tools(said);
  const state = new State(changed);
  const created = new Chat({
    id: chatId,
    state,
    transport: wire,
    sendAutomaticallyWhen: auto ? whole[auto] : undefined,
    onToolCall: ({ toolCall }) => { created.called.push(toolCall.toolName); },
    onData: (part) => { created.data.push(part); },
    onFinish: ({ isAbort, isDisconnect, isError, finishReason }) => {
      created.finished.push({ isAbort, isDisconnect, isError, finishReason: finishReason ?? null });
      changed();
    },
    onError: () => {},
  });
  Object.assign(created, { called: [], data: [], finished: [], most: 0, requests: 0, running: [] });
  created.until = (test) => new Promise((done) => {
    if (test(created)) done(shown(created)); else waiting.push([test, done]);
  });
  created.start = (promise) => {
    const kept = promise.catch(() => {});
    created.running.push(kept);
  };
  created.ai = ai;
  chat = created;
  if (messages) state.messages = messages;
  chats.set(name, chat);
}

const verbs = {
  new: create,
  send: ({ name, text, messageId, body }) =>
    chats.get(name).start(chats.get(name).sendMessage({ text, messageId }, { body })),
  files: ({ name, files }) => chats.get(name).start(chats.get(name).sendMessage({ files })),
  regenerate: ({ name, messageId }) => chats.get(name).start(chats.get(name).regenerate({ messageId })),
  resume: ({ name }) => chats.get(name).start(chats.get(name).resumeStream()),
  stop: ({ name }) => chats.get(name).stop(),
  approve: ({ name, id, approved, reason }) =>
    chats.get(name).addToolApprovalResponse({ id, approved, reason }),
  output: ({ name, tool, toolCallId, ...rest }) =>
    chats.get(name).addToolOutput({ tool, toolCallId, ...rest }),
  settled: async ({ name }) => {
    const chat = chats.get(name);
    while (chat.running.length) await chat.running.shift();
    return shown(chat);
  },
  until: ({ name, text, finishes, status }) => chats.get(name).until((chat) =>
    (text === undefined || JSON.stringify(chat.messages).includes(text))
    && (status === undefined || chat.status === status)
    && (finishes === undefined || chat.finished.length >= finishes)),
  show: ({ name }) => shown(chats.get(name)),
  close: ({ shared }) => transports.get(shared).close(),
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { number, verb, ...rest } = JSON.parse(line);
  Promise.resolve().then(() => verbs[verb](rest)).then(
    (value) => console.log(JSON.stringify({ number, value: value ?? null })),
    (error) => console.log(JSON.stringify({ number, error: String(error?.stack ?? error) })),
  );
}
process.exit(0);
