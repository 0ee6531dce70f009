"""Protein backbones to be turned with the mouse, by 3Dmol.js (Rego & Koes 2015), which is bundled."""

import json
from html import escape
from importlib.resources import files
from typing import Any

from .source import Source

__all__ = ["chains"]

_FORMATS = {".pdb": "pdb", ".cif": "mmcif", ".mmcif": "mmcif"}
_SHOWN = 24
_SHOW = """
const chains = JSON.parse(document.getElementById("chains").textContent);
const viewer = $3Dmol.createViewer(document.getElementById("chain"), {backgroundColor: "white"});
function colour(hue) {
  const part = n => 0.85 * (1 - 0.85 * Math.max(0, Math.min(1, Math.min((n + hue / 60) % 6, 4 - (n + hue / 60) % 6))));
  return {r: part(5), g: part(3), b: part(1)};
}
function show(place) {
  viewer.removeAllModels();
  viewer.removeAllShapes();
  const atoms = viewer.addModel(chains[place].text, chains[place].format).selectedAtoms({});
  viewer.setStyle({}, {});
  for (let k = 0; k + 1 < atoms.length; k++) {
    const given = atoms[k].b > 0.5 && atoms[k + 1].b > 0.5;
    const hue = 240 * (1 - k / Math.max(atoms.length - 2, 1));
    viewer.addCylinder({
      start: atoms[k], end: atoms[k + 1], radius: given ? 0.7 : 0.4, fromCap: 2, toCap: 2,
      color: given ? "black" : colour(hue),
    });
  }
  viewer.zoomTo();
  viewer.render();
}
document.getElementById("which").addEventListener("change", event => show(event.target.value));
show(0);
"""


def chains(source: Source) -> str:
    """The first chains of a folder of predictions, one at a time; "" where there is none."""
    found = [path for path in source.written(_FORMATS) if source.holds(path)][:_SHOWN]
    if not found:
        return ""
    script = files(__package__).joinpath("vendor/3Dmol-min.js").read_text(encoding="utf-8")
    told = [
        {"format": _FORMATS[path.suffix.lower()], "text": path.read_text(encoding="utf-8")}
        for path in found
    ]
    options = "".join(
        f'<option value="{place}">{escape(path.name)}</option>' for place, path in enumerate(found)
    )
    return (
        f'<p><label>Chain <select id="which">{options}</select></label></p>'
        '<div id="chain" class="chain"></div>'
        '<p class="note">Drag to turn, scroll to come nearer. C-alpha traces from blue (first residue) to red (last); '
        "residues that were given are black. Drawn by 3Dmol.js (WebGL).</p>"
        f'<script type="application/json" id="chains">{_inside_script(told)}</script>'
        f"<script>{script}</script><script>{_SHOW}</script>"
    )


def _inside_script(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")
