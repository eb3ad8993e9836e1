// Numbers as they are shown.

function count(value) {
  return value.toLocaleString("en");
}

function share(value, digits = 2) {
  return value === null ? "–" : `${(100 * value).toFixed(digits)} %`;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(units.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** power;
  return `${scaled.toFixed(power === 0 || scaled >= 100 ? 0 : 1)} ${units[power]}`;
}

// What a store keeps of a row: logits of some classes, a sample of all classes, or values alone.
function kept(summary) {
  if (!hasLabels(summary)) return "no soft labels";
  const of = `${count(summary.num_classes)} classes`;
  return isSampled(summary) ? `${of}, sampled at 1/${summary.resolution}` : `${count(summary.k)} of ${of} kept`;
}

function isSampled(summary) {
  return Number.isInteger(summary.resolution);
}

// The same in a cell of the list.
function keptInShort(summary) {
  if (!hasLabels(summary)) return "–";
  const number = isSampled(summary) ? `1/${summary.resolution}` : count(summary.k);
  return [number, make("span", { class: "of" }, ` / ${count(summary.num_classes)}`)];
}

function day(moment) {
  return make(
    "time",
    { datetime: moment, title: moment.replace("T", " ").replace("Z", " UTC") },
    moment.slice(0, 10),
  );
}

function temperature(value) {
  return `T=${Number(value.toPrecision(6))}`;
}

function addressOf(version) {
  return `${version.name}@${version.version}`;
}

function tagMarks(catalog, version) {
  return tagsOf(catalog, version).map((tag) =>
    make("span", { class: "tag", title: `moved here on ${tag.moved.slice(0, 10)}` }, tag.tag),
  );
}
