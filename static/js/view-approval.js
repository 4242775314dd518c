// @ts-check
/**
 * @file A question that holds a run: to the human, about a tool call or a graph's node; or to
 * whoever has the tool that was called, for what came of it.
 */

import { element, icon, setAttribute } from "./dom.js";
import { layOut } from "./view-tool.js";
import { showValue } from "./view-value.js";

/** @typedef {import("./types.js").ApprovalItem} ApprovalItem */

/**
 * @typedef {{approval_id: string, decision: "approve" | "reject" | "edit" | "answer",
 *   arguments?: string, result?: any, message?: string}} Decision
 */

/** @type {Record<string, string>} */
const DECIDED = {
  approved: "Approved",
  rejected: "Rejected",
  edited: "Approved with changes",
  answered: "Answered",
  expired: "Expired without an answer",
};

const OF_CLIENT =
  "This is a tool of a client's. The run waits until one says what came of the call.";

/** Beyond so many lines the editor scrolls. */
const MOST_ROWS = 14;

/**
 * What is asked about, as one edits it: plain text as it is, anything else as JSON.
 * @param {string | null} json
 * @returns {{value: any, text: string, plain: boolean}}
 */
function read(json) {
  try {
    const value = JSON.parse(json ?? "");
    if (typeof value === "string") return { value, text: value, plain: true };
    return { value, text: layOut(json ?? ""), plain: false };
  } catch {
    return { value: json ?? "", text: json ?? "", plain: false };
  }
}

/**
 * @param {(item: ApprovalItem, decision: Decision) => Promise<void>} decide
 * @returns {import("./keyed.js").Shown<ApprovalItem>}
 */
export function showApproval(decide) {
  /** @type {ApprovalItem | null} */
  let current = null;
  let asked = read(null);
  const title = element("h3", {});
  const reason = element("p", { class: "approval-reason" });
  const shown = element("div", { class: "approval-value", "data-testid": "approval-value" });
  const problem = element("p", { class: "tool-error", role: "alert", hidden: true });
  const editor = element("textarea", {
    class: "approval-editor",
    "data-testid": "approval-arguments",
    spellcheck: "false",
    hidden: true,
  });
  const note = element("input", {
    class: "approval-note",
    "aria-label": "A note on your decision",
    placeholder: "Add a note (optional)",
    autocomplete: "off",
    "data-testid": "approval-message",
  });
  let editing = false;
  const edit = button("Edit", "edit", "button-quiet", () => {
    editing = true;
    draw();
    editor.rows = Math.min(Math.max(asked.text.split("\n").length + 3, 4), MOST_ROWS);
    editor.focus();
    editor.setSelectionRange(0, 0);
    editor.scrollTop = 0;
  });
  const approve = button("Approve", "approve", "button-primary", () => answer("approve"));
  const give = button("Answer", "answer", "button-primary", () => answer("answer"));
  const reject = button("Reject", "reject", "button-danger", () => answer("reject"));
  const actions = element("div", { class: "approval-actions" }, approve, give, reject, edit, note);
  const node = element(
    "section",
    { class: "card approval", "data-testid": "approval-card" },
    element("header", { class: "approval-header" }, icon("hand"), title),
    reason,
    shown,
    editor,
    problem,
    actions,
  );

  /** @param {"approve" | "reject" | "answer"} choice */
  async function answer(choice) {
    if (current === null) return;
    /** @type {Decision} */
    const decision = { approval_id: current.approvalId, decision: choice };
    if (note.value.trim() !== "") decision.message = note.value.trim();
    if (choice === "answer") decision.result = valueOf(editor.value);
    if (choice === "approve" && editing && editor.value !== asked.text) {
      const edited = asked.plain ? JSON.stringify(editor.value) : editor.value;
      if (!isJson(edited)) {
        problem.textContent = "The arguments are not valid JSON.";
        problem.hidden = false;
        editor.focus();
        return;
      }
      decision.decision = "edit";
      decision.arguments = edited;
    }
    problem.hidden = true;
    setBusy(true);
    try {
      await decide(current, decision);
    } finally {
      setBusy(false);
    }
  }

  /** @param {boolean} busy */
  function setBusy(busy) {
    for (const one of [approve, give, reject, edit, note]) one.disabled = busy;
  }

  function draw() {
    if (current === null) return;
    const open = current.decision === null;
    const wantsResult = current.wants === "result";
    const known = current.arguments !== null && !wantsResult;
    // The card of a call shows its arguments already.
    shown.hidden = !open || !known || current.callId !== null || editing;
    editor.hidden = !open || !(wantsResult || (known && editing));
    edit.hidden = !known || editing;
    approve.hidden = wantsResult;
    give.hidden = !wantsResult;
    actions.hidden = !open;
  }

  return {
    node,
    update(item) {
      if (current === null && item.wants === "result") {
        editor.rows = 3;
        editor.placeholder = "The result: JSON, or text";
        setAttribute(editor, "aria-label", "Result");
      } else if (item.wants === null && item.arguments !== current?.arguments) {
        asked = read(item.arguments);
        editor.value = asked.text;
        setAttribute(editor, "aria-label", asked.plain ? "Text" : "Arguments as JSON");
        shown.replaceChildren(showValue(asked.value));
      }
      current = item;
      const open = item.decision === null;
      const what = item.tool ?? (item.node === null ? "this step" : `step ${item.node}`);
      setAttribute(node, "data-status", item.decision ?? "waiting");
      setAttribute(node, "aria-label", `Approval for ${what}`);
      title.textContent = open
        ? needs(what, item)
        : `${DECIDED[item.decision ?? ""]}: ${what}`;
      const asksClient = open && item.wants === "result";
      reason.textContent = item.message ?? (asksClient ? OF_CLIENT : (item.reason ?? ""));
      reason.hidden = reason.textContent === "";
      draw();
    },
  };
}

/**
 * @param {string} what A tool's name, or a step.
 * @param {ApprovalItem} item
 * @returns {string}
 */
function needs(what, { tool, wants }) {
  if (wants === "result") return `${what} waits for its result`;
  if (tool !== null) return `${what} needs your approval`;
  return `${what.charAt(0).toUpperCase()}${what.slice(1)} needs your decision`;
}

/**
 * @param {string} text What was typed.
 * @returns {any} What it means: JSON, or else the text itself.
 */
function valueOf(text) {
  return isJson(text) ? JSON.parse(text) : text;
}

/**
 * @param {string} text
 * @returns {boolean}
 */
function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {string} label
 * @param {string} testId
 * @param {string} style
 * @param {() => void} click
 */
function button(label, testId, style, click) {
  return element("button", { type: "button", class: style, "data-testid": testId, click }, label);
}
