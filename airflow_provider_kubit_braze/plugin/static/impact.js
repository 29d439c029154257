// What Braze's messages did to one cohort: the newest measurement, which a DAG of its own makes.

import * as api from "./api.js";
import { dayCharts } from "./charts.js";
import { refusal } from "./dialog.js";
import { airflowLink, h, save, say, svg } from "./dom.js";
import {
  BY_BRAZE, FIGURES, INTERVALS, MEASURES, MEASURE_TASK, NAMES, NOT_KNOWN, NO_SUM, VERDICTS, axisOf, baseOf,
  controlOf, coveredWords, effectWords, effectsOf, figureText, headlineOf, impactDag, isReport, kindOf, liftWords, nameOf, percent,
  ratioWarning, reachedWords, runsInShort, sizesOf, stepsOf, variationOf, waitingWords,
} from "./impact_model.js";
import { facts, tabs, trouble } from "./parts.js";
import { watch } from "./store.js";
import { fromNow, moment, number } from "./words.js";

const RUNS = 10;

const scroll = (label, table) => h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);

function table(label, heads, rows, figures) {
  return scroll(label, h("table", {},
    h("caption", { class: "unseen" }, label),
    h("thead", {}, h("tr", {}, heads.map((name, index) =>
      h("th", { scope: "col", class: index >= figures ? "figure" : null }, name)))),
    h("tbody", {}, rows)));
}

function line(name, cells, figures) {
  return h("tr", {}, h("th", { scope: "row", class: "name" }, name),
    cells.map((cell, index) => h("td", { class: index + 1 >= figures ? "figure" : null }, cell)));
}

const at = (share) => `${(100 * share).toFixed(2)}%`;

function intervalOf(effect) {
  const axis = axisOf(effect);
  if (!axis) return null;
  const { low, high, point, zero, open, lowLabel, highLabel } = axis;
  return svg("svg", { class: "lift", height: 58, role: "img", "aria-label": `${liftWords(effect)}; 0, no effect, is marked.` },
    svg("line", { class: "axis", x1: 0, x2: "100%", y1: 34, y2: 34 }),
    svg("line", { class: "zero", x1: at(zero), x2: at(zero), y1: 16, y2: 56 }),
    svg("text", { x: at(zero), y: 11, "text-anchor": "middle" }, "0 (no effect)"),
    svg("rect", { class: "interval", x: at(low), width: at(Math.max(high - low, 0.003)), y: 27, height: 14 }),
    svg("circle", { class: "point", cx: at(point), cy: 34, r: 6 }),
    svg("text", { x: at(low), dx: -6, y: 38, "text-anchor": "end" }, lowLabel),
    open
      ? svg("svg", { x: "100%", y: 26, width: 1, height: 16, overflow: "visible" }, svg("path", { class: "point", d: "M-9 0L2 8L-9 16Z" }))
      : svg("text", { x: at(high), dx: 6, y: 38 }, highLabel));
}

const word = ([text, tone]) => h("span", { class: `badge ${tone}` }, text);

function effectOf(effect, experiment, said) {
  const told = effectWords(effect, experiment.control_kind, said);
  return h("div", { class: "effect" },
    h("h4", {}, MEASURES[effect.measure] ?? effect.measure, " ", word(VERDICTS[effect.verdict] ?? [effect.verdict, "plain"])),
    told && h("p", {}, told), intervalOf(effect));
}

// Where messages were named, others may have reached somebody; a report of an earlier version does not say.
const nobodyWords = ({ messages_asked: asked = "all" }) =>
  `${asked === "all" ? "No message" : "None of the messages asked about"} reached anybody of this cohort in these days.`;

function experimentOf(experiment, said, window) {
  const warning = ratioWarning(experiment), reached = reachedWords(experiment);
  return h("section", { class: "chart" },
    h("h3", {}, `Against ${controlOf(experiment)}`),
    h("p", { class: "hint" }, sizesOf(experiment), h("br"), coveredWords(experiment, window)),
    warning && h("p", { class: "note bad" }, warning),
    effectsOf(experiment).map((effect) => effectOf(effect, experiment, said)),
    reached && h("p", { class: "hint" }, reached));
}

