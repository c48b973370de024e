"""The plots: each draws what its story needs and returns the paragraphs as templates (grammar.py).

All have the same structure: a hero, a wish, an obstacle, a helper, an ending. The main character is named in the first
and the last paragraph. A second name is always introduced by "named", "called" or "name was".
"""

from grammar import FAMILY, STRANGERS, set_friend, set_helper, set_hero, set_weather

ANY, CHILD, ANIMAL = None, False, True
ALL_YEAR = ("spring", "summer", "autumn", "winter")
NO_SNOW = ("spring", "summer", "autumn")


def begin(story, who=ANY, seasons=ALL_YEAR, helpers=None):
    set_hero(story, story.random.random() < 0.45 if who is ANY else who)
    set_weather(story, seasons)
    set_helper(story, helpers)


def lost_thing(s):
    begin(s)
    s.pick("thing found", [
        ("red kite", "at the very top of the apple tree"),
        ("wooden boat", "under the little bridge, caught in the reeds"),
        ("yellow ball", "in the middle of the blackberry bush"),
        ("silver bell", "in the nest of a bird"),
        ("woolly hat", "on the head of the scarecrow"),
        ("picture book", "on the bench, under an old newspaper"),
        ("little drum", "behind the flour sacks in the barn"),
        ("green marble", "deep in the pocket of {his} own coat"),
        ("blue scarf", "around the neck of the garden gate"),
        ("tin whistle", "in the kitchen, inside the teapot"),
        ("small lantern", "on a branch, where {he} had hung it {himself}"),
        ("warm blanket", "in the basket, where the cat was asleep on it"),
    ])  # fmt: skip
    s.pick("giver", ["grandmother", "grandfather", "best friend", "aunt", "uncle"])
    return [
        "{intro} {likes}",
        "{N} had a {thing}. {It was a present from {his} {giver}|{His} {giver} had made it for {him}}, and {he} "
        "took it {everywhere|wherever {he} went}. But {one {morning}|one {season} {morning}}, {the {thing} was "
        "gone|it was gone}. {N} looked {under the bed|behind the door|in every corner}, {under the table|behind "
        "the house|on the shelf} and {in the grass|in all the boxes|by the well}. {No {thing}.|There was no "
        "{thing} anywhere.|It was {nowhere|not there}.} {{He} sat down and {began to cry|cried a little}.|A big "
        "tear ran down {his} {nose|cheek}.|{He} did not know what to do.}",
        '{Then {he} met {a_helper}.|{later} {a_helper} came by.} "{What is {wrong|the matter}|Why are you so sad}, '
        '{dear}?" {asked} {helper}. "{My {thing} is gone|I have lost my {thing}|I cannot find my {thing}}," {said} '
        '{N}. "{Where did you have it last?|When did you see it last?}" {asked} {helper}. {N} {thought|thought '
        'hard|closed {his} eyes and thought}. "{Yesterday, when the wind blew so hard|Yesterday, when I was '
        'playing outside|Last night, before the rain came}." "{Then let us look together|Come, I will help '
        'you|Four eyes see more than two}," said {helper}.',
        "{They looked {high and low|here and there|up and down}.|They went slowly and looked at everything twice.} "
        '{{suddenly} {helper} {stopped|laughed} and pointed.|"There!" {cried} {helper}.} The {thing} was {found}! '
        '{N} {jumped for joy|clapped {his} hands|laughed out loud}. "Thank you, thank you!" {he} {cried}. {{N} '
        "held the {thing} tight all the way home.|From then on, {N} always put the {thing} in {its place|the same "
        "place} before {bed|going to bed}.} {close}",
    ]


def brave(s):
    begin(s)
    s.pick("fear fear_place trick done", [
        (
            "the dark",
            "the cellar",
            "the dark is only the day with its eyes closed",
            "{N} stood in the dark cellar and was not afraid at all",
        ),
        (
            "thunder",
            "the window",
            "count slowly from the lightning to the thunder, and you will hear it walk away",
            "{N} counted to ten, and the thunder walked away over the hills",
        ),
        (
            "deep water",
            "the lake",
            "lie on your back and look at the clouds, and the water will carry you",
            "{N} lay on the water like a leaf, and it carried {him}",
        ),
        (
            "high places",
            "the tower",
            "do not look down at your feet, look far out at the hills",
            "{N} stood at the top and could see all the way to the sea",
        ),
        (
            "the big dog",
            "the farm",
            "hold out your hand and stand very still",
            "The big dog licked {his} hand and wagged its tail",
        ),
        (
            "the deep forest",
            "the forest",
            "give every sound a name, and it will be a friend",
            "{N} walked through the whole forest and knew every sound by its name",
        ),
        (
            "singing for others",
            "the village square",
            "sing for one single friend, and forget all the others",
            "{N} sang, first softly and then loud and clear, and everyone clapped",
        ),
        (
            "the long slide",
            "the playground",
            "take one deep breath and shout your own name",
            "{N} shouted {his} own name and flew down the long slide",
        ),
    ])  # fmt: skip
    return [
        "{intro} {N} was {brave|not afraid of many things}, {but there was one thing that {he} was afraid of: "
        "{fear}|but {he} was afraid of {fear}}. {When the others went to {fear_place}, {he} stayed {at "
        "home|behind}.|{Every time {he} came near {fear_place}, {his} knees {shook|began to shake}.}}",
        "{scene}. {The others went to {fear_place}.|All {his} friends were {going to|on the way to} {fear_place}.} "
        '"{Come with us|Come on}, {N}!" they {cried}. "{I have no time|I have a cold|My foot hurts}," said {N}, '
        "but it was not true. {He} {sat on the step|sat under a tree|hid behind a tree} and felt {very small|sad "
        "and small}.",
        '{a_helper} sat down beside {him}. "{You are afraid, are you not?|What is it, {dear}?|Why are you here all '
        'alone?}" {asked} {helper}. {N} {nodded|looked at {his} feet}. "{I am afraid of {fear}|It is because of '
        '{fear}}," {he} whispered. "{So was I|I was too}, when I was {small|your age}," {said} {helper}. "{I will '
        'tell you a secret|I always tell myself|Remember this}: {trick}."',
        "{N} {thought about it|thought about that for a long time}. Then {he} {stood up|took a deep breath|stood "
        "up and took a deep breath}. {{helper} went with {him} to {fear_place}.|Together they went to "
        "{fear_place}.|Step by step, {he} went to {fear_place}.} {His} heart {beat like a drum|was beating fast}. "
        '{But {he} did just what {helper} had said.|{He} remembered what {helper} had said.} {done}! "{I did '
        'it|Look at me}!" {he} {cried}.',
        '{"Being brave does not mean that you are never afraid," said {helper}. "It means that you {try|go on} '
        '{anyway|all the same}."|"Everyone is afraid of something," said {helper}, "{and you have been very '
        'brave|but today you were very brave}."} {close}',
    ]


