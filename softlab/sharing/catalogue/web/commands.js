// What is typed to use a store, with the address that the reader has it at.

const SHELL_SAFE = /^[A-Za-z0-9_.:/@~+=,-]+$/;

let address = "";

function commands(version, about, signer) {
  const whole = () => quoted(`${address.replace(/\/+$/, "")}/${addressOf(version)}`);
  let options = trainOptions(version, null);
  let isSource = false;
  const train = (store) => {
    const source = isSource ? `store:${store}` : "YOUR_DATA";
    return `softlab train-student --store ${store} --source ${source}${options} --out RUN`;
  };
  const all = [
    ["Pull it", () => `softlab pull ${whole()} ${version.name}`],
    ["Train from what was pulled", () => train(version.name)],
    ["Or train from where it is", () => train(whole())],
    [
      "Read it in Python",
      () => `store = softlab.open_store(${JSON.stringify(`${address.replace(/\/+$/, "")}/${addressOf(version)}`)})`,
    ],
    ["Check who signed it", () => `softlab verify ${whole()} --signer THEIR_KEY.pem`],
  ];
  const blocks = all.map(([title, text]) => ({ text, code: make("code"), title }));
  const ofSigned = blocks.at(-1);
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
  about.then(
    (found) => {
      options = trainOptions(version, found);
      isSource = holdsTokens(found);
      show();
    },
    () => {}, // what went wrong is told among the facts
  );
  signer.then(
    (found) => found !== null && ofSigned.element.removeAttribute("hidden"),
    () => {},
  );
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
    blocks.map((block) => {
      block.element = make(
        "div",
        { class: "command", hidden: block === ofSigned },
        make("h3", {}, block.title),
        make(
          "div",
          { class: "line" },
          make("pre", { tabindex: "0" }, block.code),
          copyButton(block.title.toLowerCase(), () => tidy(block.text())),
        ),
      );
      return block.element;
    }),
  ];
}

// Which students read in place of the texts.
function holdsTokens(about) {
  return about !== null && about.modality === "tokens";
}

// A student with as many outputs, on images of the teacher's size, at a temperature that is stored; built of numbers
// alone, as others wrote what they are read from.
function trainOptions({ summary }, about) {
  if (holdsTokens(about)) return " --set input.modality=tokens --student softlab:tokens_transformer";
  const words = [" --student torchvision:resnet18"];
  if (hasLabels(summary) && summary.num_classes !== 1000) words.push(` --set student.resnet18.arguments.num_classes=${summary.num_classes}`);
  if (about !== null && about.modality === "images") {
    const { size } = about.input;
    const isSize = Array.isArray(size) && size.length === 2 && size.every((side) => Number.isInteger(side) && side > 0);
    words.push(...(isSize ? size.map((side) => ` --size ${side}`) : []), " --channels 3");
  }
  if (!hasLabels(summary)) return [...words, ...valuesOptions(summary)].join("");
  if (summary.head === "sigmoid") words.push(" --loss bce");
  if (summary.head === "sigmoid" || summary.accuracy === null) words.push(" --alpha 1");
  const stored = summary.temperatures;
  const usual = summary.num_classes > 100 && summary.head === "softmax" ? 1 : 4;
  const below = stored.filter((each) => each <= usual);
  const best = below.length ? Math.max(...below) : Math.min(...stored);
  if (best !== usual) words.push(` --temperature ${best}`);
  return words.join("");
}

// Of a store of values alone: its first one is learnt by the student's own output.
function valuesOptions({ features }) {
  const name = features.find((each) => /^[A-Za-z0-9_-]+$/.test(each));
  return name === undefined ? [] : [" --loss cosine", ` --set loss.output=${name}`, " --alpha 1"];
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
