// The columns of the list: what each sorts by, and what stands in its cells.

const ORDER = new Intl.Collator("en", { numeric: true });

const COLUMNS = [
  { id: "name", title: "Store", of: (v) => v.name },
  { id: "source", title: "Data set", of: (v) => v.summary.source },
  { id: "teacher", title: "Teacher", of: (v) => v.summary.teacher },
  {
    id: "accuracy",
    title: "Accuracy",
    of: (v) => v.summary.accuracy ?? -1,
    isNumber: true,
    hint: "of the teacher, on the data set's own labels",
  },
  { id: "samples", title: "Samples", of: (v) => v.summary.num_samples, isNumber: true },
  { id: "views", title: "Views", of: (v) => v.summary.num_views, isNumber: true, rank: 2 },
  {
    id: "kept",
    title: "Kept",
    of: (v) => v.summary.k ?? -1,
    isNumber: true,
    rank: 2,
    hint: "largest logits of a row, of how many classes; 1/N: classes of at least that probability and a sample",
  },
  {
    id: "captured",
    title: "Captured",
    of: (v) => v.summary.captured_mass[0] ?? -1,
    isNumber: true,
    hint: "mean probability of the kept classes, at the lowest stored temperature",
  },
  { id: "size", title: "Size", of: (v) => v.summary.num_bytes, isNumber: true },
  { id: "licence", title: "Licence", of: (v) => v.licence, rank: 3 },
  { id: "published", title: "Published", of: (v) => v.published, isNumber: true },
];

function compare(one, other) {
  return typeof one === "string" ? ORDER.compare(one, other) : one - other;
}

function cellClass(column) {
  return [column.id, column.isNumber ? "number" : "", column.rank ? `rank-${column.rank}` : ""].join(" ").trim();
}

function tableRow(catalog, version) {
  const { summary } = version;
  const captured = summary.captured_mass.map(
    (mass, at) => `${share(mass)} at ${temperature(summary.temperatures[at])}`,
  );
  const cells = {
    name: [
      make(
        "a",
        { href: `#${addressOf(version)}` },
        version.name,
        make("span", { class: "at" }, `@${version.version}`),
      ),
      " ",
      tagMarks(catalog, version),
    ],
    source: summary.source,
    teacher: summary.teacher,
    accuracy: share(summary.accuracy),
    samples: count(summary.num_samples),
    views: count(summary.num_views),
    kept: keptInShort(summary),
    captured: share(summary.captured_mass[0] ?? null),
    size: bytes(summary.num_bytes),
    licence: version.licence || "–",
    published: day(version.published),
  };
  const titles = {
    source: summary.source,
    teacher: summary.teacher,
    licence: version.licence,
    captured: captured.join(", "),
  };
  return make(
    "tr",
    { role: "row" },
    COLUMNS.map((column) =>
      make(
        "td",
        { role: "cell", class: cellClass(column), "data-title": column.title, title: titles[column.id] },
        cells[column.id],
      ),
    ),
  );
}
