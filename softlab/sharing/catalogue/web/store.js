// The page of one version.

const MAX_CARD_BYTES = 128 << 10;
const MAX_FIGURES_BYTES = 1 << 20;

function storePage(catalog, version) {
  const stem = `${version.name}/versions/${version.version}`;
  const { summary } = version;
  return make(
    "article",
    { class: "store" },
    make("p", { class: "back" }, make("a", { href: "#" }, "All stores")),
    make(
      "h1",
      { tabindex: "-1" },
      version.name,
      make("span", { class: "at" }, `@${version.version}`),
      " ",
      tagMarks(catalog, version),
    ),
    make(
      "p",
      { class: "lead" },
      `${summary.teacher} on ${summary.source}: ${count(summary.num_samples)} samples, `,
      summary.num_views > 1 ? `${count(summary.num_views)} views of each, ` : "",
      `${count(summary.k)} of ${count(summary.num_classes)} classes kept`,
    ),
    newerNote(catalog, version),
    make(
      "div",
      { class: "columns" },
      make(
        "div",
        { class: "main" },
        make("section", { class: "use" }, make("h2", {}, "Use it"), commands(version)),
        make(
          "section",
          { class: "said" },
          make("h2", {}, "What the teacher said"),
          later(`${stem}.figures.json`, MAX_FIGURES_BYTES, "No figures can be shown", (text) =>
            drawFigures(readFigures(text, version), version),
          ),
        ),
        make(
          "section",
          { class: "card" },
          make("h2", {}, "Card"),
          later(`${stem}.md`, MAX_CARD_BYTES, "No card can be shown", renderCard),
        ),
      ),
      make(
        "aside",
        {},
        make("section", { class: "facts" }, make("h2", {}, "Facts"), facts(version)),
        make("section", { class: "others" }, make("h2", {}, "Versions"), otherVersions(catalog, version)),
        make("section", { class: "beside" }, make("h2", {}, "Files"), files(stem)),
      ),
    ),
  );
}

function newerNote(catalog, version) {
  const [newest] = versionsNamed(catalog, version.name);
  if (newest.version === version.version) return null;
  return make(
    "p",
    { class: "notice" },
    "There is a newer version: ",
    make("a", { href: `#${addressOf(newest)}` }, addressOf(newest)),
    ".",
  );
}

// What is read after the page is there; what is missing is said in its place.
function later(path, maxBytes, failure, render) {
  const place = make("div", { "aria-busy": "true" }, make("p", { class: "note" }, "Reading .."));
  readText(path, maxBytes)
    .then(render)
    .then(
      (content) => place.replaceChildren(...content),
      (error) => place.replaceChildren(make("p", { class: "note" }, `${failure}: ${error.message}.`)),
    )
    .finally(() => place.removeAttribute("aria-busy"));
  return place;
}

function facts(version) {
  const { summary } = version;
  const captured = summary.captured_mass.map((mass, at) =>
    make("div", {}, `${share(mass)} `, make("span", { class: "of" }, temperature(summary.temperatures[at]))),
  );
  const rows = [
    ["Data set", summary.source],
    ["Samples", count(summary.num_samples)],
    ["Views", count(summary.num_views)],
    ["Teacher", summary.teacher],
    ["Accuracy", summary.accuracy === null ? "unknown: no hard targets" : share(summary.accuracy)],
    ["Head", summary.head],
    ["Classes kept", `${count(summary.k)} of ${count(summary.num_classes)}`],
    ["Captured mass", captured],
    ["Features", summary.features.join(", ") || "none"],
    ["Format", `${summary.storage}, ${summary.coding}`],
    ["Size", `${bytes(summary.num_bytes)} in ${count(summary.num_files)} files`],
    ["Licence", version.licence || "not stated"],
    ["Teacher's terms", version.terms || "none stated"],
    ["Published", version.published.replace("T", " ").replace("Z", " UTC")],
    ["Digest", digest("digest", version.digest)],
    ["Source", digest("fingerprint of the source", summary.source_fingerprint)],
    ["Weights", digest("fingerprint of the weights", summary.teacher_fingerprint)],
    ...(summary.parent ? [["Made from", digest("digest of the store it was made from", summary.parent)]] : []),
  ];
  return make(
    "dl",
    {},
    rows.map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]),
  );
}

function digest(what, hex) {
  return make(
    "span",
    { class: "digest" },
    make("code", { title: hex }, hex),
    copyButton(what, () => hex),
  );
}

function otherVersions(catalog, version) {
  return make(
    "ol",
    { class: "versions" },
    versionsNamed(catalog, version.name).map((each) =>
      make(
        "li",
        { "aria-current": each.version === version.version ? "page" : null },
        make("a", { href: `#${addressOf(each)}` }, `@${each.version}`),
        tagMarks(catalog, each),
        make("span", { class: "of" }, share(each.summary.accuracy), " · ", bytes(each.summary.num_bytes)),
        day(each.published),
      ),
    ),
  );
}

function files(stem) {
  const kinds = {
    ".json": "version record",
    ".md": "card",
    ".croissant.json": "Croissant metadata",
    ".figures.json": "figures",
  };
  return make(
    "ul",
    { class: "files" },
    Object.entries(kinds).map(([ending, what]) => make("li", {}, make("a", { href: `${stem}${ending}` }, what))),
  );
}
