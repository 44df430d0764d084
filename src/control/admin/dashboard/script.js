// The dashboard: asks the admin API once a second and shows what it says. Every text goes into the page as text, never
// as HTML: names of servers and request lines come from others.
"use strict";

const WINDOW_S = 300;
const CALM_MS = 1000;
// Large tables are asked for less often.
const BUSY_MS = 2500;
const LARGE = 150;
const ROWS_MAX = 50;
const EVENTS_MAX = 200;
const TOKEN = "evenkeel-token";
const STATES = {
  up: ["●", "Up"], down: ["✕", "Down"], starting: ["◌", "Starting"], ejected: ["▲", "Ejected"],
  drain: ["◐", "Draining"], maint: ["■", "Maintenance"],
};
const LEVELS = { error: "✕", warn: "▲", info: "●" };

const at = (id) => document.getElementById(id);
const seen = { pid: null, uptime: 0, history: 0, events: 0, samples: [], pools: new Map(), servers: [] };
let timer = null;

// ---- Elements

// An element with properties, attributes (in `attr`) and children, which are elements or texts.
function make(tag, properties = {}, ...children) {
  const { attr, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.entries(attr ?? {}).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

// Sets a text only when it changed, so that selections and screen readers are left in peace.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- Numbers

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (number) => grouped.format(number);

function percent(part) {
  return `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;
}

function rate(number) {
  if (number === 0) return "0";
  return number < 10 ? number.toFixed(1) : count(number);
}

function millis(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 100 ? `${ms.toFixed(0)} ms` : ms >= 10 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(2)} ms`;
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) [number, unit] = [number / 1000, unit + 1];
  return `${unit === 0 || number >= 100 ? number.toFixed(0) : number.toFixed(1)} ${units[unit]}`;
}

function age(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  const [d, h, m, s] = [seconds / 86400, (seconds % 86400) / 3600, (seconds % 3600) / 60, seconds % 60].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const since = (date) => age((Date.now() - Date.parse(date)) / 1000);

// A number that axes like: 1, 2 or 5 and zeros.
function round_up(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= number * 0.999) ?? number;
}

// ---- Charts

// A card with a title, a number, a chart over the window and a legend. `series` have a class, a name and `of(sample)`,
// which is null where there is no value; stacked ones are areas on top of each other.
function card(id, title, { series, stacked, unit }) {
  const big = make("p", { className: "big" });
  const svg = drawn("svg", { viewBox: `0 0 ${WINDOW_S} 100`, preserveAspectRatio: "none", role: "img" });
  const paths = series.map((one) => drawn("path", { class: `${stacked ? "area" : "line"} s-${one.style}` }));
  const cursor = drawn("line", { class: "cursor", y1: 0, y2: 100 });
  svg.append(...paths, cursor);
  const top = make("span", { className: "top-value" });
  const readout = make("span", { className: "readout", hidden: true });
  const chart = make("div", { className: "chart" }, svg, top, readout);
  const legend = make("div", { className: "legend" });
  at(id).append(make("h2", {}, title), big, chart, legend);

  chart.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WINDOW_S;
    const sample = seen.samples.find((one) => place(one) >= x - 0.5);
    chart.classList.toggle("on", Boolean(sample));
    readout.hidden = !sample;
    if (!sample) return;
    cursor.setAttribute("x1", place(sample));
    cursor.setAttribute("x2", place(sample));
    put(readout, `${clock(sample.at_ms)}  ${series.map((one) => `${one.name} ${unit(one.of(sample))}`).join("  ")}`);
  });
  chart.addEventListener("pointerleave", () => {
    chart.classList.remove("on");
    readout.hidden = true;
  });

  return {
    draw() {
      const values = seen.samples.map((sample) => series.map((one) => one.of(sample)));
      const sums = values.map((row) => row.reduce((sum, value) => (stacked ? sum + value : Math.max(sum, value ?? 0)), 0));
      const most = Math.max(0, ...sums);
      const scale = most > 0 ? round_up(most) : 1;
      const y = (value) => (100 - (value / scale) * 96).toFixed(2);
      paths.forEach((path, which) => path.setAttribute("d", stacked ? area(values, which, y) : line(values, which, y)));
      put(top, most > 0 ? unit(scale) : "");
      svg.setAttribute("aria-label", `${title}, the last five minutes, at most ${unit(most)}`);
    },
    say(number, name, ...items) {
      big.replaceChildren(number, make("small", {}, name));
      legend.replaceChildren(...items);
    },
  };
}

