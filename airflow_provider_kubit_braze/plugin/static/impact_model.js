// How a measured impact reads: words, shares and places on an axis, as core/impact/showing.py has them for mail and
// terminal. Pure: nothing here touches the page or the network, and nothing is judged.

import { LIVE } from "./model.js";
import { number } from "./words.js";

export const IMPACT_TAG = "kubit-braze-impact";
export const MEASURE_TASK = "measure_impact";
export const impactDag = (cohortId) => `kubit_braze_impact__${cohortId}`;
export const measures = (dag) => (dag.tags ?? []).some(({ name }) => name === IMPACT_TAG);

export const NOT_KNOWN = "not known";
// A verdict in a word or two, and how to take it.
export const VERDICTS = {
  raised: ["Raised", "good"],
  lowered: ["Lowered", "bad"],
  none_found: ["No effect found", "plain"],
  not_enough_data: ["Not enough data", "care"],
  groups_broken: ["No verdict", "bad"],
  control_reached: ["No verdict", "bad"],
  reached_later: ["No verdict", "care"],
  no_comparison: ["No verdict", "care"],
};
export const STEPS = [
  ["reached", "Reached"], ["delivered", "Delivered"], ["seen", "Seen"], ["clicked", "Clicked"], ["converted", "Converted (by Braze)"],
];
export const FIGURES = [STEPS[0], ["sends", "Sends"], ...STEPS.slice(1), ["revenue", "Revenue (by Braze)"], ["opted_out", "Opted out"]];
// The same, to look one up by its key.
export const NAMES = Object.fromEntries(FIGURES);
// What "converted" and "revenue" of a message are, which the verdict is not made of.
export const BY_BRAZE = "Converted and revenue in these figures are what Braze itself credits to messages. A verdict counts " +
  "what everybody in both groups did, whether or not a message reached them.";
// Why the lines of a table are more than their sum.
export const NO_SUM = "Figures count different users, so they do not add up over days and channels.";
// What lift and interval are.
export const INTERVALS = "Lift is the difference as a share of what the control group did. A 95% interval is what the data are " +
  "compatible with: in 95 of 100 experiments such an interval holds the truth. An interval with 0 in it does not tell an " +
  "effect from chance.";
export const MEASURES = { conversion: "Conversion", revenue: "Revenue per user" };
const CONTROLS = {
  holdout: "those held out", braze_control: "Braze's control group", control_path: "those on the control path",
};
// Kind of control group -> where its users are, and from when on a user counts.
const WHERE = { holdout: "held out", braze_control: "in Braze's control group", control_path: "on the control path" };
const FROM = {
  holdout: "the first message on, or from when they came if that was later",
  braze_control: "when they entered the campaign or Canvas on",
  control_path: "when they came to the step on",
};
const KINDS = { campaign: "Campaign", canvas: "Canvas" };
// Of the length of an axis, on either side, so that the ends of an interval have room for their words.
const MARGIN = 0.25;

export const isReport = (value) =>
  value !== null && typeof value === "object" && Array.isArray(value.messages) && typeof value.cohort_id === "string";

// The runs of a measurement, newest first: what runs now, the newest one that ended, and the newest that succeeded.
export function runsInShort(runs) {
  return {
    running: runs.find((run) => LIVE.includes(run.state)) ?? null,
    last: runs.find((run) => !LIVE.includes(run.state)) ?? null,
    done: runs.find((run) => run.state === "success") ?? null,
  };
}

// Halves go to the even neighbour, as they do where the sentences are made.
const rounded = (value, digits) => new Intl.NumberFormat("en", { ...digits, roundingMode: "halfEven" }).format(value);
const fixed = (value, digits) => rounded(value, { minimumFractionDigits: digits, maximumFractionDigits: digits });

// With as many digits as its size deserves.
export function percent(share) {
  const value = 100 * Math.abs(share);
  if (!value) return "0%";
  const text = value < 0.995 ? rounded(value, { maximumSignificantDigits: 2 }) : fixed(value, value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2);
  return `${share < 0 ? "-" : ""}${text}%`;
}

export const money = (amount, currency) => `${fixed(amount, Math.abs(amount) >= 1000 ? 0 : 2)} ${currency}`;
const change = (share) => `${percent(Math.abs(share))} ${share < 0 ? "less" : "more"}`;

function changeRange({ low, high }) {
  if (high === null) return low > 0 ? `at least ${change(low)}` : `anything from ${change(low)} up`;
  if (low >= 0) return `${percent(low)} to ${change(high)}`;
  if (high <= 0) return `${percent(Math.abs(high))} to ${change(low)}`;
  return `between ${change(low)} and ${change(high)}`;
}

const plus = (value) => (value > 0 ? "+" : "");
const points = (difference) => `${plus(difference)}${percent(difference).slice(0, -1)}`;
const signed = (share) => `${plus(share)}${percent(share)}`;

function signedAmount(effect, value) {
  return effect.currency === null ? `${points(value)} points` : `${plus(value)}${money(value, effect.currency)}`;
}

// Lift and interval in words; null where there is no interval, for then there is no lift to be told.
export function liftWords(effect) {
  const { intervals } = effect;
  if (!intervals) return null;
  if (effect.lift === null) {
    const { low, high } = intervals.difference;
    return `${signedAmount(effect, effect.difference)} (95% interval: ${signedAmount(effect, low)} to ${signedAmount(effect, high)})`;
  }
  const lift = effect.lift ? change(effect.lift) : "no difference";
  const joint = effect.compared > 1 && effect.joint_intervals
    ? `; for all ${effect.compared} at once: ${changeRange(effect.joint_intervals.lift)}` : "";
  return `${lift} (95% interval: ${changeRange(intervals.lift)}${joint})`;
}

