// The map: shows the drawing that fits, highlights what a node or line is connected with, tells the page which node was
// picked, and saves the drawing as PNG. The drawing itself is the server's (dashboards/edges/map_svg.py).
const NARROW = 1100;

export function draw({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".map");
  let shown = "";
  const show = () => {
    const fitting = root.clientWidth < NARROW ? data.narrow : data.wide;
    if (fitting === shown) return;
    shown = fitting;
    root.innerHTML = fitting;
    const save = document.createElement("button");
    save.className = "save";
    save.textContent = "Save as PNG";
    save.onclick = () => png(data.wide);
    root.prepend(save);
  };
  root.observer?.disconnect();
  root.observer = new ResizeObserver(show);
  root.observer.observe(root);
  shown = "";
  show();

  root.onmouseover = root.onfocusin = (event) => highlight(root, event.target);
  root.onmouseleave = root.onfocusout = () => root.classList.remove("faded");
  root.onclick = (event) => pick(event.target, setTriggerValue);
  root.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    if (event.target.closest("[data-node]")) event.preventDefault();
    pick(event.target, setTriggerValue);
  };
}

function pick(target, setTriggerValue) {
  const node = target.closest("[data-node]");
  if (node) setTriggerValue("picked", node.dataset.node);
}

function highlight(root, target) {
  const node = target.closest?.("[data-node]")?.dataset.node;
  const line = target.closest?.("path[data-from]");
  root.classList.toggle("faded", Boolean(node || line));
  const near = new Set(node ? [node] : line ? [line.dataset.from, line.dataset.to] : []);
  for (const path of root.querySelectorAll("path[data-from]")) {
    const isNear = path === line || (node !== undefined && (path.dataset.from === node || path.dataset.to === node));
    path.classList.toggle("near", isNear);
    if (isNear) near.add(path.dataset.from).add(path.dataset.to);
  }
  for (const part of root.querySelectorAll("g[data-node]")) part.classList.toggle("near", near.has(part.dataset.node));
}

function png(svg) {
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = 2 * picture.width;
    canvas.height = 2 * picture.height;
    const ink = canvas.getContext("2d");
    ink.scale(2, 2);
    ink.drawImage(picture, 0, 0);
    const link = document.createElement("a");
    link.download = "hindcast-map.png";
    link.href = canvas.toDataURL("image/png");
    link.click();
  };
  picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
}