const place = (sample) => WINDOW_S - (seen.samples.at(-1).at_ms - sample.at_ms) / 1000;

function line(values, which, y) {
  let [path, drawing] = ["", false];
  values.forEach((row, index) => {
    const value = row[which];
    if (value !== null) path += `${drawing ? "L" : "M"}${place(seen.samples[index]).toFixed(1)} ${y(value)}`;
    // A lone value between two seconds without requests is a short line.
    if (value !== null && !drawing) path += "h.8";
    drawing = value !== null;
  });
  return path;
}

function area(values, which, y) {
  if (values.length < 2) return "";
  const below = (row) => row.slice(0, which).reduce((sum, value) => sum + value, 0);
  const x = (index) => place(seen.samples[index]).toFixed(1);
  const upper = values.map((row, index) => `${x(index)} ${y(below(row) + row[which])}`);
  const lower = values.map((row, index) => `${x(index)} ${y(below(row))}`).reverse();
  return `M${upper.join("L")}L${lower.join("L")}Z`;
}

const key = (style, name, value) => make("span", { className: `key k-${style}` }, `${name} `, make("b", {}, value));
const fact = (name, value) => make("span", {}, `${name} `, make("b", {}, value));
const per_second = (what) => (sample) => (what(sample) * 1000) / Math.max(1, sample.span_ms);
const flow = (number) => `${rate(number)}/s`;

const cards = {
  traffic: card("traffic", "Requests", {
    stacked: true, unit: flow,
    series: [
      { style: "ok", name: "1xx, 2xx", of: per_second((one) => one.responses["2xx"] + one.responses["1xx"]) },
      { style: "3", name: "3xx", of: per_second((one) => one.responses["3xx"]) },
      { style: "4", name: "4xx", of: per_second((one) => one.responses["4xx"] + one.responses.none) },
      { style: "5", name: "5xx", of: per_second((one) => one.responses["5xx"]) },
    ],
  }),
  latency: card("latency", "Latency", {
    unit: millis,
    series: ["p99", "p90", "p50"].map((name, at) => ({ style: ["5", "4", "ok"][at], name, of: (one) => one.request_ms?.[name] ?? null })),
  }),
  load: card("load", "In flight", {
    unit: count,
    series: [
      { style: "ok", name: "in flight", of: (one) => one.in_flight },
      { style: "5", name: "waiting", of: (one) => one.waiting + one.queued },
    ],
  }),
  workers: card("workers", "Workers", { unit: count, series: [{ style: "ok", name: "workers", of: (one) => one.workers }] }),
};

function show_cards(status) {
  Object.values(cards).forEach((one) => one.draw());
  // The last five seconds, so that the numbers can be read.
  const last = seen.samples.slice(-5);
  const mean = (what) => last.reduce((sum, one) => sum + per_second(what)(one), 0) / Math.max(1, last.length);
  const classes = (...names) => mean((one) => names.reduce((sum, name) => sum + one.responses[name], 0));
  cards.traffic.say(
    rate(mean((one) => one.requests)), "per second",
    key("ok", "2xx", rate(classes("1xx", "2xx"))), key("3", "3xx", rate(classes("3xx"))),
    key("4", "4xx", rate(classes("4xx", "none"))), key("5", "5xx", rate(classes("5xx"))),
    fact("in", `${bytes(mean((one) => one.bytes_in))}/s`), fact("out", `${bytes(mean((one) => one.bytes_out))}/s`),
  );
  const timed = seen.samples.findLast((one) => one.request_ms);
  const recent = timed && seen.samples.at(-1).at_ms - timed.at_ms < 10000 ? timed.request_ms : {};
  cards.latency.say(
    millis(recent.p50), "median", key("ok", "p50", millis(recent.p50)), key("4", "p90", millis(recent.p90)),
    key("5", "p99", millis(recent.p99)), fact("since the start: p99", millis(status.totals.requests ? status.totals.request_ms.p99 : null)),
  );
  const pool = status.threadpool;
  cards.load.say(
    count(pool.in_flight), "requests", key("5", "waiting for a server", count(pool.waiting)),
    fact("for a worker", `${count(pool.queued)} of ${count(pool.queue_capacity)}`),
    fact("connections", count(status.totals.connections.open)), fact("tunnels", count(status.totals.connections.tunnels)),
  );
  cards.workers.say(
    count(pool.workers), `of ${count(pool.max)}`, fact("started", count(pool.started)), fact("stopped", count(pool.stopped)),
    fact("rejected or failed", `${rate(mean((one) => one.rejections))}/s`), fact("retries", `${rate(mean((one) => one.retries))}/s`),
  );
}

