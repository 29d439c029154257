// The history of one cohort.

import * as api from "./api.js";
import { charts } from "./charts.js";
import { askForImport, refusal } from "./dialog.js";
import { airflowLink, betweenClicks, forgetSeen, h, save, say, whenSeen } from "./dom.js";
import { IMPORT_TASK, LIVE, choose, importsOf, stateOf } from "./model.js";
import { badge, progress, tabs, trouble } from "./parts.js";
import { watch } from "./store.js";
import { OUTCOMES, csv, fromNow, moment, number, preview, seconds, withoutAdvice } from "./words.js";

const PAGE = 100;
const isReversal = (result) => Boolean(result?.purpose) && result.purpose !== "import";
const COLUMNS = ["Started", "Outcome", "Users imported", "Added", "Removed", "Rejected", "Data points", "Duration", "Started by", ""];
const FIGURES = ["Users imported", "Added", "Removed", "Rejected", "Data points", "Duration"];
// Left out where there is no room: the details have them.
const WIDE = ["Added", "Removed", "Rejected", "Data points", "Duration", "Started by"];
const lookOf = (name) => `${FIGURES.includes(name) ? "figure" : ""} ${WIDE.includes(name) ? "wide" : ""}`.trim() || null;
const DETAILS = [
  ["Members at the source", "members"], ["Users imported (in Braze now)", "users_imported"],
  ["Users in Braze before", "users_before"], ["Added", "added"],
  ["Removed", "removed"], ["Unchanged", "unchanged"], ["Held out", "held_out"], ["Duplicate rows", "duplicates"],
  ["Rows without a usable identifier", "invalid"], ["Rejected by Braze", "rejected"],
  ["Without a certain answer", "unknown"], ["Set aside after a rejection", "set_aside"],
  ["Unknown to Braze", "unmatched"], ["Data points", "data_points"], ["Requests", "requests"],
  ["Requests sent again", "retries"],
];
const FILTERS = {
  outcome: [["", "All outcomes"], ["bad", "Needs attention"], ...["success", "partial", "unchanged", "dry_run", "stopped", "failed"].map((one) => [one, OUTCOMES[one]])],
  by: [["", "Anybody"], ["schedule", "The schedule"], ["person", "People and other DAGs"]],
  days: [["0", "All times"], ["7", "Last 7 days"], ["30", "Last 30 days"], ["90", "Last 90 days"]],
};
const LABELS = { outcome: "Outcome", by: "Started by", days: "When" };

