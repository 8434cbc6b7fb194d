"""Text of any language as ASCII that LaTeX sets: nothing in it is a command, and no letter is lost without a trace."""

from __future__ import annotations

import unicodedata

_PLAIN = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": "'",
    "\u00a0": "~", "\u202f": "~", "\n": " ", "\r": " ", "\t": " ",
    "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "„": r"\quotedblbase{}",
    "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "•": r"\textbullet{}", "·": r"\textperiodcentered{}",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}",
    "ł": r"\l{}", "Ł": r"\L{}", "đ": r"\dj{}", "Đ": r"\DJ{}", "ð": r"\dh{}", "Ð": r"\DH{}", "þ": r"\th{}",
    "Þ": r"\TH{}", "ı": r"\i{}", "µ": r"\textmu{}", "°": r"\textdegree{}", "€": r"\texteuro{}", "£": r"\pounds{}",
    "§": r"\S{}", "¶": r"\P{}", "©": r"\textcopyright{}", "®": r"\textregistered{}", "™": r"\texttrademark{}",
}  # fmt: skip
_MATHS = {
    "−": "-", "×": r"\times", "±": r"\pm", "≥": r"\geq", "≤": r"\leq", "≈": r"\approx", "≠": r"\neq", "∞": r"\infty",
    "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow", "↑": r"\uparrow", "↓": r"\downarrow",
    "÷": r"\div", "·": r"\cdot", "⋅": r"\cdot", "∆": r"\Delta", "∑": r"\sum", "√": r"\surd", "¬": r"\neg",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0328": "k",
    "\u0331": "b",
}  # fmt: skip
_LATIN_LIKE = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K", "MU": "M", "NU": "N",
    "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X",
}  # fmt: skip
"""Greek capitals that LaTeX has no command for: they look like Latin ones."""


def escaped(text: str) -> str:
    """ASCII that LaTeX (T1 fonts, ``textcomp``) sets as this text; a letter it has none for stands as ``U+4E2D``."""
    out: list[str] = []
    for letter in unicodedata.normalize("NFC", text):
        if letter == "-" and out and out[-1].endswith("-"):
            out.append("{}")  # two hyphens are no dash
        out.append(_letter(letter))
    return "".join(out)


def _letter(letter: str) -> str:
    if letter in _PLAIN:
        return _PLAIN[letter]
    if letter in _MATHS:
        return f"${_MATHS[letter]}$"
    if letter.isascii() and letter.isprintable():
        return letter
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Cf", "Zs", "Zl", "Zp"):
        return "" if kind == "Cf" else " "
    return _greek(letter) or _composed(letter) or rf"U+{ord(letter):04X}\allowbreak{{}}"


def _greek(letter: str) -> str:
    words = unicodedata.name(letter, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return ""
    small, name = words[1] == "SMALL", words[3].replace("LAMDA", "LAMBDA")
    if name == "OMICRON" and small:
        return "o"
    if not small and name in _LATIN_LIKE:
        return _LATIN_LIKE[name]
    return f"${chr(92)}{name.lower() if small else name.capitalize()}$"


def _composed(letter: str) -> str:
    """A letter with one accent, or one that stands for plainer ones (²: a raised 2, ﬁ: fi); empty for others."""
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[1] in _ACCENTS and parts[0].isascii():
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    if len(parts) == 1 and letter in _ACCENTS:
        return rf"\{_ACCENTS[letter]}{{}}"
    plain = unicodedata.normalize("NFKC", letter)
    if plain == letter or not plain.replace("\u2044", "").isascii():
        return ""
    kept = "".join(_letter(character) for character in plain.replace("\u2044", "/"))
    how = unicodedata.decomposition(letter).partition(">")[0].lstrip("<")
    return {"super": rf"\textsuperscript{{{kept}}}", "sub": rf"$_{{{kept}}}$"}.get(how, kept)
