// @ts-check
/** @file Messages and reasoning in the conversation. */

import { element, icon, setAttribute, setText } from "./dom.js";

/** @typedef {import("./types.js").MessageItem} MessageItem */
/** @typedef {import("./types.js").ReasoningItem} ReasoningItem */

/** @type {Record<string, string>} */
const MARKS = {
  incomplete: "Stopped before the end",
  superseded: "Cut off, and said anew below",
};

/**
 * @param {MessageItem} item
 * @returns {import("./keyed.js").Shown<MessageItem>}
 */
export function showMessage(item) {
  const isUser = item.role === "user";
  const text = document.createTextNode("");
  const speaker = document.createTextNode("");
  const mark = element("p", { class: "mark", hidden: true });
  const node = element(
    "article",
    {
      class: `message message-${isUser ? "user" : "assistant"}`,
      "data-testid": "message",
      "data-role": item.role,
      "data-message-id": item.messageId,
    },
    !isUser && element("span", { class: "avatar" }, icon("wave")),
    element(
      "div",
      { class: "message-body" },
      element("h3", { class: isUser ? "visually-hidden" : "speaker" }, speaker),
      element("p", { class: "message-text", "data-testid": "message-text" }, text),
      mark,
    ),
  );
  return {
    node,
    update({ status, text: words, agent }) {
      setAttribute(node, "data-status", status);
      setText(speaker, isUser ? "You" : (agent ?? "Assistant"));
      setText(text, words);
      const marked = MARKS[status];
      setAttribute(mark, "hidden", marked === undefined);
      mark.textContent = marked ?? "";
    },
  };
}

/** @returns {import("./keyed.js").Shown<ReasoningItem>} */
export function showReasoning() {
  const text = document.createTextNode("");
  const label = document.createTextNode("");
  const node = element(
    "details",
    { class: "reasoning", "data-testid": "reasoning" },
    element("summary", {}, label),
    element("p", { class: "message-text" }, text),
  );
  return {
    node,
    update(item) {
      setAttribute(node, "data-status", item.status);
      setText(label, item.status === "streaming" ? "Reasoning…" : "Reasoning");
      setText(text, item.text);
    },
  };
}
