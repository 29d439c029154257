// What the page knows: cohorts, their imports, and when to ask Airflow again.
//
// The first view of N cohorts takes: their DAGs and those that measure their impact, 100 a request; the 500 newest
// imports of all of them, 100 a request; one request for runs under way and one for failed runs. A cohort that comes
// into view costs one more request if its imports were not among the newest, and one if its last run failed, for the
// reason.

import * as api from "./api.js";
import { impactDag, measures } from "./impact_model.js";
import { LIVE, cohortOf, fill, groupBy, importsOf, joinHistory, withResult } from "./model.js";

const BUSY = 3000, IDLE = 60000, AT_ONCE = 4, NEWEST = 500, SHOWN = 30;

export class Store extends EventTarget {
  constructor() {
    super();
    this.cohorts = new Map();
    this.measured = new Set(); // ids of DAGs that measure an impact
    this.imports = new Map(); // DAG id -> run id -> import
    this.runs = new Map(); // the same of runs that no event tells of
    this.known = new Map(); // what was read of failed runs
    this.progress = new Map();
    this.complete = false;
    this.ready = false;
    this.asked = new Set();
    this.told = new Set();
    this.reading = new Set();
    this.queue = [];
    this.working = 0;
    this.timer = null;
    this.loadedAt = 0;
  }

