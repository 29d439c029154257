// The line in the list, drawn by hand, and the charts of a history, drawn by uPlot.

import { h, svg } from "./dom.js";
import { NAMES } from "./impact_model.js";
import { moment, number, shortDay } from "./words.js";

const WIDTH = 90, HEIGHT = 28, EDGE = 3;

export function sparkline(points) {
  if (points.length < 2) return h("span", { class: "hint" }, "–");
  const values = points.map(([, value]) => value);
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const x = (index) => EDGE + (index * (WIDTH - 2 * EDGE)) / (values.length - 1);
  const y = (value) => HEIGHT - EDGE - ((value - low) * (HEIGHT - 2 * EDGE)) / span;
  const line = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const text = `From ${number(values[0])} to ${number(values.at(-1))} users in the last ${values.length} imports`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": text },
    svg("path", { d: line }),
    svg("circle", { cx: x(values.length - 1).toFixed(1), cy: y(values.at(-1)).toFixed(1), r: 2.4 }));
}

// Loaded when a history is first opened; the list does without it.
let library = null;
function uplot() {
  library ??= new Promise((resolve, reject) => {
    const sheet = h("link", { rel: "stylesheet", href: "vendor/uPlot.min.css" });
    const script = h("script", { src: "vendor/uPlot.iife.min.js" });
    script.addEventListener("load", () => resolve(window.uPlot));
    script.addEventListener("error", () => reject(new Error("The charts could not be loaded.")));
    document.head.append(sheet, script);
  });
  return library;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const DAYS = [1, 2, 3, 7, 14, 30, 60, 90, 180, 365].map((days) => days * 86400);

function axes() {
  const look = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  const days = (_, ticks) => ticks.map(shortDay);
  return [{ ...look, values: days, incrs: DAYS, space: 60, size: 30 }, { ...look, size: 64, values: (_, ticks) => ticks.map((tick) => number(Math.abs(tick))) }];
}

// Room at both ends, so that the first and the last bar are whole.
function widened(_, from, to) {
  const room = Math.max((to - from) * 0.04, 3600);
  return [from - room, to + room];
}

async function draw(place, height, data, series, scales = {}) {
  const UPlot = await uplot();
  const options = () => ({
    width: Math.max(place.clientWidth, 120), height, axes: axes(), series: [{}, ...series()],
    legend: { show: false }, cursor: { drag: { x: false, y: false } }, scales: { x: { time: true, range: widened }, ...scales },
  });
  let chart = new UPlot(options(), data, place);
  const again = () => {
    if (!place.isConnected) {
      document.removeEventListener("theme", again);
      resize.disconnect();
    }
    chart.destroy();
    if (place.isConnected) chart = new UPlot(options(), data, place);
  };
  const resize = new ResizeObserver(() => chart.setSize({ width: Math.max(place.clientWidth, 120), height }));
  resize.observe(place);
  document.addEventListener("theme", again);
}

const timeOf = (row) => Date.parse(row.at) / 1000;

// `rows` are the ended imports of a cohort, newest first.
export function charts(rows) {
  const told = rows.filter((row) => row.result && !["dry_run", "stopped"].includes(row.outcome)).reverse();
  if (told.length < 2) return h("p", { class: "hint" }, "Charts appear when there are two imports to compare.");
  const users = told.map((row) => row.result.users_imported);
  // The import that filled the cohort would leave nothing to see of the others.
  const moved = told.length > 3 ? told.filter((row) => row.result.added < row.result.users_imported) : told;
  const added = moved.map((row) => row.result.added), removed = moved.map((row) => -row.result.removed);
  const period = `${moment(told[0].at)} to ${moment(told.at(-1).at)}`;
  const sum = (values) => number(values.reduce((a, b) => a + Math.abs(b), 0));
  const members = h("div", {
    role: "img",
    "aria-label": `Users in Braze from ${number(users[0])} to ${number(users.at(-1))}, ${period}`,
  });
  const moves = h("div", { role: "img", "aria-label": `${sum(added)} users entered and ${sum(removed)} left, ${period}` });
  const failed = (error) => members.replaceChildren(h("p", { class: "hint" }, error.message));
  queueMicrotask(() => {
    draw(members, 180, [told.map(timeOf), users], () => [
      { stroke: colour("members"), width: 2, points: { show: users.length < 40, fill: colour("paper") } },
    ]).catch(failed);
    draw(moves, 180, [moved.map(timeOf), added, removed], () => [
      { stroke: colour("enter"), fill: colour("enter"), paths: window.uPlot.paths.bars({ size: [0.6, 24] }) },
      { stroke: colour("leave"), fill: colour("leave"), paths: window.uPlot.paths.bars({ size: [0.6, 24] }) },
    ].map((one) => ({ ...one, points: { show: false } }))).catch(failed);
  });
  return h("div", { class: "charts" },
    h("div", { class: "chart" }, h("h2", {}, "Users in Braze"), members),
    h("div", { class: "chart" },
      h("h2", {}, `Entered and left${moved.length < told.length ? ", after the first import" : ""}`, h("span", { class: "key enter" }), "entered", h("span", { class: "key leave" }), "left"),
      moves));
}

const TRENDS = ["reached", "clicked", "converted", "revenue"];
// A bar is as long as its figure is large.
const fromZero = (_, least, most) => [Math.min(0, least), Math.max(1, most * 1.05)];
// Noon, so that no change of clocks moves a day.
const noon = (day) => Date.parse(`${day}T12:00:00`) / 1000;

// One small chart for each figure that any day knows; a day whose figure nobody knows has a gap.
export function dayCharts(days, words) {
  const told = TRENDS.filter((key) => days.some(({ figures }) => figures[key] !== null));
  return h("div", { class: "charts small" }, told.map((key) => {
    const name = NAMES[key];
    const values = days.map(({ figures }) => figures[key]);
    const most = words(key, Math.max(...values.filter((value) => value !== null)));
    const place = h("div", { role: "img", "aria-label": `${name} by day, ${days[0].day} to ${days.at(-1).day}: at most ${most} a day` });
    queueMicrotask(() => draw(place, 140, [days.map(({ day }) => noon(day)), values], () => [
      { stroke: colour("members"), fill: colour("members"), paths: window.uPlot.paths.bars({ size: [0.6, 24] }), points: { show: false } },
    ], { y: { range: fromZero } }).catch((error) => place.replaceChildren(h("p", { class: "hint" }, error.message))));
    return h("div", { class: "chart" }, h("h4", {}, `${name} by day`), place);
  }));
}
