// What the page asks of the server. Addresses are relative: they carry the token of the page's own address.

async function answer(response) {
  const value = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) {
    const error = new Error(value.error);
    error.status = response.status;
    throw error;
  }
  return value;
}

const reach = (path, options) =>
  fetch(path, options).catch(() => {
    throw new Error("the server does not answer; is 'stainda review' still running?");
  });

export const overview = async () => answer(await reach("api/overview"));
export const decisions = async () => answer(await reach("api/decisions"));
export const block = async (name) => answer(await reach(`api/blocks/${encodeURIComponent(name)}`));
export const decide = async (request) =>
  answer(
    await reach("api/decisions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    }),
  );

export const tileSource = (section) => ({
  width: section.size[0],
  height: section.size[1],
  tileSize: section.tile,
  tileOverlap: section.overlap,
  minLevel: 0,
  maxLevel: section.top,
  getTileUrl: (level, x, y) => `tiles/${section.number}/${level}/${x}_${y}.jpg`,
});
