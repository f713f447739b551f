// Shows what a stand-in holds. Everything that came from outside is shown as text, never as HTML.
"use strict";

/** @typedef {Record<string, any>} Row what a stand-in holds, in JSON */

const REFRESH_MS = 1000;
const SHOWN = 50;

/** @type {[string, Row, string?][]} */
const FAULTS = [
  ["Answer 503, Retry-After 5 s", { kind: "status", status: 503, retryAfter: { seconds: 5 } }],
  ["Answer 429", { kind: "status", status: 429, retryAfter: { seconds: 2 } }],
  ["Answer 429 until an instant (ms)", { kind: "status", status: 429, retryAfter: { form: "epoch_ms", seconds: 5 } }],
  ["Answer 500", { kind: "status", status: 500 }],
  ["Answer 400", { kind: "status", status: 400 }],
  ["Answer 401", { kind: "status", status: 401 }],
  ["504 after carrying out", { kind: "status", status: 504, carriedOut: true }],
  ["Reset before carrying out", { kind: "reset" }],
  ["Reset after carrying out", { kind: "reset", carriedOut: true }],
  ["Close mid-answer", { kind: "close_mid_answer" }],
  ["Wait 15 s", { kind: "delay", seconds: 15 }],
  ["Answer byte by byte", { kind: "slow_drip" }],
  ["Huge answer", { kind: "huge_answer" }],
  ["200 that is no JSON", { kind: "invalid_json" }],
  ["A row comes while it is paged", { kind: "drift", insert: 1 }, "PostGrid"],
  ["A row goes while it is paged", { kind: "drift", insert: 0, remove: 1 }, "PostGrid"],
];

// A mail piece's link: following it is what scanning the piece does.
const OWN_LINK = /^\/go\/[A-Za-z0-9]+$/;

/** @param {string} id @returns {any} the element: the page has all that are asked for here */
const $ = (id) => document.getElementById(id);

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} name
 * @param {string} [text]
 * @param {string} [className]
 */
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** @param {string} column @param {any} value */
function shown(column, value) {
  if (value === null || value === undefined) return "–";
  if (column.endsWith("Ms") && typeof value === "number") return new Date(value).toISOString().slice(0, 23).replace("T", " ");
  if (column === "retryAfter") return `${value.seconds} s as ${value.form.replaceAll("_", " ")}`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {string} path */
function link(path) {
  const made = element("a", path);
  made.href = path;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  return made;
}

/** @param {string} column */
function heading(column) {
  const words = column.replace(/Ms$/, "").replace(/([a-z])([A-Z])|([A-Z])([A-Z][a-z])/g, "$1$3 $2$4").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** @param {Row} row */
function isWrong(row) {
  return row.wentBack === true || row.disabled === true || ("status" in row && (row.status === null || row.status >= 400));
}

/** @param {Row[]} rows */
function table(rows) {
  if (rows.length === 0) return element("p", "Nothing yet.", "empty");
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const column of columns) {
    const cell = element("th", heading(column));
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    if (isWrong(row)) line.className = "wrong";
    for (const column of columns) {
      const text = shown(column, row[column]);
      const cell = line.insertCell();
      cell.append(column === "path" && OWN_LINK.test(text) ? link(text) : text);
      cell.title = text;
    }
  }
  return made;
}

/** @param {Record<string, number>} totals */
function showTotals(totals) {
  $("totals").replaceChildren(...Object.entries(totals).map(([name, count]) => {
    const pair = element("div");
    pair.append(element("dt", heading(name)), element("dd", count.toLocaleString("en")));
    return pair;
  }));
}

/** @param {Row} fault */
function faultText({ kind, struck, ...rest }) {
  const details = Object.entries(rest)
    .filter(([name, value]) => !(name === "every" && value === 1) && value !== false)
    .map(([name, value]) => `${heading(name).toLowerCase()} ${shown(name, value)}`);
  return [kind.replaceAll("_", " "), ...details, `struck ${struck}×`].join(" · ");
}

/** @param {Row[]} faults */
function showFaults(faults) {
  const lines = faults.map((fault) => element("li", faultText(fault)));
  $("faults").replaceChildren(...lines);
  $("clear-faults").disabled = faults.length === 0;
}

/** @param {string} name */
function section(name) {
  let found = $(`held-${name}`);
  if (!found) {
    found = element("section");
    found.id = `held-${name}`;
    found.append(element("h2"), element("div", undefined, "table"));
    $("held").append(found);
  }
  return found;
}

/** @param {string} name @param {Row[] | Record<string, Row>} held @param {number} total */
function showHeld(name, held, total) {
  const rows = (Array.isArray(held) ? held : Object.values(held)).reverse();
  const title = section(name).firstChild;
  const note = rows.length < total ? ` the newest ${rows.length} of ${total}` : "";
  title.replaceChildren(heading(name), element("span", note));
  section(name).lastChild.replaceChildren(table(rows));
}

// A table is only redrawn when something has changed, so that a selection in it stays.
let before = "";

/** @param {string} text */
function show(text) {
  if (text === before) return;
  before = text;
  const { service, totals, faults, requests, ...held } = JSON.parse(text);
  document.title = `${service} sandbox`;
  $("service").textContent = service;
  showFaultButtons(service);
  showTotals(totals);
  showFaults(faults);
  $("requests").replaceChildren(table(requests));
  for (const name of Object.keys(totals)) showHeld(name, held[name], totals[name]);
}

async function refresh() {
  try {
    const answer = await fetch(`/_sandbox/state?last=${SHOWN}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.text());
    $("status").textContent = "Live";
    $("status").className = "";
  } catch (/** @type {any} */ error) {
    $("status").textContent = `No answer from the stand-in (${error.message}); trying again`;
    $("status").className = "lost";
  }
}

/** @param {string} method @param {string} path @param {Row} [body] */
async function ask(method, path, body) {
  /** @type {RequestInit} */
  const request = { method };
  if (body) {
    request.headers = { "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  try {
    const answer = await fetch(path, request);
    $("problem").textContent = answer.ok ? "" : `Refused: ${await answer.text()}`;
  } catch (/** @type {any} */ error) {
    $("problem").textContent = `That did not get through: ${error.message}`;
  }
  await refresh();
}

async function keepRefreshing() {
  if (!document.hidden) await refresh();
  setTimeout(keepRefreshing, REFRESH_MS);
}

/** @param {string} service */
function showFaultButtons(service) {
  if ($("fault-buttons").hasChildNodes()) return;
  for (const [label, fault, only] of FAULTS) {
    if (only && only !== service) continue;
    const button = element("button", label);
    button.type = "button";
    button.addEventListener("click", () => {
      const times = Number($("times").value);
      ask("POST", "/_sandbox/faults", times ? { ...fault, times } : fault);
    });
    $("fault-buttons").append(button);
  }
}

$("clear-faults").addEventListener("click", () => ask("DELETE", "/_sandbox/faults"));
$("forget").addEventListener("click", () => ask("DELETE", "/_sandbox/state"));
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
keepRefreshing();