def missing_part(s):
    begin(s)
    s.pick("made parts missing owner price use", [
        ("a cake", "flour, butter and honey", "eggs", "the hen", "carry the water", "the cake was as high as a hat"),
        (
            "a kite",
            "sticks, glue and blue paper",
            "string",
            "the weaver",
            "sweep the floor",
            "the kite flew higher than the birds",
        ),
        (
            "a boat",
            "wood, nails and a mast",
            "a sail",
            "the tailor",
            "look for the lost needle",
            "the boat sailed all the way around the pond",
        ),
        (
            "a pot of soup",
            "carrots, beans and salt",
            "an onion",
            "the farmer's wife",
            "pick the beans",
            "the soup smelled so good that everyone came to the door",
        ),
        (
            "a bird house",
            "four boards and a round door",
            "a roof",
            "the carpenter",
            "stack the wood",
            "a small blue bird moved in the very next day",
        ),
        (
            "a swing",
            "a strong board and a good tree",
            "a rope",
            "the fisherman",
            "mend the nets",
            "the swing went up to the leaves and back again",
        ),
        (
            "a lantern",
            "red paper and thin wire",
            "a candle",
            "the bee keeper",
            "paint the hives",
            "the lantern glowed like a little moon",
        ),
        (
            "a cart",
            "a box and a long handle",
            "two wheels",
            "the blacksmith",
            "brush the horse",
            "the cart rolled down the hill like the wind",
        ),
    ])  # fmt: skip
    set_friend(s)
    return [
        "{intro} {likes} {once}, {N} {wanted to make|had a plan: {he} would make} {made}.",
        "{He} {had|found} {parts}. {But {there was|{he} had} one thing missing: {missing}.|Only one thing was "
        'missing: {missing}.} "{Without {missing} it will never work,|What shall I do now?|I was so close,}" {N} '
        "{sighed|said sadly}. {{He} looked in every {drawer|cupboard}, but there was nothing.|{It was too far to "
        "walk to the market.}|{Outside, {weather}.}}",
        '{{Next door lived|Across the road lived|Not far away lived} a {friend} {named|called} {F}.} "{Do not give '
        'up|I know what to do}," said {F}. "{Ask {owner}|{owner} can help us}." So they {went|ran} to {owner}. '
        '"{Could you give us {missing}, please|May we have {missing}, please}?" {asked} {N}. "{Gladly|Of course}, '
        '{if you|but first you must} {price}," {said} {owner}. {So {N} and {F} worked together until the sun was '
        "low.|It was hard work, but together it was fun.|{N} and {F} {began|went to work} at once.}",
        "{When they were done, {owner} gave them {missing}|{owner} smiled and gave them {missing}}, and {they ran "
        "home|they ran back as fast as they could}. {{N} worked and {F} helped|They worked side by side}, and "
        '{before evening|before it was dark} {use}. "{We did it together|That is the best one in the whole '
        'world}!" {cried} {F}. {{N} gave {half of it|the first turn} to {F}, {because {fhe} had helped|for without '
        '{fhim} it would not have worked}.|"{Half of it is yours|It belongs to both of us}," said {N}.} {close}',
    ]


def new_friend(s):
    begin(s)
    set_friend(s)
    s.pick("place game", [
        ("in the park", "hide and seek"), ("on the beach", "pirates"), ("by the well", "marbles"),
        ("in the meadow", "catch"), ("under the big tree", "kings and queens"), ("behind the school", "football"),
        ("at the pond", "captain and crew"), ("in the barn", "circus"),
    ])  # fmt: skip
    s.pick("gift", [
        "half of {his} apple", "{his} best marble", "a warm bun", "{his} red balloon", "a handful of nuts",
        "one of {his} two cookies", "a flower", "the last plum",
    ])  # fmt: skip
    return [
        "{intro} {likes} {But {N} had {no one|nobody} to play with, and {that made {him} sad|so the days were "
        "long}.|But {he} was often {alone|lonely}.|But most of all {he} wished for a friend.}",
        "{scene}. {place}, {N} saw {someone {he} did not know|someone new}. It was a {friend}, who sat {all "
        'alone|quite alone} and looked at the ground. {N} wanted to say hello, but {he} was {too shy|shy}. "{What '
        'if {fhe} laughs at me|What should I say|What if {fhe} does not like me}?" {he} thought. {{He} went one '
        "step forward and two steps back.|{He} hid behind a {bush|tree} and {watched|waited}.}",
        '{{a_helper} had seen it all.|{a_helper} came by and {smiled|saw it all}.} "{A friend is like a fire: '
        'somebody has to light it|Somebody has to say the first word}," said {helper}. "{Why not you?|It may as '
        'well be you.}" {N} {took a deep breath|counted to three}, {walked over|went up to the {fkind}} and held '
        'out {gift}. "This is for you," {he} said. "{I am|My name is} {N}."',
        'The {fkind} looked up and {smiled|began to smile}. "{Thank you|Oh, thank you}! {My name is {F}|I am '
        'called {F}}," {fhe} said. "{We moved here yesterday|I am new here}, and I was {too shy|afraid} to '
        '{speak|say hello}." "{So was I|I was shy too}!" said {N}, and {they both laughed|both of them laughed}. '
        "{All {afternoon|day} they played {game}.|They played {game} until it was dark.}",
        '{From that day on, {N} and {F} were {best friends|always together}.|"See you tomorrow?" asked {F}. "{See '
        'you tomorrow|Yes, tomorrow and every day}," {said} {N}.} {close}',
    ]


def rescue(s):
    begin(s)
    s.pick("animal a_victim trouble tool", [
        ("bird", "a {small|young} bird", "had fallen out of its nest", "a long ladder"),
        ("kitten", "a kitten with a white nose", "sat in the highest tree and could not get down", "a long ladder"),
        ("lamb", "a little lamb", "was stuck in the mud", "a strong rope"),
        ("beetle", "a beetle with shiny wings", "had fallen into the pond", "a big leaf"),
        ("bat", "a small bat", "was caught in the thorns", "a pair of gloves"),
        ("fish", "a fish", "lay in a puddle that was almost dry", "a bucket of water"),
        ("duck", "a young duck", "was caught in a net", "a pair of scissors"),
        ("deer", "a young deer", "had fallen into a deep hole", "a strong rope"),
        ("snail", "a snail", "sat in the middle of the road, and a cart was coming", "a big leaf"),
        ("bee", "a bee with wet wings", "lay on the cold ground", "a spoon of honey"),
    ])  # fmt: skip
    return [
        "{intro} {likes}",
        "{scene}. {N} was {on {his} way home|out for a walk|looking for {berries|shells|pretty leaves}} when {he} "
        'heard a {small|thin|tiny} voice. "Help! {Please help me|Is anybody there|Somebody help me}!" {N} {looked '
        "around|stopped and listened}. {There {he} saw {a_victim}.|It was {a_victim}.} The {animal} {trouble}.",
        '"{Do not be afraid|Hold on}, {I will help you|I am coming}," {cried} {N}. {He} {tried and tried|tried '
        "with all {his} might|tried once, twice and a third time}, but {{he} was too small|it was {too hard|no "
        'use}}. "{I cannot do it alone|I need help}," said {N}. {So {he} ran as fast as {he} could.|{He} ran {and '
        'ran|down the path}.} {Soon {he} met|On the way {he} met} {a_helper}. "{Please come quickly|Come quickly}! '
        '{There is a {animal} in trouble|A {animal} needs our help}!" {{Helper} did not ask {long|twice}, but took '
        '{tool} and came.|"{Wait|Just a moment}," said {helper}, and {went to get|took} {tool}.}',
        "{Together they {worked|went to work}, {slowly|carefully} and {gently|quietly}.|{helper} knew just what to "
        "do, and {N} helped.} {With {tool} {it was easy|it was not hard at all}.|{N} held {tool} with both hands.} "
        '{later} the {animal} was {safe|free}. "{Thank you|Oh, thank you}, {N}!" said the {animal}. "{You were so '
        'kind|I will never forget this}."',
        "{A few days later|The next week|Not long after}, {N} {{was sad because it rained|had lost the way in the "
        "fog|could not find {his} hat}}, {{and who came to help? It was the {animal}|and it was the {animal} who "
        'came to help}}. "{You helped me, now I help you|One good turn asks for another|Friends help each other}," '
        "{it said|said the {animal}}. {close}",
    ]


