// @ts-check
/** @file A question to the human that holds a run. */

import { element, icon, setAttribute } from "./dom.js";
import { layOut } from "./view-tool.js";

/** @typedef {import("./types.js").ApprovalItem} ApprovalItem */

/**
 * @typedef {{approval_id: string, decision: "approve" | "reject" | "edit", arguments?: string}}
 *   Decision
 */

/** @type {Record<string, string>} */
const DECIDED = {
  approved: "Approved",
  rejected: "Rejected",
  edited: "Approved with other arguments",
  expired: "Expired without an answer",
};

/**
 * @param {(item: ApprovalItem, decision: Decision) => Promise<void>} decide
 * @returns {import("./keyed.js").Shown<ApprovalItem>}
 */
export function showApproval(decide) {
  /** @type {ApprovalItem | null} */
  let current = null;
  const title = element("h3", {});
  const reason = element("p", { class: "approval-reason" });
  const problem = element("p", { class: "tool-error", role: "alert", hidden: true });
  const editor = element("textarea", {
    class: "approval-editor",
    "aria-label": "Arguments as JSON",
    "data-testid": "approval-arguments",
    rows: "4",
    spellcheck: "false",
    readonly: true,
  });
  const edit = button("Edit", "edit", "button-quiet", () => {
    editor.readOnly = false;
    editor.hidden = false;
    edit.hidden = true;
    editor.focus();
  });
  const approve = button("Approve", "approve", "button-primary", () => answer("approve"));
  const reject = button("Reject", "reject", "button-danger", () => answer("reject"));
  const actions = element("div", { class: "approval-actions" }, approve, reject, edit);
  const node = element(
    "section",
    { class: "card approval", "data-testid": "approval-card" },
    element("header", { class: "approval-header" }, icon("hand"), title),
    reason,
    editor,
    problem,
    actions,
  );

  /** @param {"approve" | "reject"} choice */
  async function answer(choice) {
    if (current === null) return;
    /** @type {Decision} */
    const decision = { approval_id: current.approvalId, decision: choice };
    if (choice === "approve" && editor.value !== layOut(current.arguments ?? "")) {
      try {
        JSON.parse(editor.value);
      } catch {
        problem.textContent = "The arguments are not valid JSON.";
        problem.hidden = false;
        editor.focus();
        return;
      }
      decision.decision = "edit";
      decision.arguments = editor.value;
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
    for (const one of [approve, reject, edit]) one.disabled = busy;
  }

  return {
    node,
    update(item) {
      if (item.arguments !== current?.arguments) editor.value = layOut(item.arguments ?? "");
      current = item;
      const open = item.decision === null;
      const what = item.tool ?? "This step";
      setAttribute(node, "data-status", item.decision ?? "waiting");
      setAttribute(node, "aria-label", `Approval for ${what}`);
      title.textContent = open
        ? `${what} needs your approval`
        : `${DECIDED[item.decision ?? ""]}: ${what}`;
      reason.textContent = item.message ?? item.reason ?? "";
      reason.hidden = reason.textContent === "";
      // The card of the call above shows the arguments already.
      const shownAbove = item.callId !== null && editor.readOnly;
      editor.hidden = !open || item.arguments === null || shownAbove;
      edit.hidden = item.arguments === null || !editor.readOnly;
      actions.hidden = !open;
    },
  };
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
