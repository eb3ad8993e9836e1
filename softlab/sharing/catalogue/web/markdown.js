// Cards: a small part of Markdown, made of elements and text nodes. HTML in a card stays text, and links lead to
// http and https only.

const INLINE = new RegExp(
  [
    /\\([\\`*_[\]<>|#!])/, // escaped
    /`([^`]{1,500})`/, // code
    /\*\*([^*]{1,500})\*\*/, // strong
    /(?<!\w)[*_]([^*_\s][^*_]{0,500})[*_](?!\w)/, // stressed
    /\[([^[\]]{1,300})\]\((https?:\/\/[^\s()<>]{1,500})\)/, // a link
    /(https?:\/\/[^\s<>()"'`|]{1,500})/, // a bare address
  ]
    .map((part) => part.source)
    .join("|"),
  "g",
); // each bounded in length, so that a hostile card costs no more than its size

function renderCard(text) {
  const lines = withoutComments(withoutFrontMatter(text.replaceAll("\r\n", "\n"))).split("\n");
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    const [block, next] = readBlock(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

function withoutFrontMatter(text) {
  const end = text.startsWith("---\n") ? text.indexOf("\n---\n", 3) : -1;
  return end < 0 ? text : text.slice(end + 5);
}

function withoutComments(text) {
  return text
    .split("<!--")
    .map((part, at) => {
      const end = part.indexOf("-->");
      return at === 0 ? part : end < 0 ? `<!--${part}` : part.slice(end + 3);
    })
    .join("");
}

// One block and the line behind it.
function readBlock(lines, at) {
  const line = lines[at];
  const heading = /^(#{1,6})\s+(.{1,500})$/.exec(line);
  if (!line.trim()) return [null, at + 1];
  if (heading) return [make(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])), at + 1];
  if (line.startsWith("```")) return readFence(lines, at + 1);
  if (line.startsWith("|")) return readTable(lines, at);
  if (isItem(line)) return readList(lines, at);
  return readParagraph(lines, at);
}

function readFence(lines, at) {
  const end = endOf(lines, at, (line) => !line.startsWith("```"));
  return [make("pre", { tabindex: "0" }, make("code", {}, lines.slice(at, end).join("\n"))), end + 1];
}

function readTable(lines, at) {
  const end = endOf(lines, at, (line) => line.startsWith("|"));
  const rows = lines.slice(at, end).map((line) =>
    line
      .replace(/^\|/, "")
      .replace(/\|\s*$/, "")
      .split(/(?<!\\)\|/),
  );
  const isRuled = rows.length > 1 && rows[1].every((cell) => /^\s*:?-+:?\s*$/.test(cell));
  const head = isRuled && rows[0].some((cell) => cell.trim()) ? [tableLine("th", rows[0])] : [];
  const body = rows.slice(isRuled ? 2 : 0).map((row) => tableLine("td", row));
  return [
    make(
      "div",
      { class: "wide", tabindex: "0" },
      make("table", {}, make("thead", {}, head), make("tbody", {}, body)),
    ),
    end,
  ];
}

function tableLine(tag, cells) {
  return make(
    "tr",
    {},
    cells.map((cell) => make(tag, {}, inline(cell.trim()))),
  );
}

function isItem(line) {
  return /^\s{0,8}(?:[-*+]|\d{1,3}\.)\s/.test(line);
}

function readList(lines, at) {
  const end = endOf(lines, at, isItem);
  const isNumbered = /^\s*\d/.test(lines[at]);
  const items = lines.slice(at, end).map((line) => make("li", {}, inline(line.replace(/^\s{0,8}\S+\s+/, ""))));
  return [make(isNumbered ? "ol" : "ul", {}, items), end];
}

function readParagraph(lines, at) {
  const isPlain = (line) => line.trim() && !/^(?:#{1,6}\s|```|\|)/.test(line) && !isItem(line);
  const end = Math.max(at + 1, endOf(lines, at, isPlain));
  return [make("p", {}, inline(lines.slice(at, end).join(" "))), end];
}

function endOf(lines, at, belongs) {
  let end = at;
  while (end < lines.length && belongs(lines[end])) end += 1;
  return end;
}

function inline(text) {
  const parts = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, escaped, code, strong, stressed, label, target, bare] = match;
    parts.push(text.slice(last, match.index));
    if (escaped) parts.push(escaped);
    else if (code) parts.push(make("code", {}, code));
    else if (strong) parts.push(make("strong", {}, strong));
    else if (stressed) parts.push(make("em", {}, stressed));
    else
      parts.push(
        make(
          "a",
          { href: target ?? bare, title: target ?? bare, rel: "noopener noreferrer nofollow" },
          label ?? bare,
        ),
      );
    last = match.index + whole.length;
  }
  return [...parts, text.slice(last)];
}