  // Milliseconds since everything was looked at.
  age() {
    return Date.now() - this.loadedAt;
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  // Many small findings in a row make one change.
  soonChanged() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.changed();
    }, 60);
  }

  list() {
    return [...this.cohorts.keys()].map((dagId) => this.cohort(dagId));
  }

  cohort(dagId) {
    const base = this.cohorts.get(dagId);
    // Whether it is known that there is no import, or only none known of yet.
    return base && { ...fill(base, this.rows(dagId)), told: this.complete || this.told.has(dagId), measured: this.measured.has(impactDag(base.id)) };
  }

  rows(dagId) {
    const of = (map) => [...(map.get(dagId)?.values() ?? [])];
    return joinHistory(of(this.imports), of(this.runs), this.known);
  }

  live() {
    return [...this.runs.values()].some((runs) => [...runs.values()].some((run) => LIVE.includes(run.state)));
  }

  addDag(dag) {
    const cohort = cohortOf(dag);
    this.cohorts.set(cohort.dagId, cohort);
    return cohort;
  }

  addImports(found) {
    for (const [dagId, some] of groupBy(found, (one) => one.dagId)) {
      const before = this.imports.get(dagId) ?? new Map();
      // Of a run that was cleared there are several, and the newest one counts.
      for (const one of some) if (!(before.get(one.runId)?.told > one.told)) before.set(one.runId, one);
      this.imports.set(dagId, before);
    }
  }

  // `dagIds` are those whose runs under way are all among `found`.
  addRuns(found, dagIds) {
    for (const dagId of dagIds) {
      for (const [runId, run] of this.runs.get(dagId) ?? []) {
        if (LIVE.includes(run.state)) this.runs.get(dagId).delete(runId);
      }
    }
    for (const run of found) {
      if (!this.runs.has(run.dag_id)) this.runs.set(run.dag_id, new Map());
      this.runs.get(run.dag_id).set(run.dag_run_id, run);
    }
  }

  async load() {
    const [dags, first] = await Promise.all([api.dags(), api.newestEvents()]);
    this.cohorts.clear();
    for (const dag of dags.filter((one) => !measures(one))) this.addDag(dag);
    this.measured = new Set(dags.filter(measures).map((one) => one.dag_id));
    this.addImports(importsOf(first.asset_events));
    this.ready = true;
    this.loadedAt = Date.now();
    // With few imports the rest is there at once. With many, those of the cohorts in view are asked for meanwhile.
    const few = first.total_entries <= NEWEST;
    if (!few) this.changed();
    const offsets = api.furtherPages(first.asset_events.length, Math.min(first.total_entries, NEWEST));
    const dagIds = [...this.cohorts.keys()];
    const [runs, pages] = await Promise.all([
      api.otherRuns(dagIds), api.inParallel(offsets, api.newestEvents, few ? 4 : 2),
    ]);
    for (const page of pages) this.addImports(importsOf(page.asset_events));
    this.addRuns(runs, dagIds);
    this.complete = few;
    this.changed();
  }

  // The short look while something runs: what is under way, what failed, what ended.
  async look() {
    const dagIds = [...this.cohorts.keys()];
    // As many as can have ended since the last look.
    const states = [...this.runs.values()].flatMap((runs) => [...runs.values()].map((run) => run.state));
    const failed = 20 + states.filter((state) => LIVE.includes(state)).length;
    const [runs, newest] = await Promise.all([api.otherRuns(dagIds, failed), api.newestEvents()]);
    this.addImports(importsOf(newest.asset_events));
    this.addRuns(runs, dagIds);
    this.changed();
  }

  // A cohort has come into view.
  seen(dagId) {
    if (!this.complete && !this.asked.has(dagId) && (this.imports.get(dagId)?.size ?? 0) < SHOWN) {
      this.later(async () => {
        try {
          this.addImports(importsOf(await api.eventsOf(dagId, { limit: SHOWN })));
        } catch (error) {
          this.asked.delete(dagId);
          throw error;
        }
        this.told.add(dagId);
      });
    }
    this.asked.add(dagId);
    const { last, running } = this.cohort(dagId) ?? {};
    if (last?.unread) this.readResult(last);
    if (running?.outcome === "running") this.readProgress(running);
  }

  readResult(row) {
    const name = `result ${row.dagId} ${row.runId} ${row.ended}`;
    if (this.asked.has(name)) return;
    this.asked.add(name);
    this.later(async () => {
      let known;
      try {
        const result = await api.resultOf(row);
        const why = result ? null : await api.failedBecause(row);
        known = withResult(row, result, result || why ? null : await api.waitingFor(row), why);
      } catch (error) {
        // Somebody may see that a run has failed and not what its tasks have said.
        if (error.status !== 403) {
          this.asked.delete(name);
          throw error;
        }
        known = { ...row, why: "Airflow does not let you see why.", unread: false };
      }
      this.known.set(`${row.dagId} ${row.runId}`, known);
    });
  }

  readProgress(row) {
    const name = `${row.dagId} ${row.runId}`;
    // Once at a time, or a slow Airflow would be asked the same ever more often.
    if (this.reading.has(name)) return;
    this.reading.add(name);
    this.later(async () => {
      try {
        const value = await api.progressOf(row);
        if (value && Number.isFinite(value.total)) this.progress.set(name, value);
      } finally {
        this.reading.delete(name);
      }
    });
  }

  progressOf(row) {
    return this.progress.get(`${row.dagId} ${row.runId}`) ?? null;
  }

  // A few at a time; what they find is shown with the next change.
  later(work) {
    this.queue.push(work);
    while (this.working < AT_ONCE && this.queue.length) {
      this.working += 1;
      this.work().finally(() => {
        this.working -= 1;
      });
    }
  }

  async work() {
    let work;
    while ((work = this.queue.shift())) {
      try {
        await work();
        this.soonChanged();
      } catch (error) {
        this.dispatchEvent(new CustomEvent("trouble", { detail: error }));
      }
    }
  }
}

// Calls `look` every few seconds while `busy()`, else once a minute, and never while nobody can see the page.
export function watch(look, busy) {
  let timer = null, stopped = false, looking = false, at = Date.now();
  async function tick() {
    if (looking || stopped || document.hidden) return;
    clearTimeout(timer);
    looking = true;
    try {
      await look();
      at = Date.now();
    } finally {
      looking = false;
      plan();
    }
  }
  function plan() {
    clearTimeout(timer);
    if (!stopped && !document.hidden) timer = setTimeout(tick, Math.max(0, at + (busy() ? BUSY : IDLE) - Date.now()));
  }
  document.addEventListener("visibilitychange", plan);
  plan();
  return {
    soon: plan,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", plan);
    },
  };
}
