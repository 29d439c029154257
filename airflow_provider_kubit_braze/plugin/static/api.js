// Airflow's public REST API, asked with the session of whoever looks at the page: Airflow decides what they may see.

import { IMPACT_TAG, MEASURE_TASK } from "./impact_model.js";
import { LIVE, TAG, IMPORT_TASK, WAIT_TASK } from "./model.js";

const API = new URL("../api/v2/", document.baseURI);
const PAGE = 100;
const AT_ONCE = 6;

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let requests = 0;
export const requestsMade = () => requests;

async function call(path, { query = {}, ...options } = {}) {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) url.searchParams.append(name, one);
  return (await ask(url, options)).json();
}

async function ask(url, { body, method = body ? "POST" : "GET" }) {
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  requests += 1;
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new ApiError(0, "Airflow does not answer.");
  }
  if (!answer.ok) throw new ApiError(answer.status, await detailOf(answer));
  return answer;
}

async function detailOf(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  return `Airflow answered ${answer.status}.`;
}

const segment = encodeURIComponent;

// All pages of a list, the first one alone since it says how many there are.
async function all(path, name, query) {
  const page = (offset) => call(path, { query: { ...query, limit: PAGE, offset } });
  const first = await page(0);
  const rest = await inParallel(furtherPages(first[name].length, first.total_entries), page);
  return [first, ...rest].flatMap((answer) => answer[name]);
}

// Where the pages after the first one begin: Airflow may give fewer at a time than it was asked for.
export function furtherPages(size, total) {
  const offsets = [];
  for (let offset = size; size && offset < total; offset += size) offsets.push(offset);
  return offsets;
}

export async function inParallel(items, work, atOnce = AT_ONCE) {
  const results = new Array(items.length);
  let next = 0;
  async function worker() {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]);
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}

// Those that import cohorts, and those that measure an impact, in one list.
export const dags = () => all("dags", "dags", { tags: [TAG, IMPACT_TAG], tags_match_mode: "any", order_by: "dag_id" });
export const dag = (dagId) => call(`dags/${segment(dagId)}`);

const ofCohorts = { name_prefix_pattern: "braze_cohort_", order_by: "-timestamp" };

// A page of the newest imports of all cohorts; `total_entries` says how many there are.
export const newestEvents = (offset = 0) =>
  call("assets/events", { query: { ...ofCohorts, limit: PAGE, offset } });

export async function eventsOf(dagId, { limit = 30, offset = 0 } = {}) {
  const query = { ...ofCohorts, source_dag_id: dagId, limit, offset };
  return (await call("assets/events", { query })).asset_events;
}

async function runs(dagIds, states, limit) {
  const body = { dag_ids: dagIds, states, order_by: "-run_after", page_limit: limit };
  return (await call("dags/~/dagRuns/list", { body })).dag_runs;
}

// What no event tells: runs under way, and runs that failed.
export async function otherRuns(dagIds, failed = Math.max(200, 2 * dagIds.length)) {
  if (!dagIds.length) return [];
  const found = await Promise.all([runs(dagIds, LIVE, dagIds.length), runs(dagIds, ["failed"], failed)]);
  return found.flat();
}

export async function runsOf(dagId, { limit = PAGE, offset = 0, ...only } = {}) {
  const query = { order_by: "-run_after", limit, offset, ...only };
  return (await call(`dags/${segment(dagId)}/dagRuns`, { query })).dag_runs;
}

async function xcom(row, task, name) {
  const path = `dags/${segment(row.dagId)}/dagRuns/${segment(row.runId)}/taskInstances/${task}/xcomEntries/${name}`;
  try {
    const { value } = await call(path, { query: { stringify: "false" } });
    return typeof value === "string" ? parsed(value) : value;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export const resultOf = (row) => xcom(row, IMPORT_TASK, "return_value");

// What the sensor waited for is why a run failed only where the sensor itself gave up.
export async function waitingFor(row) {
  const path = `dags/${segment(row.dagId)}/dagRuns/${segment(row.runId)}/taskInstances/${WAIT_TASK}`;
  try {
    return (await call(path)).state === "failed" ? await xcom(row, WAIT_TASK, "waiting_for") : null;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

export const failedBecause = (row) => xcom(row, IMPORT_TASK, "failed_because");
export const progressOf = (row) => xcom(row, IMPORT_TASK, "progress");

export const impactOf = (row) => xcom(row, MEASURE_TASK, "impact");
export const notMeasuredBecause = (row) => xcom(row, MEASURE_TASK, "failed_because");

// The report as a file to send on: the server of this page writes it from what the viewer has already.
export async function reportOf(report) {
  return (await ask(new URL("impact-report", document.baseURI), { body: report })).text();
}

export function trigger(dagId, conf) {
  // With a logical date templates like {{ ds }} work; without one they would fail.
  return call(`dags/${segment(dagId)}/dagRuns`, { body: { logical_date: new Date().toISOString(), conf } });
}

export function setPaused(dagId, paused) {
  return call(`dags/${segment(dagId)}`, {
    method: "PATCH", query: { update_mask: "is_paused" }, body: { is_paused: paused },
  });
}
