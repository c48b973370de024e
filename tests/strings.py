"""Strings for the tests of tokenizers: natural ones in many scripts, random ones from all of Unicode, broken ones.

They come from random.Random(seed), whose choices are the same everywhere.
"""

import random

SENTENCES = """\
The quick brown fox isn't lazy; it's just resting, and we've all been there!
"I'LL DO IT," SHE SAID. "THEY'RE late, YOU'VE been warned, and I'M not WAITING: THAT'S that. He'D better."
Prices rose by 12.5% in 2023, from $1,234.56 to £1,388.88 -- roughly 3/4 of what 10,000,000 people expected.
def total(xs):\n    return sum(x ** 2 for x in xs if x != 0)  # squares\n\n\nprint(total([1, -2, 3.5e-7]))
#include <stdio.h>\n\nint main(void)\n{\n\tprintf("%d\\n", 0x7fff);\n\treturn 0;\n}\n
https://example.org/a/b?c=d&e=f#g user.name+tag@example.com C:\\temp\\file.txt ~/.bashrc
Der Fluß fließt über die Brücke, während Müller „Grüße“ ruft – natürlich zu spät.
L'été dernier, j'ai mangé des crêpes à Noël ; où étais-tu ? Ça coûte 3 € l'unité…
¿Dónde está el niño? ¡Mañana será otro día!, dijo la señora Ibáñez.
O coração não é tão simples: três irmãs vivem em São João.
Zażółć gęślą jaźń, powiedział wójt z Łodzi. Příliš žluťoučký kůň. Șapte țări și încă una.
Árvíztűrő tükörfúrógép. İstanbul'da ığdır'a gidiyoruz, şöyle böyle. Þetta er íslenska, ekki færeyska.
Сегодня хорошая погода, и мы пойдём в парк в 15:30. Привіт, як справи? Ґанок і їжак.
Η γρήγορη αλεπού πηδάει πάνω από τον σκύλο· τι ωραία! Ἐν ἀρχῇ ἦν ὁ λόγος.
שלום עולם, מה שלומך היום? הַיּוֹם יוֹם טוֹב.
مرحبا بالعالم، كيف حالك اليوم؟ السَّلامُ عَلَيْكُم ١٢٣٤٥. فارسی هم می‌نویسیم. اردو میں لکھیں۔
आज मौसम बहुत अच्छा है, चलो बाज़ार चलते हैं। संख्या १२३४ है। বাংলা ভাষা খুব সুন্দর।
தமிழ் மிகவும் பழமையான மொழி. తెలుగు లిపి అందంగా ఉంటుంది. ಕನ್ನಡ ನುಡಿ. മലയാളം എഴുതാം.
วันนี้อากาศดีมาก เราไปเดินเล่นกันเถอะ ๑๒๓ ສະບາຍດີ မင်္ဂလာပါ ជំរាបសួរ
今天天气很好，我们去公园散步吧。价格是１２３元，共45个。繁體字也可以：龍龜鬱。
今日はいい天気ですね。散歩に行きましょう！カタカナとひらがな、そして漢字。ｶﾅ
오늘은 날씨가 좋네요. 공원에 산책하러 갑시다. 한국어 가나다라마바사.
გამარჯობა, როგორ ხარ? Բարև ձեզ, ինչպես եք։ ሰላም ለዓለም። ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ
Сайн байна уу? བོད་སྐད། ᠮᠣᠩᠭᠣᠯ ꦲꦏ꧀ꦱꦫ ⴰⵣⵓⵍ ߒߞߏ
I ❤️ 🍕 and 👩‍👩‍👧‍👦 families 🏳️‍🌈 with 👍🏽 from 🇧🇷🇯🇵 on the 1️⃣st day ☕️😀😃🤷🏿‍♀️!
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∫₀^∞ e^{-x²} dx = √π⁄2 ≈ 0.886; ½ + ¾ ≠ Ⅻ ① ²³
| name | value |\n|------|-------|\n| a    |     1 |\n| bb   |    22 |\n\n\n* one\n* two\n  * three\n
{"id": 17, "tags": ["x", "y"], "ok": true, "nested": {"k": null, "v": -1.5e+10}}
    indented by four\n\tby a tab\n\r\nby CRLF\r\n\r\n   trailing spaces   \n
e\u0301 a\u0308\u0323 n\u0303 o\u0302\u0301 and z\u0310\u0322\u0345\u0489\u0334 stacked; \ufb01ligature \ufb03 \u0149 \u01c6
""".splitlines()  # noqa: E501
SENTENCES = [line.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r") for line in SENTENCES]

SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
                           0x205F, 0x3000)]  # fmt: skip
