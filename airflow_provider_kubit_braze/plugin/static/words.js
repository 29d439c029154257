// How figures, times and outcomes read. Pure: nothing here touches the page or the network.

const numbers = new Intl.NumberFormat("en");
const dateTime = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];

export const OUTCOMES = {
  success: "Success",
  partial: "Partial",
  unchanged: "No change",
  dry_run: "Dry run",
  stopped: "Stopped by a guard",
  failed: "Failed",
  running: "Running",
  queued: "Waiting",
  none: "Never imported",
  unclear: "Ended without a result",
};

// The same thousands separators as in mail and log.
export const number = (value) => (Number.isFinite(value) ? numbers.format(value) : "–");

export function moment(value, zone) {
  const date = new Date(value);
  if (!value || Number.isNaN(date.getTime())) return "–";
  return new Intl.DateTimeFormat("en-GB", zone ? { ...dateTime, timeZone: zone } : dateTime).format(date);
}

// The same where space is short: without the year when it is this one.
export function shortMoment(value, now = Date.now()) {
  const date = new Date(value);
  if (!value || Number.isNaN(date.getTime())) return "–";
  const { year, ...rest } = dateTime;
  const thisYear = date.getFullYear() === new Date(now).getFullYear();
  return new Intl.DateTimeFormat("en-GB", thisYear ? rest : { ...rest, year }).format(date);
}

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
export const shortDay = (epochSeconds) => day.format(new Date(epochSeconds * 1000));

// The advice to somebody who looks at the DAG; on this page there is a button for it.
export const withoutAdvice = (text) => text.replace(" If this is right, trigger the DAG once with override_guards.", "");

export function fromNow(value, now = Date.now()) {
  const seconds = (new Date(value).getTime() - now) / 1000;
  if (Number.isNaN(seconds)) return "–";
  const [unit, size] = STEPS.find(([, step]) => Math.abs(seconds) >= step) ?? [];
  return unit ? relative.format(Math.trunc(seconds / size), unit) : seconds > 0 ? "in a moment" : "just now";
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.round(value), minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// What the factory writes into a DAG's description: "Snowflake to Braze · <source> · <schedule>".
export function readDescription(text) {
  const parts = (text ?? "").split(" · ");
  if (parts.length < 3) return { source: "–", schedule: text || "–" };
  return { source: parts.slice(1, -1).join(" · "), schedule: parts.at(-1) };
}

// One sentence about what the chosen options make the import do.
export function whatWillHappen({ dry_run, full_resync, override_guards, undo }, cohort) {
  const inBraze = cohort.users === null ? "" : ` ${number(cohort.users)} users are in Braze now.`;
  const guards = override_guards
    ? " Guards will not stop it, whatever it would remove or cost."
    : " The guards stop it before anything is sent if too many would leave or enter.";
  if (undo) {
    return dry_run
      ? "Counts what taking the last import back would change. Nothing is sent to Braze."
      : "Does not import. Takes back what the last import did: whom it added leaves, whom it removed comes back.";
  }
  if (dry_run) {
    const what = full_resync ? "sending every member once more" : "an import";
    return `Counts what ${what} would add, remove and cost, and says whether a guard would stop it. ` +
      "Nothing is sent to Braze.";
  }
  if (full_resync) {
    return `Sends every member once more, also those Braze already has. This costs a data point for each.${inBraze}${guards}`;
  }
  return `Compares the cohort with Braze, and sends only who entered and who left since.${inBraze}${guards}`;
}

// The preview that a dry run is.
export function preview(result) {
  return [
    `Will add ${number(result.added)} and remove ${number(result.removed)} users; ` +
      `${number(result.unchanged)} stay as they are. It would cost ${number(result.data_points)} data points.`,
    result.error ?? "No guard would stop it.",
  ];
}

const CSV_COLUMNS = [
  ["started", (row) => row.at],
  ["outcome", (row) => row.outcome],
  ["purpose", (row) => row.result?.purpose],
  ["users_imported", (row) => row.result?.users_imported],
  ["members", (row) => row.result?.members],
  ["added", (row) => row.result?.added],
  ["removed", (row) => row.result?.removed],
  ["rejected", (row) => row.result?.rejected],
  ["data_points", (row) => row.result?.data_points],
  ["duration_seconds", (row) => row.result?.duration_seconds],
  ["started_by", (row) => row.by],
  ["error", (row) => row.result?.error ?? row.why],
  ["dag_id", (row) => row.dagId],
  ["run_id", (row) => row.runId],
];

function csvCell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  // A spreadsheet would run what begins like a formula.
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(rows) {
  const lines = [CSV_COLUMNS.map(([name]) => name), ...rows.map((row) => CSV_COLUMNS.map(([, get]) => get(row)))];
  return lines.map((cells) => cells.map(csvCell).join(",")).join("\r\n") + "\r\n";
}
