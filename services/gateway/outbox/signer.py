"""Signer: proves the messages of this gateway, with the key pairs in its outbox."""

from collections.abc import Mapping

from shared.contracts.gateway_proof import Claim, GatewayKey


class Signer:
    """Signs for the gateway ids in `keys`, which an outbox fills when it is open."""

    def __init__(self, enrolment_secret: bytes | None = None) -> None:
        """Add an enrolment token to each proof, if there is a secret."""
        self._secret = enrolment_secret
        self.keys: Mapping[str, GatewayKey] = {}

    def proof(self, claim: Claim) -> dict[str, str]:
        """Return the headers that prove `claim`; none for an id of an earlier version, which has no key."""
        key = self.keys.get(claim.gateway_id)
        return {} if key is None else key.proof(claim, self._secret)
