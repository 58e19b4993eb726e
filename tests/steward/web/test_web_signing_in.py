"""Signing in and out."""

import pytest
from django.test import Client

from steward.accounts import actions
from steward.accounts.models import SignInLink, User
from steward.audit.actor import Actor

PASSWORD = "correct horse battery"
DOOR = Actor.system("tests")


@pytest.fixture
def person(db: None) -> User:
    user = actions.create_user(actor=DOOR, username="ana", display_name="Ana Lopez")
    user.set_password(PASSWORD)
    user.save()
    return user


def test_a_password_signs_in(client: Client, person: User) -> None:
    answer = client.post("/sign-in/", {"username": "ana", "password": PASSWORD}, REMOTE_ADDR="127.0.0.1")
    assert answer.status_code == 302
    assert client.get("/").status_code == 200


def test_a_wrong_password_says_so_and_no_more(client: Client, person: User) -> None:
    answer = client.post("/sign-in/", {"username": "ana", "password": "wrong"})
    assert "do not fit together" in answer.text
    assert "do not fit together" in client.post("/sign-in/", {"username": "nobody", "password": "wrong"}).text
    assert client.get("/").status_code == 302


def test_a_preview_of_a_link_does_not_spend_it(client: Client, person: User) -> None:
    token = actions.create_sign_in_link(actor=DOOR, user=person)
    address = f"/sign-in/link/{token}/"
    for _ in range(3):
        assert client.get(address).status_code == 200
    assert SignInLink.objects.get(user=person).used_at is None
    assert client.post(address).url == "/"
    assert client.get("/").status_code == 200


def test_a_spent_link_is_refused_in_words(person: User) -> None:
    address = f"/sign-in/link/{actions.create_sign_in_link(actor=DOOR, user=person)}/"
    Client().post(address)
    again = Client().post(address)
    assert again.status_code == 403
    assert "was used or has expired" in again.text


def test_signing_out_ends_the_session(client: Client, person: User) -> None:
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/sign-out/").status_code == 405
    client.post("/sign-out/")
    assert client.get("/").url.startswith("/sign-in/")


def test_nobody_is_led_away_from_the_house_after_signing_in(client: Client, person: User) -> None:
    given = {"username": "ana", "password": PASSWORD, "next": "https://elsewhere.example/"}
    assert client.post("/sign-in/", given).url == "/"
