"""Sentences put together from parts: numbers, times, dates, names, questions, requests, small stories, everyday English.

Free text has few of them, and they are what people say to a machine. Numbers are written as words, as the voices speak
them; a digit has too many readings to be a training label.
"""

from collections.abc import Callable
from random import Random

from .everyday import everyday

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NAMES = (
    "Anna Ben Carol Daniel Emma Frank Grace Henry Irene Jack Kate Leo Maria Noah Olivia Peter Rose Samuel Thomas Victor "
    "Alice Brian Clara David Edward Fiona George Helen James Julia Laura Martin Michael Nancy Paul Rachel Robert Sarah"
).split()
TOWNS = (
    "London Paris Berlin Rome Madrid Boston Chicago Denver Dublin Oslo Vienna Tokyo Sydney Toronto Cairo Athens Lisbon "
    "Prague Moscow Dallas Houston Seattle Oxford Cambridge Geneva Zurich"
).split()
QUALITIES = (
    "old young brave small great dark golden silent wise lonely ancient hidden magic broken red blue green white black "
    "silver tired hungry happy angry clever quiet gentle strange proud poor rich heavy bright"
).split()
PEOPLE = (
    "dragon king queen knight wizard witch princess prince farmer thief hunter giant dwarf elf goblin merchant soldier "
    "child stranger blacksmith baker sailor miller shepherd captain teacher doctor singer"
).split()
PLACES = (
    "castle forest mountain village river cave tower valley garden bridge island desert lake city temple road kitchen "
    "field inn harbor market church house school mill hill shore"
).split()
DEEDS = (
    "found|lost|carried|watched|followed|stole|guarded|opened|remembered|protected|wanted|saw|took|hid|sold|bought|broke|"
    "made|brought|kept|gave away|looked for|asked about"
).split("|")
THINGS = (
    "sword crown book map key ring stone treasure horse door lantern letter shield potion mirror chest cloak feather bell "
    "rope cup boat candle basket coat picture wheel drum apple loaf blanket"
).split()
TIMES = (
    "in the morning|at night|long ago|before winter|after the storm|under the moon|every day|in the spring|once upon a time|"
    "many years later|one evening|at last|in the summer|that night|on the third day|when the sun rose"
).split("|")
SUBJECTS = (
    "the weather|the train|my sister|your brother|the meeting|the news|this song|the book|our teacher|the dog|the new house|"
    "your plan|the last message|dinner|the garden|the car"
).split("|")