def birthday(s):
    begin(s)
    s.pick("who", ["mother", "father", "grandmother", "grandfather", "sister", "brother", "aunt", "uncle"])
    s.pick("gift accident better", [
        ("a crown of flowers", "the goat ate half of it", "a crown of leaves and berries"),
        (
            "a card with a painted sun",
            "the rain made all the colours run",
            "a card with a rainbow where the colours had run",
        ),
        ("a cake with nuts", "the cake fell on the floor", "a sweet pudding from all the crumbs"),
        (
            "a chain of shells",
            "the string broke and the shells rolled away",
            "a little bowl with shells all around it",
        ),
        ("a song", "{his} voice was gone because of a cold", "a song for the flute"),
        ("a basket of cherries", "the birds came and ate the cherries", "a pot of sweet jam from the last cherries"),
        ("a clay cup", "the cup broke into two", "a clay pot with a small tree in it"),
        ("a scarf of red wool", "there was too little wool", "a scarf with stripes of every colour"),
    ])  # fmt: skip
    return [
        "{intro} {likes}",
        "{Soon it was|Tomorrow was|It was almost} the birthday of {his} {who}. {N} had no money for a present. "
        '"{Then I will make one|I will make something {myself|with my own hands}}," {he} {said to '
        "{himself}|decided}. {{He} thought for a long time, and then {he} made {gift}.|So {he} sat down and made "
        "{gift}.|All {morning} {he} worked on {gift}.} {It was beautiful.|It was the best thing {he} had ever "
        "made.|{He} was very proud of it.}",
        'But then {accident}! "{Oh no|Oh dear}!" {cried} {N}. "{Now everything is spoiled.|What shall I do '
        'now?|Now I have nothing to give.}" {He} {sat down and cried|put {his} head on the table|was so sad that '
        "{he} could not speak}.",
        '{a_helper} heard {him} and came in. "{Nothing is ever quite lost|There is always another way|Let me '
        'see|Do not cry, {dear}}," {said} {helper}. "{What do you still have?|Look at what is left.}" {N} {dried '
        "{his} tears|thought hard}. {suddenly} {he} had {an idea|a new idea}. {{helper} helped, and together they "
        "made {better}.|With a little help, {he} made {better}.}",
        "{The next day|On the birthday}, {N} {held out {his} present|gave {his} present to {his} {who}} {and {his} "
        "heart beat fast|with both hands}. {His} {who} {looked at it for a long time|was quite still for a moment} "
        'and then {hugged {him}|took {him} in both arms}. "{This is the most beautiful present of all|Nobody ever '
        "gave me anything so lovely}, {because you made it yourself|because there is only one like it in the "
        'world}," said {his} {who}. {close}',
    ]


def seed(s):
    begin(s, seasons=("spring",))
    s.pick("plant result", [
        ("sunflower", "taller than the house"),
        ("pumpkin", "so big that {N} could sit inside"),
        ("bean", "up to the roof"),
        ("strawberry", "red and sweet"),
        ("rose", "as red as the evening sun"),
        ("apple tree", "as high as {his} nose, with one tiny apple"),
        ("carrot", "so big that three had to pull"),
        ("blue flower", "bluer than the sky"),
    ])  # fmt: skip
    s.pick("harm cure", [
        ("no rain fell for many days, and the earth was dry", "carried water from the well, one cup after the other"),
        ("the snails came to eat the leaves", "made a ring of sand, which snails do not like"),
        ("a storm came and bent the little plant to the ground", "tied it to a stick with a soft ribbon"),
        ("the birds wanted to eat it", "built a funny scarecrow with a hat"),
        ("the night was cold and there was frost", "covered it with an old blanket"),
    ])  # fmt: skip
    return [
        "{intro} {scene}, and {N} found a {small |tiny |round |}seed {in {his} pocket|on the path|under a stone}. "
        '{"What will you be?" asked {N}.|"I wonder what you are," said {N}.} {He} put it into the earth and {gave '
        "it some water|watered it}.",
        "{Every morning {he} went to look.|The next morning {he} ran out to look.} {Nothing.|There was "
        'nothing.|There was only brown earth.} "{Why does it not grow|When will it grow|How long must I wait}?" '
        '{N} asked {a_helper}. "{A seed cannot hurry|Good things take time|Everything grows when it is ready}," '
        '{said} {helper}. "{Wait a little|You must be patient}." {{N} sighed, for waiting was the hardest thing of '
        "all.|So {N} waited, one day and {another day|two days and three}.}",
        "{Then, one morning|At last, one morning}, there was {a green tip|a small green leaf}! {N} {danced around "
        'it|shouted for joy|was so {happy} that {he} jumped}. But {harm}. "{Oh no, my little plant|My poor '
        'plant}!" {cried} {N}. {{N} asked {helper} what to do|{helper} came to help}, and together they {cure}. '
        "{Day after day they took care of it.|It was a lot of work, but {N} did not give up.}",
        "{The plant {grew and grew|grew every day}|And the plant {grew and grew|grew}}. In summer {everyone could "
        'see|it was clear} what it was: a {plant}, {result}! "{You were patient, and you took good care of it|See '
        'what a little patience can do}," said {helper}. {N} {shared it with {everyone|all the neighbours}|called '
        "all {his} friends to come and see it}, {and kept one seed|but one seed {he} kept} for the next spring. "
        "{close}",
    ]


def storm(s):
    begin(s, seasons=("spring", "autumn", "winter"))
    set_friend(s)
    s.pick("built hut", [
        ("a little house of branches", "house"),
        ("a hut by the river", "hut"),
        ("a tree house", "tree house"),
        ("a small bridge over the stream", "bridge"),
        ("a fort of stones and moss", "fort"),
        ("a tent of old sheets", "tent"),
    ])  # fmt: skip
    return [
        "{intro} {likes} {N} had a friend {named|called} {F}, {who was a {friend}|a {friend}}. Together they had "
        "built {built}. {It was their favourite place.|They played there every day.|They were very proud of it.}",
        "{One night|That night}, {a {big|great|wild} storm came over the hills|the wind began to {howl|roar}}. "
        "{The trees bent and the rain beat on the roofs.|Branches flew through the air and the thunder rolled.} "
        "{N} {lay awake|sat at the window} and thought of the {hut}. {In the morning|When the sun came up}, {{he} "
        "ran to look|{he} ran out at once}. {The {hut} was gone.|There was nothing left of the {hut}.} {Only a few "
        "sticks lay in the mud.|Only one wet board was left.}",
        '"{It is all broken|Everything is gone|All our work is gone}," said {N}, and {his} voice shook. {{F} was '
        'sad too.|{F} sat down in the mud and cried.} "{It took us so long|We will never make it so nice again}," '
        '{fhe} said. {Then {a_helper} came by.|{a_helper} had come to look too.} "{A storm can take a {hut}|The '
        'storm took your {hut}}, {but it cannot take what you have learned|but not your hands and heads}," {said} '
        '{helper}. "{This time, build it on stone|This time, make it stronger|I will help you to make it '
        'stronger}."',
        "{So they began again.|So all three went to work.} {N} {brought|carried} the {wood|stones}, {F} {held the "
        "rope|tied the knots}, and {helper} {showed them how|told them what to do}. {One neighbour after the other "
        "came to help.|It took three days.|Sometimes {N} was tired, but {F} made {him} laugh.} {At last|When the "
        "week was over}, the new {hut} was {ready|done}, and it was {stronger|better} than the old one.",
        "{The next storm came, but the {hut} did not even shake.|When the next storm came, they sat inside, warm "
        'and dry.} "{Let it blow|Blow, wind, blow}," said {F}. {close}{| And {N} was glad to have such a friend as '
        "{F}.}",
    ]


