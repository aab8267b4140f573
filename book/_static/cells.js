// The switches above an estimator's page lead to the page of another one, with the same model's answers scored.
(() => {
  const show = (event) => {
    event.preventDefault();
    const form = event.target;
    const value = (name) => form.elements[name].value;
    const page = `cell-${value("method")}_${value("reader")}_${value("trained_on")}`;
    const isThere = JSON.parse(form.dataset.pages).includes(page);
    if (isThere) location.href = `${encodeURIComponent(page)}.html${location.search}`;
    else form.querySelector("output").textContent = "This run has no such estimator.";
  };
  document.addEventListener("submit", (event) => event.target.matches("form.choose") && show(event));
})();
