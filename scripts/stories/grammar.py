"""The language that the stories are written in, and the cast, places and weather that they share.

A template is text with two kinds of braces, which nest:

    {a|b|c}    one of these, each as likely as the others; an alternative may be empty
    {word}     what the story stores under that name: a name, a thing, or another template, expanded anew at each use

so "{N} {ran|walked} to {place}" makes four sentences if {place} is "the {mill|bridge}". A story is a dict of such
words. They are drawn once (the name, the pronouns, the season) and used throughout, which keeps the story consistent.
Capitals at the start of sentences and the n of "an" are added at the end, so that templates need not know where they
are used.
"""

import random
import re
from functools import lru_cache


@lru_cache(maxsize=None)
def parse(template):
    """A template as a tuple of: str, ("slot", name), ("choice", (template, ...))."""
    parts, text, depth, start, cuts = [], 0, 0, 0, []
    for i, letter in enumerate(template):
        if letter == "{":
            if depth == 0:
                if i > text:
                    parts.append(template[text:i])
                start, cuts = i + 1, []
            depth += 1
        elif letter == "|" and depth == 1:
            cuts.append(i)
        elif letter == "}":
            depth -= 1
            if depth == 0:
                edges = [start - 1, *cuts, i]
                inner = tuple(template[a + 1 : b] for a, b in zip(edges, edges[1:]))
                parts.append(("slot", inner[0]) if inner[0].isidentifier() and not cuts else ("choice", inner))
                text = i + 1
        if depth < 0:
            raise ValueError(f"unmatched }} in {template}")
    if depth:
        raise ValueError(f"missing }} in {template}")
    if template[text:]:
        parts.append(template[text:])
    return tuple(parts)


class Story(dict):
    """The words of one story and the random numbers that choose among them."""

    def __init__(self, seed):
        super().__init__(PHRASES)
        self.random = random.Random(seed)

    def pick(self, names, choices):
        """Draws one of `choices` for `names` (several names, separated by spaces, for tuples of as many values), but not
        what the hero or the helper already is."""
        names = names.split()
        taken = {self.get("kind"), self.get("helper", "").split(" ")[-1]}
        chosen = self.random.choice([c for c in choices if taken.isdisjoint(c if isinstance(c, tuple) else [c])])
        chosen = [chosen] if isinstance(chosen, str) else chosen
        self.update(zip(names, chosen, strict=True))

    def expand(self, template):
        out = []
        for part in parse(template):
            if isinstance(part, str):
                out.append(part)
            elif part[0] == "slot":
                out.append(self.word(part[1]))
            else:
                out.append(self.expand(self.random.choice(part[1])))
        return "".join(out)

    def word(self, name):
        """The text for a name. If only the lower-case name is known, its text is capitalised."""
        if name in self:
            return self.expand(self[name])
        text = self.expand(self[name[0].lower() + name[1:]])
        return text[0].upper() + text[1:]

    def text(self, paragraphs):
        """The finished text of templates, one per paragraph."""
        return "\n\n".join(polish(self.expand(paragraph)) for paragraph in paragraphs)


SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." "?|(?<=[!?]") (?=X))([a-z])')
ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


def polish(text):
    """Single spaces, a capital at the start of each sentence, "an" before a vowel."""
    text = re.sub(r" +", " ", text).strip()
    text = ARTICLE.sub(r"\1n ", text)
    return SENTENCE_START.sub(lambda m: m[1] + m[2].upper(), text)


# --- The cast

GIRLS = """Anna Mia Nora Ella Lucy Zoe Clara Emma Maya Lena Rosa Tilda Amira Hana Greta Nina Molly Ida Sofia Julia
    Marta Lotte Elsa Yara Priya""".split()
BOYS = """Tom Ben Max Leo Sam Finn Oscar Noah Jack Theo Hugo Milo Otto Emil Arlo Felix Jonas Ravi Kofi Omar Luca
    Henry Anton Elias Pablo""".split()
SHE_ANIMALS = "Pippa Wilma Kiki Tika Nelly Fifi Lulu Bella Mimi Tuula".split()
HE_ANIMALS = "Pip Bruno Momo Fergus Olly Rollo Gus Bobo Tobi Rufus".split()
NAMES = frozenset(GIRLS + BOYS + SHE_ANIMALS + HE_ANIMALS)

ANIMALS = [
    ("rabbit", "{white|brown|grey}", "in a burrow under the roots of an old oak"),
    ("fox", "{red|young}", "in a den on the sunny side of the hill"),
    ("bear", "{brown|young}", "in a warm cave behind the waterfall"),
    ("mouse", "{grey|tiny}", "in the wall of the old mill"),
    ("hedgehog", "{round|sleepy}", "under a heap of leaves at the end of the garden"),
    ("squirrel", "{red|quick}", "high up in a hollow pine tree"),
    ("duck", "{yellow|young}", "among the reeds of a quiet pond"),
    ("kitten", "{black|grey|striped}", "in the baker's house, right above the oven"),
    ("puppy", "{brown|spotted}", "on a farm with a blue gate"),
    ("frog", "{green|tiny}", "on a flat stone by the pond"),
    ("otter", "{brown|quick}", "on the bank of a clear river"),
    ("mole", "{black|sleepy}", "in a tidy room deep under the meadow"),
    ("lamb", "{white|woolly}", "in a green valley between two hills"),
    ("hen", "{brown|speckled}", "in a red house on four wheels"),
    ("turtle", "{green|slow}", "near a lake with warm sand"),
    ("badger", "{grey|striped}", "in a deep hole at the edge of the wood"),
    ("goat", "{white|spotted}", "on a steep green mountain"),
    ("elephant", "{grey|young}", "near a wide brown river"),
]

HOMES = [
    "in a small house by the river",
    "at the edge of a deep green forest",
    "in a village below the hills",
    "in a tall, thin house in the middle of the town",
    "on a farm with a blue gate",
    "in a white house near the sea",
    "in a lighthouse on a rocky coast",
    "on a boat that lay in the harbour",
    "above a little shop that sold bread",
    "next to an old windmill",
    "in a house with a round window",
    "at the end of a long and dusty road",
]

# (first mention, later mentions)
FAMILY = [
    ("{his} {mother}", "{his} mother"),
    ("{his} {father}", "{his} father"),
    ("{his} {grandmother}", "{his} grandmother"),
    ("{his} {grandfather}", "{his} grandfather"),
    ("{his} big sister", "{his} sister"),
    ("{his} big brother", "{his} brother"),
    ("{his} aunt", "{his} aunt"),
    ("{his} uncle", "{his} uncle"),
]
STRANGERS = [
    ("an old owl", "the owl"),
    ("a wise old turtle", "the turtle"),
    ("a tall heron", "the heron"),
    ("a busy beaver", "the beaver"),
    ("a friendly goat", "the goat"),
    ("a fat toad", "the toad"),
    ("a grey donkey", "the donkey"),
    ("a black crow", "the crow"),
    ("the baker", "the baker"),
    ("the postman", "the postman"),
    ("an old fisherman", "the fisherman"),
    ("a farmer with a straw hat", "the farmer"),
    ("the miller", "the miller"),
    ("an old woman with a red umbrella", "the old woman"),
    ("a gardener", "the gardener"),
]

# What the hero likes, and how that returns at the end.
LOVES = [
    ("to sing", "sang a {little|new|happy} song about it"),
    ("to draw", "drew a {big|bright} picture of {it all|that day}"),
    ("to dance", "danced {all the way home|around the kitchen table}"),
    ("to collect round stones", "put one more round stone on the {shelf|windowsill}, to remember the day"),
    ("to count the stars", "counted the stars until {his} eyes {fell shut|closed}"),
    ("to tell stories", "told the {whole story|story} {again and again|to everyone who would listen}"),
    (
        "to watch the clouds",
        "lay in the grass and saw a cloud that looked {just|exactly} like {a smile|a big cake|a heart}",
    ),
    ("to whistle", "whistled {all the way home|a merry tune}"),
    ("to eat pancakes", "ate {three|four|five} pancakes for {dinner|supper}"),
    ("to jump in puddles", "jumped over every puddle on the way home, and into {two|three} of them"),
    ("to look at picture books", "made a small book about it, with {a blue cover|a picture on every page}"),
    ("to laugh", "laughed until {his} belly hurt"),
]

WEATHER = {
    "spring": [
        "the first flowers were out",
        "a soft rain had washed the world clean",
        "the birds were building their nests",
        "the wind smelled of grass",
        "the sun was warm again at last",
        "the apple trees were white with blossoms",
    ],
    "summer": [
        "the sun was high and the air was hot",
        "the bees hummed in the garden",
        "there was not a cloud in the sky",
        "the grass was as tall as {his} {nose|ears}",
        "the air smelled of strawberries",
        "even the shadows were warm",
    ],
    "autumn": [
        "the leaves were red and gold",
        "a cold wind shook the trees",
        "fog lay over the fields",
        "the rain drummed on the roof",
        "the first apples fell from the trees",
        "wild geese flew over the hills",
    ],
    "winter": [
        "snow lay on all the roofs",
        "the pond was frozen",
        "white frost was on the {windows|grass}",
        "big soft flakes fell from the sky",
        "the air was cold and clear",
        "the whole world was white and quiet",
    ],
}

PHRASES = {
    "mother": "mother",
    "father": "father",
    "grandmother": "grandmother",
    "grandfather": "grandfather",
    "said": "{said|said|said|answered}",
    "asked": "asked",
    "cried": "{cried|called|shouted}",
    "small": "{little|little|small|young}",
    "nice": "{kind|brave|cheerful|curious|quiet|clever|shy|merry}",
    "morning": "{morning|day|afternoon}",
    "dear": "{my dear|little one|my friend|{N}}",
    "walked": "{walked|ran|went|hurried}",
    "happy": "{happy|glad|full of joy|proud}",
    "smiled": "{smiled|laughed|nodded}",
    "later": "{After a while|Soon|A little later|Before long|In the end}",
    "suddenly": "{Suddenly|Just then|At that moment|All at once}",
    "once": "{One {season} {morning}|One {morning}|One day|On a {season} {morning}}",
    "scene": "{One {season} {morning}, {weather}|It was {season}, and {weather}|One {morning} in {season}, {weather}}",
    "intro": "{"
    "Once upon a time, there {was|lived} a {hero} {named|called} {N}. {He} lived {home}."
    "|Once upon a time, a {hero} {named|called} {N} lived {home}."
    "|{N} was a {hero} who lived {home}."
    "|{home} lived a {hero} {named|called} {N}."
    "|There once was a {hero} {named|called} {N}, who lived {home}."
    "|This is the story of {N}, a {hero} who lived {home}."
    "|Far away, {home}, there lived a {hero}. {His} name was {N}."
    "}",
    "likes": "{"
    "{N} {loved|liked} {love}{| more than anything| all day long}."
    "|More than anything, {he} {loved|liked} {love}."
    "|{He} {loved|liked} {love}, and {he} was {nice} and a little {stubborn|dreamy|messy}."
    "|Everyone knew that {N} {loved|liked} {love}."
    "|"
    "}",
    "close": "{"
    "That {evening|night}, {N} {love_end}."
    "|And then {N} {love_end}."
    "|{N} was so {happy} that {he} {love_end}."
    "|When {N} {lay|was} in bed that night, {he} {smiled in the dark|thought of it and smiled|fell asleep at once}."
    "|From that day on, {N} {was never afraid to ask for help|knew what to do|had a story to tell|"
    "always had a smile for {others|everyone}}."
    "|And if you {go|walk} past {his} {home_word} today, you {may|can} {still hear|hear} {N} "
    "{laughing|singing|telling the story}."
    "|It was {the best day|one of the best days} that {N} {could remember|had ever had}."
    "|{{N} told nobody about it, and yet everybody knew|{N} wrote it all down, so that nobody would forget it}."
    "|{And so the day|So the day} ended {well|better than it had begun}, and {N} {love_end}."
    "|{In the evening|That evening}, {N} sat by the {window|fire} and {was content|thought how good life was}."
    "|{Tired and happy|With a warm heart}, {N} went home and {slept until late|dreamed of it all night}."
    "|{N} never forgot {that day|what {he} had learned that day}."
    "|\"What a day!\" said {N}, and {he} {love_end}."
    "}",
}

PRONOUNS = {"she": ("she", "her", "her", "herself"), "he": ("he", "him", "his", "himself")}


def set_hero(story, animal):
    """Draws the main character: name, pronouns, kind, home and what they like."""
    random = story.random
    gender = random.choice(["she", "he"])
    if animal:
        kind, colour, home = random.choice(ANIMALS)
        name = random.choice(SHE_ANIMALS if gender == "she" else HE_ANIMALS)
        story["hero"] = "{{small}|{nice}|{small} {colour}|{colour}|{small}, {nice}} " + kind
        story["home_word"] = "home"
    else:
        kind, colour, home = "girl" if gender == "she" else "boy", "", random.choice(HOMES)
        name = random.choice(GIRLS if gender == "she" else BOYS)
        story["hero"] = "{{small}|{nice}|{small}|{nice} {small}} " + kind
        story["home_word"] = "house"
    he, him, his, himself = PRONOUNS[gender]
    story.update(N=name, he=he, him=him, his=his, himself=himself, kind=kind, colour=colour, home=home, gender=gender)
    story.pick("love love_end", LOVES)


def set_friend(story):
    """Draws a second character with another kind and name."""
    random = story.random
    gender = "he" if story["gender"] == "she" else "she"
    if random.random() < 0.5:
        kind = "girl" if gender == "she" else "boy"
        name = random.choice(GIRLS if gender == "she" else BOYS)
        adjective = "{small}"
    else:
        taken = {story["kind"], story["helper"].split()[-1]}
        kind, adjective, _ = random.choice([animal for animal in ANIMALS if animal[0] not in taken])
        name = random.choice(SHE_ANIMALS if gender == "she" else HE_ANIMALS)
    he, him, his, _ = PRONOUNS[gender]
    story.update(F=name, fhe=he, fhim=him, fhis=his, fkind=kind)
    story["friend"] = f"{adjective} {kind}"


def set_helper(story, helpers=None):
    """Draws who helps: a_helper is for the first mention, helper for later ones."""
    choices = helpers or story.random.choice([FAMILY, STRANGERS])
    story.pick("a_helper helper", [h for h in choices if story["kind"] not in h[1]])


def set_weather(story, seasons=("spring", "summer", "autumn", "winter")):
    story.pick("season", list(seasons))
    story.pick("weather", WEATHER[story["season"]])