function funnelOf({ figures, currency }) {
  const rows = stepsOf(figures).map(({ name, users, share }) => h("tr", {},
    h("th", { scope: "row" }, name),
    h("td", { class: "figure" }, users === null ? NOT_KNOWN : number(users)),
    h("td", { class: "figure" }, share === null ? "" : percent(share)),
    h("td", { class: "drawn" }, users === null
      ? h("span", { class: "hint" }, "the share cannot tell")
      : svg("svg", { height: 14, "aria-hidden": "true" }, svg("rect", { class: "room", height: 14, width: "100%" }),
        share ? svg("rect", { class: "step", height: 14, width: at(Math.min(share, 1)) }) : null))));
  return [
    h("h3", {}, "From reached to converted"),
    scroll("From reached to converted", h("table", { class: "funnel" },
      h("caption", { class: "unseen" }, "How many users got how far"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col", class: "figure" }, "Users"),
        h("th", { scope: "col", class: "figure" }, `Of those ${baseOf(figures)}`), h("td", {}))),
      h("tbody", {}, rows))),
    facts(["sends", "revenue", "opted_out"].map((key) => [NAMES[key], figureText(key, figures[key], currency)])),
    h("p", { class: "hint" }, BY_BRAZE),
  ];
}

const figuresOf = ({ figures }, currency) => FIGURES.map(([key]) => figureText(key, figures[key], currency));
const HEADS = FIGURES.map(([, name]) => name);

function linesOf({ channels, variations, currency }) {
  return [
    channels.length > 0 && [h("h3", {}, "By channel"), table("By channel", ["Channel", ...HEADS],
      channels.map((one) => line(one.channel, figuresOf(one, currency), 1)), 1)],
    variations.length > 0 && [h("h3", {}, "By variation"), table("By variation", ["Variation", "Channel", ...HEADS],
      variations.map((one) => line(variationOf(one), [one.channel, ...figuresOf(one, currency)], 2)), 2)],
  ].flat();
}

function daysOf({ days, currency }) {
  if (!days.length) return [];
  return [
    h("h3", {}, "Day by day"), dayCharts(days, (key, value) => figureText(key, value, currency)),
    h("details", {}, h("summary", {}, "Day by day as a table"), table("Day by day", ["Day", ...HEADS],
      days.map((one) => line(one.day, figuresOf(one, currency), 1)), 1)),
  ];
}

function beforeAfterOf({ before_after: told }, said) {
  if (!told) return [];
  const row = (name, { users, converters, revenue, currency }) =>
    line(name, [number(users), number(converters), figureText("revenue", revenue, currency)], 1);
  return [
    h("h3", {}, `Before and after: ${told.label}`), told.sentence !== said && h("p", {}, told.sentence),
    table("Before and after", ["When", "Users", "Converted", "Revenue"], [row("Before", told.before), row("After", told.after)], 1),
  ];
}

function messageOf(message, window) {
  const { word: short, sentence, tone } = headlineOf(message);
  const reach = message.first_reach && `reached people from ${moment(message.first_reach)} to ${moment(message.last_reach)}`;
  const waiting = waitingWords(message);
  return [
    h("h2", {}, nameOf(message), h("span", { class: "sub" }, [kindOf(message), reach].filter(Boolean).join(", "))),
    h("div", { class: `verdict ${tone}` }, h("strong", {}, short), h("p", {}, sentence)),
    message.experiments.length > 0 && h("div", { class: "charts" }, message.experiments.map((one) => experimentOf(one, sentence, window))),
    waiting && h("p", { class: "hint" }, waiting),
    beforeAfterOf(message, sentence), funnelOf(message), linesOf(message), daysOf(message),
  ].flat().filter(Boolean);
}

function sideBySide(messages, choose) {
  const rows = messages.map((message, index) => {
    const { word: short, tone } = headlineOf(message);
    const effect = message.experiments[0]?.conversion;
    return h("tr", {},
      h("th", { scope: "row", class: "name" }, h("button", { type: "button", class: "plain", onclick: () => choose(index) }, nameOf(message))),
      h("td", { class: "figure" }, figureText("reached", message.figures.reached)),
      h("td", { class: "figure" }, figureText("converted", message.figures.converted)),
      h("td", {}, (effect && liftWords(effect)) ?? "not judged"),
      h("td", {}, word([short, tone])));
  });
  return [h("h2", {}, "Side by side"), scroll("Side by side", h("table", {},
    h("caption", { class: "unseen" }, "All messages of this measurement"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Message"), h("th", { scope: "col", class: "figure" }, "Reached"),
      h("th", { scope: "col", class: "figure" }, NAMES.converted), h("th", { scope: "col" }, "Lift of conversion"), h("th", { scope: "col" }, "Verdict"))),
    h("tbody", {}, rows)))];
}

