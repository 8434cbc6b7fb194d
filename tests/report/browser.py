"""A page in headless Chromium, without any driver: what it logs, what it asks of the network, what axe finds.

The page is copied with a script at its end that writes what it finds into an attribute, which ``--dump-dom`` prints.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

PROBE = """
<script>
(async function () {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const found = { requests: performance.getEntriesByType("resource").map(function (one) { return one.name; }) };
  found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.struck = document.documentElement.dataset.struck || "";
  found.rows = document.querySelectorAll("tbody tr").length;
  if (window.axe) {
    const result = await axe.run(document, { resultTypes: ["violations"] });
    found.violations = result.violations.map(function (one) {
      const nodes = one.nodes.slice(0, 3).map(function (node) { return node.html.slice(0, 200); });
      return { id: one.id, impact: one.impact, help: one.help, nodes: nodes };
    });
  }
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
})();
</script>
"""


def chromium() -> str | None:
    """The browser: ``STAINDA_CHROMIUM``, or one on the path."""
    names = [os.environ.get("STAINDA_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def axe_source() -> Path | None:
    """``axe.min.js`` of the npm package axe-core: ``STAINDA_AXE`` names it."""
    path = Path(os.environ.get("STAINDA_AXE", "/nonexistent"))
    return path if path.is_file() else None


def look_at(
    page: Path, work: Path, width: int = 1366, axe: Path | None = None, dark: bool = False
) -> tuple[dict, list[str]]:
    """What the probe found, and the errors and warnings of the console."""
    text = page.read_text(encoding="utf-8")
    script = f"<script>{axe.read_text(encoding='utf-8')}</script>" if axe else ""
    copy = work / "probed.html"
    copy.write_text(text.replace("</body>", script.replace("</body>", "") + PROBE + "</body>"), encoding="utf-8")
    command = [
        chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={work / 'profile'}", f"--window-size={width},2000", "--virtual-time-budget=120000",
        "--enable-logging=stderr", *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    match = re.search(r'data-found="([^"]*)"', done.stdout)
    assert match, f"the page's script did not end: {done.stderr[-2000:]}"
    return json.loads(html.unescape(match.group(1))), re.findall(r"CONSOLE.*", done.stderr)