export function cohortHistory(store, dagId, id, { home }) {
  const filter = { outcome: "", by: "", days: 0 };
  const open = new Set();
  const problem = h("div"), now = h("div"), picture = h("div"), body = h("tbody");
  const title = h("h1", { tabindex: -1 }), facts = h("dl", { class: "facts" });
  const count = h("p", { class: "hint", role: "status" });
  const older = h("button", { type: "button", hidden: true, onclick: loadOlder }, "Load older imports");
  const go = h("button", { type: "button", class: "first", hidden: true, onclick: () => ask() }, "Import now");
  const pause = h("button", { type: "button", hidden: true, onclick: togglePause });
  const table = h("table", {},
    h("caption", { class: "unseen" }, "Imports of this cohort, newest first"),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col", class: lookOf(name) },
      name || h("span", { class: "unseen" }, "Details"))))), body);
  const element = h("div", {},
    h("p", {}, h("a", { href: home }, "← All cohorts")),
    h("div", { class: "top" }, title, h("div", { class: "buttons" }, go, pause)),
    tabs(id, "history"), facts, problem, now, picture,
    h("h2", {}, "History"),
    h("div", { class: "bar" },
      Object.entries(FILTERS).map(([name, options]) => h("label", { for: `filter-${name}` }, LABELS[name],
        h("select", { id: `filter-${name}`, onchange: (event) => {
          filter[name] = name === "days" ? Number(event.target.value) : event.target.value;
          update(true);
        } }, options.map(([value, text]) => h("option", { value }, text))))),
      h("button", { type: "button", onclick: download }, "Download CSV"), count),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Imports" }, table), older);
  let loaded = 0, pictured = "", tabled = "", clock = null, watched = null;

  const rows = () => store.rows(dagId);
  const ask = () => askForImport(store.cohort(dagId), (run) => {
    watched = run.dag_run_id;
    look().finally(clock.soon);
  });

  function download() {
    const { id } = store.cohort(dagId);
    save(`${id}-imports.csv`, csv(choose(rows(), filter)), "text/csv;charset=utf-8");
    say("The history was downloaded.");
  }

  async function togglePause() {
    const cohort = store.cohort(dagId);
    pause.disabled = true;
    try {
      store.addDag(await api.setPaused(dagId, !cohort.paused));
      say(`${cohort.name}: ${cohort.paused ? "resumed" : "paused"}.`);
      store.changed();
    } catch (error) {
      problem.replaceChildren(h("div", { class: "note bad", role: "alert" }, refusal(error)));
    }
    pause.disabled = false;
  }

  function details(row) {
    const { result } = row;
    const run = `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(row.runId)}`;
    const links = h("p", {}, airflowLink(run, "Run in Airflow"), " · ", airflowLink(`${run}/tasks/${IMPORT_TASK}`, "Log"));
    if (!result) return [h("p", {}, row.why ?? "No result yet."), links];
    const told = result.outcome === "dry_run" ? preview(result) : result.error ? [result.error] : [];
    const reasons = Object.entries(result.rejected_reasons ?? {});
    const found = result.verification?.error ?? null;
    return [
      told.map((text) => h("p", {}, text)),
      isReversal(result) && h("p", {}, `This run was no import but: ${result.purpose}.`),
      reasons.length > 0 && [h("p", {}, "Braze rejected users with these words:"),
        h("ul", {}, reasons.map(([reason, times]) => h("li", {}, `${reason}: ${number(times)}`)))],
      found && h("p", {}, found),
      h("dl", {}, DETAILS.map(([name, field]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(result[field])))),
        h("div", {}, h("dt", {}, "Waited for the rate limit"), h("dd", {}, seconds(result.throttled_seconds))),
        h("div", {}, h("dt", {}, "Finished"), h("dd", {}, moment(result.finished_at)))),
      links,
    ];
  }

  function draw(row, index) {
    const { result } = row, live = LIVE.includes(row.outcome);
    const at = `details-${index}`, shown = open.has(row.runId);
    const figure = (name, field) => h("td", { class: lookOf(name) }, result ? number(result[field]) : "–");
    const more = h("tr", { class: "details", id: at, hidden: !shown }, h("td", { colspan: COLUMNS.length }, shown ? details(row) : null));
    const toggle = h("button", { type: "button", "aria-expanded": String(shown), "aria-controls": at, "data-run": row.runId,
      "aria-label": `Details of ${moment(row.at)}`,
      onclick: () => {
        if (open.has(row.runId)) open.delete(row.runId);
        else open.add(row.runId);
        const on = open.has(row.runId);
        toggle.setAttribute("aria-expanded", String(on));
        more.hidden = !on;
        more.firstChild.replaceChildren(...(on ? details(row).flat().filter(Boolean) : []));
      } }, "Details");
    const done = row.outcome === "running" && store.progressOf(row);
    const line = h("tr", { "data-run": row.runId },
      h("th", { scope: "row" }, moment(row.at)),
      h("td", {}, badge(row.outcome), done ? progress(done) : null,
        isReversal(result) ? h("span", { class: "sub" }, result.purpose) : null),
      figure("Users imported", "users_imported"), figure("Added", "added"), figure("Removed", "removed"),
      figure("Rejected", "rejected"), figure("Data points", "data_points"),
      h("td", { class: lookOf("Duration") }, result ? seconds(result.duration_seconds) : live ? "…" : "–"),
      h("td", { class: lookOf("Started by") }, row.by), h("td", {}, toggle));
    if (row.unread) whenSeen(line, () => store.readResult(row));
    return [line, more];
  }

  // What somebody who opens this page wants to know first.
  function story(cohort) {
    const { running, last } = cohort;
    const latest = rows()[0];
    if (running) {
      const done = store.progressOf(running);
      return h("div", { class: "note live" },
        h("strong", {}, running.outcome === "queued" ? "An import is waiting to start." : "An import is running."),
        done ? progress(done) : h("p", {}, `Since ${moment(running.at)}.`));
    }
    if (latest?.outcome === "dry_run" && latest.result) {
      return h("div", { class: "note warn" }, h("strong", {}, `Dry run of ${moment(latest.at)}: nothing was sent`),
        preview(latest.result).map((text) => h("p", {}, text)),
        isReversal(latest.result) ? null : h("button", { type: "button", onclick: ask }, "Import now"));
    }
    if (!last && !loaded) return null;
    if (!last) return h("div", { class: "note" }, h("strong", {}, "This cohort was never imported."),
      h("p", {}, cohort.paused ? "Resume its schedule, or start an import now." : "Its schedule does it, or you start an import now."));
    if (["failed", "stopped", "unclear"].includes(last.outcome)) {
      const why = withoutAdvice(last.result?.error ?? last.why ?? "Reading why …");
      return h("div", { class: "note bad" },
        h("strong", {}, `The ${isReversal(last.result) ? last.result.purpose : "import"} of ${moment(last.at)} ${last.outcome === "stopped" ? "was stopped by a guard" : "failed"}.`),
        h("p", {}, why),
        last.outcome === "stopped" && h("p", {}, "If this is right, start an import now and choose Override guards. If not, have the data put right first."));
    }
    return null;
  }

  const update = betweenClicks(element, (forced = false) => {
    const cohort = store.cohort(dagId);
    if (!cohort) return;
    const all = rows(), chosen = choose(all, filter);
    if (title.textContent !== cohort.name) title.textContent = cohort.name;
    facts.replaceChildren(...[
      ["Comes from", cohort.source], ["Schedule", cohort.schedule], ["State", stateOf(cohort)],
      ["Next import", cohort.next ? `${moment(cohort.next)} (${fromNow(cohort.next)})` : cohort.paused ? "when resumed" : "on request"],
      ["Users in Braze", number(cohort.users)],
    ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    pause.textContent = cohort.paused ? "Resume" : "Pause";
    go.disabled = cohort.running !== null;
    go.hidden = pause.hidden = false;
    const told = story(cohort);
    if (now.textContent !== (told?.textContent ?? "")) now.replaceChildren(...(told ? [told] : []));
    count.textContent = `${number(chosen.length)} of ${number(all.length)} imports`;
    const drawn = JSON.stringify([chosen, chosen.map((row) => store.progressOf(row))]);
    if (forced || drawn !== tabled) {
      tabled = drawn;
      const focused = document.activeElement?.dataset.run;
      body.replaceChildren(...(chosen.length ? chosen.flatMap(draw)
        : [h("tr", {}, h("td", { colspan: COLUMNS.length, class: "hint" }, all.length ? "No import matches these filters." : "No import yet."))]));
      if (focused) [...body.querySelectorAll("button")].find((one) => one.dataset.run === focused)?.focus();
    }
    const ended = chosen.filter((row) => row.result);
    const picturing = JSON.stringify(ended.map((row) => [row.at, row.result.users_imported]));
    if (picturing !== pictured) {
      pictured = picturing;
      picture.replaceChildren(charts(ended));
    }
    if (cohort.last?.unread) store.readResult(cohort.last);
    const mine = watched && all.find((row) => row.runId === watched);
    if (mine && !LIVE.includes(mine.outcome) && !mine.unread) {
      watched = null;
      say(`${cohort.name}: ${OUTCOMES[mine.outcome]}.`);
    }
    clock?.soon();
  });

  async function fetchPage(offset, limit = PAGE) {
    const [events, runs] = await Promise.all([api.eventsOf(dagId, { limit, offset }), api.runsOf(dagId, { limit, offset })]);
    store.addImports(importsOf(events));
    store.addRuns(runs, offset ? [] : [dagId]);
    if (offset + limit > loaded) older.hidden = Math.max(events.length, runs.length) < limit;
    loaded = Math.max(loaded, offset + limit);
  }

  async function load() {
    problem.replaceChildren();
    try {
      await Promise.all([api.dag(dagId).then((dag) => store.addDag(dag)), fetchPage(0)]);
      store.changed();
    } catch (error) {
      problem.replaceChildren(trouble(error, load));
    }
  }

  async function loadOlder() {
    older.disabled = true;
    try {
      await fetchPage(loaded);
      store.changed();
    } catch (error) {
      problem.replaceChildren(trouble(error, loadOlder));
    }
    older.disabled = false;
  }

  async function look() {
    try {
      const quiet = !busy();
      const [events, runs] = await Promise.all([api.eventsOf(dagId, { limit: 10 }), api.runsOf(dagId, { limit: 10 })]);
      store.addImports(importsOf(events));
      store.addRuns(runs, [dagId]);
      if (quiet) store.addDag(await api.dag(dagId));
      const { running } = store.cohort(dagId);
      if (running?.outcome === "running") store.readProgress(running);
      problem.replaceChildren();
      store.changed();
    } catch (error) {
      problem.replaceChildren(trouble(error, load));
    }
  }

  const busy = () => Boolean(store.cohort(dagId)?.running);
  const onChange = () => update();
  const onTrouble = (event) => problem.replaceChildren(trouble(event.detail, load));
  store.addEventListener("change", onChange);
  store.addEventListener("trouble", onTrouble);
  clock = watch(look, busy);
  update();
  load();
  return {
    element,
    title: "Kubit → Braze",
    focus: () => title.focus(),
    close() {
      clock.stop();
      forgetSeen();
      store.removeEventListener("change", onChange);
      store.removeEventListener("trouble", onTrouble);
    },
  };
}
