// The list of all versions: filtered, sorted, and on narrow screens a list of cards.

const MAX_ROWS = 500;
const chosen = { text: "", source: "", teacher: "", sort: "published", isDescending: true, showsAll: false };

function listPage(catalog) {
  const body = make("tbody", { role: "rowgroup" });
  const heads = new Map(COLUMNS.map((column) => [column.id, headCell(column, () => sortBy(column))]));
  const found = make("p", { class: "found", role: "status" });
  const more = make("p", { class: "more" });
  const order = make(
    "select",
    { change: (event) => sortBy(COLUMNS.find((column) => column.id === event.target.value)) },
    COLUMNS.map((column) => make("option", { value: column.id }, column.title)),
  );

  function sortBy(column) {
    chosen.isDescending = chosen.sort === column.id ? !chosen.isDescending : Boolean(column.isNumber);
    chosen.sort = column.id;
    show();
  }

  function show() {
    const versions = sorted(catalog.versions.filter(isChosen));
    const shown = chosen.showsAll ? versions : versions.slice(0, MAX_ROWS);
    body.replaceChildren(...shown.map((version) => tableRow(catalog, version)));
    found.replaceChildren(foundText(versions.length, catalog));
    more.replaceChildren(
      ...moreRows(versions.length, shown.length, show),
      ...(versions.length ? [] : [nothing(catalog)]),
    );
    for (const [id, cell] of heads) {
      cell.setAttribute("aria-sort", id !== chosen.sort ? "none" : chosen.isDescending ? "descending" : "ascending");
    }
    order.value = chosen.sort;
  }

  show();
  return make(
    "section",
    { class: "list" },
    make("h1", { class: "unseen", tabindex: "-1" }, "Published stores"),
    filters(catalog, order, show),
    found,
    make(
      "table",
      { role: "table" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, [...heads.values()])),
      body,
    ),
    more,
  );
}

function filters(catalog, order, show) {
  const search = make("input", {
    type: "search",
    id: "search",
    placeholder: "Filter by name, data set, teacher, licence, digest",
    autocomplete: "off",
    spellcheck: "false",
    input: () => {
      chosen.text = search.value;
      show();
    },
  });
  search.value = chosen.text;
  return make(
    "form",
    { class: "filters", role: "search", submit: (event) => event.preventDefault() },
    labelled("Filter", search, "grow"),
    labelled("Data set", select(catalog, "source", show)),
    labelled("Teacher", select(catalog, "teacher", show)),
    labelled("Sort by", order, "narrow"),
  );
}

function labelled(text, field, extra = "") {
  return make("label", { class: extra }, make("span", {}, text), field);
}

function select(catalog, key, show) {
  const values = [...new Set(catalog.versions.map((version) => version.summary[key]))].sort();
  const field = make(
    "select",
    {
      id: `only-${key}`,
      change: () => {
        chosen[key] = values[field.selectedIndex - 1] ?? "";
        show();
      },
    },
    make("option", {}, "all"),
    values.map((value) => make("option", { selected: value === chosen[key] }, value.slice(0, 60))),
  );
  return field;
}

function isChosen(version) {
  const { summary } = version;
  if (chosen.source && summary.source !== chosen.source) return false;
  if (chosen.teacher && summary.teacher !== chosen.teacher) return false;
  const text = [
    addressOf(version),
    summary.source,
    summary.teacher,
    summary.storage,
    summary.coding,
    version.licence,
    version.digest,
    ...summary.features,
  ]
    .join(" ")
    .toLowerCase();
  return chosen.text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

function sorted(versions) {
  const column = COLUMNS.find((each) => each.id === chosen.sort);
  const sign = chosen.isDescending ? -1 : 1;
  return [...versions].sort(
    (one, other) =>
      sign * compare(column.of(one), column.of(other)) ||
      compare(one.name, other.name) ||
      other.version - one.version,
  );
}

function headCell(column, sort) {
  return make(
    "th",
    { role: "columnheader", scope: "col", class: cellClass(column), title: column.hint },
    make("button", { type: "button", click: sort }, column.title),
  );
}

function foundText(number, catalog) {
  const unread = catalog.numUnread
    ? ` ${count(catalog.numUnread)} record(s) of the catalogue can't be read and are left out.`
    : "";
  const all = catalog.versions.length;
  return (number === all ? `${count(all)} versions` : `${count(number)} of ${count(all)} versions`) + `.${unread}`;
}

function moreRows(number, shown, show) {
  if (shown === number) return [];
  const all = () => {
    chosen.showsAll = true;
    show();
  };
  return [
    `The first ${count(shown)} are shown. `,
    make("button", { type: "button", click: all }, `Show all ${count(number)}`),
  ];
}

function nothing(catalog) {
  const text = catalog.versions.length
    ? "Nothing matches these filters."
    : "Nothing is published here yet. softlab push publishes a store.";
  return make("span", { class: "note" }, text);
}