def race(s):
    begin(s, helpers=STRANGERS)
    set_friend(s)
    s.pick("contest how", [
        ("the race around the lake", "run"),
        ("the boat race on the river", "row"),
        ("the sledge race down the hill", "go"),
        ("the race to the top of the mountain", "climb"),
        ("the swimming race to the island", "swim"),
        ("the race through the forest", "run"),
    ])  # fmt: skip
    if "sledge" in s["contest"]:
        set_weather(s, ("winter",))
    elif "swimming" in s["contest"]:
        set_weather(s, ("summer",))
    return [
        "{intro} {N} {was not very fast|had short legs}, but {he} had {one big wish|a dream}: {he} wanted to win "
        '{contest}. {The others {laughed|only laughed}. "You are much too {slow|small}!" they said.|"You?" the '
        "others said and laughed.}",
        '{But {a_helper} did not laugh.|Only {a_helper} did not laugh.} "{Nobody is born fast|Every big thing '
        'begins small}," {said} {helper}. "{Try a little every day|Practice a little every day}." So every '
        "morning, {in sun and in rain|before the others were awake}, {N} went out to {practice|try}. {First {he} "
        "was tired after ten steps, then after a hundred.|{He} fell down and got up again, many times.|{helper} "
        "counted, and every day {N} was a little faster.}",
        "{Then the day of the race came|At last the great day came}, and {weather}. One, two, three, go! {N} was "
        "{third|in the middle}, then second, {and then, near the end, {he} was first|and soon only one was in "
        "front of {him}}! But then {he} heard {a cry|somebody call for help}. A {friend} {named|called} {F} had "
        "{fallen|hurt {fhis} foot} and could not {get up|go on}. {The others went on.|All the others went "
        "by.|Nobody stopped.} {N} looked at the {finish|flag}. It was so {near|close}.",
        '{{N} {stopped|turned around}.|{He} thought of it for one moment only. Then {N} turned around.} "{Come, '
        'hold on to me|Put your arm around me}," {he} said. "{But you will lose|You could have won}," said {F}. '
        '"{There will be another race|I can win another day}," {said} {N}. {Slowly, side by side, they came to the '
        "end, last of all.|So they came in together, last of all.}",
        "{Everyone was quiet.|It was very quiet.} Then {somebody|{helper}} began to clap, and {soon all of them "
        "clapped|the others too}. {The winner came and gave {N} the {ribbon|cup}.|The {ribbon|cup} was given to "
        'another, but everyone wanted to shake {N} by the hand.} "{The fastest won the race, but you have won a '
        'friend|You are the true winner}," said {helper}. {close}',
    ]


def lost_way(s):
    begin(s)
    s.pick("lure", [
        "a blue butterfly", "a white feather that danced in the wind", "a trail of red berries",
        "a strange blue light", "a golden leaf", "a little lizard",
    ])  # fmt: skip
    s.pick("a_helper helper sign", [
        ("an old owl", "the owl", "moss grows on the shady side of a tree"),
        ("a firefly", "the firefly", "the smallest light is enough for the next step"),
        ("a brown deer", "the deer", "all the small streams run down to the village"),
        ("a wise old turtle", "the turtle", "the evening sun stands over your house"),
        ("a grey donkey", "the donkey", "my feet have never forgotten a path"),
        ("an old woman with a lantern", "the old woman", "the bells of the village tell us where to go"),
    ])  # fmt: skip
    return [
        '{intro} "{Never go into the forest alone|Do not leave the path}," {his} {mother|father|grandmother} '
        "{always said|had told {him}}. {But {N} was very curious.|{N} always {nodded|promised}.}",
        "{scene}, and {N} saw {lure}. {{He} followed it over the {meadow|hill} and into the trees|{He} went after "
        "it, deeper and deeper into the forest}. {When {he} looked up again,|After a while {he} stopped and looked "
        "around, and} {the path was gone|there was no path}. {{He} went left, then right.|} Everything looked "
        '{strange|the same}. {It was getting dark.|Fog came up between the trees.|A cold wind blew.} "{Hello? Is '
        'anybody there|Where am I|Which is the way home}?" {cried} {N}, but only {the wind|the echo} answered.',
        "{N} {sat down on a stone|sat down under a tree} and tried not to cry. {Then something moved in the "
        'leaves.|Then {he} heard a soft sound.} It was {a_helper}. "{You are far from home, {dear},|What are you '
        'doing here so late, {dear}?}" said {helper}. "{I only wanted to see where it went|I left the path}, and '
        'now I am lost," said {N}. "{Do not worry|Dry your tears}. {You must know|Remember this}: {sign}," said '
        '{helper}. "{Come with me|Follow me}."',
        "{So they walked side by side|They went slowly}, {over roots and stones|past {tall|dark} trees and over a "
        "stream}, and {helper} {told {him} the names of the stars|hummed a quiet song}. {{N} was not afraid any "
        "more.|It did not seem so dark now.} {suddenly} {N} {saw a light|smelled smoke and fresh bread}. {It was "
        'home!|"That is my {home_word}!" {he} cried.}',
        "{Somebody came running to meet {him}|There stood {his} {mother|father|grandmother} in the door}, with "
        '{open arms|a lamp in one hand}. "{Where have you been?|We looked for you everywhere!}" "{I am sorry|I '
        'will never leave the path again}," said {N}. {When {he} turned around to say thank you, {helper} was '
        "gone.|{helper} was given {warm milk|a big piece of bread} and a place by the fire.} {close}",
    ]


