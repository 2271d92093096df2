import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.text import compose_text, parse_fields
from stack.explain.phrases import split_phrases

MARKED = (
    "Item Name: Green Taco Sauce, 12 oz\n"
    "Bullet Point 1: Mild and tangy\n"
    "Bullet Point 2: No sugar\n"
    "Product Description: <p>A sauce &amp; more</p>\n"
    "Value: 72.0\n"
    "Unit: Fl Oz\n"
)


def test_each_word_of_a_short_text_is_left_out_alone():
    phrases = split_phrases(MARKED, limit=24, max_words=128)
    assert [phrase.text for phrase in phrases] == [
        *("72.0", "Fl Oz"),
        *("Green", "Taco", "Sauce,", "12", "oz"),
        *("Mild", "and", "tangy", "No", "sugar", "A", "sauce", "more"),
    ]


def test_leaving_out_a_word_keeps_every_other_field():
    whole = parse_fields(MARKED)
    found = {
        phrase.text: parse_fields(phrase.without)
        for phrase in split_phrases(MARKED, limit=24, max_words=128)
    }
    assert found["Taco"].name == "Green Sauce, 12 oz"
    assert found["Taco"].bullets == whole.bullets
    assert found["Taco"].value == 72
    assert found["sugar"].bullets == ("Mild and tangy", "No")
    assert found["sauce"].description == "A & more"
    assert found["72.0"].value is None
    assert found["72.0"].unit == "Fl Oz"
    assert found["Fl Oz"].unit == ""
    assert found["Fl Oz"].value == 72


def test_a_text_without_marks_has_its_first_line_as_name():
    text = "Blue Shirt\nOf cotton for men"
    found = {
        p.text: parse_fields(p.without)
        for p in split_phrases(text, limit=24, max_words=128)
    }
    assert list(found) == ["Blue", "Shirt", "Of", "cotton", "for", "men"]
    assert found["Blue"].name == "Shirt"
    assert found["cotton"].description == "Of for men"


def test_a_long_text_is_cut_into_few_phrases_the_name_finest():
    bullets = "\n".join(
        f"Bullet Point {n}: " + " ".join(f"b{n}w{w}" for w in range(12))
        for n in range(5)
    )
    text = "Item Name: " + " ".join(f"n{w}" for w in range(10)) + "\n" + bullets
    phrases = split_phrases(text, limit=24, max_words=128)
    assert 20 <= len(phrases) <= 24
    assert [phrase.text for phrase in phrases[:10]] == [f"n{w}" for w in range(10)]
    assert all(len(phrase.text.split()) > 1 for phrase in phrases[10:])
    for phrase in phrases[10:]:  # none crosses from one bullet point into another
        assert len({word[:2] for word in phrase.text.split()}) == 1


def test_words_that_no_encoder_reads_are_one_phrase():
    text = "Item Name: " + " ".join(f"w{n}" for n in range(30))
    phrases = split_phrases(text, limit=24, max_words=20)
    assert [phrase.text for phrase in phrases[:20]] == [f"w{n}" for n in range(20)]
    assert phrases[20].text == "w20 w21 w22 w23 w24 w25 w26 w27 w28 w29"
    assert len(phrases) == 21


def test_more_fields_than_phrases_are_left_out_together_at_the_end():
    text = "Item Name: Tea\n" + "\n".join(f"Bullet Point {n}: b{n}" for n in range(60))
    phrases = split_phrases(text, limit=24, max_words=128)
    assert len(phrases) == 24
    assert phrases[1].text == "b0"
    assert phrases[-1].text.startswith("b22 b23 ")
    assert parse_fields(phrases[-1].without).bullets == tuple(
        f"b{n}" for n in range(22)
    )
    repeated = "Item Name: Tea\n" + "Value: 3\nUnit: oz\n" * 40
    assert len(split_phrases(repeated, limit=24, max_words=128)) == 5


def test_a_word_whose_absence_would_make_a_mark_is_not_left_out():
    text = "Item Name: Tea\nBest Value: 3 bags"
    phrases = split_phrases(text, limit=24, max_words=128)
    assert "Best" not in [phrase.text for phrase in phrases]
    assert "3" in [phrase.text for phrase in phrases]


@pytest.mark.parametrize("text", ["", " \r\n ", "Item Name:", "<br> - &amp; *"])
def test_a_text_without_a_word_has_no_phrases(text):
    assert split_phrases(text, limit=24, max_words=128) == []


def test_styles_scripts_and_shortcodes_are_part_of_no_phrase():
    text = "<style>.red{a:b}</style>\nTea [vc_row]\n<!-- old -->Fine &amp;amp; black"
    phrases = split_phrases(text, limit=24, max_words=128)
    assert [phrase.text for phrase in phrases] == ["Tea", "Fine", "black"]


LINES = st.lists(
    st.sampled_from(
        [
            *("Item Name: ", "Bullet Point 3: ", "Value: ", "Unit: ", "\n", "\r\n"),
            *("Product Description:", " ", "12 oz ", "<b>", "&nbsp; ", "tea ", "é "),
        ]
    )
    | st.text(max_size=12),
    max_size=40,
).map("".join)


@settings(deadline=None)
@given(text=LINES, limit=st.integers(5, 40), max_words=st.integers(0, 30))
def test_any_text_gives_few_phrases_that_each_take_something_away(
    text, limit, max_words
):
    phrases = split_phrases(text, limit=limit, max_words=max_words)
    assert len(phrases) <= limit
    for phrase in phrases:
        assert phrase.text.strip()
        assert len(phrase.without) < len(text)
        assert compose_text(parse_fields(phrase.without))
