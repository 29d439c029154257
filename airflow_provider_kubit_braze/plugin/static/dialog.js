// The dialog of "Import now": what can be chosen, and what will happen then.

import { setPaused, trigger } from "./api.js";
import { h, say } from "./dom.js";
import { whatWillHappen } from "./words.js";

const OPTIONS = [
  ["dry_run", "Dry run", "Count what would be added and removed, and send nothing."],
  ["full_resync", "Full resync", "Send every member once more, also those Braze already has. Costs data points."],
  ["override_guards", "Override guards", "Let this one import pass, whatever the guards say."],
  ["undo", "Undo the last import", "Do not import; take back what the last import did."],
];

const CONTRARY =
  "An import was due while this cohort was paused, and Airflow does that one first, for real, when the schedule goes on. " +
  "Use kubit-braze preview, or kubit-braze undo, on the command line instead.";

export function refusal(error) {
  if (error.status === 401) return "Your session has ended. Log in to Airflow again, then come back to this page.";
  if (error.status === 403) return "Airflow does not let you do this: your role may look at cohorts, not change them.";
  if (error.status === 404) return "Airflow does not know this cohort, or does not show it to you.";
  return error.message;
}

export function askForImport(cohort, started) {
  const chosen = {};
  const will = h("p", { role: "status" });
  const wrong = h("p", { class: "note bad", role: "alert", hidden: true });
  const go = h("button", { type: "button", class: "first" });
  const boxes = new Map(OPTIONS.map(([name]) => [name, h("input", { type: "checkbox", id: `option-${name}` })]));
  const resume = h("input", { type: "checkbox", id: "option-resume" });

  function update() {
    for (const [name, box] of boxes) chosen[name] = box.checked;
    // Braze cannot be told both, so only one of them can be chosen.
    boxes.get("full_resync").disabled = chosen.undo;
    boxes.get("undo").disabled = chosen.full_resync;
    will.textContent = whatWillHappen(chosen, cohort);
    go.textContent = chosen.dry_run ? "Start dry run" : chosen.undo ? "Undo now" : "Import now";
    const contrary = cohort.missed && (chosen.dry_run || chosen.undo);
    if (contrary) will.textContent = CONTRARY;
    go.disabled = contrary || (cohort.paused && !resume.checked);
  }

  const paused = cohort.paused && h("div", { class: "note warn" },
    h("p", {}, "This cohort is paused, and Airflow starts nothing of a paused cohort. Its schedule has to go on first."),
    cohort.missed && h("p", {}, "An import was due while it was paused. Airflow starts that one at once, without these options."),
    h("label", { class: "option", for: resume.id }, resume, h("span", {}, "Resume the schedule")));

  const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, `Import ${cohort.name} now`),
    h("fieldset", {}, h("legend", {}, "How"), OPTIONS.map(([name, title, text]) =>
      h("label", { class: "option", for: `option-${name}` }, boxes.get(name), h("span", {}, title), h("span", { class: "sub" }, text)))),
    paused,
    h("h3", { class: "unseen" }, "What will happen"),
    will, wrong,
    h("div", { class: "buttons" }, go, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));

  async function start() {
    go.disabled = true;
    wrong.hidden = true;
    try {
      if (cohort.paused) await setPaused(cohort.dagId, false);
      const run = await trigger(cohort.dagId, Object.fromEntries(Object.entries(chosen).filter(([, on]) => on)));
      dialog.close();
      say(`${cohort.name}: started.`);
      started(run);
    } catch (error) {
      wrong.textContent = refusal(error);
      wrong.hidden = false;
      update();
    }
  }

  go.addEventListener("click", start);
  dialog.addEventListener("change", update);
  dialog.addEventListener("close", () => dialog.remove());
  update();
  document.body.append(dialog);
  dialog.showModal();
}
