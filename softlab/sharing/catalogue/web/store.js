// The page of one version.

const MAX_CARD_BYTES = 128 << 10;
const MAX_FIGURES_BYTES = 1 << 20;

function storePage(catalog, version) {
  const stem = stemOf(version);
  const { summary } = version;
  const about = readAbout(version);
  const signer = readSigner(version);
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
      hasLabels(summary) ? kept(summary) : `values alone: ${summary.features.join(", ")}`,
    ),
    newerNote(catalog, version, signer),
    make(
      "div",
      { class: "columns" },
      make(
        "div",
        { class: "main" },
        make("section", { class: "use" }, make("h2", {}, "Use it"), commands(version, about, signer)),
        make(
          "section",
          { class: "said" },
          make("h2", {}, "What the teacher said"),
          hasLabels(summary)
            ? later(`${stem}.figures.json`, MAX_FIGURES_BYTES, "No figures can be shown", (text) =>
                drawFigures(readFigures(text, version), version),
              )
            : make("p", { class: "note" }, "Values alone, of which there are no figures."),
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
        make("section", { class: "facts" }, make("h2", {}, "Facts"), facts(version), factsBeside(about, signer)),
        make("section", { class: "others" }, make("h2", {}, "Versions"), otherVersions(catalog, version)),
        make("section", { class: "beside" }, make("h2", {}, "Files"), files(stem, summary)),
      ),
    ),
  );
}

// It says first whether the newer one is signed too: else it could be anybody's who can write there.
function newerNote(catalog, version, signer) {
  const [newest] = versionsNamed(catalog, version.name);
  if (newest.version === version.version) return null;
  return whenRead(Promise.all([signer, readSigner(newest)]), "p", { class: "notice" }, ([ours, theirs]) => [
    "There is a newer version: ",
    make("a", { href: `#${addressOf(newest)}` }, addressOf(newest)),
    theirs === ours ? "." : `. ${signedOtherwise(ours, theirs)}`,
  ]);
}

function signedOtherwise(ours, theirs) {
  if (ours === null) return `It is signed (${theirs}), and this one is not.`;
  if (theirs === null) return "It is not signed, as this one is: ask its publisher before you take it.";
  return `It is signed by another signer (${theirs}) than this one (${ours}): ask its publisher before you take it.`;
}

// An element that is filled once something is read; what went wrong is said in it.
function whenRead(promise, tag, attributes, render) {
  const place = make(tag, { ...attributes, "aria-busy": "true" }, "Reading ..");
  promise
    .then(render)
    .then(
      (content) => place.replaceChildren(...content),
      (error) => place.replaceChildren(`This can't be told: ${error.message}.`),
    )
    .finally(() => place.removeAttribute("aria-busy"));
  return place;
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
    ["Head", summary.head ?? "none"],
    ["Soft labels", kept(summary)],
    ...(hasLabels(summary) ? [["Captured mass", captured]] : []),
    ["Features", summary.features.join(", ") || "none"],
    ["Format", [summary.storage, summary.coding].filter(Boolean).join(", ")],
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

function factsBeside(about, signer) {
  const signed = (found) => [
    found === null ? "no" : `by ${found}, says the file; this page checks nothing, softlab verify does`,
  ];
  const fact = (of) => (found) => [found === null ? "not told: published by an earlier softlab" : of(found)];
  const rows = [
    ["Signed", signer, signed],
    ["Teacher's input", about, fact(inputText)],
    ["Labels", about, fact((found) => bytes(found.label_bytes))],
    ["Other outputs", about, fact((found) => (found.value_bytes ? bytes(found.value_bytes) : "none"))],
    ["Class names", about, fact((found) => found.class_names.slice(0, 8).join(", ") || "none")],
  ];
  return make(
    "dl",
    {},
    rows.map(([term, promise, render]) => [make("dt", {}, term), whenRead(promise, "dd", {}, render)]),
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

function files(stem, summary) {
  const kinds = {
    ".json": "version record",
    ".md": "card",
    ".croissant.json": "Croissant metadata",
    ...(hasLabels(summary) ? { ".figures.json": "figures" } : {}),
    ".about.json": "weights and input",
  };
  return make(
    "ul",
    { class: "files" },
    Object.entries(kinds).map(([ending, what]) => make("li", {}, make("a", { href: `${stem}${ending}` }, what))),
  );
}
