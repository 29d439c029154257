// Pieces that both views show.

import { refusal } from "./dialog.js";
import { h } from "./dom.js";
import { OUTCOMES, number } from "./words.js";

export const badge = (outcome) => h("span", { class: `badge ${outcome}` }, OUTCOMES[outcome] ?? outcome);

export function trouble(error, again) {
  return h("div", { class: "note bad", role: "alert" },
    h("strong", {}, "This cannot be shown."),
    h("p", {}, refusal(error)),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

export function progress({ sent, total }) {
  const text = `${number(sent)} of ${number(total)} sent`;
  return h("span", { class: "sub" }, h("progress", { value: sent, max: Math.max(total, 1), "aria-label": text }), text);
}
