// Switches above the graded answers of the first page: whose answers, and right or wrong ones. Without this script, and
// on paper, all of them are there.
(() => {
  const ALL = "all";

  const select = (title, values, change) => {
    const label = document.createElement("label");
    const list = document.createElement("select");
    for (const value of values) list.add(new Option(value, value));
    list.addEventListener("change", change);
    label.append(`${title} `, list);
    return { label, list };
  };

  const add = (table) => {
    const rows = [...table.tBodies[0].rows];
    const values = (name) => [...new Set(rows.map((row) => row.dataset[name]))];
    const count = document.createElement("output");
    const show = () => {
      const wanted = { scored: scored.list.value, grade: grade.list.value };
      const isOther = (row, [name, value]) => value !== ALL && row.dataset[name] !== value;
      for (const row of rows) row.hidden = Object.entries(wanted).some((one) => isOther(row, one));
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} answers`;
    };
    const scored = select("Answers of:", [...values("scored"), ALL], show);
    const grade = select("Grade:", [ALL, ...values("grade")], show);
    const bar = document.createElement("div");
    bar.className = "switches";
    bar.append(scored.label, grade.label, count);
    table.before(bar);
    show();
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("table.examples").forEach(add));
})();
