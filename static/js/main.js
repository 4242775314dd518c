// @ts-check
/** @file Wires the page together: elements of `index.html` ↔ views ↔ the app. */

import { announcer } from "./announce.js";
import { App } from "./app.js";
import { batched, byId } from "./dom.js";
import { drawer } from "./drawer.js";
import { readTransport, rememberTransport } from "./preference.js";
import { composerView } from "./view-composer.js";
import { confirmation } from "./view-confirm.js";
import { connectionView } from "./view-connection.js";
import { emptyView } from "./view-empty.js";
import { headingView } from "./view-heading.js";
import { inspectorView } from "./view-inspector.js";
import { sessionsView, titleOf } from "./view-sessions.js";
import { timelineView } from "./view-timeline.js";
import { toasts } from "./view-toast.js";

/** How often the list of sessions is fetched while the page is looked at, in milliseconds. */
const LIST_EVERY_MS = 15_000;

/** After this long out of sight, in milliseconds, a connection may be dead without our knowing. */
const LONG_HIDDEN_MS = 30_000;

const report = toasts(byId("toasts", HTMLElement));
const render = batched(renderAll);
const app = new App(readTransport(), {
  onChange: render,
  onFrame: (frame) => inspector.add(frame),
  onOpen: () => {
    inspector.reset();
    timeline.start();
  },
  report,
  navigate: (sessionId) => {
    location.hash = sessionId === null ? "#/" : `#/s/${sessionId}`;
  },
});

const announce = announcer(byId("announcer", HTMLElement));
const heading = headingView({
  title: byId("title", HTMLElement),
  status: byId("run-status", HTMLElement),
  usage: byId("usage", HTMLElement),
});
const inspector = inspectorView({
  list: byId("events", HTMLElement),
  filter: byId("event-filter", HTMLInputElement),
  types: byId("event-types", HTMLDataListElement),
  count: byId("event-count", HTMLElement),
  clear: byId("event-clear", HTMLButtonElement),
});
const composer = composerView(
  {
    form: byId("composer-form", HTMLFormElement),
    input: byId("composer", HTMLTextAreaElement),
    mirror: byId("composer-mirror", HTMLElement),
    agents: byId("agent-select", HTMLSelectElement),
    note: byId("agent-note", HTMLElement),
    policy: byId("policy", HTMLSelectElement),
    send: byId("send", HTMLButtonElement),
    stop: byId("stop", HTMLButtonElement),
  },
  {
    send,
    stop: () => app.stop(),
    pick: (agent) => {
      app.picked = agent;
      render();
    },
  },
);
const empty = emptyView(byId("agent-cards", HTMLElement), (agent, text) => {
  app.picked = agent;
  send(text);
  composer.focus();
});
const timeline = timelineView(
  {
    log: byId("log", HTMLElement),
    items: byId("items", HTMLElement),
    waiting: byId("waiting", HTMLElement),
    footer: byId("footer", HTMLElement),
    jump: byId("jump", HTMLElement),
  },
  {
    decide: ({ runId }, decision) => app.decide(runId, decision),
    proceed: () => app.proceed(),
    queue: {
      drop: (runId) => app.editQueue({ drop: [runId] }),
      order: (runIds) => app.editQueue({ order: runIds }),
      focus: () => composer.focus(),
    },
  },
);
const connection = connectionView(
  {
    pill: byId("connection-pill", HTMLElement),
    state: byId("connection-state", HTMLElement),
    over: byId("connection-over", HTMLElement),
    sentence: byId("connection-sentence", HTMLElement),
    cursor: byId("cursor", HTMLElement),
    seq: byId("seq", HTMLElement),
    attempt: byId("attempt", HTMLElement),
    reconnects: byId("reconnects", HTMLElement),
    duplicates: byId("duplicates", HTMLElement),
    copy: byId("cursor-copy", HTMLButtonElement),
    cut: byId("cut", HTMLButtonElement),
    transports: {
      sse: byId("transport-sse", HTMLButtonElement),
      websocket: byId("transport-websocket", HTMLButtonElement),
    },
  },
  {
    choose: (transport) => {
      rememberTransport(transport);
      app.choose(transport);
    },
    cut: () => app.session?.cut(),
    copy: (text) =>
      navigator.clipboard?.writeText(text).then(
        () => report("Cursor copied.", "note"),
        () => report("The browser does not allow copying."),
      ),
  },
);
const confirm = confirmation(byId("confirm", HTMLDialogElement));
const sessions = sessionsView(
  {
    list: byId("session-list", HTMLElement),
    empty: byId("session-empty", HTMLElement),
    more: byId("session-more", HTMLElement),
  },
  async (session) => {
    if (await confirm(titleOf(session))) await app.remove(session.session_id);
  },
);

