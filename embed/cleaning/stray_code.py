"""Blank CSS, JavaScript and JSON-LD that lost its tags.

Shops that remove tags from a description often leave the code between `<style>` and
`</style>`. Braces, and the words before them, tell code from text. Text in doubt stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_MAX_ROUNDS = 3  # of CSS rules inside rules
_MAX_JSON_BLOCKS = 20
_BEFORE_CHARS = 300  # searched for a rule's selector or a function's call

_BRACE = re.compile(r"[{}]")
_JSON_LD = re.compile(r"\{\s{0,20}\"@(?:context|graph|id|type)\"\s{0,20}:")

_RULE = re.compile(r"\{([^{}]*)\}")
_DECLARED = re.compile(r"\s*(?:--[\w-]+|[*_]?[a-z-]+)\s*:\s*\S", re.ASCII)
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_AT_RULE = re.compile(
    r"@(?:-\w+-)?(?:charset|container|font-face|import|keyframes|layer|media|page"
    r"|property|supports)\b[^{};]*\Z",
    re.ASCII,
)
_AT_LINE = re.compile(r"@(?:charset|import)\s[^;{}\n]{1,300};")
_ELEMENTS = (
    "a abbr article aside b blockquote body button center code dd div dl dt em "
    "fieldset figcaption figure font footer form from h1 h2 h3 h4 h5 h6 header hr "
    "html i iframe img input label legend li main nav object ol optgroup option p "
    "pre s section select small span strong sub summary sup svg table tbody td "
    "textarea tfoot th thead to tr u ul video"
)
_SELECTOR = re.compile(
    r"(?:[.#:*&\[]|--)\S*|[>+~,]|\d{1,3}(?:\.\d+)?%,?"
    rf"|(?:{_ELEMENTS.replace(' ', '|')})(?:[.#:\[>+~,]\S*)?"
)

_FUNCTION = re.compile(
    r"\bfunction\b\s*[\w$]*\s*\([^(){}]{0,200}\)\s*\{"
    r"|\([^(){}\n]{0,100}\)\s*=>\s*\{"
    r"|\b(?:for|if|switch|while)\s*\([^{}\n]{0,200}\)\s*\{|\btry\s*\{"
    r"|\b(?:(?:const|let|var)\s+[\w$]+|window(?:\.[\w$]+)+)\s*=\s*\[?\s*\{"
    r"|(?:\b(?:dataLayer\.push|fbq|gtag|jQuery)|\$)\([^{}\n]{0,200}\{"
)
_CALL = re.compile(
    r"(?:(?:const|let|var)\s+)?(?:[\w$.]+\s?=\s?)?"
    r"(?:(?<![\w$.])[\w$][\w$.]*\([^\s()]{0,80}(?:\)[\w$.]*\([^\s()]{0,80}){0,3})?"
    r"(?:;?[(!]+)?\s?\Z"
)
_CALL_END = re.compile(
    r"(?:\s*(?:\)|\]|\([^(){}\n]{0,200}\)|,\s*[\w.]+(?=\s*\))))*\s*;?"
    r"(?:\s*(?:else|catch\s*\(\w*\))?\s*(?=\{))?"
)
_STATEMENT = re.compile(
    r"\b(?:const|let|var)\s+[\w$]+\s*=\s*[^;{}\n]{1,300};"
    r"|\b(?:Shopify|console|document|localStorage|window)(?:\.[\w$]+)+\s*"
    r"(?:\([^;\n]{0,300}?\)|=[^;\n]{1,300});"
    r"|(?:\b(?:dataLayer\.push|fbq|gtag|jQuery)|\$)\([^;\n]{0,300}?\);"
)

Span = tuple[int, int]


def blank_code(text: str) -> str:
    """Return the text with blanks in place of code.

    Parameters
    ----------
    text : str
        Text without tags.

    Returns
    -------
    str
        Text without CSS rules, JavaScript functions and calls, and JSON-LD. Words in
        braces stay.
    """
    if "{" in text:
        text = _blank(text, _json_spans(text))
        text = _blank(text, _function_spans(text))
        text = _blank_rules(text)
    if ";" in text:
        text = _AT_LINE.sub(" ", _STATEMENT.sub(" ", text))
    return text


def _blank(text: str, spans: list[Span]) -> str:
    """Replace each span by a blank; spans are in order and may overlap."""
    parts, position = [], 0
    for start, stop in spans:
        if stop > position:
            parts += [text[position : max(position, start)], " "]
            position = stop
    return "".join([*parts, text[position:]])


def _json_spans(text: str) -> list[Span]:
    decoder, spans = json.JSONDecoder(strict=False), list[Span]()
    for n_tried, opening in enumerate(_JSON_LD.finditer(text)):
        if n_tried == _MAX_JSON_BLOCKS:
            break
        if spans and opening.start() < spans[-1][1]:
            continue
        try:
            _, stop = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        spans.append((opening.start(), stop))
    return spans


def _function_spans(text: str) -> list[Span]:
    openings = list(_FUNCTION.finditer(text))
    if not openings:
        return []
    closing = _matching_braces(text)
    spans: list[Span] = []
    for opening in openings:
        if spans and opening.start() < spans[-1][1]:
            continue
        stop = closing.get(opening.end() - 1)
        if stop is not None:
            start = _begin(text, opening.start(), _call_start)
            end = _CALL_END.match(text, stop + 1, stop + 1 + _BEFORE_CHARS)
            spans.append((start, end.end() if end else stop + 1))
    return spans


def _matching_braces(text: str) -> dict[int, int]:
    """Map the position of each opening brace to that of its closing brace."""
    pairs, opened = {}, list[int]()
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            pairs[opened.pop()] = brace.start()
    return pairs


def _begin(text: str, brace: int, find: Callable[[str], int | None]) -> int:
    """Return the start of the selector or call that ends before a brace."""
    first = max(0, brace - _BEFORE_CHARS)
    offset = find(text[first:brace])
    return brace if offset is None else first + offset


def _call_start(before: str) -> int | None:
    call = _CALL.search(before)
    return call.start() if call else None


def _blank_rules(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        spans = [span for rule in _RULE.finditer(text) if (span := _rule_span(rule))]
        if not spans:
            break
        text = _blank(text, spans)
        last = text.rfind("*/") + 2
        text = _CSS_COMMENT.sub(" ", text[:last]) + text[last:] if last > 1 else text
    return text


def _rule_span(rule: re.Match[str]) -> Span | None:
    """Return the span of a CSS rule with its selector; None if it is no rule."""
    text = rule.string
    start = _begin(text, rule.start(), _selector_start)
    if start == rule.start():
        return None
    body = _CSS_COMMENT.sub(" ", rule[1]) if "*/" in rule[1] else rule[1]
    declared = [part for part in body.split(";") if part.strip()]
    if not all(map(_DECLARED.match, declared)):
        return None
    is_plain = text[start].isalnum()
    return None if is_plain and not declared else (start, rule.end())


def _selector_start(before: str) -> int | None:
    """Return the start of the words that can only be a CSS selector."""
    if at_rule := _AT_RULE.search(before):
        return at_rule.start()
    start = None
    for word in reversed(list(re.finditer(r"\S+", before))):
        # The rule before may end or begin in the same word: "}.mug", "{.mug".
        offset = max(map(word[0].rfind, "{};")) + 1
        if offset == len(word[0]) or not _SELECTOR.fullmatch(word[0], offset):
            break
        start = word.start() + offset
        if offset:
            break
    return start