def last_piece(s):
    begin(s)
    s.pick("food", ["cookie", "pancake", "bun", "apple", "piece of cheese", "slice of bread", "honey cake", "pear"])
    s.pick("guest a_guest", [
        ("ant", "a tiny ant"),
        ("sparrow", "a thin sparrow"),
        ("old man", "an old man with a long beard"),
        ("mole", "a sleepy mole"),
        ("beggar", "a poor beggar"),
        ("stork", "a tired stork"),
        ("hare", "a hungry hare"),
        ("old dog", "an old dog with one white ear"),
    ])  # fmt: skip
    s.pick("trouble reward", [
        ("dropped {his} key into a dark hole", "the {guest} was not afraid of the dark, went in and brought it back"),
        ("could not find the way in the snow", "the {guest} knew every path and walked in front"),
        ("had no wood for the fire", "the {guest} came with a whole sack of dry wood"),
        ("was ill in bed", "the {guest} brought soup and told funny stories"),
        ("had lost {his} warmest glove", "the {guest} had found it and brought it back"),
        (
            "wanted to cross the river, and the bridge was broken",
            "the {guest} knew where the stones lay under the water",
        ),
    ])  # fmt: skip
    return [
        "{intro} {likes} {scene}. {N} had one last {food} in {his} {bag|pocket}. {All day {he} had looked forward "
        "to it.|It smelled wonderful.|{He} had kept it for the end of the day.}",
        "{He} sat down {on a bench|on a stone|under a tree} and was just about to {bite into it|eat it}, when "
        '{a_guest} came by. "{That smells good|What a nice {food}}," said the {guest}. "{I have not eaten since '
        'yesterday|I am so hungry}."',
        '{N} looked at the {food}. {It was not big.|It was so small, and {he} was so hungry.} {"If I share it, '
        '{there will be little left|I will still be hungry}," {he} thought.|{He} wanted so much to eat it all.} '
        '{Then {he} looked at the {guest}.|But the {guest} looked so tired.} "{Here|Come, sit with me}," said {N}, '
        'and broke {the {food}|it} in two. "{One half for you, one half for me|Half is enough for me}." {{They ate '
        'slowly, and it tasted twice as good.|It was funny: the half tasted better than the whole.}} "{I will not '
        'forget this|You have a kind heart}," said the {guest}.',
        "{Winter came and went.|Weeks went by.|Some days passed.} Then {N} {trouble}. {He} {did not know what to "
        'do|felt quite helpless}. {suddenly} {he} heard steps, and there stood the {guest}. "{You once shared your '
        '{food} with me,|Do you remember the {food}?}" said the {guest}. "{Now it is my turn|Now I can do '
        'something for you}." And {reward}.',
        '"{It was only half a {food}|But it was so little}," said {N}. "{To me it was a feast|A kind thing is '
        'never little}," {said} the {guest}. {close}',
    ]


def broken(s):
    begin(s, helpers=FAMILY)
    s.pick("owner", ["mother", "father", "grandmother", "grandfather", "aunt", "uncle", "teacher"])
    s.pick("item how mend", [
        ("blue vase", "the ball hit it", "glued it, piece by piece"),
        ("window", "a stone flew too far", "put in a new glass"),
        ("big clock", "{he} wound it too hard", "took it apart and put it together again"),
        ("best cup", "it slipped from {his} hands", "glued it, and painted a flower over the crack"),
        ("violin", "{he} tripped over it", "put on a new string"),
        ("chair", "{he} jumped on it", "made a new leg out of wood"),
        ("straw hat", "{he} sat on it", "sewed it up with green thread"),
        ("lamp", "{he} ran into it", "made a new shade out of paper"),
    ])  # fmt: skip
    return [
        "{intro} {likes}",
        "{scene}. {N} was {playing|alone} in the house, {though {he} had been told to play outside|and nobody was "
        "looking}. Then it happened: {how}, and the {item} {of {his} {owner} was broken|was broken}. {N} stood "
        "{quite still|very still}. {Nobody had seen it.|It was so quiet that {he} could hear {his} heart.}",
        '{{He} {put|pushed} the pieces under the {bed|rug}.|{He} pulled a blanket over it.} "{Perhaps nobody will '
        'notice|Nobody will ever know}," {he} thought. But at dinner {he} could not eat, and {at night {he} could '
        "not sleep|in bed {he} turned from side to side}. {{His} belly felt as if it was full of stones.|The "
        'secret grew heavier and heavier.} "{You are so quiet|You have not said a word}, {dear}," said {a_helper}. '
        '"{What is it|Is something wrong}?"',
        '{{N} began to cry.|A tear ran down {his} nose.} "{If somebody has done something bad|If something is '
        'broken}, what should one do?" {he} {asked}. "{Tell it|Say it}, {as soon as you can|even if it is hard}," '
        '{said} {helper}. "{The truth is heavy only until you say it|A secret gets bigger in the dark, and smaller '
        'in the light}." So {N} {took a deep breath and|} told {it all|the truth}: "{I broke the {item}|The {item} '
        'is broken, and it was me}. I am so sorry."',
        '{It was quiet for a moment.|For a moment nobody spoke.} "{It makes me sad about the {item}|It was a nice '
        '{item}}," {said} {helper}, "but {I am happy that you told me|I am proud that you told the truth}. {Come, '
        'we will mend it together|Let us see what we can do}." {The next day|The next morning} they {mend}. {It '
        "was not as good as new, but {N} liked it even better.|It looked a little {funny|crooked}, but everybody "
        "liked it.} {{N} felt as light as a feather.|And {N} slept well that night.} {close}",
    ]


def moon(s):
    begin(s)
    s.pick("wish wish_me", [
        ("touch the moon", "touch the moon"),
        ("hold a star in {his} hand", "hold a star in my hand"),
        ("bring the moon home", "bring the moon home"),
        ("put a star on {his} windowsill", "put a star on my windowsill"),
    ])  # fmt: skip
    s["light"] = "moon" if "moon" in s["wish"] else "star"
    s.pick("a_helper helper", [
        ("an old owl", "the owl"),
        ("a moth with soft wings", "the moth"),
        ("{his} grandmother", "{his} grandmother"),
        ("{his} grandfather", "{his} grandfather"),
        ("a green frog", "the frog"),
        ("an old sailor", "the sailor"),
    ])  # fmt: skip
    if s["kind"] in s["helper"]:
        s.update(a_helper="an old sailor", helper="the sailor")
    return [
        "{intro} {Every night {he} {looked|sat and looked} {up at the sky|out of the window}.|When it was dark, "
        "{he} {looked|always looked} up at the sky.} {N} had one wish: {he} wanted to {wish}.",
        "{One night|One clear {season} night}, {he} {took a ladder|climbed on the roof|climbed the highest tree}. "
        "{He} {stretched|reached up} as far as {he} could, but the {light} was {too far|much farther} away. {Then "
        "{he} went to the top of the hill.|Then {he} put a box on a chair and a chair on a table.} {But the "
        '{light} was still too far.|Bump! {He} fell down and rubbed {his} nose.} "{Why are you so far away|Come '
        'down to me}!" {cried} {N}.',
        '"{What are you doing up there|Who is shouting in the middle of the night}?" {asked} {a_helper}. "{I want '
        'to {wish_me}|I only want to {wish_me}}," {said} {N}, "{but I am too small|but it will not come down}." '
        '{helper} {thought for a while|smiled}. "{Fill a bowl with water|Take a bowl of water}, and {set it on the '
        'grass|carry it out into the garden}," said {helper}. "{Then wait until the water is {still|quiet}|Then '
        'look into it}."',
        "{N} {did as {helper} had said|did it at once}. {He} waited until the water was as {smooth|still} as "
        "glass. And there, {in the bowl|in the middle of the water}, was the {light}, {round and bright|silver and "
        "bright}! {Very gently|Slowly}, {N} put {one finger|one hand} into the water. The {light} {danced and "
        'laughed|trembled and danced}. "I {am touching it|have it}!" {he} whispered.',
        '"{Some things are far away, and yet you can have them near you|You do not have to own a thing to love '
        'it}," said {helper}. {{After that, there was a bowl of water in the garden every night.|{N} sat there '
        "until the {light} went behind the {trees|hills}.}} {close}",
    ]


