// How outlines look: colour and dash say how sure the propagation was, then what the reviewer decided.
// The colours are those of Okabe and Ito, told apart by colour-blind eyes; a white line lies under each.

export const LOW = 0.5, HIGH = 0.8;

export const LOOKS = {
  low: { colour: "#d55e00", dash: [5, 4], title: `confidence below ${LOW}` },
  middle: { colour: "#e69f00", dash: [12, 4], title: `confidence ${LOW} to ${HIGH}` },
  high: { colour: "#0072b2", dash: [], title: `confidence ${HIGH} and above` },
  decided: { colour: "#009e73", dash: [], title: "accepted, moved or redrawn" },
  refused: { colour: "#5f5f66", dash: [2, 4], title: "rejected or left undecided" },
  source: { colour: "#1b1b1d", dash: [], title: "drawn by hand on the source" },
  own: { colour: "#a8477f", dash: [2, 3], title: "the target's own annotation" },
};

export const WORDS = { accept: "accepted", reject: "rejected", unsure: "unsure", nudge: "moved", redraw: "redrawn" };
export const SIGNS = { accept: "✓", reject: "✕", unsure: "?", nudge: "✓", redraw: "✓" };

export const sureness = (confidence) =>
  confidence === null || confidence < LOW ? "low" : confidence < HIGH ? "middle" : "high";

export function look(object, decision) {
  if (!decision || decision.stale) return LOOKS[sureness(object.confidence)];
  return decision.kind === "reject" || decision.kind === "unsure" ? LOOKS.refused : LOOKS.decided;
}

// An outline from the server, made ready to be drawn: a path and its box, in section pixels.
export function outline(drawn) {
  if (!drawn) return null;
  const path = new Path2D();
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  const points = [];
  for (const ring of drawn.rings) {
    for (let i = 0; i < ring.length; i += 2) {
      const x = ring[i], y = ring[i + 1];
      if (drawn.kind === "points") points.push([x, y]);
      else if (i === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
    if (drawn.kind === "area") path.closePath();
  }
  return { path, box, points };
}

// Strokes an outline on a canvas whose transform takes section pixels to the screen, `scale` screen pixels each.
export function stroke(context, shape, style, scale, wide = false) {
  const width = wide ? 3.2 : 1.8;
  let path = shape.path;
  if (shape.points.length) {
    path = new Path2D();
    for (const [x, y] of shape.points) {
      path.moveTo(x + 6 / scale, y);
      path.arc(x, y, 6 / scale, 0, 2 * Math.PI);
    }
  }
  context.lineJoin = "round";
  context.setLineDash([]);
  context.strokeStyle = "rgba(255,255,255,.85)";
  context.lineWidth = (width + 2.4) / scale;
  context.stroke(path);
  context.setLineDash(style.dash.map((length) => length / scale));
  context.strokeStyle = style.colour;
  context.lineWidth = width / scale;
  context.stroke(path);
  context.setLineDash([]);
}
