const cases = JSON.parse(document.getElementById("volumes").textContent);
const element = name => document.getElementById(name);
const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1], isColorbar: false, dragAndDropEnabled: false, isRadiologicalConvention: true,
  show3Dcrosshair: false, logLevel: "silent", isResizeCanvas: true, sagittalNoseLeft: true,
  crosshairWidth: 0.4, crosshairWidthUnit: "percent",
});
viewer.addColormap("heat", {R: [0, 255, 255, 255], G: [0, 0, 255, 255], B: [0, 0, 0, 255], A: [0, 128, 192, 255],
  I: [0, 85, 170, 255]});
let shown = [], turn = 0;
function options(select, names) {
  select.replaceChildren(...names.map((name, place) => new Option(name, place)));
}
function ended(value, unit) {
  return Number(value.toPrecision(3)) + (unit ? " " + unit : "");
}
function span(className, ...inside) {
  const made = document.createElement("span");
  made.className = className;
  made.append(...inside);
  return made;
}
function small(text) {
  const made = document.createElement("small");
  made.textContent = text;
  return made;
}
function bar(kind, low, high, unit) {
  const colours = document.createElement("i");
  colours.className = kind;
  return span("bar", small(ended(low, "")), colours, small(ended(high, unit)));
}
function swatches(layer) {
  return span("swatches", ...layer.labels.map(each => {
    const colour = document.createElement("i");
    colour.style.background = each.colour;
    return span("", colour, each.name);
  }));
}
// the colours of labels, or of values between two ends
function coloured(volume, layer, low, high) {
  if (layer.labels) {
    const parts = [1, 3, 5].map(at => [0, ...layer.labels.map(each => parseInt(each.colour.slice(at, at + 2), 16))]);
    volume.setColormapLabel({R: parts[0], G: parts[1], B: parts[2], A: [0, ...layer.labels.map(() => 255)],
      I: [0, ...layer.labels.map(each => each.value)]});
  } else {
    [volume.cal_min, volume.cal_max] = [low, high];
  }
}
function legend() {
  const rows = shown.map((layer, place) => {
    const volume = viewer.volumes[place], kind = place || layer.heat ? "heat" : "grey";
    const colours = layer.labels ? swatches(layer) : bar(kind, volume.cal_min, volume.cal_max, layer.unit);
    return span("legend-of", layer.name, colours);
  });
  element("legend").replaceChildren(...rows);
}
function windowed() {
  const layer = shown[0];
  if (!layer.labels) {
    const low = Number(element("low").value), high = Number(element("high").value);
    const at = share => layer.low + (layer.high - layer.low) * share / 100;
    coloured(viewer.volumes[0], layer, at(Math.min(low, high)), at(Math.max(low, high, low + 1)));
    viewer.updateGLVolume();
  }
  legend();
}
function where(data) {
  const said = data.values.slice(0, shown.length).map(({value}, place) => {
    const layer = shown[place], label = layer.labels && layer.labels.find(each => each.value === Math.round(value));
    const text = layer.labels ? (label ? label.name : "nothing") : ended(value, layer.unit);
    return layer.name + ": " + text;
  });
  element("where").textContent = said.join(" · ");
}
async function show() {
  const one = cases[element("case").value].layers;
  const wanted = [one[element("base").value], one[Number(element("over").value) - 1]].filter(Boolean);
  const mine = ++turn;
  const opened = await Promise.all(wanted.map((layer, place) => niivue.NVImage.loadFromBase64({
    base64: layer.data, name: layer.name + ".nii.gz", colormap: place || layer.heat ? "heat" : "gray",
    opacity: place ? Number(element("opacity").value) / 100 : 1})));
  if (mine !== turn) return;  // another choice came while this one was opened
  shown = wanted;
  while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
  opened.forEach((volume, place) => {
    const layer = shown[place];
    viewer.addVolume(volume);
    coloured(volume, layer, place ? layer.low + (layer.high - layer.low) / 20 : layer.low, layer.high);
  });
  viewer.setInterpolation(element("nearest").checked);
  viewer.updateGLVolume();
  windowed();
  viewer.createOnLocationChange();
  document.body.dataset.drawn = viewer.volumes.length;
}
function begin() {
  const one = cases[element("case").value].layers;
  options(element("base"), one.map(layer => layer.name));
  element("base").value = Math.max(0, one.findIndex(layer => !layer.over));
  options(element("over"), ["nothing", ...one.map(layer => layer.name)]);
  element("over").value = Math.max(0, one.findIndex(layer => layer.over) + 1);
  return show();
}
options(element("case"), cases.map(each => each.name));
viewer.onLocationChange = where;
viewer.attachTo("planes").then(() => {
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  element("case").addEventListener("change", begin);
  for (const name of ["base", "over", "nearest"]) element(name).addEventListener("change", show);
  for (const name of ["low", "high"]) element(name).addEventListener("input", windowed);
  element("opacity").addEventListener("input", event => {
    if (viewer.volumes.length > 1) viewer.setOpacity(1, Number(event.target.value) / 100);
  });
  return begin();
});
