"""Trust: which messages of the broker are believed to come from the gateway that they name.

The enrolled keys are kept in memory and read again every few seconds, so that a message needs no query.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from services.recorder.db.database import DATABASE_ERRORS, reason
from services.recorder.enrolment.keys import BY_SECRET, EnrolmentError, enrol, read_standing
from shared.contracts.gateway_proof import Claim, Proof, ProofError, needs_proof, read_proof, token_holds

REFRESH_SECONDS = 5
"""How long a running recorder may take to notice a gateway that a command enrolled or revoked."""
_MOST_LOGGED = 1000
"""Gateways and reasons; a publisher may invent as many as it likes."""
T = TypeVar("T")
_log = structlog.get_logger()


class Writing(Protocol):
    """The store, or the writer of a command."""

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and return its result."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The rules for messages without an enrolled key.

    With `secret`, up to `most_gateways` with a token by it are enrolled by their first message. `unsigned`: messages
    of gateways of earlier versions, whose ids have no key, are believed without a proof.
    """

    secret: bytes | None = None
    most_gateways: int = 100
    unsigned: bool = False


class GatewayTrust:
    """Checks the proofs of messages."""

    def __init__(self, policy: TrustPolicy, writer: Writing) -> None:
        """Apply `policy`; new gateways are enrolled through `writer`."""
        self._policy, self._writer = policy, writer
        self._enrolled: frozenset[str] = frozenset()
        self._revoked: frozenset[str] = frozenset()
        self._failure: str | None = None
        self._logged: set[tuple[str, str, str]] = set()

    async def refresh(self, readers: AsyncEngine) -> None:
        """Read the enrolled keys; if the database cannot be read, the known ones stay."""
        try:
            standing = await read_standing(readers)
        except DATABASE_ERRORS as error:
            if self._failure is None:
                _log.warning("gateway_keys_not_read", reason=reason(error))
            self._failure = reason(error)
            return
        self._failure = None
        if standing != (self._enrolled, self._revoked):
            self._enrolled, self._revoked = standing
            self._logged.clear()

    async def follow(self, readers: AsyncEngine) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh(readers)

    def log_policy(self) -> None:
        """Log what is believed; a warning if that is nothing."""
        policy, enrolled = self._policy, len(self._enrolled)
        log = _log.info if enrolled or policy.secret or policy.unsigned else _log.warning
        log(
            "gateways_believed",
            enrolled=enrolled,
            revoked=len(self._revoked),
            by_secret=policy.secret is not None,
            unsigned=policy.unsigned,
        )

    async def examine(self, claim: Claim, headers: Mapping[str, object]) -> str | None:
        """Return the `objection` to a message, or None, and log it.

        A reason is logged once for events and for reports of a gateway, until other gateways are enrolled or revoked.

        Raises:
            TransportDownError: a new gateway cannot be enrolled now.

        """
        objection = await self.objection(claim, headers)
        if objection is not None and len(self._logged) < _MOST_LOGGED:
            entry = claim.gateway_id, claim.kind, objection
            if entry not in self._logged:
                _log.warning("messages_not_believed", gateway_id=claim.gateway_id, kind=claim.kind, reason=objection)
                self._logged.add(entry)
        return objection

    async def objection(self, claim: Claim, headers: Mapping[str, object]) -> str | None:
        """Return why the message of `claim` is not believed, or None; enrol its gateway if its token holds.

        Raises:
            TransportDownError: a new gateway cannot be enrolled now.

        """
        try:
            proof = read_proof(headers)
        except ProofError as error:
            return str(error)
        if proof is None:
            return self._objection_to_unsigned(claim.gateway_id)
        if claim.gateway_id in self._revoked:
            return "its gateway is revoked"
        if not proof.holds(claim):
            return "its signature is not by its gateway"
        return None if claim.gateway_id in self._enrolled else await self._enrol(claim.gateway_id, proof)

    def _objection_to_unsigned(self, gateway_id: str) -> str | None:
        if needs_proof(gateway_id):
            return "it has no signature"
        return None if self._policy.unsigned else "it has no signature (RECORDER_UNSIGNED_MESSAGES is off)"

    async def _enrol(self, gateway_id: str, proof: Proof) -> str | None:
        policy = self._policy
        if policy.secret is None or proof.token is None:
            return "its gateway is unknown"
        if not token_holds(policy.secret, proof.public_key, proof.token):
            return "its gateway is unknown, and its enrolment token is wrong"
        if len(self._enrolled) >= policy.most_gateways:  # no transaction for each message beyond it
            return f"its gateway is unknown, and {len(self._enrolled)} are enrolled (RECORDER_MAX_GATEWAYS)"
        work = partial(
            enrol,
            public_key=proof.public_key,
            origin=BY_SECRET,
            now=datetime.now(UTC),
            limit=policy.most_gateways,
        )
        try:
            new = await self._writer.transaction(work)
        except EnrolmentError as error:
            return str(error)
        if new:
            _log.info("gateway_enrolled", gateway_id=gateway_id, public_key=proof.public_key.hex(), by=BY_SECRET)
        self._enrolled |= {gateway_id}
        return None
