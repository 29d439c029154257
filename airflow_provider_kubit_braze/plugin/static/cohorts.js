// The list of cohorts.

import { setPaused } from "./api.js";
import { sparkline } from "./charts.js";
import { askForImport, refusal } from "./dialog.js";
import { betweenClicks, forgetSeen, h, say, whenSeen } from "./dom.js";
import { arrange, outcomeOf, stateOf } from "./model.js";
import { badge, progress, trouble } from "./parts.js";
import { watch } from "./store.js";
import { fromNow, moment, number, shortMoment } from "./words.js";

const FRESH = 60000;
const COLUMNS = [
  ["name", "Cohort", ""],
  ["source", "Comes from", "wide"],
  ["schedule", "Schedule", "wide"],
  ["next", "Next import", "wide"],
  ["last", "Last import", ""],
  ["users", "Users in Braze", "figure"],
];

// A long name of a table may break after a dot or an underscore.
const breakable = (text) => text.split(/(?<=[._])/).flatMap((part) => [part, h("wbr")]);

function inView(row) {
  if (!row?.isConnected) return false;
  const { top, bottom } = row.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

// Kept while a history is open, so that Back leads to what was left.
const view = { search: "", sort: "name", down: false };

export function cohortList(store, { href }) {
  const body = h("tbody");
  const count = h("p", { class: "hint" });
  const problem = h("div");
  const nothing = h("div", { hidden: true });
  let clock = null;
  const shown = new Map(); // DAG id -> its row, and what it was drawn from
  const heads = COLUMNS.map(([name, title, look]) =>
    h("th", { scope: "col", class: look, "data-sort": name }, h("button", { type: "button", onclick: () => sortBy(name) }, title)));
  const table = h("table", {},
    h("caption", { class: "unseen" }, "Cohorts and their last import"),
    h("thead", {}, h("tr", {}, heads,
      h("th", { scope: "col", class: "wide" }, "Over time"), h("th", { scope: "col" }, "Actions"))), body);
  const scroll = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Cohorts" }, table);
  const search = h("input", {
    type: "search", id: "search", value: view.search, autocomplete: "off",
    oninput: () => {
      view.search = search.value;
      update();
    },
  });
  const element = h("div", {},
    h("div", { class: "top" }, h("h1", {}, "Cohorts in Braze"), count),
    h("div", { class: "bar" }, h("label", { for: "search" }, "Search", search)),
    problem, scroll, nothing);

  function sortBy(name) {
    view.down = view.sort === name && !view.down;
    view.sort = name;
    update();
    const title = COLUMNS.find(([one]) => one === name)[1];
    say(`Sorted by ${title}, ${view.down ? "descending" : "ascending"}.`);
  }

  function act(cohort, name, work, done) {
    return async (event) => {
      event.target.disabled = true;
      try {
        await work();
        say(done);
        await store.load();
        // A button that is shut for a moment loses the focus.
        shown.get(cohort.dagId)?.row.querySelector(`[data-do="${name}"]`)?.focus();
      } catch (error) {
        problem.replaceChildren(h("div", { class: "note bad", role: "alert" }, refusal(error)));
        event.target.disabled = false;
      }
    };
  }

  function lastCell({ running, last, told }) {
    if (running) {
      const done = store.progressOf(running);
      return [badge(running.outcome), done ? progress(done) : h("span", { class: "sub" }, `since ${moment(running.at)}`)];
    }
    if (!last) return told ? [badge("none")] : [h("span", { class: "hint" }, "…")];
    return [badge(last.outcome), h("span", { class: "sub", title: moment(last.at) }, fromNow(last.at))];
  }

  function draw(cohort) {
    const { dagId, name, paused, measured } = cohort;
    const next = cohort.next
      ? [shortMoment(cohort.next), h("span", { class: "sub" }, fromNow(cohort.next))]
      : [h("span", { class: "hint" }, paused ? "when resumed" : "on request")];
    const pause = act(cohort, "pause", () => setPaused(dagId, !paused), `${name}: ${paused ? "resumed" : "paused"}.`);
    return h("tr", { "data-dag": dagId },
      h("th", { scope: "row", class: "name" }, h("a", { href: href(cohort) }, name),
        h("span", { class: "sub" }, stateOf(cohort), measured && [" · ", h("a", { href: `${href(cohort)}/impact` }, "Impact")]), h("span", { class: "sub narrow" }, cohort.schedule)),
      h("td", { class: "wide source" }, breakable(cohort.source)),
      h("td", { class: "wide" }, cohort.schedule),
      h("td", { class: "wide" }, ...next),
      h("td", {}, ...lastCell(cohort)),
      h("td", { class: "figure" }, number(cohort.users)),
      h("td", { class: "wide" }, sparkline(cohort.points)),
      h("td", {}, h("div", { class: "buttons" },
        h("button", {
          type: "button", "data-do": "import", "aria-label": `Import ${name} now`, disabled: cohort.running !== null,
          onclick: () => askForImport(store.cohort(dagId), () => store.look().finally(clock.soon)),
        }, "Import now"),
        h("button", {
          type: "button", "data-do": "pause", class: "wide", "aria-label": `${paused ? "Resume" : "Pause"} ${name}`, onclick: pause,
        }, paused ? "Resume" : "Pause"))));
  }

  function rowOf(cohort) {
    const minute = Math.floor(Date.now() / 60000);
    const drawn = JSON.stringify([cohort, cohort.running && store.progressOf(cohort.running), minute]);
    const before = shown.get(cohort.dagId);
    if (before?.drawn === drawn) return before.row;
    const row = draw(cohort);
    const focused = before?.row.contains(document.activeElement) && document.activeElement;
    shown.set(cohort.dagId, { row, drawn });
    if (before) before.row.replaceWith(row);
    if (focused) row.querySelector(focused.dataset.do ? `[data-do="${focused.dataset.do}"]` : "a")?.focus();
    // Also a row that is drawn anew before anybody has seen it.
    if (!store.asked.has(cohort.dagId) || cohort.last?.unread) whenSeen(row, () => store.seen(cohort.dagId));
    return row;
  }

  const update = betweenClicks(element, () => {
    if (!store.ready) return;
    const all = store.list();
    const wanted = arrange(all, view).map(rowOf);
    // Rows that stay where they are keep focus and cost nothing.
    if (wanted.length !== body.children.length || wanted.some((row, index) => body.children[index] !== row)) {
      const focused = document.activeElement;
      body.replaceChildren(...wanted);
      if (body.contains(focused)) focused.focus();
    }
    for (const head of heads) {
      const sorted = head.dataset.sort === view.sort;
      head.toggleAttribute("aria-sort", false);
      if (sorted) head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    }
    const bad = all.filter((one) => ["failed", "stopped"].includes(outcomeOf(one))).length;
    count.textContent = `${number(all.length)} cohorts${bad ? `, ${number(bad)} whose last import failed or was stopped` : ""}`;
    scroll.hidden = !wanted.length;
    nothing.hidden = wanted.length > 0;
    nothing.replaceChildren(all.length
      ? h("p", { class: "hint" }, "No cohort matches this search.")
      : h("div", { class: "note" }, h("strong", {}, "There is no cohort here yet, or none that you may see."),
        h("p", {}, "A cohort appears when its file is in Airflow's DAGs folder and Airflow has read it.")));
    clock?.soon();
  });

  async function load() {
    problem.replaceChildren();
    try {
      await store.load();
    } catch (error) {
      problem.replaceChildren(trouble(error, load));
      scroll.hidden = !store.ready;
      count.textContent = "";
    }
  }

  let looks = 0;
  async function look() {
    try {
      // In busy times every twentieth look sees new cohorts and schedules too.
      if (store.age() > FRESH || ++looks % 20 === 0) await store.load();
      else await store.look();
      for (const { dagId, running } of store.list()) if (running?.outcome === "running" && inView(shown.get(dagId)?.row)) store.readProgress(running);
      problem.replaceChildren();
    } catch (error) {
      problem.replaceChildren(trouble(error, load));
    }
  }

  const onTrouble = (event) => problem.replaceChildren(trouble(event.detail, load));
  store.addEventListener("change", update);
  store.addEventListener("trouble", onTrouble);
  clock = watch(look, () => store.live());
  if (store.ready) update();
  // Back from a history: what was seen a moment ago need not be asked for again.
  if (store.age() > FRESH) load();
  else look();
  return {
    element,
    title: "Kubit → Braze",
    close() {
      clock.stop();
      forgetSeen();
      store.removeEventListener("change", update);
      store.removeEventListener("trouble", onTrouble);
    },
  };
}