// ---- Servers

const COLUMNS = [
  ["c-name", "Server", ""], ["c-state", "State", ""], ["c-why", "Reason and last check", ""], ["c-rate", "Req/s", "number"],
  ["c-share", "Share", ""], ["c-flight", "In flight", "number"], ["c-latency", "Latency", "number"],
  ["c-weight", "Weight", "number"], ["c-actions", "", "actions"],
];

function pool_of(name) {
  if (seen.pools.has(name)) return seen.pools.get(name);
  const body = make("tbody");
  const heads = COLUMNS.map(([style, title, more]) => make("th", { className: `${style} ${more}`, scope: "col" }, title || make("span", { className: "hidden" }, "Change")));
  const table = make("table", { className: "servers", ariaLabel: `Servers of ${name}` }, make("thead", {}, make("tr", {}, ...heads)), body);
  const facts = make("span", { className: "facts" });
  const summary = make("summary", {}, make("h3", {}, name));
  const tiers = make("ul", { className: "tiers", hidden: true, attr: { "aria-label": `Tiers of ${name}` } });
  const element = make("details", { className: "pool", open: true }, summary, tiers, table);
  const pool = { name, element, summary, tiers, facts, body, rows: new Map() };
  at("pools").append(element);
  seen.pools.set(name, pool);
  return pool;
}

function show_pools(status) {
  seen.servers = status.servers;
  const is_new = seen.pools.size === 0;
  const rates = new Map();
  status.servers.forEach((one) => rates.set(one.pool, (rates.get(one.pool) ?? 0) + one.rate));
  status.pools.forEach((told) => {
    const pool = pool_of(told.name);
    // Long tables of several pools would hide each other.
    if (is_new && told.servers > 40 && status.pools.length > 1) pool.element.open = false;
    // A lower tier that waits for its turn is no fault.
    const able = told.tiers?.length > 0 ? told.tiers.reduce((sum, tier) => sum + tier.ready, 0) : told.ready;
    const style = told.fail_open ? "bad" : told.servers === 0 || told.ready > 0 ? (able < told.servers ? "warn" : "") : "bad";
    const facts = [
      ["", "", told.algorithm], [style, "", `${told.ready} of ${told.servers} take requests${told.fail_open ? `, ${told.fail_open.used} of them not up` : ""}`], ["", "req/s", rate(rates.get(told.name) ?? 0)],
      ["", "in flight", count(told.in_flight)], [told.waiting ? "warn" : "", "waiting", `${count(told.waiting)} of ${count(told.queue_capacity)}`],
    ].map(([style, name, value]) => make("span", { className: `fact ${style}` }, name ? `${name} ` : "", make("b", {}, value)));
    pool.summary.replaceChildren(pool.summary.firstChild, ...facts);
    show_tiers(pool, told.tiers ?? []);
    show_rows(pool, status.servers.filter((one) => one.pool === told.name));
  });
  const told = new Set(status.pools.map((one) => one.name));
  seen.pools.forEach((pool, name) => {
    if (told.has(name)) return;
    pool.element.remove();
    seen.pools.delete(name);
  });
  filter();
}

// Which part of the requests each tier gets now; a pool with one tier has no list.
function show_tiers(pool, tiers) {
  pool.tiers.hidden = tiers.length === 0;
  pool.tiers.replaceChildren(...tiers.map((tier) => {
    const style = tier.ready === 0 ? "bad" : tier.ready < tier.servers ? "warn" : "";
    return make("li", {},
      make("b", {}, tier.name), make("span", { className: `fact ${style}` }, make("b", {}, `${tier.ready} of ${tier.servers}`), " can take requests"),
      make("div", { className: "share" }, make("meter", { min: 0, max: 1, value: tier.share, attr: { "aria-hidden": "true" } }), make("span", {}, percent(tier.share))));
  }));
}

// What decides on the tier of a server, the name that it is an address of, and its slow start.
const badges_of = (server) => [
  server.backup && ["backup", "Gets requests only while no other server can take them"],
  server.priority > 0 && [`priority ${server.priority}`, "0 comes first; the next one gets requests where it has too few servers"],
  server.zone && [`zone ${server.zone}`, "A balancer in the same zone prefers it"],
  server.member_of && [`member of ${server.member_of}`, "One of the addresses of this name"],
  server.slow_start && [`slow start, ${percent(server.slow_start)} of its share`, "It has just come up, and gets more and more requests until it has its whole share"],
].filter(Boolean);

