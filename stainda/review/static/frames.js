// Where a point of the block's frame lies in a section, and back: bilinear in a grid, affine beyond it.
// Only views follow this map. Outlines are warped by the server, with the transform itself.

export class Frame {
  constructor(grid) {
    this.grid = grid;
    const [a, b, tx, c, d, ty] = grid.affine; // frame -> section
    this.affine = { a, b, tx, c, d, ty };
    const det = a * d - b * c;
    this.flipped = det < 0;
    this.scale = 1 / Math.sqrt(Math.abs(det)); // frame pixels per section pixel
    // rotation that sets the section upright in the frame; a mirrored one is mirrored back after it
    const [p, q, r, s] = [d / det, -b / det, -c / det, a / det]; // section -> frame
    const sign = this.flipped ? -1 : 1;
    this.degrees = (Math.atan2(r - sign * q, sign * p + s) * 180) / Math.PI;
  }

  toSection(x, y) {
    const g = this.grid;
    const u = (x - g.x) / g.dx, v = (y - g.y) / g.dy;
    const { a, b, tx, c, d, ty } = this.affine;
    if (!(u >= 0 && v >= 0 && u <= g.n - 1 && v <= g.n - 1)) return [a * x + b * y + tx, c * x + d * y + ty];
    const i = Math.min(Math.floor(u), g.n - 2), j = Math.min(Math.floor(v), g.n - 2);
    const s = u - i, t = v - j, at = 2 * (j * g.n + i), below = at + 2 * g.n;
    const mix = (k) =>
      (1 - t) * ((1 - s) * g.points[at + k] + s * g.points[at + 2 + k]) +
      t * ((1 - s) * g.points[below + k] + s * g.points[below + 2 + k]);
    return [mix(0), mix(1)];
  }

  toFrame(x, y) {
    const { a, b, tx, c, d, ty } = this.affine;
    const det = a * d - b * c;
    const step = (ex, ey) => [(d * ex - b * ey) / det, (a * ey - c * ex) / det];
    let [fx, fy] = step(x - tx, y - ty);
    for (let round = 0; round < 12; round++) {
      const [sx, sy] = this.toSection(fx, fy);
      const [mx, my] = step(x - sx, y - sy);
      fx += mx;
      fy += my;
      if (Math.abs(mx) + Math.abs(my) < 0.01) break;
    }
    return [fx, fy];
  }
}