function boundsOf(report) {
  const left = report.messages_left_out;
  const notes = [...report.notes, ...(left ? [`Messages that reached fewer people and are not shown here: ${number(left)}.`] : [])];
  const lists = [[`What is ${NOT_KNOWN}`, report.missing], ["What the figures hold besides", report.limits], ["Notes", notes]];
  return lists.filter(([, told]) => told.length).flatMap(([title, told]) =>
    [h("h3", {}, title), h("ul", {}, told.map((text) => h("li", {}, text)))]);
}

export function cohortImpact(store, cohortDag, id, { home }) {
  const dagId = impactDag(id);
  const title = h("h1", { tabindex: -1 }, id), place = h("div"), now = h("div"), problem = h("div");
  const go = h("button", { type: "button", class: "first", hidden: true, onclick: measureNow }, "Measure now");
  const send = h("button", { type: "button", hidden: true, onclick: download }, "Report to send on");
  const element = h("div", { class: "impact" },
    h("p", {}, h("a", { href: home }, "← All cohorts")),
    h("div", { class: "top" }, title, h("div", { class: "buttons" }, go, send)),
    tabs(id, "impact"), problem, now, place);
  let dag = null, runs = [], report = null, shown = null, why = null, failed = null, chosen = 0, clock = null, closed = false;

  const rowOf = (run) => ({ dagId, runId: run.dag_run_id });
  const runLink = (run, text) =>
    airflowLink(`dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(run.dag_run_id)}/tasks/${MEASURE_TASK}`, text);

  async function measureNow() {
    go.disabled = true;
    try {
      if (dag.is_paused) dag = await api.setPaused(dagId, false);
      await api.trigger(dagId, {});
      say("The measurement was started.");
      await look();
    } catch (error) {
      problem.replaceChildren(h("div", { class: "note bad", role: "alert" }, refusal(error)));
      go.disabled = false;
    }
    clock.soon();
  }

  async function download() {
    send.disabled = true;
    try {
      save(`${id}-impact.html`, await api.reportOf(report), "text/html;charset=utf-8");
      say("The report was downloaded.");
    } catch (error) {
      problem.replaceChildren(h("div", { class: "note bad", role: "alert" }, refusal(error)));
    }
    send.disabled = false;
  }

  function choose(index) {
    chosen = index;
    drawReport();
    place.querySelector("h2").focus();
  }

  function drawReport() {
    const { messages } = report;
    const message = messages[chosen];
    const options = messages.map((one, index) =>
      h("option", { value: index, selected: index === chosen }, [nameOf(one), kindOf(one)].filter(Boolean).join(", ")));
    const body = message ? messageOf(message, report.window_seconds) : [h("p", { class: "note" }, nobodyWords(report))];
    body[0].setAttribute("tabindex", -1);
    place.replaceChildren(...[
      facts([
        ["Measured", report.measure], ["Days", `${report.since} to ${report.until} (${report.timezone})`],
        ["The data go until", moment(report.data_until)],
        ["Last measured", `${moment(report.measured_at)} (${fromNow(report.measured_at)})`],
      ]),
      messages.length > 1 && h("div", { class: "bar" }, h("label", { for: "message" }, "Campaign or Canvas",
        h("select", { id: "message", onchange: (event) => {
          chosen = Number(event.target.value);
          drawReport();
          place.querySelector("select").focus();
        } }, options))),
      body, messages.length > 1 && sideBySide(messages, choose), boundsOf(report),
      h("p", { class: "hint" }, `${INTERVALS} ${NO_SUM}`),
    ].flat().filter(Boolean));
  }

  // What is not as it should be, above whatever is known.
  function story({ running, last, done }) {
    if (running) {
      return h("div", { class: "note live" }, h("strong", {}, running.state === "queued" ? "A measurement is waiting to start." : "A measurement is running."),
        h("p", {}, `Since ${moment(running.start_date ?? running.run_after)}.`));
    }
    if (!last) {
      return h("div", { class: "note" }, h("strong", {}, "The impact of this cohort was never measured."),
        h("p", {}, dag.is_paused ? "Its measurement is paused: Measure now resumes it." : "It is measured every day, or when you choose Measure now."));
    }
    if (last.state !== "success") {
      return h("div", { class: "note bad" }, h("strong", {}, `The measurement of ${moment(last.start_date ?? last.run_after)} failed.`),
        why && h("p", {}, why),
        h("p", {}, done ? "What follows is from before it. " : "", runLink(last, "Its log")));
    }
    if (!report) {
      return h("div", { class: "note bad" }, h("strong", {}, "The last measurement left nothing that this page can show."),
        h("p", {}, runLink(last, "Its log")));
    }
    return dag.is_paused ? h("div", { class: "note warn" }, h("strong", {}, "The measurement of this cohort is paused: what follows gets no newer.")) : null;
  }

  function update() {
    title.textContent = store.cohort(cohortDag)?.name ?? report?.cohort_name ?? id;
    const short = runsInShort(runs);
    const told = story(short);
    if (now.textContent !== (told?.textContent ?? "")) now.replaceChildren(...(told ? [told] : []));
    go.hidden = false;
    go.disabled = Boolean(short.running);
    send.hidden = !report;
  }

  function none() {
    go.hidden = send.hidden = true;
    place.replaceChildren();
    now.replaceChildren(h("div", { class: "note" }, h("strong", {}, "The impact of this cohort is not measured."),
      h("p", {}, "It is when its cohort file has the key impact, and says where Braze's data share is:"),
      h("pre", {}, "braze:\n  share: BRAZE_SHARE.PUBLIC\n  app_group_id: <APP_GROUP_ID>\nholdout: 10%\nimpact: true"),
      h("p", {}, "Without holdout nobody is kept from the messages, and no effect can be judged."),
      h("p", { class: "hint" }, "Or its measurement is there and your role may not see it.")));
  }

  // Why the newest run failed, once.
  async function readWhy() {
    const { last } = runsInShort(runs);
    const name = last?.state === "failed" ? `${last.dag_run_id} ${last.end_date}` : null;
    if (name === failed) return;
    why = name && (await api.notMeasuredBecause(rowOf(last)));
    failed = name;
  }

  // Reads the newest report, once: a run that has succeeded says the same ever after.
  async function read() {
    let { done } = runsInShort(runs);
    // Many in a row may have failed.
    if (!done && runs.length === RUNS) [done] = await api.runsOf(dagId, { limit: 1, state: "success" });
    if (!done) return;
    if (!runs.includes(done)) runs.push(done);
    const name = `${done.dag_run_id} ${done.end_date}`;
    if (shown === name) return;
    const found = await api.impactOf(rowOf(done));
    if (closed) return;
    shown = name;
    report = isReport(found) ? found : null;
    chosen = 0;
    if (report) drawReport();
  }

  async function nameCohort() {
    try {
      if (!store.cohort(cohortDag)) store.addDag(await api.dag(cohortDag));
    } catch (error) {
      // Without it the report's own name of the cohort has to do.
      if (error.status !== 404) throw error;
    }
  }

  async function load() {
    problem.replaceChildren();
    try {
      [dag, runs] = await Promise.all([api.dag(dagId), api.runsOf(dagId, { limit: RUNS }), nameCohort()]);
      await Promise.all([read(), readWhy()]);
      update();
    } catch (error) {
      if (error.status === 404) none();
      else problem.replaceChildren(trouble(error, load, "Airflow does not let you see the measurements of this cohort."));
    }
  }

  async function look() {
    if (!dag) return load();
    try {
      runs = await api.runsOf(dagId, { limit: RUNS });
      await Promise.all([read(), readWhy()]);
      problem.replaceChildren();
      update();
    } catch (error) {
      problem.replaceChildren(trouble(error, load));
    }
  }

  clock = watch(look, () => Boolean(runsInShort(runs).running));
  load().finally(() => clock.soon());
  return {
    element,
    title: "Kubit → Braze",
    focus: () => title.focus(),
    close() {
      closed = true;
      clock.stop();
    },
  };
}
