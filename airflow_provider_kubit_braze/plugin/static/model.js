// From what Airflow's API answers to what the page shows. Pure: nothing here touches the page or the network.

import { readDescription } from "./words.js";

export const TAG = "kubit-braze";
export const IMPORT_TASK = "import_to_braze";
export const WAIT_TASK = "wait_for_cohort";
export const LIVE = ["running", "queued"];

// One cohort as its DAG describes it. What its imports say about it comes later, see `fill`.
export function cohortOf(dag) {
  const tag = (dag.tags ?? []).map((one) => one.name).find((name) => name.startsWith("cohort:"));
  return {
    dagId: dag.dag_id,
    id: tag ? tag.slice("cohort:".length) : dag.dag_id,
    name: dag.dag_display_name,
    ...readDescription(dag.description),
    paused: dag.is_paused,
    next: dag.is_paused ? null : dag.next_dagrun_run_after ?? null,
    broken: dag.has_import_errors === true,
    // Airflow runs at once what was due meanwhile, when a paused cohort's schedule goes on.
    missed: dag.is_paused && Boolean(dag.next_dagrun_run_after) && Date.parse(dag.next_dagrun_run_after) <= Date.now(),
  };
}

export const isResult = (value) =>
  value !== null && typeof value === "object" && typeof value.outcome === "string" && typeof value.cohort_id === "string";

// Airflow's events of a cohort's asset; those of other assets are left out.
export function importsOf(events) {
  return events
    .filter((event) => event.source_dag_id && isResult(event.extra))
    .map((event) => ({
      dagId: event.source_dag_id,
      runId: event.source_run_id,
      told: normal(event.timestamp),
      at: event.extra.started_at || event.timestamp,
      outcome: event.extra.outcome,
      result: event.extra,
      why: null,
    }));
}

export function startedBy(run) {
  if (!run) return "–";
  if (run.triggered_by === "operator") return "Another DAG";
  const automatic = { scheduled: "Schedule", backfill: "Backfill", asset_triggered: "Other data" }[run.run_type];
  return automatic ?? run.triggering_user_name ?? "By hand";
}

// A run without an event: under way, or failed (its result is then an XCom, read when somebody looks at it).
export function importOfRun(run) {
  const outcome = { running: "running", queued: "queued", failed: "failed" }[run.state] ?? "unclear";
  return {
    dagId: run.dag_id,
    runId: run.dag_run_id,
    at: run.start_date ?? run.run_after,
    outcome,
    began: normal(run.start_date),
    ended: run.end_date,
    result: null,
    why: null,
    unread: outcome === "failed" || outcome === "unclear",
  };
}

const newestFirst = (a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0);
const key = (one) => `${one.dagId} ${one.runId}`;

// The imports of one cohort, newest first: its events joined with its runs. `known` keeps what was read before.
export function joinHistory(imports, runs, known = new Map()) {
  const rows = new Map();
  for (const run of runs) {
    const row = importOfRun(run);
    const before = known.get(key(row));
    // A run that was started anew may end otherwise.
    const same = before && before.ended === row.ended && !LIVE.includes(row.outcome);
    rows.set(key(row), { ...(same ? before : row), state: run.state, by: startedBy(run) });
  }
  for (const one of imports) {
    const run = rows.get(key(one));
    // A run that was cleared and then failed: its event is of the time before.
    if (LIVE.includes(run?.outcome) || (run?.state === "failed" && run.began > one.told)) continue;
    rows.set(key(one), { ...one, state: run?.state ?? null, by: run?.by ?? "–", unread: false });
  }
  return [...rows.values()].map((row) => ({ ...row, at: normal(row.at) })).sort(newestFirst);
}

// One form for all moments, so that they can be compared as text.
export function normal(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

// Live or paused, and whether Airflow can read the file that describes it.
export const stateOf = ({ paused, broken }) =>
  `${paused ? "Paused" : "Live"}${broken ? "; its file has an error, see Airflow's import errors" : ""}`;

// What the imports of a cohort say about it: its last one, who is in Braze, the line over time.
export function fill(cohort, rows) {
  const ended = rows.filter((row) => !LIVE.includes(row.outcome));
  const told = ended.filter((row) => row.result && Number.isFinite(row.result.users_imported));
  return {
    ...cohort,
    running: rows.find((row) => row.outcome === "running") ?? rows.find((row) => row.outcome === "queued") ?? null,
    last: ended.find((row) => row.outcome !== "dry_run") ?? ended[0] ?? null,
    users: told.length ? told[0].result.users_imported : null,
    points: told.filter((row) => row.outcome !== "dry_run").map((row) => [row.at, row.result.users_imported]).reverse(),
  };
}

// What became known of a run by its XCom.
export function withResult(row, result, waitingFor, failedBecause) {
  if (isResult(result)) return { ...row, outcome: result.outcome, result, at: normal(result.started_at) || row.at, unread: false };
  const why = failedBecause
    ? failedBecause
    : waitingFor
    ? `The cohort's data were not ready: ${waitingFor}`
    : "This run left no result of an import; its log says why.";
  return { ...row, why, unread: false };
}

export function groupBy(items, of) {
  const groups = new Map();
  for (const item of items) {
    const group = groups.get(of(item));
    if (group) group.push(item);
    else groups.set(of(item), [item]);
  }
  return groups;
}

// Worst first, so that one click shows what wants a person.
const RANK = ["failed", "stopped", "partial", "unclear", "running", "queued", "success", "unchanged", "dry_run", "none", "unseen"];
const SORTS = {
  name: (one) => one.name.toLowerCase(),
  source: (one) => one.source.toLowerCase(),
  schedule: (one) => one.schedule.toLowerCase(),
  next: (one) => one.next ?? "9",
  last: (one) => RANK.indexOf(outcomeOf(one)),
  users: (one) => one.users ?? -1,
};

export const outcomeOf = (cohort) => cohort.last?.outcome ?? (cohort.told === false ? "unseen" : "none");

export function arrange(cohorts, { search = "", sort = "name", down = false } = {}) {
  const wanted = search.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (one) => `${one.name} ${one.id} ${one.source} ${one.schedule}`.toLowerCase();
  const found = cohorts.filter((one) => wanted.every((word) => text(one).includes(word)));
  const of = SORTS[sort];
  const order = (a, b) => {
    const [x, y] = [of(a), of(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1) || a.name.localeCompare(b.name, "en");
  };
  return found.sort(order);
}

export function choose(rows, { outcome = "", by = "", days = 0 } = {}, now = Date.now()) {
  const since = days ? new Date(now - days * 86400000).toISOString() : "";
  const bad = (row) => ["failed", "stopped", "partial", "unclear"].includes(row.outcome);
  return rows.filter(
    (row) =>
      (!outcome || (outcome === "bad" ? bad(row) : row.outcome === outcome)) &&
      (!by || (by === "schedule" ? row.by === "Schedule" : row.by !== "Schedule")) &&
      row.at >= since,
  );
}