def learn(s):
    begin(s)
    s.pick("skill fail trick success", [
        ("whistle", "only air came out", "wet your lips and think of a bird", "a clear, high note came out"),
        (
            "swim",
            "{he} went under like a stone",
            "do not fight the water, push it gently away",
            "{he} swam from one side to the other",
        ),
        (
            "ride a bicycle",
            "{he} fell into the bush",
            "look where you want to go, not at the wheel",
            "{he} rode all the way to the gate",
        ),
        (
            "skate on the ice",
            "{his} feet flew up and {he} sat on the ice",
            "bend your knees and glide",
            "{he} made a big round circle on the ice",
        ),
        (
            "bake bread",
            "the bread was as hard as a stone",
            "let the dough sleep under a warm cloth",
            "the bread was soft and high",
        ),
        (
            "play the flute",
            "it sounded like an angry goose",
            "play slowly, one note and then the next",
            "{he} played a whole song without a mistake",
        ),
        (
            "tie a knot",
            "the rope fell apart again",
            "go around the tree and back into the hole, like a rabbit",
            "the knot held as fast as iron",
        ),
        (
            "juggle with three apples",
            "the apples fell on {his} head",
            "begin with one apple, then take two",
            "three apples flew through the air",
        ),
        (
            "read",
            "the letters danced before {his} eyes",
            "put one finger under each word",
            "{he} read a whole page out loud",
        ),
    ])  # fmt: skip
    if "ice" in s["fail"]:
        set_weather(s, ("winter",))
    elif s["skill"] == "swim":
        set_weather(s, ("summer",))
    return [
        "{intro} {likes} {There was one thing that {he} could not do: {N} could not {skill}.|All {his} friends "
        "could {skill}, but {N} could not.|{N} wanted to learn to {skill}.}",
        '{scene}. "{Today I will learn it|Today is the day}," said {N}. {He} tried, {but|and} {fail}. {He} tried '
        "again, and {again {fail}|it was no better}. {{The others laughed|Somebody laughed}, and {N} {turned "
        'red|went red}.|After the tenth time, {N} {was angry|threw {himself} into the grass}.} "{I will never '
        'learn it|I give up|I am just no good at this}!" {he} {cried}.',
        '{a_helper} {had been watching|came by}. "{You have not failed|You cannot do it yet}," {said} {helper}. '
        '"{You have only not finished learning|And yet is a very important word}." "{But it is so hard|I have '
        'tried ten times}," {said} {N}. "Shall I tell you how I learned it?" {asked} {helper}. "{Listen|It is like '
        'this}: {trick}."',
        "{N} tried {once more|it that way}. {It was a little better.|It almost worked.} {The next day {he} tried "
        "again, and the day after that too.|Every day {he} tried, {morning and evening|before breakfast and after "
        'dinner}.} {And then, one {evening|morning}|Then, one fine day}, {success}. "{Did you see that|Look, '
        'look}!" {cried} {N}. {helper} {clapped|laughed|nodded}. "{I knew it|I knew that you could do it}."',
        "{When {a smaller child|a little mouse|somebody} {asked {him} later how to {skill}|came and wanted to "
        'learn to {skill}}, {N} smiled and said, "{Come, I will show you|You cannot do it yet, that is all}."|Now '
        "{N} can {skill} better than anyone, and {he} teaches it to {others|everyone who asks}.} {close}",
    ]


def night_noise(s):
    begin(s, helpers=FAMILY)
    set_friend(s)
    s.pick("noise cause need gave", [
        ("scratch, scratch", "at the door", "cold", "a warm blanket"),
        ("tap, tap, tap", "at the window", "lost", "a place by the fire"),
        ("rustle, rustle", "in the kitchen", "hungry", "a bowl of warm milk"),
        ("squeak, squeak", "under the floor", "hungry", "a piece of cheese"),
        ("thump, thump", "on the roof", "wet", "a dry towel"),
        ("sniff, sniff", "behind the stove", "lonely", "a soft cushion"),
    ])  # fmt: skip
    s.pick("fkind", ["mouse", "kitten", "hedgehog", "squirrel", "puppy", "owl", "badger", "bat"])
    return [
        "{intro} {likes}",
        "One {season} night, {N} woke up. {It was dark, and {the moon was behind the clouds|all was "
        "still}.|Outside, the wind blew {around the corners|through the trees}.} {Then {he} heard it|There it "
        "was}: {noise}. It came from somewhere {cause}. {N} pulled the blanket over {his} {head|nose}. {noise}! "
        "{There it was again.|Now it was louder.}",
        '{{He} {crept|tiptoed} to {a_helper}.|{He} called for {a_helper}.} "{There is a monster|Something is '
        'there}," {he} whispered. "{A monster? Then we should ask what it wants|Let us look at it together}," '
        "{said} {helper}, and {lit a candle|took the lamp}. {Hand in hand they went.|{N} held on to {helper} with "
        "both hands.} {His} heart beat {loudly|fast}.",
        "{noise}. {They {lifted the lamp|held up the light}, and there sat|And who was there? It was} a {very "
        'small|wet and tired|tiny} {fkind} with {big|round} eyes. "{Please do not be angry|I did not want to '
        'frighten you}," said the {fkind}. "My name is {F}. I am so {need}." {N} {had to laugh|began to laugh}. '
        '"{And I thought you were a monster|I was afraid of you, and you were afraid of me}!" {He} {brought|gave} '
        "{F} {gave}.",
        '{F} {sighed happily|smiled} and {fell asleep at once|was soon fast asleep}. "{Most monsters are like '
        'that, when you bring a light|Many things are small when you look at them closely}," said {helper}. {{F} '
        "stayed that night, and the next, and {N} was never lonely again|In the morning {F} went home, but {fhe} "
        "often came to visit {N}}. {close}",
    ]


def quarrel(s):
    begin(s)
    set_friend(s)
    s.pick("thing use", [
        ("sledge", "ride on"),
        ("ball", "play with"),
        ("swing", "sit on"),
        ("drum", "play on"),
        ("boat", "sail"),
        ("paint box", "paint with"),
        ("bucket", "build with"),
        ("big book", "look at"),
        ("red wagon", "ride in"),
        ("hammock", "lie in"),
    ])  # fmt: skip
    return [
        "{intro} {likes} {His} best friend was a {friend} {named|called} {F}. {They did everything together.|They "
        "{shared|told each other} everything.|Nobody had ever seen one without the other.}",
        '{scene}. They found {an old {thing}|a {thing}} {in the attic|in the shed|by the side of the road}. "{I '
        'saw it first|It is mine}!" said {N}. "No, {I saw it first|it is mine}!" said {F}. {Both|They} '
        "{pulled|pulled at it from both sides}, and {then|crack,} {the {thing} broke|it broke into two pieces}. "
        '"{That is your fault|Now look what you have done}!" {cried} {N}. "{I never want to play with you '
        'again|You are not my friend any more}!" {cried} {F}, and {both went home|each went home alone}.',
        "{The next days were long.|Three days went by.} {N} played alone, but it was {no fun|dull}. {{He} had {a "
        "joke|something funny} to tell, and nobody to tell it to.|{He} kept looking {down the road|at the "
        'window}.} {a_helper} {saw it|noticed}. "{What is worth more, {dear}|What do you miss more}: the {thing} '
        'or {F}?" {asked} {helper}. {N} did not have to think long. "{F}," {he} said {quietly|softly}. "{But what '
        'if {fhe} is still angry|But I do not dare to go}?" "{The first step is the hardest|Sorry is a small word, '
        'but it opens big doors}," said {helper}.',
        "So {N} {set out|went} to see {F}. And {halfway|in the middle of the road} {he} met {F}, who was on the "
        'way to {him}! "{I am sorry|Forgive me}," they said, {both at the same time|at the very same moment}, and '
        "{then they laughed|they had to laugh}. {Together they mended the {thing}|They fetched {a hammer|some "
        'glue} and mended the {thing} together}. "{You first}," said {N}. "No, you first," said {F}.',
        "{They took turns, and that was {even better|twice as much fun}.|They found out that there was room for "
        "two.} {close}{| {N} and {F} never forgot it.}",
    ]