function show_rows(pool, servers) {
  const names = new Set(servers.map((one) => one.name));
  pool.rows.forEach((row, name) => {
    if (names.has(name)) return;
    row.element.remove();
    pool.rows.delete(name);
  });
  servers.forEach((server) => {
    let row = pool.rows.get(server.name);
    if (!row) {
      row = new_row(server);
      pool.rows.set(server.name, row);
      pool.body.append(row.element);
    }
    update_row(row, server);
  });
}

function new_row(server) {
  const cell = Object.fromEntries(COLUMNS.map(([style, title, more]) => {
    const is_labelled = title && style !== "c-name" && style !== "c-state" && style !== "c-why";
    return [style.slice(2), make("td", { className: `${style} ${more}`, attr: is_labelled ? { "data-name": title } : {} })];
  }));
  const row = {
    cell, server, name: make("div", { className: "name" }), tags: make("div", { className: "tags", hidden: true }), address: make("div", { className: "sub" }), state: make("span"),
    why: make("div", { className: "why" }), check: make("div", { className: "sub" }),
    meter: make("meter", { min: 0, max: 1, attr: { "aria-hidden": "true" } }), share: make("span"),
    weight: make("button", { type: "button", className: "weight" }), action: make("button", { type: "button" }),
    element: make("tr"),
  };
  cell.name.append(row.name, row.tags, row.address);
  cell.state.append(row.state);
  cell.why.append(row.why, row.check);
  cell.share.append(make("div", { className: "share" }, row.meter, row.share));
  cell.weight.append(row.weight);
  cell.actions.append(row.action);
  row.weight.addEventListener("click", () => ask_weight(row));
  row.action.addEventListener("click", () => (row.server.mode === "ready" ? ask_drain(row) : change(row, { state: "ready" })));
  row.element.append(...COLUMNS.map(([style]) => cell[style.slice(2)]));
  return row;
}

function update_row(row, server) {
  row.server = server;
  const [mark, word] = STATES[server.state] ?? ["?", server.state];
  const badges = badges_of(server);
  const named = [server.name, ...badges.map(([text]) => text)].join("\n");
  if (row.named !== named) {
    row.named = named;
    put(row.name, server.name);
    row.tags.hidden = badges.length === 0;
    row.tags.replaceChildren(...badges.map(([text, title]) => make("span", { className: "tag", title }, text)));
  }
  put(row.address, server.address);
  const style = `state ${server.state}${server.fail_open ? " used" : ""}`;
  if (row.state.className !== style) {
    row.state.className = style;
    row.state.replaceChildren(make("span", { attr: { "aria-hidden": "true" } }, mark), server.fail_open ? `${word}, used` : word);
  }
  const duration = server.since ? `for ${since(server.since)}` : "";
  const reasons = { up: duration && `Up ${duration}`, drain: server.mode === "ready" ? server.reason : "Drained by the operator", maint: server.mode === "ready" ? server.reason : "Taken out by the operator" };
  put(row.why, reasons[server.state] ?? [server.reason, duration].filter(Boolean).join(", "));
  row.why.title = server.reason ?? "";
  const check = server.last_check;
  const lost = server.name_lookup?.error ? `; name: ${server.name_lookup.error}` : "";
  const failed = server.last_failed_check;
  const failure = failed && failed.at !== check?.at ? `; failed ${since(failed.at)} ago: ${failed.outcome}` : "";
  put(row.check, (check ? `Check (${check.type}): ${check.outcome} in ${millis(check.took_ms)}, ${since(check.at)} ago${failure}` : "Not checked") + lost);
  put(row.cell.rate, rate(server.rate));
  row.meter.value = server.share ?? 0;
  put(row.share, server.share === null ? "–" : percent(server.share));
  put(row.cell.flight, count(server.in_flight) + (server.max_in_flight ? ` / ${count(server.max_in_flight)}` : ""));
  put(row.cell.latency, millis(server.ewma_ms));
  put(row.weight, String(server.weight));
  row.weight.setAttribute("aria-label", `Weight of ${server.name}: ${server.weight}. Change it`);
  const action = server.mode === "ready" ? "Drain" : "Make ready";
  put(row.action, action);
  row.action.setAttribute("aria-label", `${action}: ${server.name}`);
}

