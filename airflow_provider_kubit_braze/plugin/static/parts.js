// Pieces that both views show.

import { refusal } from "./dialog.js";
import { h } from "./dom.js";
import { OUTCOMES, number } from "./words.js";

export const badge = (outcome) => h("span", { class: `badge ${outcome}` }, OUTCOMES[outcome] ?? outcome);

// `hidden` says what a person without the right to it cannot see.
export function trouble(error, again, hidden) {
  return h("div", { class: "note bad", role: "alert" },
    h("strong", {}, "This cannot be shown."),
    h("p", {}, error.status === 403 && hidden ? hidden : refusal(error)),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

export function progress({ sent, total }) {
  const text = `${number(sent)} of ${number(total)} sent`;
  return h("span", { class: "sub" }, h("progress", { value: sent, max: Math.max(total, 1), "aria-label": text }), text);
}

export const facts = (rows) =>
  h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

const TABS = [["history", "History", ""], ["impact", "Impact", "/impact"]];

// The views of one cohort.
export function tabs(id, current) {
  return h("nav", { class: "tabs", "aria-label": "Views of this cohort" }, TABS.map(([name, text, end]) =>
    h("a", { href: `#/cohort/${encodeURIComponent(id)}${end}`, "aria-current": name === current ? "page" : null }, text)));
}
