"""List the words beside sizes in product names, by what they mean for a size.

Units, containers, pieces, and words that show that a number is no size. The languages
are English, German, French, Spanish, Portuguese, Italian, Dutch and Japanese. Words are
in lower case without accents, as `embed.sizes.tokens` writes them.
"""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["mass", "volume", "count"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OUNCE_G, FLUID_OUNCE_ML = 28.3495, 29.5735
POUND_G = 453.592

# kind, number of base units, spellings without signs or spaces
_SPELLINGS: tuple[tuple[Kind, float, str], ...] = (
    ("mass", 1e-3, "mg milligram milligrams"),
    ("mass", 1.0, "g gr grs gm gms gram grams gramm gramms grammes gramos gramas"),
    ("mass", 1.0, "gramme grammi grammo gramo grama グラム"),
    ("mass", 1e3, "kg kgs kilo kilos kilogram kilograms kilogramm kilogramme キロ"),
    ("mass", OUNCE_G, "oz ozs onz ounce ounces"),
    ("mass", POUND_G, "lb lbs pound pounds"),
    ("volume", 1.0, "ml mls milliliter milliliters millilitre millilitres"),
    ("volume", 10.0, "cl centiliter centilitre centilitres"),
    ("volume", 100.0, "dl"),
    ("volume", 1e3, "l lt ltr ltrs liter liters litre litres litro litros litri"),
    ("volume", 1e3, "リットル"),
    ("volume", FLUID_OUNCE_ML, "floz flozs flounce flounces fluidounce"),
    ("volume", FLUID_OUNCE_ML, "fluidounces fluidoz"),
    ("volume", 473.176, "pt pint pints"),
    ("volume", 946.353, "qt quart quarts"),
    ("volume", 3785.41, "gal gallon gallons"),
    ("count", 1.0, "ct cts cnt count counts ea each pc pcs piece pieces"),
    ("count", 1.0, "unit units pod pods kcup kcups stick sticks"),
    ("count", 1.0, "teabag teabags capsule capsules tablet tablets stem"),
    ("count", 1.0, "stems bar bars packet packets sachet sachets single singles"),
    ("count", 1.0, "can cans jar jars bottle bottles box boxes bag bags pouch"),
    ("count", 1.0, "pouches pack packs tin tins tub tubs"),
)
UNITS = {
    spelling: (kind, factor)
    for kind, factor, spellings in _SPELLINGS
    for spelling in spellings.split()
}
"""Kind of each spelling of a unit, and its number of base units (g, ml or pieces)."""

OUNCES = {"oz", "ozs", "onz", "ounce", "ounces"}
IMPERIAL = {
    spelling
    for spelling, (kind, factor) in UNITS.items()
    if kind != "count" and factor not in (1e-3, 1.0, 10.0, 100.0, 1e3)
}
"""Units of countries whose decimal sign is a point."""

FACTORS_IN_WORDS = {
    **dict.fromkeys(("twin", "duo", "double", "doppel", "doble", "duplo"), 2),
    **dict.fromkeys(("doppio", "zweier", "two", "zwei", "deux", "dos", "dois"), 2),
    **dict.fromkeys(("due", "twee"), 2),
    **dict.fromkeys(("triple", "trio", "triplo", "dreier", "three", "drei"), 3),
    **dict.fromkeys(("trois", "tres", "tre", "drie"), 3),
    **dict.fromkeys(("quad", "four", "vier", "quatre", "cuatro", "quatro"), 4),
    **dict.fromkeys(("quattro", "vierer"), 4),
    **dict.fromkeys(("five", "funf", "cinq", "cinco", "cinque", "vijf"), 5),
    **dict.fromkeys(("six", "sechs", "seis", "sei", "zes", "sechser"), 6),
    **{"seven": 7, "eight": 8, "acht": 8, "huit": 8, "ocho": 8, "oito": 8},
    **{"nine": 9, "ten": 10, "zehn": 10, "dix": 10, "diez": 10, "dez": 10},
    **{"dieci": 10, "tien": 10, "zehner": 10, "eleven": 11},
    **dict.fromkeys(("twelve", "zwolf", "douze", "doce", "doze", "dodici"), 12),
    "twaalf": 12,
}
"""Words that are a count beside a word for a pack: "twin pack", "pack of six"."""

PACKS_IN_WORDS = {
    **dict.fromkeys(("doppelpack", "doppelpackung", "twinpack", "duopack"), 2),
    **dict.fromkeys(("zweierpack", "duoverpakking", "bipack"), 2),
    **dict.fromkeys(("dreierpack", "tripack", "triopack", "triplepack"), 3),
    **{"viererpack": 4, "sechserpack": 6, "sixpack": 6, "zehnerpack": 10},
}
"""Words for a pack that include its count."""

# A letter for each class of words, for the rules of `embed.sizes.grammar`. Further
# classes: n for numbers, N for numbers that count nothing, m for units of mass and
# volume, T and U for the two tables above, x for itself, w for other words. Common
# signs such as + stand for themselves; all other signs are ~.
_CLASSES: dict[str, str] = {
    # a pack of several things
    "p": "pack packs pk pks pck pkg pkgs package packages packung packungen case cs "
    "set sets lot bundle carton multipack multipacks multipackung tray trays "
    "qty quantity quantite menge kit paquete paquetes pacote pacotes embalagem "
    "confezione conf kasten karton kiste kartons verpakking krat kratten doos "
    "caja cajas caixa caixas cx caisse cartons lote stiege bandeja fardo estuche "
    "blister vassoio barquette etui fardel flowpack sixpack mehrpack sparpack "
    "multipak pak パック セット ケース",
    # containers, in plural and singular
    "b": "cans jars bottles boxes bags pouches tins tubs canisters tubes cartridges "
    "dosen flaschen glaser beutel tuten paquets sachets boites bouteilles "
    "canettes briques latas botellas bolsas botes frascos garrafas bottiglie "
    "lattine vasetti buste scatole flessen blikken blikjes zakken potten "
    "packungen briks 缶 袋 箱 本 本入り 本入 缶入り 袋入り 箱入り ボトル",
    "B": "can jar bottle box bag pouch tin tub canister carton dose flasche glas "
    "boite bouteille canette brique lata botella bolsa bote frasco garrafa "
    "bottiglia lattina scatola fles blik zak brik",
    # pieces of no special kind
    "g": "pc pcs piece pieces unit units stuck stk st unidades unidade unidad uds ud "
    "unid un unites unite pezzi pezzo pz stuks stuk pecas piezas pza pzas pieza "
    "pces nos 個 個入り 個入 入り 入 ヶ コ",
    # pieces that a box contains: "box of 100 tea bags" is no pack of boxes
    "c": "teabag teabags pod pods kcup kcups stick sticks stem stems bar bars packet "
    "packets sachet single singles sheet sheets roll rolls wipe wipes diaper "
    "diapers nappies pads liners tampons tissues napkins rollen rolle blatt "
    "beutelchen windeln tucher feuilles couches lingettes mouchoirs rouleaux "
    "rouleau rollos rollo hojas toallitas panales rolos folhas fraldas lencos "
    "rotoli fogli pannolini salviette cialde bustine vellen luiers doekjes "
    "koffiepads zakjes theezakjes dosettes rol 枚 枚入り 枚入 ロール 組 包 包入",
    # other things
    "s": "pair pairs paar plates cups straws forks spoons knives envelopes cards "
    "pencils pens markers crayons candles batteries bulbs balls balloons gloves "
    "masks razors blades filters sponges eggs bagels muffins cookies tortillas "
    "buns patties cubes strips swabs bandages patches labels stickers magnets "
    "screws bolts nuts washers hooks hangers needles syringes coasters "
    "toothpicks skewers cupcakes donuts doughnuts biscuits rusks sausages "
    "burgers truffles chocolates macarons croissants wraps tealights lollipops "
    "tabs batterien kerzen servietten stifte brotchen eier scheiben wurstchen "
    "serviettes piles bougies ampoules oeufs eponges gobelets pilas servilletas "
    "huevos bolsitas sobres ovos guardanapos pilhas saches uova tovaglioli "
    "eieren servetten batterijen",
    # pieces that people swallow: a mass beside them is a dose
    "C": "capsule capsules tablet tablets softgel softgels gummies caplet caplets "
    "lozenges pills pill gelcaps vegcaps tabletten kapsel kapseln gelules "
    "capsulas comprimes comprime comprimidos comprimido compresse tabletas "
    "pastillas 錠 粒 カプセル",
    "t": "ct cts cnt count counts",
    # adjectives of pieces
    "a": "mega double giant family super jumbo regular large small mini extra big "
    "ultra soft vegan vegetarian veggie chewable coated individual individually "
    "wrapped serve premium rapid release effervescent film quick dry wet "
    "disposable long liquid tea paper thin overnight scented unscented assorted "
    "colored natural plastic cotton nitrile latex vinyl alkaline heavy duty new "
    "whole fresh free range washable baby white black blue red green brown "
    "clear regulares dobles",
    "o": "of de da do del di d von van with com con mit met avec a w le la",
    "r": "per pro por je par",
    "i": "in to",
    "e": "each ea apiece jeweils chacun cada ciascuno cadauno elk",
    "D": "dozen dozens doz dutzend douzaine docena dosena duzia dozzina dozijn",
    "h": "half halbes demi media meia mezza",
    "Q": "quarter",
    "E": "er",
    # lengths, areas, angles
    "l": "mm cm m km in inch inches ft foot feet yd yds yard yards zoll pouces "
    "pulgadas polegadas pollici zentimeter centimeters meter meters metre "
    "metres metros metri mtr mtrs",
    "d": "w h d wide deep high tall long breit hoch tief",
    # a number after these is part of a name
    "L": "size sizes model modell modele modelo modello no nr n num number route "
    "type typ tipo item ref sku zin serie series version style grade stage step "
    "phase level age ages vol part windows playstation area studio channel "
    "grosse gr taille talla tamanho taglia maat groesse class euro art formula "
    "code shade highway",
    # a number beside these does not measure the product
    "k": "protein sugar sugars carb carbs fat fiber fibre caffeine sodium salt thc "
    "cbd collagen trans vitamin serving servings cholesterol electrolyte "
    "electrolytes omega calories eiweiss zucker proteine proteines proteina "
    "proteinas sucres",
    "K": "makes yields capacity load limit rated rating max maximum holds supports "
    "capacite capacidad capacidade capacita tragkraft belastbar belastbarkeit traglast "
    "payload fassungsvermogen eqv equivalent equiv",
    "j": "net total added plant natural whey less weight or user up",
    "v": "dogs cats puppies kittens hunde katzen chiens chats perros gatos",
    "y": "buy leve lleva prendi compra kauf achetez koop acheter kaufe",
    "Y": "get pague paga paghi zahl payez betaal lleve gratis free kostenlos offert "
    "offerts bonus extra",
}
_CONFLICTS = {"long": "d", "extra": "a", "carton": "p", "gr": "", "lleve": "y"}
WORD_CLASS = {
    word: letter for letter, words in _CLASSES.items() for word in words.split()
} | {word: letter for word, letter in _CONFLICTS.items() if letter}

# A compound has the class of its last part: "Spülmaschinentabs", "theezakjes".
ENDINGS = {
    **dict.fromkeys(("packung", "pack", "kiste", "kasten"), "p"),
    **dict.fromkeys(("kapseln", "tabletten"), "C"),
    **dict.fromkeys(("beutel", "tucher", "tabs", "rollen", "windeln"), "c"),
    **dict.fromkeys(("zakjes", "tuten", "stabchen", "doekjes", "batterien"), "c"),
    **dict.fromkeys(("dosen", "flaschen", "flessen", "blikjes"), "b"),
}
SHORTEST_START = 3
NOT_COMPOUNDS = {"backpack", "daypack", "icepack", "jetpack", "knapsack", "unpack"}

SIZE_UNITS = {word for word, (kind, _) in UNITS.items() if kind != "count"}

# fmt: off
CARAT_WORDS = {
    "gold", "yellow", "white", "rose", "diamond", "diamonds", "tw", "ttw", "carat",
    "carats", "ring", "rings", "earrings", "necklace", "pendant", "sapphire", "ruby",
    "emerald", "gemstone", "moissanite", "solitaire", "studs", "karat", "zirconia",
    "bracelet", "jewelry", "jewellery", "oro", "solid",
}
"""Words near "ct" that show that it means carat, not count."""
ELECTRONIC_WORDS = {
    "gb", "tb", "mah", "mp", "smartphone", "phone", "mobile", "router", "modem", "wifi",
    "lte", "galaxy", "iphone", "redmi", "hotspot", "sim", "tablet", "unlocked", "pixel",
    "oneplus", "moto", "realme", "vivo", "oppo", "xiaomi", "network",
}
# fmt: on
"""Words that show that 5 g is a mobile network, not a mass."""

TEA_WORDS = {"tea", "tee", "thee", "tisane", "infusion", "rooibos"}
"""Words that show that bags are tea bags, which are pieces."""

# Containers that are sold empty, so their litres are a capacity. An amount in oz or ml
# may still be a food named after the container ("kettle chips 5 oz").
# fmt: off
HOLDERS = {
    "backpack", "rucksack", "daypack", "duffel", "duffle", "suitcase", "mochila",
    "zaino", "rugzak", "リュック", "kettle", "wasserkocher", "waterkoker", "hervidor",
    "bouilloire", "bollitore", "refrigerator", "fridge", "freezer", "kuhlschrank",
    "koelkast", "冷蔵庫", "blender", "microwave", "oven", "airfryer", "fryer",
    "crockpot", "toaster", "geyser", "humidifier", "dehumidifier", "aquarium",
    "thermos", "growler", "saucepan", "casserole", "cocotte", "stockpot", "cookware",
    "wok", "kadhai", "skillet", "wastebasket", "decanter", "carafe", "mullbeutel",
    "mullsacke", "mullsack", "vuilniszakken", "gefrierbeutel", "waschmaschine",
    "slow cooker", "pressure cooker", "rice cooker", "air fryer", "deep fryer",
    "instant pot", "cooking pot", "stock pot", "dutch oven", "water heater",
    "trash bag", "trash bags", "garbage bags", "bin bags", "bin liners",
    "sacs poubelle", "sac poubelle", "bolsas basura", "sacos lixo", "trash can",
    "garbage can", "trash bin", "dust bin", "waste bin", "pedal bin", "compost bin",
    "storage box", "storage bin", "storage container", "food container", "fish tank",
    "ice bucket", "cool box", "mixing bowl", "water dispenser", "water jug",
    "measuring jug", "lunch box", "washing machine",
}
DRINKWARE = {
    "tumbler", "travel mug", "beer mug", "water bottle", "sports bottle", "hydro flask",
    "vacuum flask", "plastic cups", "party cups", "measuring cup", "syringe",
    "syringes",
}
# fmt: on
"""Containers whose ounces and ml are a capacity too."""
WASHERS = {"washing machine", "waschmaschine"}
"""Machines whose kg are a capacity."""

# fmt: off
FOR_HOLDERS = {
    "cleaner", "descaler", "powder", "liquid", "detergent", "tablets", "filter",
    "fluid", "spray", "wipes", "deodorizer", "freshener", "salt", "soap", "reiniger",
    "entkalker", "safe", "popcorn", "rice", "meal", "meals", "mix", "pancake", "bags",
    "dinner", "ready", "pastry", "pastries", "sheets", "baked", "roasted", "pizza",
    "chips", "sauce", "sauces", "seasoning", "corn", "bars", "pops", "cooked", "oil",
    "paper", "pods", "bread", "tea", "coffee", "fries",
}
# fmt: on
"""Words after a holder that show that the holder is not the product sold."""
