import json
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Any

from tunesmith.data.leakage import gram_sets, nearest
from tunesmith.data.support import SUPPORT
from tunesmith.data.wording import normalised

FIELDS = ["id", "customer", "trade", "dialogue", "summary", "intent", "sentiment", "stars", "entities"]
INTENTS = {
    *("information request", "order status", "booking change", "cancellation", "refund", "billing"),
    *("technical problem", "account access", "damaged or wrong item", "complaint", "fraud or loss", "feedback"),
}
TYPES = {"person", "organization", "product", "place", "date", "time", "money", "reference", "contact"}
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@cache
def chats() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SUPPORT.read_text("utf-8").splitlines()]


def test_there_are_at_least_400_chats_of_20_trades_with_ids_of_their_own():
    assert len(chats()) >= 400
    assert len({chat["trade"] for chat in chats()}) >= 20
    assert len({chat["id"] for chat in chats()}) == len(chats())
    assert [chat["id"] for chat in chats() if not re.fullmatch(f"{chat['trade']}-[0-9]{{3}}", chat["id"])] == []


def test_every_chat_has_all_fields_as_text_number_and_list():
    kinds = {**dict.fromkeys(FIELDS, str), "stars": int, "entities": list}
    for chat in chats():
        assert list(chat) == FIELDS
        assert {name: type(chat[name]) for name in FIELDS} == kinds
        assert all(chat[name] for name in FIELDS if name != "entities"), chat["id"]


def test_a_dialogue_has_4_to_20_turns_of_customer_and_agent():
    for chat in chats():
        turns = chat["dialogue"].split("\n")
        assert 4 <= len(turns) <= 20, chat["id"]
        assert [turn for turn in turns if not re.match(r"(Customer|Agent): \S", turn)] == []


def test_labels_come_from_closed_sets_and_each_is_used():
    assert {chat["intent"] for chat in chats()} == INTENTS
    assert {chat["sentiment"] for chat in chats()} == {"negative", "neutral", "positive"}
    assert {chat["stars"] for chat in chats()} == {1, 2, 3, 4, 5}
    rarest = Counter(chat["intent"] for chat in chats()).most_common()[-1]
    assert rarest[1] >= 15, rarest


def test_every_entity_stands_in_its_dialogue_once_in_the_list_and_has_a_type():
    for chat in chats():
        texts = [entity["text"] for entity in chat["entities"]]
        assert [text for text in texts if text not in chat["dialogue"]] == [], chat["id"]
        assert len(set(texts)) == len(texts), chat["id"]
        assert {entity["type"] for entity in chat["entities"]} <= TYPES
        assert all(set(entity) == {"text", "type"} for entity in chat["entities"])


def test_some_customers_come_back():
    counted = Counter(chat["customer"] for chat in chats())
    assert sum(count > 1 for count in counted.values()) >= 30


def test_no_two_chats_are_alike():
    everything = range(len(chats()))
    for field in ("dialogue", "summary"):
        texts = [normalised(chat[field]) for chat in chats()]
        assert len(set(texts)) == len(texts)
        assert nearest(gram_sets(texts), probes=everything, indexed=everything, similarity=0.2) == {}


def test_every_number_of_a_summary_stands_in_its_dialogue():
    invented = {
        chat["id"]: missing
        for chat in chats()
        if (missing := set(NUMBER.findall(chat["summary"])) - set(NUMBER.findall(chat["dialogue"])))
    }
    assert invented == {}


def test_addresses_and_numbers_for_contact_are_reserved_ones():
    for chat in chats():
        mails = re.findall(r"\S+@(\S+?)[.,;:!?)]*(?:\s|$)", chat["dialogue"])
        assert [mail for mail in mails if not re.fullmatch(r"example\.(com|org|net)", mail)] == [], chat["id"]
        phones = re.findall(r"\b555-\d{4}\b", chat["dialogue"])
        assert [phone for phone in phones if not phone.startswith("555-01")] == [], chat["id"]


def test_the_data_card_says_what_the_file_holds():
    card = " ".join((files("tunesmith.data.support") / "README.md").read_text("utf-8").split())
    trades = sorted({chat["trade"] for chat in chats()})
    customers = Counter(chat["customer"] for chat in chats())
    back = sum(count > 1 for count in customers.values())
    words = sum(len(chat["dialogue"].split()) for chat in chats()) / len(chats())
    in_summary = sum(len(chat["summary"].split()) for chat in chats()) / len(chats())
    for fact in (
        f"{len(chats())} chats",
        f"in {len(trades)} trades",
        f"| {', '.join(trades)} |",
        f"{back} of the {len(customers)} customers",
        f"{words:.0f} words on average",
        f"{in_summary:.0f} words on average",
        f"one of {len(INTENTS)}: {', '.join(sorted(INTENTS))}",
        f"{sum(not chat['entities'] for chat in chats())} chats have none",
        *(f"`{name}`" for name in FIELDS),
    ):
        assert fact in card, fact
