"""Everyday English, put together from parts: what people say at home, at work, in shops and on the way."""

import re
from random import Random

RELATIVES = (
    "mother|father|sister|brother|daughter|son|aunt|uncle|cousin|grandmother|grandfather|wife|husband|neighbor|boss|"
    "best friend|roommate|teacher|dentist|landlord"
).split("|")
ACTIVITIES = (
    "go for a walk|go shopping|go swimming|cook dinner|bake a cake|clean the house|wash the dishes|do the laundry|"
    "walk the dog|feed the cat|water the plants|mow the lawn|paint the bedroom|fix the fence|repair the bicycle|"
    "watch a movie|watch the game|read the newspaper|listen to the radio|play cards|play the piano|play football|"
    "learn Spanish|learn to drive|study for the exam|finish the report|write a letter|answer the phone|send an email|"
    "book a table|rent a car|catch the early train|take the bus|ride a bike to work|visit the museum|see the doctor|"
    "go to the dentist|get a haircut|buy a birthday present|pick up the children|pay the bills|take a day off|"
    "move to a bigger apartment|plan a holiday|pack the suitcases|travel around the world|climb that mountain|"
    "have a picnic by the river|invite some friends over|celebrate with the whole family|make breakfast|take a shower|"
    "sleep until noon|stay at home|get some fresh air|look for a new job|change the subject|ask for directions|"
    "save some money|borrow your umbrella|return these library books|charge my phone|print these documents|"
    "turn down the music|wait for the next bus|meet the new neighbors|help with the homework|tell her the truth"
).split("|")
OBJECTS = (
    "keys|wallet|phone|glasses|umbrella|jacket|passport|ticket|laptop|charger|notebook|pencil|backpack|gloves|scarf|"
    "camera|watch|medicine|lunch|water bottle|shopping list|sunglasses|headphones|purse|toothbrush"
).split("|")
SURFACES = (
    "kitchen table|sofa|bus|train|shelf|desk|windowsill|back seat|counter|floor|bed|chair by the door|top of the fridge"
).split("|")
FOODS = (
    "bread|cheese|butter|rice|pasta|soup|salad|chicken|fish|beans|potatoes|tomatoes|onions|carrots|mushrooms|eggs|"
    "sausages|pancakes|noodles|sandwiches|pizza|strawberries|grapes|oranges|bananas|chocolate|ice cream|cookies|yogurt|"
    "honey|garlic|pepper|spinach|lemons|peaches|cereal|mustard"
).split("|")
DRINKS = "coffee|tea|orange juice|milk|lemonade|hot chocolate|mineral water|apple juice|green tea|beer|red wine".split("|")
CLOTHES = "shirt|sweater|dress|coat|hat|belt|skirt|suit|tie|raincoat|swimsuit|blouse|vest".split("|")
COLORS = "black|white|red|blue|green|yellow|purple|orange|brown|gray|pink|dark blue|light green".split("|")
PLACES = (
    "airport|station|bank|bakery|library|supermarket|pharmacy|hospital|post office|gas station|restaurant|hotel|theater|"
    "swimming pool|park|beach|office|university|police station|parking lot|bus stop|bookstore|gym|town hall|factory|"
    "shopping center|stadium|zoo|playground|farm|corner shop|art gallery|city center"
).split("|")
BODY = "back|head|shoulder|knee|stomach|throat|tooth|ankle|elbow|left foot|right hand|neck|wrist".split("|")
WEATHER = "sunny|cloudy|windy|foggy|rainy|snowy|stormy|warm|cold|freezing|humid|quite hot|mostly dry|wet".split("|")
FEELINGS = (
    "happy|sad|tired|excited|nervous|worried|surprised|proud|angry|bored|confused|lonely|grateful|relieved|disappointed|"
    "embarrassed|hungry|thirsty|jealous|curious|glad|sorry"
).split("|")
WHENS = (
    "today|tomorrow|tonight|this morning|this afternoon|this evening|tomorrow morning|next week|next month|on the weekend|"
    "after work|after lunch|before breakfast|right now|later|soon|on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|"
    "on Saturday|on Sunday|in the summer|in a few minutes|in about an hour|at the end of the month|during the holidays"
).split("|")
PASTS = (
    "yesterday|last night|last week|last month|last year|on Friday|two days ago|three weeks ago|a long time ago|"
    "this morning|a few minutes ago|in January|in the spring|when I was young|before you called|during the storm"
).split("|")
COUNTS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty".split("|")
HOURS = "six|seven|eight|nine|ten|eleven|noon|one|two|five|half past eight|a quarter to seven|midnight".split("|")
JOBS = (
    "nurse|engineer|lawyer|cook|waiter|pilot|farmer|carpenter|plumber|journalist|scientist|programmer|musician|painter|"
    "firefighter|police officer|truck driver|gardener|photographer|accountant|librarian|mechanic"
).split("|")
TROUBLES = (
    "the printer is out of paper|the elevator is broken|the washing machine makes a strange noise|the roof is leaking|"
    "the internet is very slow|the heating doesn't work|the battery is almost empty|the light in the hall is flickering|"
    "the sink is blocked|my computer keeps crashing|the alarm went off|the window won't close|the key is stuck|"
    "the road is closed|the flight was canceled|the shop is already closed|we ran out of milk|somebody parked in my place|"
    "the baby is crying|the dog ate my sandwich|I forgot the password|I missed the bus|I can't find the receipt"
).split("|")
REASONS = (
    "it was raining|I was too tired|we had no time|the traffic was terrible|nobody answered the door|it was too expensive|"
    "she had a headache|he lost his keys|they were on vacation|the children were asleep|I overslept|it was getting dark|"
    "my phone was dead|we wanted to save money|the weather was so nice|everybody was hungry"
).split("|")
OPINIONS = (
    "much too long|better than the book|a bit boring|really funny|worth every penny|not as good as last time|"
    "easier than I expected|harder than it looks|the best I have ever had|a complete surprise|a waste of time|"
    "very interesting|too loud|just right|a little strange"
).split("|")
EVENTS = (
    "movie|concert|exam|party|wedding|meeting|trip|game|interview|lecture|dinner|journey|show|speech|lesson|hike|"
    "new restaurant|birthday party|job interview|train ride|soup|weather in April"
).split("|")

