// Draws Altair's charts with what the book brings along: no request leaves the page.
// Altair's own script asks for window.VEGA_DEBUG, finds its versions there (the book's build writes them
// above this line) and then calls window.vegaEmbed, which loads one file that holds all of Vega.
(() => {
  const bundle = new URL("vega.js", document.currentScript.src).href;
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

  const dark = () => document.documentElement.dataset.theme === "dark";

  const narrow = () => document.body.clientWidth < 600;

  const look = () => `${dark() ? "dark" : "light"} ${document.body.clientWidth}`;

  // Lines and points in the heatmaps' darkest colours cannot be seen on a dark page; the heatmaps' own scales say how to interpolate.
  const LIGHTER = { "#3b0f70": "#7f7fe0", "#721f81": "#b48cf2" };
  const seen = (part) => {
    if (typeof part === "string") return LIGHTER[part] ?? part;
    if (Array.isArray(part)) return part.map(seen);
    if (!part || typeof part !== "object" || part.interpolate) return part;
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, key === "datasets" ? value : seen(value)]));
  };

  const theme = () => {
    const text = dark() ? "#ced6dd" : "#222832";
    const line = dark() ? "#6b7480" : "#8a919a";
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: line },
      title: { color: text, subtitleColor: text },
      axis: { labelColor: text, titleColor: text, domainColor: line, tickColor: line, gridColor: line, gridOpacity: 0.25 },
      legend: { labelColor: text, titleColor: text, ...(narrow() ? { columns: 1 } : {}) },
      header: { labelColor: text, titleColor: text },
    };
  };

  // Vega keeps the switches' values; a redrawn chart starts from those.
  const keepSwitches = (spec, view) =>
    (spec.params ?? []).forEach((param) => {
      if (param.bind) param.value = view.signal(param.name);
    });

  // A link to a page may choose: page.html?scored=…
  const asked = new URLSearchParams(location.search);
  const chooseAsked = (spec) =>
    (spec.params ?? []).forEach((param) => {
      if ((param.bind?.options ?? []).includes(asked.get(param.name))) param.value = asked.get(param.name);
    });

  const stacked = (spec) => {
    const { hconcat, concat, columns, ...rest } = spec;
    return { ...rest, vconcat: hconcat ?? concat };
  };

  const narrowed = (spec, excess) => ({ ...spec, spec: { ...spec.spec, width: Math.max(120, spec.spec.width - excess) } });

  async function draw(chart) {
    const embed = await load();
    chart.look = look();
    const options = { ...chart.options, loader: { target: "_self" }, config: theme(), tooltip: { theme: dark() ? "dark" : "light" } };
    // Vega writes into what it is given, and the next drawing starts from the same chart.
    const show = (spec) => embed(chart.element, (dark() ? seen : (own) => own)(structuredClone(spec)), options);
    chart.result?.finalize();
    chart.result = await show(chart.spec);
    // Side by side where there is room, one above the other where there is not; panels as wide as there is room.
    const wide = chart.element.querySelector(".chart-wrapper > svg, .chart-wrapper > canvas, svg.marks");
    const excess = wide ? wide.getBoundingClientRect().width - chart.element.clientWidth : 0;
    if (excess > 0 && (chart.spec.hconcat || chart.spec.concat || chart.spec.facet)) {
      chart.result.finalize();
      chart.result = await show(chart.spec.hconcat || chart.spec.concat ? stacked(chart.spec) : narrowed(chart.spec, excess));
    }
    offerSpec(chart);
    return chart.result;
  }

  // Vega-Embed saves pictures; what it draws them from can be had too.
  function offerSpec(chart) {
    const link = document.createElement("a");
    link.textContent = "Save as Vega-Lite";
    link.download = `${chart.options?.downloadFileName ?? chart.spec.usermeta?.embedOptions?.downloadFileName ?? "chart"}.vl.json`;
    link.href = URL.createObjectURL(new Blob([JSON.stringify(chart.spec)], { type: "application/json" }));
    chart.element.querySelector(".vega-actions")?.append(link);
  }

  // One drawing at a time for each chart, or two would write into the same element.
  const redraw = (chart) => {
    chart.turn = (chart.turn ?? Promise.resolve()).then(() => {
      if (chart.result) keepSwitches(chart.spec, chart.result.view);
      return draw(chart);
    });
    return chart.turn;
  };

  window.vegaEmbed = (element, spec, options) => {
    const chart = { element: typeof element === "string" ? document.querySelector(element) : element, spec, options };
    chart.element.classList.add("chart");
    chooseAsked(spec);
    drawn.push(chart);
    return redraw(chart);
  };

  // A chart may be drawn before the page knows its theme, so each remembers what it was drawn for.
  const changed = () => drawn.filter((chart) => chart.look !== look()).forEach(redraw);
  document.addEventListener("DOMContentLoaded", () => {
    changed();
    new MutationObserver(changed).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    let waiting;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(changed, 150);
    });
  });
})();