// `opens`: the user asked, so pools with a match are opened.
function filter(opens = false) {
  const text = at("filter").value.trim().toLowerCase();
  const troubled = at("troubled").checked;
  let shown = 0;
  seen.pools.forEach((pool) => {
    let here = 0;
    pool.rows.forEach((row) => {
      const { name, address, state } = row.server;
      const matches = [name, address, state, pool.name].some((part) => part.toLowerCase().includes(text));
      row.element.hidden = !matches || (troubled && state === "up");
      here += Number(!row.element.hidden);
    });
    pool.element.hidden = here === 0 && (text !== "" || troubled || pool.rows.size === 0 && seen.pools.size > 1);
    if (opens && here > 0 && (text !== "" || troubled)) pool.element.open = true;
    shown += here;
  });
  const all = seen.servers.length;
  const down = seen.servers.filter((one) => one.state !== "up").length;
  put(at("summary"), `${shown === all ? all : `${shown} of ${all}`}${down ? `, ${down} not up` : ""}`);
  put(at("none"), all === 0 ? "No servers yet. Add them to the configuration, or start one with: evenkeel server 9001" : "No server matches the filter.");
  at("none").hidden = shown > 0;
}

// ---- Changes

const path_of = (server) => `api/v1/pools/${encodeURIComponent(server.pool)}/servers/${encodeURIComponent(server.name)}`;

async function change(row, what) {
  const { server } = row;
  row.action.disabled = row.weight.disabled = true;
  const response = await call(path_of(server), { method: "PATCH", body: JSON.stringify(what), headers: { "Content-Type": "application/json" } });
  row.action.disabled = row.weight.disabled = false;
  if (response.status !== 200) return `${server.name} was not changed: ${response.fault}`;
  update_row(row, response.json);
  filter();
  put(at("said"), `${server.name} is now ${(STATES[response.json.state] ?? [, response.json.state])[1].toLowerCase()}, with weight ${response.json.weight}`);
  return null;
}

async function ask_drain(row) {
  await ask({
    title: `Drain ${row.server.name}?`,
    text: `Requests in flight (${count(row.server.in_flight)}) are finished; it gets no new ones until it is made ready again.`,
    ok: "Drain",
    act: () => change(row, { state: "drain" }),
  });
  row.action.focus();
}

async function ask_weight(row) {
  await ask({
    title: `Weight of ${row.server.name}`,
    text: "0 to 1000: its share of the traffic beside the weights of the other servers. 0: no new requests.",
    ok: "Set", name: "Weight", type: "number", value: row.server.weight,
    act: (value) => (/^\d+$/.test(value) ? change(row, { weight: Number(value) }) : "Write a whole number."),
  });
  row.weight.focus();
}

// A dialog. `act` gets the value and returns a sentence if it did not work.
function ask({ title, text, ok, name, type = "text", value = "", act }) {
  const dialog = at("dialog");
  put(at("dialog-title"), title);
  put(at("dialog-text"), text);
  put(at("dialog-ok"), ok);
  put(at("dialog-name"), name ?? "");
  at("dialog-label").hidden = !name;
  at("dialog-fault").hidden = true;
  Object.assign(at("dialog-input"), { type, value, min: type === "number" ? 0 : "" });
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  at("form").onsubmit = async (event) => {
    event.preventDefault();
    at("dialog-ok").disabled = true;
    const fault = await act(at("dialog-input").value.trim());
    at("dialog-ok").disabled = false;
    at("dialog-fault").hidden = !fault;
    put(at("dialog-fault"), fault ?? "");
    if (!fault) dialog.close();
    // What is typed next replaces it.
    else if (name) at("dialog-input").select();
  };
  if (!dialog.open) dialog.showModal();
  (name ? at("dialog-input") : at("dialog-cancel")).focus();
  return closed;
}

// ---- Events and requests

function show_events(told) {
  const list = at("events");
  if (told.events.length === 0) return;
  list.querySelector(".empty")?.remove();
  told.events.forEach((event) => {
    const time = make("time", { dateTime: event.at, title: new Date(event.at_ms).toLocaleString() }, clock(event.at_ms));
    const mark = make("span", { className: "mark", title: event.level, attr: { "aria-label": event.level, role: "img" } }, LEVELS[event.level] ?? "●");
    list.prepend(make("li", { className: event.level }, time, mark, make("span", {}, event.text)));
  });
  while (list.childElementCount > EVENTS_MAX) list.lastChild.remove();
}