def lost_baby(s):
    begin(s)
    s.pick("baby parent clue place", [
        ("duckling", "duck", "my mother says quack", "by the pond"),
        ("lamb", "sheep", "my mother has a white coat", "on the green hill"),
        ("little owl", "owl", "my mother can turn her head all the way around", "in the hollow tree"),
        ("baby seal", "seal", "my mother smells of the sea", "on the rocks"),
        ("kitten", "cat", "my mother hums when she is happy", "in the barn"),
        ("calf", "cow", "my mother wears a bell", "in the meadow"),
        ("little bat", "bat", "my mother sleeps with her feet up", "in the old tower"),
        ("foal", "horse", "my mother has a star on her nose", "in the stable"),
        ("baby crab", "crab", "my mother walks to the side", "under the wet stones"),
    ])  # fmt: skip
    return [
        "{intro} {scene}. {N} was {walking along|sitting by the road} {and humming|and thinking of nothing}, when "
        '{he} {saw|met} a {baby}. It was {all alone|crying}. "{Where is your mother|Are you lost}?" {asked} {N}. '
        '"{I do not know|I ran after a fly, and now she is gone}," {sobbed|said} the {baby}.',
        '"{Do not cry|Come}, {we will find her|I will help you to find her}," said {N}. "{What does she look '
        'like|Tell me about her}." "{clue}," said the {baby}. {{N} thought about it.|That was not very much.} '
        "{First they went to {the mill|the bridge|the market}. No mother was there.|They {walked and walked|walked "
        "a long way}, and the {baby} was getting tired.} {N} carried it {on {his} back|in {his} arms}. {It was "
        "heavier than it looked.|It was already getting late.}",
        '{On the way they met {a_helper}.|At the corner stood {a_helper}.} "{Have you seen a mother who is looking '
        'for her child}?" {asked} {N}. "{clue}," said the {baby} once more. {helper} {thought hard|smiled}. "{That '
        'can only be the {parent}|Then it must be the {parent}}," {said} {helper}. "{I heard her calling|She has '
        'been calling all day}, {place}."',
        'They {ran|hurried} as fast as they could. And there, {place}, {stood|was} the {parent}! "Mama!" {cried} '
        'the {baby}. "{My little one|There you are}!" {cried} the {parent}. {They {laughed and cried|hugged each '
        "other} for a long time.|The {baby} was held so tight that it could hardly breathe.}",
        '"{Thank you, {N}|You have a good heart, {N}}," said the {parent}. "{I am just glad that you have each '
        'other|It was nothing}," {he} said, but {he} {was proud|felt warm inside}. {Then {N} went home to {his} '
        "own mother and {gave her a big hug|held her hand}.|On the way home, {N} began to run, for {he} wanted to "
        "see {his} own mother.} {close}",
    ]


def sleepless(s):
    begin(s, helpers=FAMILY)
    s.pick("toy", ["bear", "rabbit", "elephant", "blanket", "duck", "lamb"])
    return [
        "{intro} {likes} But {one {season} night|tonight}, {he} could not sleep.",
        "{N} {turned to the left and to the right|lay on {his} back, then on {his} side}. {The bed was too warm, "
        "then too cold.|The pillow was too flat.} {He} counted sheep, {but the sheep would not stand still|but at "
        "number twenty they all ran away}. {He} {drank a glass of water|got up and looked out of the window}. {The "
        "moon looked in.|The whole house was still.|Only the clock went tick and tock.} Still {he} was wide awake. "
        '"{Everybody is asleep but me,|Why does the night take so long?}" {he} {said to|told} {his} toy {toy}.',
        '{The door opened softly, and there stood {a_helper}.|Then {a_helper} came in on quiet feet.} "{Still '
        'awake|Can you not sleep}, {dear}?" {asked} {helper}. "{My head is full of thoughts|My thoughts will not '
        'lie down}," said {N}. "{Then we must put them to bed, one after the other|Then let us say good night to '
        'them}," said {helper}. "{What was good today|What made you happy today}?"',
        '{N} thought. "{The {snail|beetle|cat} on the wall|The smell of the {soup|bread}|The big puddle}," {he} '
        'said. "{Good night, then|That is one}," said {helper}. "And what else?" "{The song of the birds|The red '
        'evening sky|That I could laugh so much}," {said} {N}, and {yawned|rubbed {his} eyes}. "{And what are you '
        'looking forward to|And tomorrow}?" "{Pancakes|Playing outside|Seeing you again}," {he} {whispered|said '
        "slowly}.",
        "{helper} {pulled up the blanket|put the toy {toy} beside {him}|turned down the lamp}. {Outside, {the wind "
        "sang softly|the stars went on their way}.} {{helper} hummed a song about a boat that sails to the "
        'moon.|"Now even the thoughts are asleep," said {helper}.} {N} did not hear the end of it, for {he} was '
        "{fast asleep|already dreaming}. {And when {he} woke up, it was day, and {the sun|the light} {shone|fell} "
        "on {his} {nose|bed}.|And {he} dreamed of {a boat with silver sails|a garden full of lights|a very soft "
        "cloud}.}",
    ]


def trade(s):
    begin(s)
    swaps = [
        ("a shiny button", "the tailor", "the button was just what my coat needed"),
        ("a ball of string", "the fisherman", "with string I can mend my net"),
        ("a fresh fish", "the cook", "now I can make a soup"),
        ("a pot of honey", "the bear keeper", "honey is what we like best"),
        ("a bag of nuts", "the squirrel", "winter is coming"),
        ("a warm hat", "the night watchman", "my ears are so cold at night"),
        ("a basket of apples", "the horse", "I love apples"),
        ("a long feather", "the writer", "my pen is broken"),
        ("a jar of paint", "the painter", "my red is all gone"),
        ("a loaf of bread", "the old sailor", "I have not had fresh bread for a year"),
    ]
    chain = [swap for swap in s.random.sample(swaps, 4) if s["kind"] not in swap[1]][:3]
    for i, (item, owner, reason) in enumerate(chain):
        the_item = "the " + item.removeprefix("a ")
        s.update({f"item{i}": item, f"the{i}": the_item, f"owner{i}": owner, f"reason{i}": reason})
    s.pick("goal shop", [
        ("a red bicycle", "the smith"),
        ("a small guitar", "the music man"),
        ("a puppet with a blue nose", "the puppet maker"),
        ("a pair of skates", "the shoemaker"),
        ("a bright umbrella", "the umbrella maker"),
        ("a real compass", "the captain"),
    ])  # fmt: skip
    s["thegoal"] = "the " + s["goal"].removeprefix("a ")
    s.pick("a_helper helper", FAMILY[:4])
    return [
        "{intro} {N} had one big wish: {goal}. {But it cost more than {he} had.|But {he} had not a single coin.} "
        '"What do you have to give?" asked {a_helper}. "Only {item0}," said {N}. "{Many journeys began with '
        'less|Somebody may need just that}," said {helper}.',
        'So {N} {set out|went out} with {the0}. {scene}. {First {he} met|Soon {he} met} {owner0}. "{Oh, '
        '{the0}|What a nice thing}!" said {owner0}. "{reason0}. I will give you {item1} for it." {N} {agreed|was '
        "{happy} with that} and {went on|walked on} with {the1}.",
        '{Next|Then} {he} {came to|met} {owner1}. "{I have looked for that all day|That is what I need}!" cried '
        '{owner1}. "{reason1}. Take {item2} for {the1}." {{N} thanked {owner1} and went on.|"Gladly," said {N}.} '
        "{Behind the bridge|At the end of the road} {stood|sat} {owner2}, {and looked sad|with a long face}. "
        '"{What is wrong|Why so sad}?" asked {N}. "{I have nothing to give|I have nothing left}," said {owner2}, '
        '"but {the2} would make me so {happy}." {N} {did not think long|looked at {the2}}. "{Take it, it is a '
        'present|You can have {the2}}," {he} said.',
        "{Now {N} had nothing at all.|So {N} came to {shop} with empty hands.} {But {shop} had seen "
        'everything.|{shop} had watched from the window.} "{Whoever gives like that should get something too|You '
        'gave away the last thing that you had}," said {shop}. "{Help me in the shop for one week, and|Sweep my '
        'floor for a week, and} {thegoal} is yours." {{N} worked hard, and when the week was over, {he} ran home '
        "with {thegoal}.|And so it was. After a week, {N} carried {thegoal} home.}",
        '{"You see," said {helper}, "it all began with {item0}."|"And all that for {item0}!" said {helper}.} '
        "{close}",
    ]