SLOTS = {
    "relative": RELATIVES, "do": ACTIVITIES, "object": OBJECTS, "surface": SURFACES, "food": FOODS, "drink": DRINKS,
    "clothes": CLOTHES, "color": COLORS, "place": PLACES, "body": BODY, "weather": WEATHER, "feeling": FEELINGS,
    "when": WHENS, "past": PASTS, "count": COUNTS, "job": JOBS, "trouble": TROUBLES, "reason": REASONS,
    "opinion": OPINIONS, "event": EVENTS, "hour": HOURS,
}  # fmt: skip

PATTERNS = """
I want to {do} {when}.
Do you want to {do} {when}?
Would you like to {do} with us {when}?
My {relative} wants to {do} {when}.
I don't have time to {do} {when}.
Let's {do} {when}.
We should {do} before we {do}.
Don't forget to {do} {when}.
Could you please {do} {when}?
I promised my {relative} to {do} {when}.
It's too {weather} to {do} {when}.
I was going to {do}, but {reason}.
We couldn't {do} {past}, because {reason}.
If it's {weather} {when}, we can {do}.
She asked me to {do} and then to {do}.
I would rather {do} than {do}.
How often do you {do}?
Why don't we {do} instead?
You promised to {do}, remember?
I left my {object} on the {surface} {past}.
Have you seen my {object} anywhere?
Your {object} is on the {surface}.
Someone found your {object} at the {place}.
I bought a new {object} {past}.
Is this your {object} or mine?
Can I borrow your {object} for a minute?
There is some {food} on the {surface}.
We need {food}, {food} and {food} from the supermarket.
I'd like the {food} and a glass of {drink}, please.
Could we have {count} cups of {drink}, please?
Do you prefer {drink} or {drink}?
My {relative} is allergic to {food}.
Put the {food} in the fridge and the {food} in the oven.
The {food} smells wonderful, but the {food} tastes a bit strange.
We usually have {food} with {food} on Sundays.
How much is the {color} {clothes} in the window?
This {clothes} is too big, do you have it in {color}?
I'm looking for a {color} {clothes} for my {relative}.
You look great in that {color} {clothes}.
Excuse me, how do I get to the {place}?
Is there a {place} near the {place}?
The {place} is next to the {place}.
Turn left at the {place}, then go straight to the {place}.
The bus to the {place} was {count} minutes late again.
I'll meet you at the {place} {when}.
My {relative} works at the {place} as a {job}.
The {place} opens at {hour} and closes at {hour}.
It takes about {count} minutes to walk to the {place}.
We were at the {place} when my {relative} called.
My {body} has been hurting since {past}.
I hurt my {body} {past}.
Does your {body} still hurt?
The doctor says my {body} will be fine in {count} weeks.
It will be {weather} {when}.
It was {weather} and {weather} {past}.
What was the weather like {past}?
Tomorrow it will be {weather} in the morning and {weather} in the evening.
I'm {feeling} that you could come.
Why are you so {feeling} {when}?
She seemed {feeling} {past}.
My {relative} was {feeling}, because {reason}.
He felt {feeling} and a little {feeling}.
I have been a {job} for {count} years.
My {relative} used to be a {job}.
She wants to become a {job} like her {relative}.
The {job} will come {when}.
I'm sorry, but {trouble}.
Can you help me, {trouble}.
I think {trouble} again.
I called the landlord, because {trouble}.
Sorry I'm late, {reason}.
The {event} {past} was {opinion}.
How was the {event} {past}?
I thought the {event} was {opinion}.
Everybody said that the {event} was {opinion}.
My {relative} and my {relative} came to the {event}.
There were {count} people at the {event}.
We are invited to a {event} {when}.
My {relative} has {count} children and {count} grandchildren.
My {relative} is {count} years older than my {relative}.
I haven't seen your {relative} since {past}.
Please say hello to your {relative} for me.
Is your {relative} coming {when}?
Thank you for the {object}, it was very kind of you.
I'll call you back {when}.
See you {when} at the {place}.
Could you speak a little louder, please?
I don't understand what you mean.
Would you mind opening the window?
It's getting late, we should go home.
What are you doing {when}?
How long have you been waiting here?
Let me know if you need anything.
I have never been to the {place} before.
Nice to meet you, I have heard so much about you.
Make yourself at home, the {drink} is almost ready.
That's not what I said {past}.
I have no idea what happened {past}.
Where did you put the {object} and the {object}?
You can take the {color} one or the {color} one.
The children are playing in the park {when}.
We moved here {count} years ago.
Are you sure this is the right way to the {place}?
I can't decide between the {food} and the {food}.
""".strip().splitlines()


def everyday(r: Random) -> str:
    """One sentence; no part occurs twice in it."""
    text = r.choice(PATTERNS)
    for name, words in SLOTS.items():
        hole = "{" + name + "}"
        for word in r.sample(words, text.count(hole)):
            text = text.replace(hole, word, 1)
    return re.sub(r"\b([Aa]) (?=[aeiou])(?!uni)", r"\1n ", text)