function show_requests(told) {
  put(at("requests-count"), told.total > ROWS_MAX ? `the ${ROWS_MAX} oldest of ${count(told.total)}` : count(told.total));
  at("requests-none").hidden = told.total > 0;
  const rows = told.requests.slice(0, ROWS_MAX).map((one) => {
    const who = [one.client, one.id].filter(Boolean).join(" · ");
    const request = make("td", {}, one.request ?? "tunnel", make("div", { className: "sub" }, who));
    return make("tr", {}, make("td", { className: "number" }, millis(one.age_ms)), request, make("td", {}, one.server ?? "–"), make("td", {}, one.waits_for));
  });
  at("requests").replaceChildren(...rows);
}

function show_instance(status) {
  const { instance } = status;
  const file = instance.config ?? "none";
  const loaded = status.config?.loaded_at ? `${file} (read ${since(status.config.loaded_at)} ago)` : file;
  const facts = [["Configuration", loaded], ["Listens on", instance.listeners.join(", ")], ["Process", String(instance.pid)], ["Up", age(status.uptime_s)]];
  at("instance").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  put(at("footer"), `Evenkeel ${status.version}`);
  document.title = `${status.servers.some((one) => one.state === "down") ? "▲ " : ""}Evenkeel ${instance.listeners[0] ?? ""}`;
  const reload = status.config?.last_reload;
  if (reload?.result === "failed") complain(`The last reload failed, and changed nothing: ${reload.message}`);
}

// ---- The API

async function call(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  try {
    const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
    const text = await response.text();
    let json = null;
    try { json = JSON.parse(text); } catch { /* A sentence of somebody between us and the balancer. */ }
    return { status: response.status, json, fault: json?.error ?? `${response.status} ${text.slice(0, 200)}` };
  } catch {
    return { status: 0, json: null, fault: "the balancer does not respond" };
  }
}

function complain(text) {
  at("problem").hidden = !text;
  put(at("problem"), text ?? "");
}

function live(style, text) {
  at("live").className = `live ${style}`;
  put(at("live"), text);
}

async function ask_token() {
  const was_wrong = sessionStorage.getItem(TOKEN) !== null;
  live("warn", "needs the token");
  await ask({
    title: "Token", ok: "Open", name: "admin.token", type: "password",
    text: `${was_wrong ? "That was not the token. " : ""}This balancer has an admin.token. It is kept in this tab only, until the tab is closed.`,
    act: async (value) => {
      sessionStorage.setItem(TOKEN, value);
      const response = await call("api/v1/pools");
      return response.status === 200 ? null : response.fault;
    },
  });
}

async function update() {
  // Without this question the first call would leave an error in the console.
  if (document.documentElement.dataset.token && sessionStorage.getItem(TOKEN) === null) {
    await ask_token();
    return;
  }
  const status = await call("api/v1/status");
  if (status.status === 401) {
    await ask_token();
    return;
  }
  if (status.status !== 200) {
    live("bad", "no data");
    document.body.classList.add("stale");
    complain(status.status === 0 ? "The balancer does not respond. What is shown is from before; the page tries again every second." : status.fault);
    return;
  }
  const { instance: { pid }, uptime_s } = status.json;
  if (seen.pid !== null && (pid !== seen.pid || uptime_s < seen.uptime)) {
    Object.assign(seen, { history: 0, events: 0, samples: [] });
    at("events").replaceChildren();
  }
  Object.assign(seen, { pid, uptime: uptime_s });
  const [history, events, requests] = await Promise.all([
    call(`api/v1/history?since=${seen.history}`), call(`api/v1/events?since=${seen.events}`), call("api/v1/requests"),
  ]);
  if (history.status === 200) {
    seen.history = history.json.next;
    seen.samples = [...seen.samples, ...history.json.samples].slice(-WINDOW_S);
  }
  complain(null);
  document.body.classList.remove("stale");
  show_instance(status.json);
  show_cards(status.json);
  show_pools(status.json);
  if (events.status === 200) {
    seen.events = events.json.next;
    show_events(events.json);
  }
  if (requests.status === 200) show_requests(requests.json);
  live(status.json.draining ? "warn" : "good", status.json.draining ? "draining" : "live");
}

async function loop() {
  clearTimeout(timer);
  if (!document.hidden) await update();
  clearTimeout(timer);
  timer = setTimeout(loop, seen.servers.length > LARGE ? BUSY_MS : CALM_MS);
}

at("filter").addEventListener("input", () => filter(true));
at("troubled").addEventListener("change", () => filter(true));
at("dialog-cancel").addEventListener("click", () => at("dialog").close());
document.addEventListener("visibilitychange", () => document.hidden || loop());
loop();
