// @ts-check
/** @file Where one types, picks an agent, sends and stops. */

import { element } from "./dom.js";

/** @typedef {import("./types.js").AgentInfo} AgentInfo */

/**
 * The built-in scripted agents say so with the first word of their description.
 * @param {AgentInfo} agent
 * @returns {boolean}
 */
function isScripted({ description }) {
  return /^scripted\b/i.test(description);
}

/**
 * @param {AgentInfo} agent
 * @returns {string} What it is, in a word.
 */
export function badgeOf(agent) {
  if (isScripted(agent)) return "Scripted";
  return agent.kind === "graph" ? "Graph" : "Model";
}

/** @type {Record<string, string>} What will become of a text that is sent while a run is active. */
const WHILE_ACTIVE = {
  enqueue: "Write on: it waits for its turn",
  steer: "Write on: the agent sees it before its next step",
  interrupt: "Write on: it stops the answer and takes its place",
  rollback: "Write on: it takes the place of the turn, as if that had not been",
};

/**
 * @param {{form: HTMLFormElement, input: HTMLTextAreaElement, mirror: HTMLElement,
 *   agents: HTMLSelectElement, note: HTMLElement, policy: HTMLSelectElement,
 *   send: HTMLButtonElement, stop: HTMLButtonElement}} places
 * @param {{send: (text: string, policy: string) => void, stop: () => void, pick: (agent: string) => void}} actions
 */
export function composerView(places, actions) {
  const { form, input, mirror, agents, note, policy, send, stop } = places;
  /** @type {readonly AgentInfo[]} */
  let known = [];

  function resize() {
    // The mirror has the same text in the same place of a grid, so it gives the row its height.
    mirror.textContent = `${input.value}\n`;
    send.disabled = input.value.trim() === "";
  }

  function describe() {
    const agent = known.find(({ name }) => name === agents.value);
    note.textContent = agent === undefined ? "" : badgeOf(agent);
    note.dataset.kind = note.textContent.toLowerCase();
    note.title = agent?.description ?? "";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text === "") return;
    setInput("");
    actions.send(text, policy.hidden ? "enqueue" : policy.value);
  });
  input.addEventListener("keydown", (event) => {
    // While a word is being composed (Japanese, Chinese …), Enter belongs to the input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  input.addEventListener("input", resize);
  stop.addEventListener("click", () => {
    actions.stop();
    input.focus();
  });
  policy.addEventListener("change", () => {
    input.placeholder = WHILE_ACTIVE[policy.value];
  });
  agents.addEventListener("change", () => {
    describe();
    actions.pick(agents.value);
  });

  /** @param {string} text */
  function setInput(text) {
    input.value = text;
    resize();
  }

  resize();
  return {
    focus: () => input.focus(),
    /** Give back a text that could not be sent, unless something new was typed meanwhile. */
    giveBack: (/** @type {string} */ text) => input.value === "" && setInput(text),
    /** @param {readonly AgentInfo[]} list */
    offer(list) {
      known = list;
      agents.replaceChildren(
        ...list.map(({ name, description }) =>
          element("option", { value: name, title: description }, name),
        ),
      );
      describe();
    },
    /** @param {{agent: string | null, active: boolean, closed: boolean}} now */
    render({ agent, active, closed }) {
      if (agent !== null && agents.value !== agent) {
        agents.value = agent;
        describe();
      }
      stop.hidden = policy.hidden = !active;
      if (!active) policy.value = "enqueue"; // what was chosen was for that run
      input.disabled = closed;
      input.placeholder = closed
        ? "This session is closed"
        : active
          ? WHILE_ACTIVE[policy.value]
          : "Write a message";
      if (closed) send.disabled = true;
    },
  };
}