def number(value: int) -> str:
    """A number below a million in words, American style."""
    if value < 20:
        return ONES[value]
    if value < 100:
        return TENS[value // 10] + (f"-{ONES[value % 10]}" if value % 10 else "")
    size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {number(value % size)}" if value % size else ""
    return f"{number(value // size)} {name}{rest}"


def clock(r: Random) -> str:
    hour = ONES[r.randint(1, 12)]
    if r.random() < 0.2:
        return f"{hour} o'clock"
    minutes = ["", "", " fifteen", " thirty", " forty-five", f" {number(r.randint(10, 59))}", " oh five"]
    return f"{hour}{r.choice(minutes)}" + r.choice([" in the morning", " in the evening", "", " tonight"])


def date(r: Random) -> str:
    day = f"{r.choice(MONTHS)} {r.choice(ORDINALS)}"
    year = f"{number(r.choice([18, 19, 20]))} {number(r.randint(10, 99))}"
    return r.choice([day, f"{r.choice(DAYS)}, {day}", f"{day}, {year}", f"the {r.choice(ORDINALS)} of {r.choice(MONTHS)}"])


def digits(r: Random) -> str:
    return " ".join(r.choice(ONES[:10]) for _ in range(r.randint(2, 9))) + "."


def numbers(r: Random) -> str:
    sizes = [100, 1000, 1000, 10_000, 100_000]
    return ", ".join(number(r.randrange(r.choice(sizes))) for _ in range(r.randint(1, 3))) + "."


def fact(r: Random) -> str:
    name, town, count = r.choice(NAMES), r.choice(TOWNS), number(r.randint(2, 400))
    return r.choice(
        [
            f"{name} was born on {date(r)}.",
            f"{name} lives in {town} with {count} {r.choice(['books', 'birds', 'friends', 'cats', 'maps'])}.",
            f"The train to {town} leaves at {clock(r)}.",
            f"We meet {name} in {town} on {date(r)}.",
            f"It cost {count} dollars.",
            f"There are {count} people in the {r.choice(PLACES)}.",
            f"Chapter {number(r.randint(1, 40))}.",
            f"{name} and {r.choice(NAMES)} went to {town} in {r.choice(MONTHS)}.",
            f"{name} said that {r.choice(SUBJECTS)} was {r.choice('good late lost ready cold right'.split())}.",
        ]
    )


def question(r: Random) -> str:
    name, subject = r.choice(NAMES), r.choice(SUBJECTS)
    return r.choice(
        [
            f"Where is {subject}?",
            f"What do you think of {subject}?",
            f"Have you seen {name} today?",
            f"When does {name} come back from {r.choice(TOWNS)}?",
            f"Who took the {r.choice(THINGS)}?",
            f"Why did {name} leave so early?",
            f"How far is it to {r.choice(TOWNS)}?",
            f"Is it {clock(r)} already?",
            f"What is the weather like in {r.choice(TOWNS)}?",
            f"Can you tell me about {subject}?",
            "What time is it?",
            "How are you today?",
        ]
    )


def request(r: Random) -> str:
    device = r.choice("lights radio television heater fan computer music oven".split())
    place = r.choice("kitchen bedroom garden hall bathroom office".split())
    return r.choice(
        [
            f"Turn {r.choice(['on', 'off'])} the {device}.",
            f"Turn {r.choice(['on', 'off'])} the {device} in the {place}.",
            f"{r.choice(['Open', 'Close'])} the {r.choice('door window gate curtains garage'.split())}.",
            f"Set a timer for {number(r.randint(1, 60))} {r.choice(['minutes', 'seconds'])}.",
            f"Set an alarm for {clock(r)}.",
            f"Call {r.choice(['my mother', 'my father', 'my sister', 'the doctor', r.choice(NAMES)])}.",
            f"Send a message to {r.choice(NAMES)}.",
            f"Remind me to call {r.choice(NAMES)} on {r.choice(DAYS)}.",
            f"Walk {number(r.randint(2, 30))} steps {r.choice('forward back north south east west'.split())}.",
            f"{r.choice(['Turn', 'Go'])} {r.choice('left right back north south east west'.split())}.",
            f"{r.choice('Play Stop Start Pause'.split())} the {r.choice('music film game song video'.split())}.",
            f"{r.choice('Read Save Send Find Show'.split())} the {r.choice('file message picture letter page'.split())}.",
            f"Volume {r.choice(['up', 'down'])}.",
            r.choice(
                ["Yes.", "No.", "Thank you.", "Please wait.", "Start over.", "Next page.", "Good morning.", "Good night."]
            ),
        ]
    )


def story(r: Random) -> str:
    def described(nouns: list[str], article: str = "the") -> str:
        phrase = f"{r.choice(QUALITIES)} {r.choice(nouns)}" if r.random() < 0.6 else r.choice(nouns)
        return f"an {phrase}" if article == "a" and phrase[0] in "aeiou" else f"{article} {phrase}"

    def someone() -> str:
        return described(PEOPLE)

    def something() -> str:
        return described(THINGS, r.choice(["the", "a"]))

    def somewhere() -> str:
        return f"{r.choice(['in', 'near', 'behind', 'beyond', 'under', 'by'])} {described(PLACES)}"

    text = r.choice(
        [
            lambda: f"{someone()} {r.choice(DEEDS)} {something()}",
            lambda: f"{someone()} {r.choice(DEEDS)} {something()} {somewhere()}",
            lambda: f"{someone()} {r.choice(['lived', 'slept', 'waited', 'worked'])} {somewhere()}",
            lambda: f"{r.choice(TIMES)}, {someone()} {r.choice(DEEDS)} {something()}",
            lambda: f"{someone()} and {someone()} {r.choice(['walked', 'ran', 'rode', 'came'])} to {described(PLACES)}",
            lambda: f"there was {something()} {somewhere()}, but {someone()} {r.choice(DEEDS)} it",
            lambda: f"{someone()} gave {something()} to {someone()}",
            lambda: f"{someone()} said, where is {something()}",
        ]
    )()
    return text + ("?" if "said, where" in text else ".")


KINDS: list[tuple[Callable[[Random], str], float]] = [
    (story, 0.3),
    (everyday, 0.3),
    (fact, 0.15),
    (question, 0.07),
    (request, 0.08),
    (digits, 0.04),
    (numbers, 0.06),
]
"""Each kind of sentence and its share."""


def sentence(r: Random) -> tuple[str, str]:
    """One sentence, and the name of its kind."""
    make = r.choices([kind for kind, _ in KINDS], [share for _, share in KINDS])[0]
    text = make(r)
    return text[0].upper() + text[1:], make.__name__
