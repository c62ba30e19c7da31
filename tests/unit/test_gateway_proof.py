"""The proof of a message: its encoding, its signature, and the enrolment token of a gateway's key."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.gateway_proof import (
    Claim,
    GatewayKey,
    ProofError,
    enrolment_token,
    gateway_id_of,
    needs_proof,
    read_proof,
    read_public_key,
    token_holds,
)

KEY = GatewayKey(bytes(range(32)))
OTHER = GatewayKey(bytes(range(1, 33)))
CLAIM = Claim("events", KEY.gateway_id, 7, 2, b"[{},\n{}]")
SECRET = b"s" * 32

CLAIMS = st.builds(
    Claim,
    st.sampled_from(("events", "status")),
    st.from_regex("[!-~]{1,200}", fullmatch=True),
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    st.binary(max_size=40),
)


def test_a_proof_of_what_was_sent_holds() -> None:
    proof = read_proof(KEY.proof(CLAIM))
    assert proof is not None
    assert proof.holds(CLAIM)
    assert proof.token is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "status"},
        {"gateway_id": OTHER.gateway_id},
        {"gateway_id": KEY.gateway_id[:-1]},
        {"first_seq": 8},
        {"events": 3},
        {"body": b"[{},\n{ }]"},
        {"body": b""},
    ],
)
def test_a_claim_with_any_field_altered_is_not_proved(change: dict[str, object]) -> None:
    proof = read_proof(KEY.proof(CLAIM))
    assert proof is not None
    assert not proof.holds(replace(CLAIM, **change))  # type: ignore[arg-type] # each is of its field's type


def test_a_proof_by_another_key_does_not_hold() -> None:
    """Neither as it is, nor with the public key of the gateway that it claims."""
    proof = read_proof(OTHER.proof(CLAIM))
    assert proof is not None
    assert not proof.holds(CLAIM)
    assert not replace(proof, public_key=KEY.public_key).holds(CLAIM)


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_an_altered_signature_does_not_hold(place: int) -> None:
    proof = read_proof(KEY.proof(CLAIM))
    assert proof is not None
    altered = bytearray(proof.signature)
    altered[place] ^= 1
    assert not replace(proof, signature=bytes(altered)).holds(CLAIM)


@given(CLAIMS, CLAIMS)
def test_different_claims_have_different_encodings(one: Claim, other: Claim) -> None:
    assert (one.signed_bytes() == other.signed_bytes()) is (one == other)


def test_the_encoding_and_the_id_are_those_of_version_1() -> None:
    """A change of either shuts out every gateway and message of before."""
    assert (
        CLAIM.signed_bytes().hex()
        == (
            "7072656465636972206576656e747320763100"  # the domain
            "0020" + KEY.gateway_id.encode().hex() + "0000000000000007"
            "0000000000000002"
            "78baebe5cb5cc51b6ed74e56170ee117b7ed0ca376f1e9592d689c05f230c8b8"  # SHA-256 of the body
        )
    )
    assert KEY.gateway_id == "c42f690e15e8f304394686ed00846548"


def test_an_id_of_an_earlier_version_needs_no_proof() -> None:
    assert needs_proof(KEY.gateway_id)
    assert not needs_proof(str(uuid.uuid4()))
    assert not needs_proof("g1")


def test_a_key_is_the_same_after_it_was_stored() -> None:
    key = GatewayKey.generate()
    again = GatewayKey(key.private_bytes())
    assert (again.gateway_id, again.public_key) == (key.gateway_id, key.public_key)
    assert key.gateway_id == gateway_id_of(key.public_key) != GatewayKey.generate().gateway_id


def test_a_token_holds_for_its_key_and_secret_alone() -> None:
    proof = read_proof(KEY.proof(CLAIM, SECRET))
    assert proof is not None
    assert proof.token is not None
    assert proof.token == enrolment_token(SECRET, KEY.public_key)
    assert token_holds(SECRET, KEY.public_key, proof.token)
    assert not token_holds(SECRET, OTHER.public_key, proof.token)
    assert not token_holds(b"t" * 32, KEY.public_key, proof.token)


def test_headers_without_a_proof_have_none() -> None:
    assert read_proof({"gateway-id": "g1"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public-key", None),
        ("public-key", "00" * 31),
        ("public-key", "00" * 33),
        ("public-key", b"\0" * 32),
        ("public-key", "zz" * 32),
        ("signature", None),
        ("signature", "AB" * 64),
        ("signature", 5),
        ("enrolment", ""),
        ("enrolment", ["00" * 32]),
    ],
)
def test_a_malformed_proof_raises_its_header(name: str, value: object) -> None:
    headers: dict[str, object] = dict(KEY.proof(CLAIM, SECRET))
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(ProofError, match=name):
        read_proof(headers)


def test_a_text_that_is_no_public_key_is_rejected() -> None:
    assert read_public_key(KEY.public_key.hex()) == KEY.public_key
    with pytest.raises(ProofError, match="64 hexadecimal digits"):
        read_public_key("pdk_none")
