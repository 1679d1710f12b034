"""Language codes, as a recipe gives them and a model card shows them: BCP 47, such as ``es``."""

import re

_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
ISO_639_1 = frozenset(_TWO_LETTERS.split())
"""The codes of two letters; of those of three (ISO 639-3, some 8,000) only the form is checked."""

_TAG = re.compile(r"(?P<language>[a-z]{2,3})(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?", re.ASCII)


def language_code(given: object) -> str:
    """``given``, if it is the code of a language: ``es``, ``sw``, ``yue``, ``zh-Hant``, ``pt-BR``.

    Raises:
        ValueError: it is not; says what is allowed.
    """
    if given is False:  # YAML reads a bare no, Norwegian, as a truth value
        raise ValueError("write Norwegian in quotes: 'no'")
    match = _TAG.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f"allowed: {_ALLOWED}")
    code = match["language"]
    if len(code) == 2 and code not in ISO_639_1:
        raise ValueError(f"no language has this code; allowed: {_ALLOWED}")
    return match.group()


_ALLOWED = "a BCP 47 code, such as es, sw, yue, zh-Hant or pt-BR"
