// The gallery's filter, the heat maps' switch, and all details open on paper. The page is whole without it.
const cases = [...document.querySelectorAll(".case")];
const kinds = [...document.querySelectorAll("input[name=kind]")];
const finding = document.querySelector("#finding");
const shown = document.querySelector("#shown");
function filter() {
  const kind = kinds.find((input) => input.checked)?.value ?? "all";
  let count = 0;
  for (const figure of cases) {
    const fits = (kind === "all" || figure.dataset.kind === kind)
      && (finding.value === "all" || figure.dataset.findings.split(" ").includes(finding.value));
    figure.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${cases.length} cases`;
}
if (finding) {
  for (const input of [...kinds, finding]) input.addEventListener("change", filter);
  document.querySelector("#heat").addEventListener("change", (event) => {
    for (const heat of document.querySelectorAll(".heat")) heat.style.display = event.target.checked ? "" : "none";
  });
  filter();
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