NOT_QUITE_SPACES = [chr(c) for c in (0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD)]
SHORT_FORMS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'vE", "'M", "'LL", "'lL", "'D",
               "'\u017f", "'x", "''", "'", "\u2019s", "can't", "WE'LL", "it's5", "o'r", "'l", "'r"]  # fmt: skip
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇧🇷", "❤️", "1️⃣", "🤷🏿‍♀️", "☕", "🫠",
         "\U0001f9d1\u200d\U0001f4bb", "\ufe0f", "\U0001f3fb"]  # fmt: skip
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x30, 0x39), (0, 0x1F), (0x7F, 0xFF), (0x100, 0x36F),
          (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0x10FF), (0x1100, 0x11FF),
          (0x1200, 0x1FFF), (0x2000, 0x2BFF), (0x2E80, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF),
          (0xF900, 0xFFFD), (0x10000, 0x10FFF), (0x11000, 0x14FFF), (0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF),
          (0x20000, 0x323AF), (0xE0000, 0xE01EF), (0, 0x10FFFE)]  # fmt: skip
# Digits of Unicode 17 that Rust's standard library knows, hence the Digits step of SmolLM2 in the tokenizers package,
# but neither its regular expressions (Unicode 16) nor we. U+10FFFF stands for a broken byte (test_tokenizer.py).
LEFT_OUT = {*range(0x11DE0, 0x11DEA), 0x16FF4, 0x16FF5, 0x16FF6, 0x10FFFF, *range(0xD800, 0xE000)}


def code_point(rng, low, high):
    while True:
        c = rng.randint(low, high)
        if c not in LEFT_OUT:
            return chr(c)


def random_part(rng):
    kind = rng.randrange(12)
    if kind < 5:  # a run of one script
        low, high = rng.choice(RANGES)
        return "".join(code_point(rng, low, high) for _ in range(rng.randint(1, 8)))
    if kind == 5:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 6)))
    if kind == 6:  # the white space that is everywhere
        return "".join(rng.choice("  \n\t\r ") for _ in range(rng.randint(1, 12)))
    if kind == 7:
        return rng.choice(SHORT_FORMS)
    if kind == 8:
        return rng.choice(EMOJI + NOT_QUITE_SPACES)
    if kind == 9:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 12)))
    if kind == 10:  # runs of one letter
        return code_point(rng, *rng.choice(RANGES)) * rng.randint(2, 20)
    return rng.choice(rng.choice(SENTENCES).split(" "))


def random_strings(seed, count):
    rng = random.Random(seed)
    return ["".join(random_part(rng) for _ in range(rng.randint(0, 9))) for _ in range(count)]


def natural_string(rng):
    """Words of one or two sentences, sometimes in another case or glued together."""
    words = [w for _ in range(rng.randint(1, 2)) for w in rng.choice(SENTENCES).split(" ")]
    begin = rng.randrange(len(words))
    words = words[begin : begin + rng.randint(3, 25)]
    change = rng.randrange(6)
    if change == 0:
        words = [w.upper() for w in words]
    elif change == 1:
        rng.shuffle(words)
    elif change == 2:
        words = [w.title() for w in words]
    return rng.choice([" ", " ", " ", " ", "  ", "\n", ", ", ""]).join(words)


def natural_strings(seed, count):
    rng = random.Random(seed)
    return [natural_string(rng) for _ in range(count)]


# Characters of each class that a rule for words tells apart, and some that DeepSeek-LLM's passes count in two classes:
# white space and letters.
FEW = [" ", "\u3000", "\u2003", "\n", "\r", "a", "B", "s", "'", "é", "ế", "Ａ", "中", "の", "\u0301", "!", "/", "。",
       "\u2019", "$", "©", "\u200b", "1", "०"]  # fmt: skip


def few_characters(seed, count):
    """Strings of two to eight of these characters, in any order."""
    rng = random.Random(seed)
    picked = [rng.sample(FEW, rng.randint(2, 8)) for _ in range(count)]
    return ["".join(rng.choice(few) for _ in range(rng.randint(2, 14))) for few in picked]


def broken_strings(seed, count):
    """bytes, most of which are not UTF-8: cut, with bytes changed, put in and taken out."""
    rng = random.Random(seed)
    strings = []
    for text in random_strings(seed + 1, count):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at:at] = bytes([rng.randrange(256)])
            elif kind == 1:
                del data[at : at + rng.randint(1, 3)]
            elif kind == 2:
                data[at:at] = rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
            elif at < len(data):
                data[at] = rng.randrange(256)
        strings.append(bytes(data))
    return strings
