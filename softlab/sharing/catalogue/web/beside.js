// What lies beside a version and is read once: 3.about.json, and 3.sig, which is shown but not checked here.

const MAX_ABOUT_BYTES = 1 << 20;
const MAX_SIGNATURE_BYTES = 1 << 20;
const SHOWN_OPTIONS = ["size", "resize", "channels", "mean", "std"];

function stemOf(version) {
  return `${version.name}/versions/${version.version}`;
}

// Null where none lies there: stores that were published earlier have none.
async function readAbout(version) {
  const text = await readIfThere(`${stemOf(version)}.about.json`, MAX_ABOUT_BYTES);
  if (text === null) return null;
  const found = JSON.parse(text);
  const isCount = (value) => Number.isInteger(value) && value >= 0;
  if (
    !isRecord(found) ||
    found.format !== "softlab-about" ||
    found.format_version !== 1 ||
    !isCount(found.label_bytes) ||
    !isCount(found.value_bytes) ||
    typeof found.modality !== "string" ||
    !isRecord(found.input) ||
    !(found.chosen_from === null || isCount(found.chosen_from)) ||
    !Array.isArray(found.class_names) ||
    !found.class_names.every((each) => typeof each === "string")
  ) {
    throw new Error("what lies beside it is not well-formed");
  }
  if (found.digest !== version.digest) throw new Error("what lies beside it is of another store");
  return found;
}

// What the file says of its signer; null where the version is not signed.
async function readSigner(version) {
  const text = await readIfThere(`${stemOf(version)}.sig`, MAX_SIGNATURE_BYTES);
  if (text === null) return null;
  const material = JSON.parse(text).verificationMaterial;
  const hint = isRecord(material) && isRecord(material.publicKey) ? material.publicKey.hint : null;
  return DIGEST.test(hint) ? `key ${hint.slice(0, 12)}` : "a certificate";
}

// S3 denies what is missing to those who may not list.
async function readIfThere(path, maxBytes) {
  try {
    return await readText(path, maxBytes);
  } catch (error) {
    if (error.status === 404 || error.status === 403) return null;
    throw error;
  }
}

function inputText(about) {
  const options = SHOWN_OPTIONS.map((name) => [name, about.input[name]])
    .filter(([, value]) => typeof value === "number" || (Array.isArray(value) && value.length > 0))
    .map(([name, value]) => `${name} ${[value].flat().slice(0, 4).map(shortNumber).join(name === "size" ? " x " : ", ")}`);
  return [about.modality, ...options].join(", ");
}

function shortNumber(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : "?";
}
