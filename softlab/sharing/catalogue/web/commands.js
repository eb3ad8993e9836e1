// What is typed to use a store, with the address that the reader has it at.

const SHELL_SAFE = /^[A-Za-z0-9_.:/@~+=,-]+$/;

let address = "";

function commands(version) {
  const whole = () => quoted(`${address.replace(/\/+$/, "")}/${addressOf(version)}`);
  const options = version.summary.head === "sigmoid" ? " --loss bce --alpha 1" : "";
  const train = (store) =>
    `softlab train-student --store ${store} --source YOUR_DATA --student torchvision:resnet18${options} --out RUN`;
  const all = [
    ["Pull it", () => `softlab pull ${whole()} ${version.name}`],
    ["Train from what was pulled", () => train(version.name)],
    ["Or train from where it is", () => train(whole())],
    [
      "Read it in Python",
      () => `store = softlab.open_store(${JSON.stringify(`${address.replace(/\/+$/, "")}/${addressOf(version)}`)})`,
    ],
  ];
  const blocks = all.map(([title, text]) => ({ text, code: make("code"), title }));
  const show = () => blocks.forEach((block) => block.code.replaceChildren(...words(block.text())));
  const field = make("input", {
    type: "text",
    id: "address",
    spellcheck: "false",
    autocomplete: "off",
    input: () => {
      address = field.value.trim();
      show();
    },
  });
  field.value = address;
  show();
  return [
    labelled("Address of the catalogue", field, "address"),
    isWeb(address)
      ? make(
          "p",
          { class: "note" },
          "Where this page was read from. If you can reach the bucket itself, put its address here, as in ",
          "s3://bucket/labels.",
        )
      : null,
    blocks.map((block) =>
      make(
        "div",
        { class: "command" },
        make("h3", {}, block.title),
        make(
          "div",
          { class: "line" },
          make("pre", { tabindex: "0" }, block.code),
          copyButton(block.title.toLowerCase(), () => tidy(block.text())),
        ),
      ),
    ),
  ];
}

// So that a line breaks between words, and not behind the hyphens of an option.
function words(text) {
  return text.split(" ").flatMap((word, at) => [...(at ? [" "] : []), make("span", { class: "word" }, word)]);
}

function isWeb(text) {
  return /^https?:/.test(text);
}

function quoted(text) {
  return SHELL_SAFE.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
