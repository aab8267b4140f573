// Computes the numbers of a page anew for the questions that its reader chooses, from the rows that the page holds.
// The definitions are those of lib/whoknows/evaluation; tests/report/test_recompute.py holds the numbers against them.
window.whoknowsRecompute = (() => {
  // --- The rows, as report/pages/recompute.py packs them.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  const unpack = (packed) => {
    const parts = packed.tasks.flatMap((task) => task.parts.map(([name, count]) => ({ name, count, task: task.name })));
    let at = 0;
    for (const part of parts) [part.start, part.end] = [at, (at += part.count)];
    const answers = packed.answers.map(({ grades, words }) => ({ grades, words: bytes(words) }));
    const cells = packed.cells.map((cell) => ({
      ...cell,
      key: [cell.method, cell.reader, cell.trained_on, cell.scored].join("/"),
      seeds: cell.seeds.map(({ logit, fit }) => {
        const [threshold, slope, offset] = new Float64Array(bytes(fit).buffer);
        return { logit: new Float32Array(bytes(logit).buffer), threshold, slope, offset };
      }),
    }));
    return { ...packed, parts, answers, cells, count: at, unknown: 255, measures: metrics(packed.bins) };
  };

  // --- Which answers are chosen: for each scored model a mask over questions.
  const select = (data, choice) => {
    const { low, high } = choice.words;
    const [isAny, from, to] = [low === null && high === null, low ?? 0, high ?? data.unknown];
    const kept = data.answers.map(() => new Uint8Array(data.count));
    for (const part of data.parts.filter((one) => choice.tasks.includes(one.task)))
      for (let q = part.start; q < part.end; q++) {
        const grades = data.answers.map((of) => of.grades[q]);
        if (choice.disagree && !(grades.includes("1") && grades.includes("0"))) continue;
        data.answers.forEach((of, model) => {
          const words = of.words[q];
          const fits = isAny || (words !== data.unknown && words >= from && words <= to);
          if (grades[model] !== "-" && fits) kept[model][q] = 1;
        });
      }
    return kept;
  };

  // --- Metrics of answers, each of which counts as often as its weight says: 1, or as often as a resample drew it.
  const expit = (logit) => 1 / (1 + Math.exp(-logit));

  const compared = (one, other) => (one < other ? -1 : Number(one > other)); // a difference of infinities is none

  // Answers in the order of their confidences; `last` ends each group of equal ones.
  const ordered = (data, cell, seed, kept, ranges) => {
    const model = data.models.indexOf(cell.scored);
    const [mask, { grades }] = [kept[model], data.answers[model]];
    const found = [];
    for (const { start, end } of ranges)
      for (let q = start; q < end; q++) if (mask[q] && !Number.isNaN(seed.logit[q])) found.push(q);
    const order = Int32Array.from(found).sort((one, other) => compared(seed.logit[one], seed.logit[other]));
    const right = Uint8Array.from(order, (q) => grades[q] === "1");
    const last = Uint8Array.from(order, (q, k) => k === order.length - 1 || seed.logit[order[k + 1]] !== seed.logit[q]);
    const n_right = right.reduce((sum, one) => sum + one, 0);
    return { order, right, last, seed, n: order.length, n_right };
  };

  // Of all weighted pairs of a right and a wrong answer the share in order; ties count half.
  const auroc = ({ order, right, last }, weight) => {
    let [pairs, rights, wrongs, r, w] = [0, 0, 0, 0, 0];
    for (let k = 0; k < order.length; k++) {
      if (right[k]) r += weight[order[k]];
      else w += weight[order[k]];
      if (!last[k]) continue;
      pairs += r * (wrongs + w / 2);
      rights += r;
      wrongs += w;
      r = w = 0;
    }
    return rights && wrongs ? pairs / (rights * wrongs) : NaN;
  };

  // A mean of one value for each answer; missing where only one grade is there.
  const mean = (values) => (part, weight) => {
    part[values.name] ??= values(part);
    const each = part[values.name];
    let [sum, count, rights] = [0, 0, 0];
    for (let k = 0; k < each.length; k++) {
      const times = weight[part.order[k]];
      sum += times * each[k];
      count += times;
      if (part.right[k]) rights += times;
    }
    return rights && rights < count ? sum / count : NaN;
  };

  const logits = ({ order, seed }, scaled) =>
    Float64Array.from(order, (q) => (scaled ? seed.slope * seed.logit[q] + seed.offset : seed.logit[q])); // Platt's

  const squares = (part) => logits(part, false).map((logit, k) => (expit(logit) - part.right[k]) ** 2);

  const called = ({ order, right, seed }) =>
    Float64Array.from(order, (q, k) => {
      if (Number.isNaN(seed.threshold)) return NaN;
      return Number(seed.logit[q] >= seed.threshold) === right[k] ? 1 : 0;
    });

  // Sums of 1 / i: w answers of one confidence, e of them wrong, after n more confident ones, c of them wrong, have the
  // risks (c + j e / w) / (n + j), which sum to e + (c - n e / w) (H(n + w) - H(n)).
  let harmonic = new Float64Array(1);
  const harmonics = (count) => {
    if (harmonic.length <= count) {
      harmonic = new Float64Array(2 * count + 2);
      for (let i = 1; i < harmonic.length; i++) harmonic[i] = harmonic[i - 1] + 1 / i;
    }
    return harmonic;
  };

  const risk = ({ order, right, last }, weight) => {
    let count = 0;
    for (const q of order) count += weight[q];
    const H = harmonics(count);
    let [sum, passed, wrongs, w, e] = [0, 0, 0, 0, 0];
    for (let k = order.length - 1; k >= 0; k--) {
      w += weight[order[k]];
      if (!right[k]) e += weight[order[k]];
      if (k > 0 && !last[k - 1]) continue;
      if (w) sum += e + (wrongs - (passed * e) / w) * (H[passed + w] - H[passed]);
      passed += w;
      wrongs += e;
      w = e = 0;
    }
    const rights = count - wrongs;
    if (!rights || !wrongs) return { aurc: NaN, prr: NaN };
    const [aurc, chance, best] = [sum / count, wrongs / count, (wrongs - rights * (H[count] - H[rights])) / count];
    return { aurc, prr: (chance - aurc) / (chance - best) };
  };

  // Of equal width; confidences of exactly 0 and 1 fall in the first and the last bin.
  const binOf = (confidence, bins) => Math.min(Math.floor(confidence * bins), bins - 1);

  const ece = (bins, scaled) => (part) => {
    const sums = new Float64Array(bins);
    const each = logits(part, scaled).map(expit);
    if (each.some(Number.isNaN)) return NaN;
    each.forEach((confidence, k) => (sums[binOf(confidence, bins)] += confidence - part.right[k]));
    return sums.reduce((sum, one) => sum + Math.abs(one), 0) / part.n;
  };

  const metrics = (bins) => ({
    auroc,
    pooled_auroc: auroc,
    prr: (part, weight) => risk(part, weight).prr,
    aurc: (part, weight) => risk(part, weight).aurc,
    threshold_accuracy: mean(called),
    brier: mean(squares),
    ece: ece(bins, false),
    ece_platt: ece(bins, true),
  });

  // --- Cells: means over tasks, then over seeds; what has one grade alone is in no mean.
  const average = (values) => {
    let [sum, count] = [0, 0];
    for (const value of values) if (!Number.isNaN(value)) [sum, count] = [sum + value, count + 1];
    return count ? sum / count : NaN;
  };

  const prepare = (data, choice, kept, cell) => {
    const asked = data.tasks.filter((task) => choice.tasks.includes(task.name));
    const ranges = data.parts.filter((part) => choice.tasks.includes(part.task));
    const seeds = cell.seeds.map((seed) => {
      const parts = ranges.map((range) => ordered(data, cell, seed, kept, [range]));
      const both = parts.filter(({ n, n_right }) => n_right > 0 && n_right < n);
      return { parts, both, all: ordered(data, cell, seed, kept, ranges) };
    });
    const least = (of) => Math.min(...seeds.map(({ parts }) => parts.reduce((sum, part) => sum + of(part), 0)));
    const counts = {
      n: least((part) => part.n),
      n_right: least((part) => part.n_right),
      n_rarer: least((part) => Math.min(part.n_right, part.n - part.n_right)),
      n_tasks: Math.min(...seeds.map(({ both }) => both.length)),
      of_tasks: asked.reduce((sum, task) => sum + Math.max(1, task.parts.length), 0),
    };
    return { cell, seeds, ...counts, reason: why(counts, seeds, data.least) };
  };

  const why = ({ n_tasks, n_rarer }, seeds, least) => {
    if (n_tasks && n_rarer >= least) return "";
    const s = n_rarer === 1 ? "" : "s";
    if (n_tasks) return `${n_rarer} answer${s} of the rarer grade within tasks, and a value takes ${least}`;
    const all = seeds[0].all;
    if (!all.n) return "none of its answers is chosen";
    if (!all.n_right) return "none of the chosen answers is right";
    return all.n_right === all.n ? "none of the chosen answers is wrong" : "no task has both right and wrong answers";
  };

  const value = (data, prepared, metric, weight) => {
    const of = data.measures[metric];
    const pooled = metric === "pooled_auroc";
    const once = ({ both, all }) => (pooled ? of(all, weight) : average(both.map((part) => of(part, weight))));
    return average(prepared.seeds.map(once));
  };

  // --- Resamples: questions with replacement within each task, the same ones for all cells.
  // A hash of the task's name and size seeds a small generator (sfc32), so that a link shows the same numbers.
  const generator = (text) => {
    let [a, b, c, d] = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 1];
    const next = () => {
      const out = (((a + b) | 0) + d) | 0;
      d = (d + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + out;
      return out >>> 0;
    };
    for (const letter of text) {
      a ^= letter.codePointAt(0);
      next();
    }
    for (let i = 0; i < 20; i++) next();
    return (count) => Math.floor((next() / 2 ** 32) * count);
  };

  const interval = (draws, level) => {
    const sorted = draws.filter((draw) => !Number.isNaN(draw)).sort();
    const at = (share) => {
      const place = (sorted.length - 1) * share;
      const below = Math.floor(place);
      return sorted[below] + (place - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
    };
    return sorted.length ? [at((1 - level) / 2), at(1 - (1 - level) / 2)] : [NaN, NaN];
  };

  // Questions, of those from start to end, with a chosen answer of any model.
  const chosen = (kept, start, end) => {
    const places = [];
    for (let q = start; q < end; q++) if (kept.some((mask) => mask[q])) places.push(q);
    return places;
  };

  // Values first, then intervals; gives way after each piece of work, and whoever asks may stop then.
  function* steps(data, choice, shown) {
    const kept = select(data, choice);
    const results = [];
    for (const cell of shown) {
      results.push(prepare(data, choice, kept, cell));
      yield;
    }
    const ones = new Uint16Array(data.count).fill(1);
    for (const result of results) {
      result.value = result.reason ? NaN : value(data, result, choice.metric, ones);
      [result.low, result.high] = [NaN, NaN];
    }
    yield results;
    const asked = data.metrics[choice.metric].interval ? results.filter(({ reason }) => !reason) : [];
    const draws = asked.map(() => new Float64Array(choice.resamples));
    const tasks = data.parts
      .map(({ name, start, end }) => ({ name, places: chosen(kept, start, end) }))
      .filter(({ places }) => places.length)
      .map(({ name, places }) => ({ places: Int32Array.from(places), draw: generator(`${name}\n${places.length}`) }));
    const weight = new Uint16Array(data.count);
    for (let at = 0; asked.length && at < choice.resamples; at++) {
      weight.fill(0);
      for (const { places, draw } of tasks)
        for (let i = 0; i < places.length; i++) weight[places[draw(places.length)]]++;
      for (let which = 0; which < asked.length; which++)
        draws[which][at] = value(data, asked[which], choice.metric, weight);
      yield;
    }
    asked.forEach((result, which) => ([result.low, result.high] = interval(draws[which], data.level)));
    return results;
  }

  const compute = (data, choice, shown = data.cells) => {
    const work = steps(data, choice, shown);
    for (;;) {
      const { done, value: results } = work.next();
      if (done) return results;
    }
  };

  // --- Reliability: the bins of ECE, of all tasks and seeds together, with Wilson's intervals; an empty one has none.
  const reliability = (data, prepared, scaled = false) => {
    const points = prepared.seeds.flatMap(({ all }) =>
      Array.from(logits(all, scaled), (logit, k) => ({ confidence: expit(logit), right: all.right[k] })),
    );
    if (points.some(({ confidence }) => Number.isNaN(confidence))) return [];
    const bins = Array.from({ length: data.bins }, () => []);
    for (const point of points) bins[binOf(point.confidence, data.bins)].push(point);
    return bins.filter((those) => those.length).map((those) => share(those, prepared.seeds.length));
  };

  // Seeds score the same answers: an interval is that of as many answers as there are in the mean over seeds.
  const share = (points, seeds, z = 1.96) => {
    const n = points.length / seeds;
    const right = points.reduce((sum, point) => sum + point.right, 0) / seeds;
    const x = points.reduce((sum, point) => sum + point.confidence, 0) / points.length;
    const middle = (right + (z * z) / 2) / (n + z * z);
    const spread = (z / (n + z * z)) * Math.sqrt((right * (n - right)) / n + (z * z) / 4);
    return { x, y: right / n, low: middle - spread, high: middle + spread, n };
  };

  return { unpack, select, chosen, steps, compute, prepare, value, reliability };
})();

