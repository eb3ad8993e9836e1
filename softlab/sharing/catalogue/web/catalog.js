// catalog.json, checked record by record: a team's record that is not well-formed must not hide those of the others.

const MAX_CATALOG_BYTES = 64 << 20;
const NAME = /^(?!.*\.\.)[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?$/;
const TAG = /^[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?$/;
const DIGEST = /^[0-9a-f]{64}$/;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const TEXTS = ["source", "teacher", "coding", "storage"];
const COUNTS = ["num_samples", "num_views", "num_files", "num_bytes"];

async function readCatalog() {
  const found = JSON.parse(await readText("catalog.json", MAX_CATALOG_BYTES));
  if (!isRecord(found) || found.format !== "softlab-catalog" || !Array.isArray(found.versions)) {
    throw new Error("catalog.json is no catalogue of softlab's");
  }
  if (found.format_version !== 1) throw new Error("catalog.json is of a newer format than this page; push once more");
  const versions = found.versions.filter(isVersion);
  return {
    versions,
    numUnread: found.versions.length - versions.length,
    tags: (Array.isArray(found.tags) ? found.tags : []).filter(isTag),
    updated: MOMENT.test(found.updated) ? found.updated : null,
    address: typeof found.address === "string" ? found.address : null,
  };
}

// Raises for a status other than 200, and for more bytes than are sensible, which are not read on.
async function readText(path, maxBytes) {
  const response = await fetch(path, { cache: "no-cache", redirect: "error" });
  if (!response.ok) {
    throw Object.assign(new Error(`${path}: the server answers ${response.status}`), { status: response.status });
  }
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    size += step.value.length;
    if (size > maxBytes) {
      await reader.cancel();
      throw new Error(`${path}: has over ${maxBytes.toLocaleString("en")} bytes`);
    }
    parts.push(step.value);
  }
  return new Blob(parts).text();
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNumberIn(value, low, high) {
  return typeof value === "number" && value >= low && value <= high;
}

function isVersionNumber(value) {
  return Number.isInteger(value) && value >= 1 && value <= 999999999;
}

function isVersion(found) {
  return (
    isRecord(found) &&
    typeof found.name === "string" &&
    NAME.test(found.name) &&
    isVersionNumber(found.version) &&
    DIGEST.test(found.digest) &&
    MOMENT.test(found.published) &&
    typeof found.licence === "string" &&
    typeof found.terms === "string" &&
    isSummary(found.summary)
  );
}

function isSummary(found) {
  return (
    isRecord(found) &&
    TEXTS.every((key) => typeof found[key] === "string") &&
    COUNTS.every((key) => Number.isInteger(found[key]) && found[key] >= 0) &&
    (hasLabels(found) ? isLabelled(found) : found.k === null && found.head === null) &&
    (found.accuracy === null || isNumberIn(found.accuracy, 0, 1)) &&
    Array.isArray(found.temperatures) &&
    found.temperatures.length > 0 === hasLabels(found) &&
    found.temperatures.length <= 64 &&
    found.temperatures.every((each) => isNumberIn(each, 0, 1e6)) &&
    Array.isArray(found.captured_mass) &&
    found.captured_mass.length === found.temperatures.length &&
    found.captured_mass.every((each) => isNumberIn(each, 0, 1.001)) &&
    Array.isArray(found.features) &&
    found.features.every((each) => typeof each === "string") &&
    DIGEST.test(found.source_fingerprint) &&
    DIGEST.test(found.teacher_fingerprint) &&
    (found.parent === null || DIGEST.test(found.parent))
  );
}

// A store may hold values alone, such as embeddings.
function hasLabels(summary) {
  return summary.num_classes !== null;
}

function isLabelled(summary) {
  const counts = [summary.num_classes, summary.k];
  return (
    counts.every((each) => Number.isInteger(each) && each >= 0) &&
    (summary.head === "softmax" || summary.head === "sigmoid")
  );
}

function isTag(found) {
  return (
    isRecord(found) &&
    NAME.test(found.name) &&
    TAG.test(found.tag) &&
    isVersionNumber(found.version) &&
    MOMENT.test(found.moved)
  );
}

function tagsOf(catalog, version) {
  return catalog.tags.filter((tag) => tag.name === version.name && tag.version === version.version);
}

function versionsNamed(catalog, name) {
  return catalog.versions.filter((each) => each.name === name).sort((one, other) => other.version - one.version);
}

// By number, by tag, or the newest where neither is given.
function findVersion(catalog, name, wanted) {
  const versions = versionsNamed(catalog, name);
  if (!wanted) return versions[0];
  const tag = catalog.tags.find((each) => each.name === name && each.tag === wanted);
  return versions.find((each) => String(each.version) === (tag ? String(tag.version) : wanted));
}
