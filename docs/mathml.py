"""TeX as MathML while the site is built, so that formulas need neither a script nor a download."""

import html
import re

_TEX = {
    r"\\[bB]igg?l": r"\\left",
    r"\\[bB]igg?r(?![a-z])": r"\\right",
    r"\\[bB]iggm\||\\[bB]igm\|": r"\\mid ",
    r"\\mathcal ?N": "\U0001d4a9",
    r"\\mathcal ?L": "\u2112",
}
"""What the converter spaces badly, in TeX that it does not."""
_TIGHT = '<mo lspace="0" rspace="0" stretchy="false"'
_MATHML = {
    r'<mo(?: stretchy="false")?>(&#x0007C;|&#x02016;|/|&#x0002F;)</mo>': rf"{_TIGHT}>\1</mo>",
    r"(<mo[^>]*>(?:[(\[,=]|&#x0002[8C];|&#x0003D;|&#x0005B;)</mo>)<mo>(&#x02212;)</mo>": (
        rf'\1{_TIGHT} form="prefix">\2</mo>'
    ),
    r"<mi>(log|cos|sin|cosh|tanh|exp|min|max)</mi>": (
        r'<mo lspace="0.17em" rspace="0.17em" form="prefix">\1</mo>'
    ),
    r"<msubsup>(<mi>[^<]*</mi>)(<mi>[^<]*</mi>|<mrow>.*?</mrow>)<mi>&#x02032;</mi></msubsup>": (
        rf"<mrow><msub>\1\2</msub>{_TIGHT}>&#x02032;</mo></mrow>"
    ),
    r"<msup>(<mi>[^<]*</mi>)<m[io]>&#x02032;</m[io]></msup>": (
        rf"<mrow>\1{_TIGHT}>&#x02032;</mo></mrow>"
    ),
}
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """What MkDocs calls with a page in HTML, whose formulas are still as arithmatex leaves them."""
    return _FORMULA.sub(
        lambda found: mathml(html.unescape(found[2]).strip(), found[1] == "div"), content
    )


def mathml(tex: str, display: bool = False) -> str:
    """One formula; spaces that browsers without a font of mathematics get wrong are set."""
    from latex2mathml.converter import convert

    for pattern, text in _TEX.items():
        tex = re.sub(pattern, text, tex)
    written = convert(tex, display="block" if display else "inline")
    for pattern, text in _MATHML.items():
        written = re.sub(pattern, text, written)
    return written.replace("<math ", f'<math alttext="{html.escape(tex)}" ', 1)
