"""Remove tags, styles, scripts and shortcodes, which no shopper reads, from a text.

`html.parser` and HTML 5 parsers do not fit: they read "A<B and the rest" as a tag that
never ends and drop the rest, and a catalog's text need not be HTML at all. Every step
here takes time linear in the text, or a bounded time for each "<", "[" or "{" in it.
"""

from __future__ import annotations

import html
import re

from embed.cleaning.stray_code import blank_code

# No encoder reads further, and it bounds the work.
MAX_MARKUP_CHARS = 400_000
_MAX_TAG_CHARS = 2000
_MAX_ROUNDS = 4  # of entities inside entities

BREAK = re.compile(r"\r\n?")
# html.unescape passes the digits to int(), which refuses more than 4300
_HUGE_ENTITY = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{8,});?")
# An inline file, or a run of letters and digits that is too long for a word.
_INLINE_FILE = re.compile(
    r"data:(?:application|audio|font|image|text|video)/[\w.+-]{1,80}"
    r"(?:;[\w=.+-]{1,80}){0,5}"
    r"(?:;base64,[\w+/=%-]*+(?:\s+[\w+/=]{40,}+)*+|,[^\s\"'<>()\[\]]*+)"
    r"|(?<![A-Za-z0-9+/=])[A-Za-z0-9+/=]{200,}+",
    re.ASCII,
)
# Elements whose content is not text, and comments.
_BLOCK = re.compile(
    r"<(?:!--|(style|script|svg|xml|template|object)(?:\s[^<>]*+)?>)", re.IGNORECASE
)
_BLOCK_ENDS = {
    name: re.compile(rf"<\\?/{name}(?:\s[^<>]{{0,100}})?>", re.IGNORECASE)
    for name in ("style", "script", "svg", "xml", "template", "object")
} | {"!--": re.compile("--!?>")}
_TAG = re.compile(
    r"<(\\?/)?[A-Za-z][\w:.-]*+((?:[\s/](?:[^<>\"']|\"[^<\"]*\"|'[^<']*')*+)?)>"
)
_TAG_WITH_ODD_QUOTES = re.compile(r"<(\\?/)?[A-Za-z][\w:.-]*+((?:[\s/][^<>]*+)?)>")
# Document types, processing instructions, Office's conditions, marks of CDATA.
_DECLARATION = re.compile(r"<!\[CDATA\[|\]\]>|<[!?][A-Za-z\[/][^<>]{0,500}>")
_FLAGS = (
    "allowfullscreen async autofocus autoplay checked compact controls declare default "
    "defer disabled download formnovalidate hidden inert ismap itemscope loop multiple "
    "muted nomodule noresize noshade novalidate nowrap open playsinline readonly "
    "required reversed selected truespeed"
)
_BRACKETS = re.compile(
    r"\[(/?)([A-Za-z][\w-]*+)((?:[\s=](?:[^\[\]\"]|\"[^\"]*\")*+)?)/?\]", re.ASCII
)
_QUOTED_OPTION = re.compile(r"\s[A-Za-z_][\w-]*=[\"'\u2018-\u201d\u2032\u2033]")
_BARE_OPTION = re.compile(r"\s[a-z_][a-z\d_-]*=\S")
# Shortcodes that are recognised without an option or an end mark.
_SHORTCODES = frozenset({"gallery", "playlist"})
# Shortcodes that contain an address or code.
_NOT_TEXT = frozenset(
    {"audio", "embed", "video", "vc_raw_html", "vc_raw_js", "raw_css", "wp_raw_html"}
)


def strip_markup(text: str) -> str:
    """Return the text that a shopper would read, with its line breaks.

    Parameters
    ----------
    text : str
        Plain text, HTML, HTML escaped once or several times, or the source of a
        WordPress page.

    Returns
    -------
    str
        Text with entities resolved and blanks in place of tags, comments, styles,
        scripts, JSON-LD, inline files and shortcodes. Text between shortcodes stays,
        and so do "5 < 10", "<3", "A<B" and bracketed words such as "[NEW]" and
        "[500 g]". Without its inline files, only the first `MAX_MARKUP_CHARS`
        characters of the text are read.
    """
    text = _INLINE_FILE.sub(" ", _HUGE_ENTITY.sub(" ", BREAK.sub("\n", text)))
    text = _blank_elements(text[:MAX_MARKUP_CHARS])
    for _ in range(_MAX_ROUNDS):
        # Only after the tags are gone: attribute values may contain escaped tags.
        resolved = html.unescape(_HUGE_ENTITY.sub(" ", text)) if "&" in text else text
        if resolved == text:
            break
        text = _blank_elements(BREAK.sub("\n", resolved))
    if "[" in text:
        text = _blank_shortcodes(text)
    return blank_code(text)


def _blank_elements(text: str) -> str:
    return _blank_tags(_blank_blocks(text)) if "<" in text else text


def _blank_blocks(text: str) -> str:
    """Blank elements without text; of an element that never ends, only the tag.

    `blank_code` finds the code that follows such a tag.
    """
    parts: list[str] = []
    endless: set[str] = set()
    position = 0
    while opening := _BLOCK.search(text, position):
        name = (opening[1] or "!--").lower()
        end = None
        if name not in endless and not opening[0].endswith("/>"):
            end = _BLOCK_ENDS[name].search(text, opening.end())
            if end is None:
                endless.add(name)
        parts += [text[position : opening.start()], " "]
        position = end.end() if end else opening.end()
    return "".join([*parts, text[position:]])


def _blank_tags(text: str) -> str:
    """Blank tags, recognised by name and attributes."""
    text = _DECLARATION.sub(" ", text)
    parts: list[str] = []
    position, start = 0, text.find("<")
    while start >= 0:
        stop = start + _MAX_TAG_CHARS
        tag = _TAG.match(text, start, stop) or _TAG_WITH_ODD_QUOTES.match(
            text, start, stop
        )
        if tag and _is_tag(tag):
            parts += [text[position:start], " "]
            position = tag.end()
        start = text.find("<", max(position, start + 1))
    return "".join([*parts, text[position:]])


def _is_tag(tag: re.Match[str]) -> bool:
    """Tell a tag from words between two signs, as in "A <b and c> d"."""
    attributes = tag[2].strip("/ \t\n")
    if tag[1] or "=" in attributes:
        return True
    return all(word.lower() in _FLAGS.split() for word in attributes.split())


def _blank_shortcodes(text: str) -> str:
    """Blank WordPress's shortcodes in brackets; words in brackets stay."""
    marks = list(_BRACKETS.finditer(text))
    ended = {mark[2] for mark in marks if mark[1]}
    parts: list[str] = []
    position = 0
    skip_to: str | None = None
    for mark in marks:
        if skip_to is not None:
            if not (mark[1] and mark[2] == skip_to):
                continue
            skip_to = None
        elif not _is_shortcode(mark, ended):
            continue
        else:
            parts.append(text[position : mark.start()])
            if mark[2] in _NOT_TEXT & ended and not mark[1]:
                skip_to = mark[2]
        parts.append(" ")
        position = mark.end()
    return "".join([*parts, text[position:]])


def _is_shortcode(mark: re.Match[str], ended: set[str]) -> bool:
    name, options = mark[2], mark[3]
    if mark[1]:
        return True
    if not options.strip():
        is_named = name in _SHORTCODES or ("_" in name and name.islower())
        return is_named or name in ended
    if name in ended or _QUOTED_OPTION.search(options):
        return "=" in options
    return name.islower() and bool(_BARE_OPTION.search(options))