const shade = byId("shade", HTMLElement);
const chat = byId("chat", HTMLElement);
const sessionsPanel = byId("sessions", HTMLElement);
const connectionPanel = byId("connection", HTMLElement);
const drawers = [
  drawer("sessions", sessionsPanel, toggles("sessions"), shade, [chat, connectionPanel]),
  drawer("connection", connectionPanel, toggles("connection"), shade, [chat, sessionsPanel]),
];

/**
 * @param {string} panel
 * @returns {HTMLElement[]} The buttons that open and close it.
 */
function toggles(panel) {
  return [
    .../** @type {NodeListOf<HTMLElement>} */ (
      document.querySelectorAll(`[data-toggle="${panel}"]`)
    ),
  ];
}

/**
 * @param {string} text
 * @param {string} [policy] What becomes of the active run.
 */
async function send(text, policy) {
  timeline.follow();
  if (!(await app.send(text, policy))) composer.giveBack(text);
}

function renderAll() {
  const { session, transport, outgoing } = app;
  const state = session?.state ?? null;
  const status = session?.connection ?? null;
  const started = state !== null && (state.items.length > 0 || state.queue.length > 0);
  const lost = session !== null && state === null && status?.state === "stopped";
  const blank = session === null || (state !== null && !started && outgoing.length === 0);
  byId("empty", HTMLElement).hidden = !blank;
  byId("lost", HTMLElement).hidden = !lost;
  byId("lost-reason", HTMLElement).textContent = lost ? (status.reason ?? "") : "";
  byId("conversation", HTMLElement).hidden = state === null || blank;
  if (state !== null) timeline.render(state, outgoing);
  heading.render(state, session === null);
  connection.render(status, transport, state);
  sessions.render(app.sessions, session?.sessionId ?? null, app.next !== null);
  composer.render({
    agent: app.agent,
    active: app.active,
    closed: state?.status === "closed" || lost,
  });
  inspector.render();
  announce.render(state, status);
}

function openFromAddress() {
  const match = /^#\/s\/([A-Za-z0-9_-]{1,64})$/.exec(location.hash);
  app.open(match === null ? null : match[1]);
  for (const { closeIfAbove } of drawers) closeIfAbove();
}

for (const id of ["new-session", "lost-new"]) {
  byId(id, HTMLElement).addEventListener("click", () => {
    location.hash = "#/";
    openFromAddress();
    composer.focus();
  });
}
byId("session-more", HTMLElement).addEventListener("click", () => app.loadMore());
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return;
  const above = drawers.find(({ isAbove }) => isAbove());
  if (above !== undefined) above.closeIfAbove();
  else if (app.active && document.querySelector("dialog[open]") === null) app.stop();
});
window.addEventListener("hashchange", openFromAddress);
window.addEventListener("online", () => app.session?.networkChanged());
window.addEventListener("offline", () => app.session?.networkChanged());
let hiddenAt = 0;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    hiddenAt = performance.now();
    return;
  }
  if (performance.now() - hiddenAt > LONG_HIDDEN_MS) app.session?.refresh();
  else app.session?.networkChanged();
  app.refreshSessions();
});
setInterval(() => document.hidden || refresh(), LIST_EVERY_MS);

async function refresh() {
  app.refreshSessions();
  if (app.agents.length > 0) return;
  await app.loadAgents();
  composer.offer(app.agents);
  empty.offer(app.agents);
  timeline.offer(app.agents);
}

openFromAddress();
refresh();
