// The page: which view is open, and its address in Airflow's own.

import { requestsMade } from "./api.js";
import { cohortHistory } from "./history.js";
import { cohortImpact } from "./impact.js";
import { cohortList } from "./cohorts.js";
import { around, followTheme } from "./dom.js";
import { Store } from "./store.js";

const DAG = "kubit_braze__";
const store = new Store();
const place = document.getElementById("page");
let view = null;

const address = (cohort) => `#/cohort/${encodeURIComponent(cohort.id)}`;

function wanted() {
  const [, id, impact] = /^#\/cohort\/([^/?]+)(\/impact)?$/.exec(location.hash) ?? [];
  return id ? { id: decodeURIComponent(id), of: impact ? cohortImpact : cohortHistory } : null;
}

// Airflow's address ends as this page's own does, so that it can be kept and sent, and so that mails can lead here:
// .../plugin/kubit-braze#/cohort/<id>, or .../impact behind it.
function tellAirflow() {
  const outer = around();
  if (!outer || outer.location.hash === location.hash) return;
  const url = new URL(outer.location.href);
  url.hash = location.hash;
  outer.history.replaceState(outer.history.state, "", url.href);
}

function show() {
  const cohort = wanted();
  const before = view;
  view?.close();
  view = cohort
    ? cohort.of(store, DAG + cohort.id, cohort.id, { home: "#/" })
    : cohortList(store, { href: address });
  document.title = view.title;
  place.replaceChildren(view.element);
  if (before) view.focus?.();
  scrollTo(0, 0);
  tellAirflow();
}

const asked = around()?.location.hash;
if (asked && !location.hash) history.replaceState(null, "", asked);
followTheme();
addEventListener("hashchange", show);
show();

// For measurements: how many requests the page has made.
globalThis.kubitBraze = { requestsMade };