def river(s):
    begin(s)
    s.pick("relative bring", [
        ("grandmother", "a pot of warm soup"), ("grandfather", "a new book"), ("sick friend", "a bottle of medicine"),
        ("aunt", "a basket of eggs"), ("old teacher", "a letter"), ("little cousin", "a birthday cake"),
    ])  # fmt: skip
    s.update(goal="{his} {relative}", goal_me="my {relative}")
    s.pick("barrier way a_helper helper", [
        ("the flood had taken the bridge away", "carried {him} over on a broad back", "a grey donkey", "the donkey"),
        (
            "the bridge was broken",
            "cut down a tree, and it fell right across the river",
            "a busy beaver",
            "the beaver",
        ),
        (
            "a big rock lay in the middle of the road",
            "pushed from one side while {N} pulled from the other",
            "a friendly goat",
            "the goat",
        ),
        ("the river was high and wild", "took {him} into the boat", "an old fisherman", "the fisherman"),
        (
            "a tree had fallen on the path",
            "showed {him} a secret way under the hill",
            "a mole with thick glasses",
            "the mole",
        ),
        ("the fog was as thick as milk", "flew in front with a little bell", "a black crow", "the crow"),
    ])  # fmt: skip
    if s["kind"] in s["helper"]:
        s.update(a_helper="a kind giant", helper="the giant")
    return [
        "{intro} {likes} {once}, {N} {wanted to visit|set out to visit} {goal}, who lived on the other side of the "
        '{hill|valley|forest}. {In {his} bag {he} had|{He} carried} {bring}. "{Be careful|Be back before dark}," '
        "said {his} mother.",
        "{N} {sang as {he} walked|walked quickly}, {for|and} {weather}. {He} {went past the mill|passed three "
        "white houses} and {over the field|through a small wood}. But then {he} had to stop: {barrier}! {{N} "
        "looked left, {he} looked right.|{He} tried it once, and then once again.} {There was no way to go "
        'on.|There was no other way.} "{And {goal_me} is waiting,|What shall I do now?|I cannot go back now,}" '
        "said {N}.",
        '{{a_helper} was sitting there.|Not far away sat {a_helper}.} "You look as if you need help, {dear}," said '
        '{helper}. "{I have to get across|I must go on}! {I am bringing {bring} to {goal_me}|{Goal_me} is waiting '
        'for me}," {said} {N}. {helper} {looked at {N} and nodded|stood up at once}. "{That is a good reason|I '
        'know a way|I thought so}. {Come|Let us try it}." And {helper} {way}.',
        '"{What can I give you for that|How can I thank you}?" asked {N}. "{Help the next one who is stuck|Just '
        'say hello to {goal} from me}," {said} {helper}. {And off {he} went, as fast as {he} could.|{N} promised '
        "it and ran on.}",
        '{{goal} was standing at the door already|At last {he} {stood at|knocked on} the door}. "{You came, in '
        'spite of everything|I knew that you would come}!" {They sat by the {window|fire} together, and {N} told '
        "{the whole adventure|everything}.|They sat down at the table, and {N} told {how {helper} had "
        "helped|everything}.} {close}",
    ]


def snowman(s):
    begin(s, seasons=("winter",))
    s.pick("nose", ["a carrot", "a pine cone", "a red potato", "an old spoon"])
    s.pick("wish", [
        "wanted to see the spring", "wanted to see the sea", "wanted to hear a story", "was afraid of the sun",
        "wished for a friend",
    ])  # fmt: skip
    return [
        '{intro} {scene}. "{At last|It snowed all night}!" {cried} {N}, and {ran out|was outside} before '
        "breakfast. {He} rolled {one big ball and one small ball|three white balls}, and made a snowman with "
        "{nose} for a nose and {two dark stones|two nuts} for eyes.",
        '{When {N} came back in the evening|That evening}, the snowman {blinked|moved}. "{Good evening|Hello, '
        '{N}}," {it said|said the snowman}. {N} {almost fell over|rubbed {his} eyes}. "You can talk!" "{Only to '
        'those who listen|Only when it is very cold}," said the snowman. Then it told {him} that it {wish}. {{N} '
        'sat down in the snow and listened.|"That is a big wish for a snowman," said {N}.}',
        "But {a few days later|one morning} {the wind turned warm|it was getting warm}. {Drip, drop, went the "
        'roofs.|Drops fell from the roofs.} "{Oh no, you are getting smaller|You are melting}!" {cried} {N}. {He} '
        'ran to {a_helper} and told everything. "{You cannot keep the winter|No one can hold the snow}," said '
        '{helper}, "{but you can say goodbye well|but you can give it one fine day}."',
        "{So {N} {took the snowman on the sledge|put the snowman on a sledge}, up to the highest hill.|Together "
        "they pulled the snowman up the hill, on the big sledge.} From there one could see {the whole valley|the "
        "sea and the first green field|the first flowers}. {N} {told the longest story {he} knew|sang all the "
        'songs {he} knew}. "{Now I have everything I wished for|I am not afraid any more}," said the snowman. "{I '
        "will be a stream, and then a cloud, and one day I will come back as snow|I will be back with the first "
        'snow}."',
        "{In the morning|The next day} there was only {nose} {in the grass|and a little water}. {N} was sad, but "
        "{not only sad|only a little}. {All summer {he} kept {nose} {in a box|on the shelf}.|{He} waved to every "
        "cloud that summer, just in case.} {And when the first flakes fell again, {N} ran out and shouted, "
        '"{Welcome back|There you are}!"|When the snow came back, {N} was the first one {outside|in the garden}.}',
    ]


PLOTS = [
    lost_thing,
    brave,
    missing_part,
    new_friend,
    rescue,
    birthday,
    seed,
    storm,
    race,
    lost_way,
    last_piece,
    broken,
    moon,
    learn,
    night_noise,
    quarrel,
    lost_baby,
    sleepless,
    trade,
    river,
    snowman,
]
