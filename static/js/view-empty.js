// @ts-check
/** @file What a session without messages shows: the agents, and something to try with each. */

import { element, icon } from "./dom.js";
import { badgeOf } from "./view-composer.js";

/** @typedef {import("./types.js").AgentInfo} AgentInfo */

/** @type {Record<string, string[]>} Something to try, for the built-in agents. */
const SUGGESTIONS = {
  assistant: ["Tell me a short story about the sea", "Explain tides in two sentences"],
  echo: ["The tide rises, the tide falls", "Stream these words back to me, one by one"],
  tools: ["weather in Oslo and Rome", "delete notes.txt"],
  research: ["How do tides work?", "Why is the sea salty?"],
};

/** For agents that a user registered. */
const GENERAL = ["What can you do?"];

/**
 * @param {HTMLElement} place
 * @param {(agent: string, text: string) => void} start
 */
export function emptyView(place, start) {
  return {
    /** @param {readonly AgentInfo[]} agents */
    offer(agents) {
      place.replaceChildren(...agents.map((agent) => card(agent, start)));
    },
  };
}

/**
 * @param {AgentInfo} agent
 * @param {(agent: string, text: string) => void} start
 */
function card(agent, start) {
  const badge = badgeOf(agent);
  return element(
    "section",
    { class: "agent-card", "data-agent": agent.name },
    element(
      "header",
      {},
      element("h3", {}, agent.name),
      element("span", { class: "badge", "data-kind": badge.toLowerCase() }, badge),
    ),
    element("p", {}, agent.description),
    element(
      "div",
      { class: "suggestions" },
      ...(SUGGESTIONS[agent.name] ?? GENERAL).map((text) =>
        element(
          "button",
          {
            type: "button",
            class: "suggestion",
            "data-testid": "suggestion",
            click: () => start(agent.name, text),
          },
          element("span", {}, text),
          icon("arrow"),
        ),
      ),
    ),
  );
}