// --- The page: what is chosen stands in its address, behind the #.
(() => {
  const { unpack, select, chosen, steps, value, reliability } = window.whoknowsRecompute;
  const SVG = "http://www.w3.org/2000/svg";

  // Names and texts are only ever text: nothing here reads HTML.
  const filled = (node, attributes, children) => {
    for (const [name, text] of Object.entries(attributes))
      if (text !== null && text !== false) node.setAttribute(name, text);
    node.append(...children);
    return node;
  };
  const make = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
  const draw = (name, attributes = {}, ...children) =>
    filled(document.createElementNS(SVG, name), attributes, children);

  // What is shown as zero has no sign; what is below has a true minus.
  const fixed = (number, digits) => number.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "\u2212");
  const shownAs = (number, digits = 2) => (Number.isNaN(number) ? "—" : fixed(number, digits));
  const between = ({ low, high }, digits = 2) =>
    Number.isNaN(low) ? "" : `${fixed(low, digits)} – ${fixed(high, digits)}`;
  const grouped = (count) => count.toLocaleString("en-US");
  const counted = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;
  const ROLES = { train: "in-distribution", shift: "shift" };

  // --- What can be chosen, and how it stands in the address.
  const trainedOf = (data) => Object.keys(data.methods).filter((method) => data.methods[method].trained);

  const usual = (data) => {
    const trained = data.tasks.filter(({ role }) => role === "train");
    const methods = trainedOf(data);
    const left = methods.includes("probe") ? "probe" : (methods[0] ?? "");
    const right = methods.includes("lora_prompt") ? "lora_prompt" : (methods.find((method) => method !== left) ?? "");
    return {
      tasks: (trained.length ? trained : data.tasks).map(({ name }) => name),
      words: { low: null, high: null },
      disagree: false,
      metric: "auroc",
      reading: Object.keys(data.readings)[0],
      left,
      right,
      resamples: data.resamples.usual,
      cell: "",
    };
  };

  const options = (data) => ({
    metric: Object.keys(data.metrics),
    reading: Object.keys(data.readings),
    left: trainedOf(data),
    right: trainedOf(data),
    resamples: data.resamples.options,
    cell: data.cells.map(({ key }) => key),
  });

  const WORDS = /^(\d*)-(\d*)$/;

  const written = (choice, first) => {
    const query = new URLSearchParams();
    const tasks = choice.tasks.length ? choice.tasks : [""];
    if (String(choice.tasks) !== String(first.tasks)) for (const task of tasks) query.append("task", task);
    const { low, high } = choice.words;
    if (low !== null || high !== null) query.set("words", `${low ?? ""}-${high ?? ""}`);
    if (choice.disagree) query.set("disagree", "yes");
    for (const name of ["metric", "reading", "left", "right", "resamples", "cell"])
      if (choice[name] !== first[name]) query.set(name, choice[name]);
    return query.toString();
  };

  // What an address does not name, or names wrongly, is as usual; the latter is `ignored`.
  const asked = (data, hash) => {
    const [choice, names, listed] = [usual(data), data.tasks.map(({ name }) => name), options(data)];
    const known = new Map(Object.entries({ task: ["", ...names], disagree: ["yes"], ...listed }));
    const isKnown = ([name, text]) =>
      name === "words" ? WORDS.test(text) : (known.get(name) ?? []).some((one) => String(one) === text);
    const named = [...new URLSearchParams(hash.replace(/^#/, ""))];
    const query = new URLSearchParams(named.filter(isKnown));
    const wanted = query.getAll("task");
    if (query.has("task")) choice.tasks = names.filter((name) => wanted.includes(name));
    const [, low, high] = WORDS.exec(query.get("words") ?? "-");
    // The most that is stored of a length stands for all that is longer.
    const capped = (text) => (text ? Math.min(Number(text), data.unknown - 1) : null);
    choice.words = { low: capped(low), high: capped(high) };
    choice.disagree = query.has("disagree");
    for (const name of Object.keys(listed))
      choice[name] = listed[name].find((one) => String(one) === query.get(name)) ?? choice[name];
    return { choice, ignored: named.filter((one) => !isKnown(one)).map((one) => one.join("=")) };
  };

  // --- Colours of report/pages/style.py: dark purple is worse, light orange better.
  const domain = (values, chance) => {
    const there = [...values.filter((one) => !Number.isNaN(one)), ...(chance === null ? [] : [chance])];
    const [all, parts] = [there.length ? there : [0], chance === null ? 100 : 20];
    const low = Math.floor(Math.min(...all) * parts) / parts;
    return [low, Math.max(Math.ceil(Math.max(...all) * parts) / parts, low + 2 / parts)];
  };

  const colour = (ramp, place) => {
    const at = Math.min(Math.max(place, 0), 1) * (ramp.length - 1);
    const parts = (stop) => [1, 3, 5].map((i) => parseInt(ramp[stop].slice(i, i + 2), 16));
    const [from, to] = [Math.floor(at), Math.ceil(at)].map(parts);
    return `rgb(${from.map((one, i) => Math.round(one + (at - Math.floor(at)) * (to[i] - one))).join(" ")})`;
  };

  const open = (element) => {
    const data = unpack(JSON.parse(element.querySelector("script").textContent));
    const first = usual(data);
    let choice = usual(data);
    let [latest, results, buttons] = [0, new Map(), new Map()];
    const title = (method) => data.methods[method].title;
    const level = `${Math.round(100 * data.level)}\u00a0%`;
    const listed = (...parts) => parts.filter(Boolean).join(", ");
    const named = ({ method, reader, trained_on, scored }) => {
      const names = [reader && `reader ${reader}`, trained_on && `trained on ${trained_on}`, `scored on ${scored}`];
      return listed(title(method), ...names);
    };

    // --- Controls.
    const input = (type, attributes = {}) => make("input", { type, ...attributes });
    const list = (values, labels) =>
      make("select", {}, ...values.map((one) => make("option", { value: one }, labels(one))));
    const labelled = (text, control) => make("label", {}, make("span", {}, text), control);
    const controls = {
      metric: list(options(data).metric, (metric) => data.metrics[metric].title),
      reading: list(options(data).reading, (reading) => data.readings[reading][0]),
      left: list(options(data).left, title),
      right: list(options(data).right, title),
      resamples: list(options(data).resamples, grouped),
    };
    const LABELS = {
      metric: "Metric",
      reading: "Reading",
      left: "First heatmap",
      right: "Second heatmap",
      resamples: "Resamples for intervals",
    };
    const tasks = data.tasks.map(({ name, role, parts }) => {
      const box = input("checkbox", { value: name });
      const count = parts.reduce((sum, [, size]) => sum + size, 0);
      const text = `${name} (${ROLES[role] ?? role}, ${counted(count, "question")})`;
      return { box, label: make("label", {}, box, make("span", {}, text)) };
    });
    const [low, high] = [0, 1].map(() => input("number", { min: 0, max: data.unknown - 1, placeholder: "any" }));
    const words = { low, high };
    const disagree = input("checkbox");
    const [reset, copy] = ["Reset", "Copy link"].map((text) => make("button", { type: "button" }, text));
    const fieldset = (legend, ...inside) => make("fieldset", {}, make("legend", {}, legend), ...inside);
    const disagreeing = "only where models disagree: one is right, another wrong";
    const labelledAfter = (text, control) => make("label", {}, control, make("span", {}, text));
    const choices = Object.keys(controls).filter((name) => controls[name].length > 1);
    const form = make(
      "form",
      { "aria-label": "What to compute" },
      fieldset("Tasks", ...tasks.map(({ label }) => label)),
      fieldset("Answers", labelled("Words, from", words.low), labelled("to", words.high)),
      ...(data.models.length > 1 ? [fieldset("Questions", labelledAfter(disagreeing, disagree))] : []),
      fieldset("Numbers", ...choices.map((name) => labelled(LABELS[name], controls[name]))),
      make("div", { class: "buttons" }, reset, copy),
    );
    const status = make("p", { role: "status", "aria-live": "polite" });
    const warning = make("p", { class: "ignored", "aria-live": "polite" });
    const [panels, baselines] = [make("div", { class: "panels" }), make("div")];
    const detail = make("section", { "aria-label": "The pressed cell" });
    const notes = data.note ? [make("p", {}, data.note)] : [];
    element.replaceChildren(...notes, form, warning, status, panels, baselines, detail);

    const set = () => {
      for (const { box } of tasks) box.checked = choice.tasks.includes(box.value);
      for (const end of ["low", "high"]) words[end].value = choice.words[end] ?? "";
      disagree.checked = choice.disagree;
      for (const name of Object.keys(controls)) controls[name].value = choice[name];
    };

    const get = () => {
      for (const one of [low, high]) if (Number(one.value) > Number(one.max)) one.value = one.max;
      for (const one of [low, high]) if (!/^\d+$/.test(one.value)) one.value = ""; // what filters nothing
      const whole = (text) => (text ? Number(text) : null);
      choice.tasks = tasks.filter(({ box }) => box.checked).map(({ box }) => box.value);
      choice.words = { low: whole(words.low.value), high: whole(words.high.value) };
      choice.disagree = disagree.checked;
      for (const [name, { value: text }] of Object.entries(controls))
        choice[name] = options(data)[name].find((one) => String(one) === text) ?? choice[name];
    };

    const tell = () => {
      const hash = written(choice, first);
      history.replaceState(history.state, "", location.pathname + location.search + (hash && `#${hash}`));
    };

    // --- The cells of the panels as they stand, each a button.
    const find = (names) => data.cells.find((cell) => Object.entries(names).every(([name, is]) => cell[name] === is));
    const panel = (method) => {
      const [rows, columns] = choice.reading === "A" ? [data.models, data.readers] : [data.readers, data.models];
      const reader = (row, column) => (choice.reading === "A" ? column : row);
      const place = (row, column) => find({ method, reader: reader(row, column), trained_on: column, scored: row });
      return grid(title(method), "Trained on", columns, rows, place);
    };

    const line = (kind, texts) =>
      make("tr", {}, ...texts.map((text) => make(kind, kind === "th" ? { scope: "col" } : {}, text)));

    const grid = (caption, over, columns, rows, place, names = (row) => row) => {
      const cells = (row) => columns.map((column) => make("td", {}, button(place(row, column))));
      const lines = rows.map((row) => make("tr", {}, make("th", { scope: "row" }, names(row)), ...cells(row)));
      const head = make("thead", {}, line("th", [over, ...columns]));
      return make("table", {}, make("caption", {}, caption), head, make("tbody", {}, ...lines));
    };

    const button = (cell) => {
      if (!cell) return make("span", { class: "cell missing" }, "no rows");
      const node = make("button", { type: "button", class: "cell" }, make("b"), make("small"), make("small"));
      node.addEventListener("click", () => press(cell.key));
      buttons.set(cell.key, [...(buttons.get(cell.key) ?? []), node]);
      return node;
    };

    const lay = () => {
      buttons = new Map();
      const methods = [...new Set([choice.left, choice.right])].filter(Boolean);
      const [about, ...axes] = data.readings[choice.reading];
      const read = make("p", { class: "axes" }, `${about} (${axes.join(" ")})`);
      panels.replaceChildren(...(methods.length ? [read, ...methods.map(panel), make("div", { class: "bar" })] : []));
      const free = Object.keys(data.methods).filter((method) => !data.methods[method].trained);
      const place = (method, scored) => find({ method, scored });
      const table = () => grid("Training-free baselines", "Scored on", data.models, free, place, title);
      baselines.replaceChildren(...(free.length ? [table()] : []));
      if (!buttons.has(choice.cell)) choice.cell = "";
    };

    const pressed = () => choice.cell || [...buttons.keys()][0];

    const paint = (done) => {
      const { better, chance, interval } = data.metrics[choice.metric];
      const values = [...results.values()].map((result) => result.value);
      const [low, high] = domain(values, chance);
      for (const [key, nodes] of buttons)
        for (const node of nodes) show(node, results.get(key), [low, high], done || !interval);
      const ends = better ? [low, high] : [high, low];
      const bar = make("span", { class: "gradient", "aria-hidden": "true" });
      bar.style.background = `linear-gradient(to right, ${data.ramp.join(", ")})`;
      const scale = [fixed(ends[0], 2), bar, `${fixed(ends[1], 2)}, better`];
      panels.querySelector(".bar")?.replaceChildren(...(values.every(Number.isNaN) ? [] : scale));
      look(done);
    };

    const show = (node, result, [low, high], done) => {
      const { cell, n_right, n_tasks, of_tasks, reason } = result;
      const [number, range, note] = node.children;
      const tasksOf = n_tasks < of_tasks && !reason ? `, ${n_tasks}/${of_tasks}` : "";
      number.textContent = shownAs(result.value) + (cell.improving && !reason ? ` ${data.mark}` : "");
      range.textContent = reason ? "" : done ? between(result) : "…";
      note.textContent = reason ? (n_tasks ? "too few" : "none") : `${grouped(n_right)} right${tasksOf}`;
      const place = (result.value - low) / (high - low);
      const light = data.metrics[choice.metric].better ? place : 1 - place;
      const coloured = !Number.isNaN(place);
      node.classList.toggle("missing", Number.isNaN(result.value));
      node.style.background = coloured ? colour(data.ramp, light) : "";
      node.style.color = coloured ? (light > data.black_from ? "#000" : "#fff") : "";
      node.setAttribute("aria-label", `${named(cell)}: ${said(result)}`);
      node.title = lacks(result);
    };

    const lacks = ({ reason, value }) => reason || (Number.isNaN(value) ? "no validation answers calibrate it" : "");

    const said = (result) => {
      const { title: metric } = data.metrics[choice.metric];
      if (lacks(result)) return `no ${metric}: ${lacks(result)}`;
      const range = between(result, 3);
      return listed(
        `${metric} ${shownAs(result.value, 3)}`,
        range && `${level} interval ${range}`,
        `${grouped(result.n_right)} of ${grouped(result.n)} answers right`,
        result.cell.improving && "still improving when its training ended",
      );
    };

    // --- The pressed cell in full.
    const look = (done) => {
      const key = pressed();
      for (const [other, nodes] of buttons)
        for (const node of nodes) node.setAttribute("aria-pressed", String(other === key));
      const result = results.get(key);
      if (!result) return detail.replaceChildren();
      const { cell, reason } = result;
      const ones = new Uint16Array(data.count).fill(1);
      const of = (metric) => shownAs(reason ? NaN : value(data, result, metric, ones), 3);
      const numbers = Object.entries(data.metrics).map(([metric, { title: text }]) => {
        const range = metric === choice.metric && done ? between(result, 3) : "";
        const beneath = range ? [make("br"), make("small", {}, range)] : [];
        return make("tr", {}, make("th", { scope: "row" }, text), make("td", {}, of(metric), ...beneath));
      });
      const about = `${said(result).replace(/^n/, "N")}.`;
      const heading = make("p", { class: "heading" }, make("b", {}, named(cell)), make("br"), about);
      const table = make("table", {}, make("caption", {}, "All metrics"), make("tbody", {}, ...numbers));
      const series = reason ? [] : [false, true].map((scaled) => reliability(data, result, scaled));
      const picture = reason ? [] : [diagram(series, data.methods[cell.method].hue, of("ece"))];
      const more = reason ? [] : [bins(series)];
      detail.replaceChildren(heading, make("div", { class: "detail" }, ...picture, table), ...more);
    };

    const SERIES = ["as it is", "after Platt scaling"];

    const diagram = (series, hue, ece) => {
      const [x, y] = [(at) => 48 + 240 * at, (at) => 252 - 240 * at];
      const text = (at, down, words, attributes = {}) =>
        draw("text", { x: at, y: down, "text-anchor": "middle", ...attributes }, words);
      const point = (cx, cy, which) => {
        const filling = which ? { fill: hue } : { class: "hollow" };
        return draw("circle", { cx, cy, r: 4, stroke: hue, "stroke-width": 1.5, ...filling });
      };
      const bar = (bin, which) => {
        const ends = { x1: x(bin.x), x2: x(bin.x), y1: y(bin.low), y2: y(bin.high) };
        return draw("line", { ...ends, stroke: hue, "stroke-width": 1.5, "stroke-dasharray": which ? "none" : "2 2" });
      };
      const mark = (bin, which) => [bar(bin, which), point(x(bin.x), y(bin.y), which)];
      const marks = series.flatMap((all, which) => all.flatMap((bin) => mark(bin, which)));
      const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((at) => [
        draw("line", { x1: x(at), x2: x(at), y1: y(0), y2: y(0) + 5, class: "axis" }),
        draw("line", { x1: x(0) - 5, x2: x(0), y1: y(at), y2: y(at), class: "axis" }),
        text(x(at), y(0) + 18, String(at)),
        text(x(0) - 9, y(at) + 4, String(at), { "text-anchor": "end" }),
      ]);
      const frame = draw("rect", { x: x(0), y: y(1), width: 240, height: 240, class: "axis", fill: "none" });
      const corners = { x1: x(0), y1: y(0), x2: x(1), y2: y(1) };
      const diagonal = draw("line", { ...corners, class: "axis", "stroke-dasharray": "3 3" });
      const legend = SERIES.filter((_, which) => series[which].length).flatMap((name, which) => [
        point(60 + 90 * which, 306, which),
        text(70 + 90 * which, 310, name, { "text-anchor": "start" }),
      ]);
      const titles = [
        text(x(0.5), 286, "P(correct)"),
        text(14, y(0.5), "Share that is right", { transform: `rotate(-90 14 ${y(0.5)})` }),
        text(x(0.03), y(0.93), `ECE ${ece}`, { "text-anchor": "start", "font-weight": "bold" }),
      ];
      const label =
        `Reliability diagram: share of right answers by P(correct), in ${data.bins} bins of equal width. ECE ${ece}. ` +
        "The bins are in the table beneath.";
      const about = { viewBox: "0 0 300 320", role: "img", "aria-label": label };
      return draw("svg", about, frame, diagonal, ...ticks, ...marks, ...titles, ...legend);
    };

    const bins = (series) => {
      const numbers = (bin) => [shownAs(bin.x, 3), shownAs(bin.y, 3), between(bin, 3), grouped(Math.round(bin.n))];
      const lines = series.flatMap((all, which) => all.map((bin) => line("td", [SERIES[which], ...numbers(bin)])));
      const titles = ["P(correct)", "Share that is right", `${level} interval`, "Answers, mean over seeds"];
      const head = line("th", ["Confidence", ...titles]);
      const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
      return make("details", {}, make("summary", {}, "The diagram as a table"), table);
    };

    const press = (key) => {
      choice.cell = key;
      tell();
      look(!element.hasAttribute("aria-busy"));
      const result = results.get(key); // there is none yet where its first values are being computed
      if (result) status.textContent = `${named(result.cell)}: ${said(result)}.`;
    };

    // --- Computing in slices, so that the page never stands still; the newest choice ends what an older one began.
    const announce = () => {
      const { title: metric, interval } = data.metrics[choice.metric];
      const ranges = [...new Set([choice.left, choice.right])].filter(Boolean).map((method) => {
        const values = [...results.values()].filter(({ cell }) => cell.method === method).map((result) => result.value);
        const there = values.filter((one) => !Number.isNaN(one));
        const missing = values.length - there.length;
        const range = there.length ? `${shownAs(Math.min(...there))} to ${shownAs(Math.max(...there))}` : "no value";
        return `${title(method)} ${range}${missing && there.length ? `, ${missing} missing` : ""}`;
      });
      const kept = select(data, choice);
      const count = (mask) => mask.reduce((sum, one) => sum + one, 0);
      const answers = counted(kept.reduce((sum, mask) => sum + count(mask), 0), "answer");
      const questions = counted(chosen(kept, 0, data.count).length, "question");
      const some = [...results.values()].some((result) => !Number.isNaN(result.value));
      const draws = `${level} intervals from ${counted(choice.resamples, "resample")} of questions.`;
      const how = some ? (interval ? draws : "This metric has no interval.") : "";
      const found = [`${metric} on ${answers} to ${questions}`, ranges.join("; ")].filter(Boolean).join(": ");
      const all = `${found}. ${how}`.trim();
      status.textContent = choice.tasks.length ? all : "No task is chosen.";
    };

    const run = () => {
      const turn = ++latest;
      element.setAttribute("aria-busy", "true");
      lay();
      const shown = data.cells.filter(({ key }) => buttons.has(key));
      const work = steps(data, { ...choice }, shown);
      const slice = () => {
        if (turn !== latest) return;
        const until = performance.now() + 12;
        for (let step = { done: false }; performance.now() < until; ) {
          step = work.next();
          if (step.value) results = new Map(step.value.map((result) => [result.cell.key, result]));
          if (step.value && !step.done) paint(false);
          if (!step.done) continue;
          element.removeAttribute("aria-busy");
          paint(true);
          return announce();
        }
        setTimeout(slice);
      };
      slice();
    };

    const warn = (ignored) => {
      warning.textContent = `Ignored in the address, as this page has no such choice: ${ignored.join(", ")}.`;
      warning.hidden = !ignored.length;
    };

    const changed = () => {
      get();
      run();
      tell(); // after the cells stand: the reading may lack the pressed one
      warn([]);
    };

    const take = (hash) => {
      const { choice: wanted, ignored } = asked(data, hash);
      const { cell } = wanted;
      choice = wanted;
      set();
      run();
      warn(choice.cell === cell ? ignored : [...ignored, `cell=${cell}`]); // which the reading does not show
    };

    const isPlace = () => location.hash && !location.hash.includes("="); // on the page, and no choice
    const follow = () => {
      if (!isPlace()) take(location.hash);
    };

    form.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    reset.addEventListener("click", () => {
      take("");
      tell();
    });
    copy.addEventListener("click", async () => {
      const done = await copied(location.href);
      status.textContent = done ? "The link is copied." : `The link: ${location.href}`;
    });
    window.addEventListener("hashchange", follow);
    take(isPlace() ? "" : location.hash);
  };

  // A page from a file may have no clipboard of the newer kind.
  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", { readonly: "" }, text);
      const before = document.activeElement;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      before?.focus();
      return done;
    }
  };

  const start = () => document.querySelectorAll(".recompute").forEach(open);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