export function bothFigures(effect, controlKind) {
  const amount = (value) => (effect.currency === null ? percent(value) : money(value, effect.currency));
  const what = effect.measure === "conversion" ? "converted" : "a user";
  return `${amount(effect.treated)} ${what}, against ${amount(effect.control)} of ${CONTROLS[controlKind]}`;
}

// What to say of an effect: its sentence, or where that was said already, its figures. Groups that cannot be compared
// have figures all the same; they would be read as an effect.
export function effectWords(effect, controlKind, said) {
  if (effect.sentence !== said) return effect.sentence;
  const lift = liftWords(effect);
  return lift && `${bothFigures(effect, controlKind)}: ${lift}.`;
}

// Where the interval lies: of the lift, or where the control group's figure is 0, of the difference.
export function axisOf(effect) {
  const { intervals } = effect;
  if (!intervals) return null;
  const ofLift = effect.lift !== null;
  const point = ofLift ? effect.lift : effect.difference;
  const { low, high } = ofLift ? intervals.lift : intervals.difference;
  const least = Math.min(low, point, 0);
  // Without an upper bound the axis ends somewhat beyond what is known.
  const known = Math.max(point, low, 0, high ?? 0);
  const span = ((known - least) || 1) * (high === null ? 1.3 : 1);
  const place = (value) => (value - least + MARGIN * span) / (span * (1 + 2 * MARGIN));
  const label = (value) => (ofLift ? signed(value) : signedAmount(effect, value));
  return {
    low: place(low), high: high === null ? 1 : place(high), point: place(point), zero: place(0), open: high === null,
    lowLabel: label(low), highLabel: high === null ? "no upper bound" : label(high),
  };
}

// The funnel, each step with its share of the first one that is known.
export function stepsOf(figures) {
  const base = baseOf(figures);
  return STEPS.map(([key, name]) => ({
    name, users: figures[key], share: figures[key] === null || !figures[base] ? null : figures[key] / figures[base],
  }));
}

export const baseOf = (figures) => STEPS.find(([key]) => figures[key] !== null)?.[0] ?? "reached";

export function figureText(key, value, currency) {
  if (value === null) return NOT_KNOWN;
  return key === "revenue" ? money(value, currency ?? "").trim() : number(value);
}

export const nameOf = (message) => (message.kind === "all" ? "All campaigns and Canvases" : message.name ?? message.id);
export const kindOf = (message) => (message.kind === "all" ? "" : KINDS[message.kind] ?? message.kind);
export const variationOf = (one) => one.name || one.variation || NOT_KNOWN;
export const effectsOf = (experiment) => [experiment.conversion, experiment.revenue].filter(Boolean);

// The first thing to say of a message: a word or two, a sentence, how to take it.
export function headlineOf(message) {
  const [first] = message.experiments;
  if (first) {
    const [word, tone] = VERDICTS[first.conversion.verdict] ?? [first.conversion.verdict, "plain"];
    return { word, tone, sentence: first.conversion.sentence };
  }
  if (message.not_judged) return { word: "No verdict", tone: "care", sentence: message.not_judged };
  const told = message.before_after;
  if (told) return { word: told.label, tone: "care", sentence: told.sentence };
  return {
    word: "No comparison",
    tone: "care",
    sentence: "It cannot be said what the campaign caused: nobody was held out, or the notes say what else is missing. " +
      "The figures below say what happened, and not because of what.",
  };
}

// With whom the treated are compared.
export function controlOf({ control_kind: kind, control_id: id, control_name: name }) {
  const step = name || id;
  return `${CONTROLS[kind] ?? kind}${step ? ` of experiment step ${step}` : ""}`;
}

export function sizesOf({ control_kind: kind, treated_users: treated, control_users: control }) {
  return `${number(treated)} treated users, ${number(control)} ${WHERE[kind] ?? kind}.`;
}

const UNITS = [["d", 86400], ["h", 3600], ["m", 60]];

// Which time of each user an experiment covers; the window is one of whole minutes.
export function coveredWords({ control_kind: kind }, windowSeconds) {
  const [unit, size] = UNITS.find(([, length]) => windowSeconds % length === 0) ?? UNITS.at(-1);
  return `Each user counts for ${Math.floor(windowSeconds / size)}${unit} from ${FROM[kind] ?? kind}.`;
}

export function ratioWarning({ control_kind: kind, sample_ratio: ratio }) {
  if (!ratio || ratio.is_sound) return null;
  return `The sizes of the groups are wrong: ${percent(ratio.expected)} of the users should be among ${CONTROLS[kind]}, ` +
    `and ${percent(ratio.observed)} are. No verdict is given.`;
}

export function reachedWords({ reached }) {
  if (!reached) return null;
  return `Per user who was reached (${number(reached.users)}): ${points(reached.difference)} percentage points ` +
    `(${points(reached.interval.low)} to ${points(reached.interval.high)}), if the campaign did nothing to the others.`;
}

export function waitingWords({ open_users: users, not_judged: why }) {
  // What kept it from being judged says the same of all of them.
  if (!users || why) return null;
  return `${number(users)} ${users === 1 ? "user is" : "users are"} not among them yet, since the time in which to convert is not over.`;
}
