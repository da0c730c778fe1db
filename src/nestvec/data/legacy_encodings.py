"""The encoding of a text that is no Unicode, by whether its words could be words of a language."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from charset_normalizer import from_bytes

__all__ = ["decodes", "guess_encoding"]

_LATIN = "cp1252"
# The first one wins where several read a text as well.
_SINGLE_BYTE = (
    *(_LATIN, "cp1250", "iso8859_2", "cp1254", "cp1257", "iso8859_15", "mac_roman", "cp850", "cp1258", "cp1251"),
    *("koi8_r", "koi8_u", "cp866", "iso8859_5", "cp1253", "iso8859_7", "cp1255", "cp1256", "cp874"),
)
_WIDE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_ACCENTED = (  # letters beside a to z that one language writes: Western, northern, central, south-eastern, Baltic
    *("äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúüªº", "ãáàâçéêíóôõúªº", "àèéìíòóùúªº", "àçèéíïòóúü", "ëïéèöüá"),
    *("åäöé", "æøåéèêóòâôü", "áðéíóúýþæö"),
    *("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţșț", "ëç", "çğıöşüâîû\u0307"),
    *("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž", "ăâđêôơưàáãèéìíòóõùúý\u0300\u0309\u0303\u0301\u0323"),
)
_SCRIPTS = (  # letters of one language, the most frequent first
    "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "оанивітерсклудмпязьбгйчхцїюжшщєфґ'",
    "аоиенрсјтукдлмвпљњбгзчћшжцђхфџ",
    "αοιετσνρκπμληυςδγωχθφβξζψάέίόήύώϊϋΐΰ",
    "יוהלאמרתבשנםכדקעחפגטצזסןךףץ",
    "اليمنتوربدعسفهقكحجشصةطخىأذئضزغثءظإآؤ\u064b\u064e\u064f\u0650\u0651\u0652",
    "านร\u0e48อกเ\u0e49ง\u0e35มยวลดทส\u0e31ตะ\u0e34ปบคห\u0e38แจพ\u0e39ใชไขซ\u0e4cโผธ\u0e37\u0e36ถณ\u0e47ศภำฟษฎญฉฐฝฆฏฬฒฮ",
)
_QUOTES = "«»“”„…—€\u2018\u2019\u2013\u2039\u203a\u201a\u00a0" + string.punctuation
_SIGNS = "§£¢¥©®°·¿¡±÷µ½¼¾²³¹¶¬¦¨¯™•†‡№\u00b4\u00b8\u00d7"
_HIGH_WORD = re.compile(rb"[^\s,;\"]*[\x80-\xff][^\s,;\"]*")  # no byte of a wider character separates words
_BETWEEN_PIECES = re.compile(r"[0-9\s!-&(-/:-@\[-`{-~\u2019\u2013\u00ad]+|(?<=[a-z])'|'(?=[a-z])|·")
_MOST_WORDS = 2_000
_LIKELY = 0.6
_USUAL_RANK, _ROOM = 0.2, 0.4  # of letters, as shares of an alphabet in the order of their frequency
_HALF_WIDTH_KANA = range(0xFF61, 0xFFA0)
_LAST_HANGUL_LEAD, _KANA_LEADS = 0xC8, {0xA4, 0xA5}
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")


def guess_encoding(sample: bytes) -> str | None:
    """Guess the encoding of a text that is no Unicode.

    Args:
        sample: Its first lines, whole.

    Returns:
        Name of a codec; None where it cannot be told.

    Example:
        >>> [guess_encoding("où êtes-vous, Москва".encode(one, "ignore")) for one in ("cp1252", "cp1251")]
        ['cp1252', 'cp1251']
    """
    words = list(dict.fromkeys(_HIGH_WORD.findall(sample)))[:_MOST_WORDS]
    content = b" ".join(words)
    if decodes(content, _LATIN) and not any(_pieces(content.decode(_LATIN))):
        return _LATIN  # nothing but signs
    scores = {encoding: _score(content, encoding) for encoding in _SINGLE_BYTE}
    best = max(scores, key=lambda encoding: scores[encoding])
    return best if scores[best] >= _LIKELY else _guess_wide(content)


def _score(content: bytes, encoding: str) -> float:
    """How likely a text is one in an encoding, 0 to 1."""
    if not decodes(content, encoding):
        return 0.0
    pieces = list(_pieces(content.decode(encoding)))
    if not pieces:
        return 0.0
    one_language = max(sum(_is_accented(piece, letters) for piece in pieces) for letters in _ACCENTED)
    some_language = sum(max(_is_accented(piece, letters) for letters in _ACCENTED) for piece in pieces)
    script = max(_script_score(pieces, letters) for letters in _SCRIPTS)
    return max(0.2 * one_language + 0.8 * some_language, script) / sum(len(word) for word, _ in pieces)


def _pieces(text: str) -> Iterable[tuple[str, float]]:
    """Parts of words with a letter beside ASCII, and what each counts: less where signs stood beside it."""
    for word in text.split():
        for piece in _BETWEEN_PIECES.split(word):
            bare = piece.strip(_QUOTES)
            letters = bare.strip(_SIGNS)
            if not letters.isascii():
                yield letters, 1.0 if letters == bare else 0.8


def _is_accented(piece: tuple[str, float], letters: str) -> float:
    """How many letters of a word are those of a language, where all are; less where signs or capitals speak against."""
    word, worth = piece
    high = [letter for letter in word.lower() if not letter.isascii()]
    if not set(letters).issuperset(high) or (len(word) > 2 and len(high) > 0.75 * len(word)):
        return 0.0
    return worth * _case(word) * len(word)


def _script_score(pieces: Iterable[tuple[str, float]], letters: str) -> float:
    """How many letters stand in words of a language's letters, less where its rare ones are frequent."""
    ranks: list[float] = []
    whole = 0.0
    for word, worth in pieces:
        places = [letters.find(letter) for letter in word.lower()]
        if min(places) >= 0:
            whole += worth * _case(word) * len(word)
            ranks += [place / len(letters) for place in places]
    if not ranks:
        return 0.0
    return whole * max(0.0, 1.0 - max(0.0, sum(ranks) / len(ranks) - _USUAL_RANK) / _ROOM)


def _case(word: str) -> float:
    """Less for words with capitals inside."""
    return 1.0 if word in (word.lower(), word.upper()) or word[1:] == word[1:].lower() else 0.3


def _guess_wide(content: bytes) -> str | None:
    """The encoding of Chinese, Japanese or Korean."""
    best = from_bytes(content, cp_isolation=list(_WIDE)).best()
    encoding = None if best is None else best.encoding
    runs = _HIGH_RUN.findall(content)
    leads = [lead for run in runs for lead in run[::2]]
    if encoding in ("cp949", "cp932") and decodes(content, "gb2312"):
        if _KANA_LEADS & set(leads) and decodes(content, "euc_jp"):
            return "euc_jp"
        if max(leads) > _LAST_HANGUL_LEAD:
            return "gb18030"
    if encoding == "cp932" and _is_half_width(content):
        return "big5" if decodes(content, "big5") else None
    return encoding


def decodes(content: bytes, encoding: str) -> bool:
    """Tell whether bytes are a text in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_half_width(content: bytes) -> bool:
    """Whether a text would in cp932 be mostly kana of half width, which hardly any text is."""
    high = [character for character in content.decode("cp932", "replace") if not character.isascii()]
    return sum(ord(character) in _HALF_WIDTH_KANA for character in high) > len(high) / 2
