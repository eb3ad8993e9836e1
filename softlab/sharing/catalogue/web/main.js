// Which page is shown: `#` is the list, `#NAME@3` or `#NAME@latest` one store.

const SKIPPED = "#Main"; // where "Skip to the content" leads; no store's name has a capital letter

function showRoute(catalog) {
  const [name, wanted] = route().split("@");
  const version = name ? findVersion(catalog, name, wanted) : null;
  const main = document.getElementById("Main");
  if (!name) main.replaceChildren(listPage(catalog));
  else main.replaceChildren(version ? storePage(catalog, version) : unknown(route()));
  document.title = name ? `${route()} · softlab catalogue` : "softlab catalogue";
}

function route() {
  if (location.hash === SKIPPED) return "";
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

function unknown(text) {
  return make(
    "section",
    {},
    make("h1", { tabindex: "-1" }, "Not in this catalogue"),
    make("p", {}, `${text.slice(0, 200)}: nothing is published under this name and version.`),
    make("p", {}, make("a", { href: "#" }, "All stores")),
  );
}

function showWhere(catalog) {
  document
    .getElementById("where")
    .replaceChildren(
      ...[
        make("span", { class: "root" }, address),
        ...(catalog.updated ? [make("span", {}, "as of ", day(catalog.updated))] : []),
      ],
    );
}

function placeOfPage() {
  const place = decodeURI(new URL(".", location.href).href);
  return place.replace(/\/+$/, "");
}

function failed(error) {
  const hint =
    location.protocol === "file:"
      ? "A browser reads no files beside a page from a disk: serve the folder, as with python -m http.server."
      : "Check that catalog.json lies beside this page and may be read.";
  document
    .getElementById("Main")
    .replaceChildren(
      make("h1", {}, "The catalogue can't be read"),
      make("p", {}, `${error.message}.`),
      make("p", { class: "note" }, hint),
    );
}

async function start() {
  let catalog;
  try {
    catalog = await readCatalog();
  } catch (error) {
    failed(error);
    return;
  }
  address = catalog.address ?? placeOfPage();
  showWhere(catalog);
  showRoute(catalog);
  window.addEventListener("hashchange", () => {
    if (location.hash === SKIPPED) return;
    showRoute(catalog);
    window.scrollTo(0, 0);
    document.querySelector("h1")?.focus();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    document.getElementById("search")?.focus();
  });
}

start();
