// Draws Altair's charts with what the book brings along: no request leaves the page.
// Altair's own script asks for window.VEGA_DEBUG, finds its versions there (the book's build writes them
// above this line) and then calls window.vegaEmbed, which loads one file that holds all of Vega.
(() => {
  const bundle = new URL("vega.js", document.currentScript.src).href;
  const recompute = new URL("recompute", document.currentScript.src).href;
  const drawn = [];
  let loading = null;

  const load = () =>
    (loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = bundle;
      script.onload = () => resolve(window.whoknowsVega.vegaEmbed);
      script.onerror = () => reject(new Error("_static/vega.js of this book could not be read"));
      document.head.append(script);
    }));

  const onPhone = () => document.body.clientWidth < 600;

  // The colours of report/pages/style.py. A chart is always drawn for a light page: page.css lightens its ink on a dark
  // one, and what is printed or saved is dark on light.
  const theme = () => {
    const [ink, grey] = ["#222832", "#6f7782"];
    return {
      background: "transparent",
      autosize: { resize: true }, // a switch may bring more rows
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: grey },
      title: { color: ink, subtitleColor: ink },
      axis: {
        ...{ labelColor: ink, titleColor: ink, domainColor: grey, tickColor: grey, gridColor: grey, gridOpacity: 0.25 },
        ...{ labelFlush: false, labelSeparation: 5 },
      },
      legend: {
        ...{ labelColor: ink, titleColor: ink, symbolBaseStrokeColor: ink },
        ...(onPhone() ? { columns: 1, orient: "bottom" } : {}),
      },
      header: { labelColor: ink, titleColor: ink },
    };
  };

  const switches = (spec) => (spec.params ?? []).filter((param) => param.bind);

  // The switches stand in the address, so that a link leads to what is shown: page.html?reading=all
  const chooseAsked = (spec) => {
    const asked = new URLSearchParams(location.search);
    for (const param of switches(spec)) {
      const value = asked.get(param.name);
      const { options, min, max } = param.bind;
      const within = value >= min && value <= max ? Number(value) : undefined;
      const known = options ? options.find((option) => String(option) === value) : within;
      if (value && known !== undefined) param.value = known;
    }
  };

  const tell = (name, value, usual) => {
    const told = new URLSearchParams(location.search);
    if (value === usual) told.delete(name);
    else told.set(name, value);
    const query = told.toString() && `?${told}`;
    history.replaceState(history.state, "", location.pathname + query + location.hash);
    // Vega names a gradient by the whole address, which is now that of another page.
    for (const drawn of document.querySelectorAll('svg.marks [fill^="url("]')) {
      drawn.setAttribute("fill", drawn.getAttribute("fill").replace(/^url\([^#]*/, "url("));
    }
  };

  const follow = (chart) => {
    const { view } = chart.result;
    for (const param of switches(chart.spec)) {
      view.addSignalListener(param.name, (name, value) => {
        tell(name, value, chart.usual[name]);
        param.value = value; // a redrawn chart starts from it
        // Other cells may need more room, or less; a slider that is held must not be redrawn.
        if (param.bind.input === "range") return;
        view.runAsync().then(() => (chart.narrowed || excess(chart) > 0) && redraw(chart));
      });
    }
  };

  const excess = (chart) => {
    const wide = chart.element.querySelector(".chart-wrapper > svg, .chart-wrapper > canvas, svg.marks");
    return wide ? Math.ceil(wide.getBoundingClientRect().width - chart.element.clientWidth) : 0;
  };

  // Side by side where there is room, one above the other where there is not; panels as wide as there is room.
  const narrow = (spec, by) => {
    const { hconcat, concat, columns, ...rest } = spec;
    if (hconcat ?? concat) return { ...rest, vconcat: hconcat ?? concat };
    // Two pixels more, since labels at an end may reach a little further on a narrower axis.
    const narrower = (panel) => ({ ...panel, width: Math.max(120, panel.width - by - 2) });
    if (spec.vconcat) return { ...spec, vconcat: spec.vconcat.map(narrower) };
    return spec.facet && { ...spec, spec: narrower(spec.spec) };
  };

  async function draw(chart) {
    const embed = await load();
    chart.width = document.body.clientWidth;
    // A tooltip stands beside its mark, not on it.
    const tooltip = { anchor: "mark", position: ["bottom", "top", "right", "left"] };
    const options = { ...chart.options, loader: { target: "_self" }, config: theme(), tooltip };
    const show = async (spec) => {
      chart.result?.finalize();
      chart.result = await embed(chart.element, structuredClone(spec), options); // Vega writes into what it is given
    };
    // A legend has one column on a phone, whatever its chart asks for.
    const slim = (key, value) => (key === "legend" && value ? { ...value, columns: 1 } : value);
    const spec = onPhone() ? JSON.parse(JSON.stringify(chart.spec, slim)) : chart.spec;
    await show(spec);
    const by = excess(chart);
    const other = by > 0 && narrow(spec, by);
    chart.narrowed = Boolean(other);
    if (other) await show(other);
    // Vega-Embed puts the switches beneath the chart; they belong above it, for Tab as for the eye.
    const above = chart.element.querySelector(".vega-bindings");
    above?.parentNode.prepend(above);
    name(chart);
    follow(chart);
    offerSpec(chart);
    return chart.result;
  }

  // Vega writes what two buttons choose beside them, and what its menu is for as a title, which no screen reader reads.
  const name = ({ element }) => {
    for (const group of element.querySelectorAll(".vega-bind-radio")) {
      const { textContent } = group.parentNode.querySelector(".vega-bind-name");
      group.setAttribute("role", "radiogroup");
      group.setAttribute("aria-label", textContent.replace(/: *$/, ""));
    }
    const menu = element.querySelector("details:has(.vega-actions)");
    menu?.querySelector("summary").setAttribute("aria-label", menu.title);
  };

  // Vega-Embed saves pictures; what it draws them from can be had too.
  function offerSpec(chart) {
    const link = document.createElement("a");
    link.textContent = "Save as Vega-Lite";
    const name = chart.options?.downloadFileName ?? chart.spec.usermeta?.embedOptions?.downloadFileName ?? "chart";
    link.download = `${name}.vl.json`;
    link.href = URL.createObjectURL(new Blob([JSON.stringify(chart.spec)], { type: "application/json" }));
    chart.element.querySelector(".vega-actions")?.append(link);
  }

  // One drawing at a time for each chart, or two would write into the same element; the switch in use stays in use.
  const redraw = (chart) => {
    chart.turn = (chart.turn ?? Promise.resolve()).then(async () => {
      const used = chart.element.contains(document.activeElement) && document.activeElement.name;
      const result = await draw(chart);
      if (used) chart.element.querySelector(`:is(input:checked, select, input[type=range])[name="${used}"]`)?.focus();
      return result;
    });
    return chart.turn;
  };

  // By keyboard the cells of a heatmap are one stop of Tab; arrows go from cell to cell, and Enter does what a click
  // does.
  const cells = (chart) => [...chart.element.querySelectorAll("svg.marks .mark-rect.role-mark > path[aria-label]")];

  const middle = (mark) => {
    const box = mark.getBoundingClientRect();
    return { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
  };

  const beside = (chart, cell, [right, down]) => {
    const from = middle(cell);
    const far = (other) => {
      const [x, y] = [middle(other).clientX - from.clientX, middle(other).clientY - from.clientY];
      const ahead = x * right + y * down;
      return ahead > 2 ? ahead + 3 * Math.abs(x * down + y * right) : Infinity;
    };
    const [next] = cells(chart).sort((one, other) => far(one) - far(other));
    return far(next) < Infinity && next;
  };

  const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

  const pressed = (chart, event) => {
    const cell = event.target.closest?.("path[tabindex]");
    if (!cell || !(event.key === "Enter" || WAYS[event.key])) return;
    event.preventDefault();
    if (event.key === "Enter") return cell.dispatchEvent(new MouseEvent("click", { bubbles: true, ...middle(cell) }));
    const next = beside(chart, cell, WAYS[event.key]);
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };

  // Vega makes cells anew with each switch.
  const reach = (chart) => {
    if (chart.element.querySelector("svg.marks path[tabindex='0']")) return;
    cells(chart)[0]?.setAttribute("tabindex", "0");
  };

  const byKeyboard = (chart) => {
    new MutationObserver(() => reach(chart)).observe(chart.element, { childList: true, subtree: true });
    chart.element.addEventListener("keydown", (event) => pressed(chart, event));
    const hover = (kind) => ({ target }) => {
      const isCell = target.matches("path[tabindex]");
      if (isCell) target.dispatchEvent(new PointerEvent(kind, { bubbles: true, ...middle(target) }));
    };
    chart.element.addEventListener("focusin", hover("pointermove"));
    chart.element.addEventListener("focusout", hover("pointerout"));
  };

  // The book packs the lines of its data by column, as report/slim.py says.
  const lines = ({ names, columns }) => {
    const values = (column) => (Array.isArray(column) ? column : column.at.map((place) => column.of[place]));
    const whole = columns.map(values);
    return whole[0].map((_, line) => Object.fromEntries(names.map((name, at) => [name, whole[at][line]])));
  };

  window.vegaEmbed = (element, spec, options) => {
    for (const [name, data] of Object.entries(spec.datasets ?? {})) if (data.names) spec.datasets[name] = lines(data);
    const chart = { element: typeof element === "string" ? document.querySelector(element) : element, spec, options };
    chart.usual = Object.fromEntries(switches(spec).map((param) => [param.name, param.value]));
    chart.element.classList.add("chart");
    chooseAsked(spec);
    byKeyboard(chart);
    drawn.push(chart);
    return redraw(chart);
  };

  // A link to the page of an estimator marks its cell, while it is pointed at or has the focus.
  const mark = (isMarked) => (event) => {
    const address = event.target.closest?.('a[href*="run/cell-"]')?.getAttribute("href");
    for (const cell of address ? drawn.flatMap(cells) : [])
      if (cell.__data__?.datum?.page === address) cell.classList.toggle("marked", isMarked);
  };
  const ends = { pointerover: true, focusin: true, pointerout: false, focusout: false };
  for (const [kind, isMarked] of Object.entries(ends)) document.addEventListener(kind, mark(isMarked));

  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.filter((chart) => chart.width !== document.body.clientWidth).forEach(redraw), 150);
  });

  // Paper is light.
  let onScreen;
  window.addEventListener("beforeprint", () => {
    onScreen = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => (document.documentElement.dataset.theme = onScreen));

  // Only one page computes its numbers anew, and only there are the script and the style for it read.
  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector(".recompute")) return;
    const [script, style] = ["script", "link"].map((name) => document.createElement(name));
    Object.assign(script, { src: `${recompute}.js` });
    Object.assign(style, { rel: "stylesheet", href: `${recompute}.css` });
    document.head.append(style, script);
  });
})();
