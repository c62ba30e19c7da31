"""Properties of AMQP messages that the client cannot decode: the message is read without properties.

The client itself closes the connection at such a message. The broker would then deliver it again, to every recorder,
and nothing behind it would be recorded.
"""

import struct
from collections.abc import Callable

from pamqp.commands import Basic
from pamqp.header import ContentHeader

LARGEST_PROPERTIES = 1 << 14
"""Bytes of the properties that are decoded; a gateway's message has less than a kilobyte."""
_BODY_SIZE = struct.Struct(">HHQ")
_Decode = Callable[[ContentHeader, bytes], None]


def read_any_properties() -> None:
    """Replace the client's decoder in this process: properties that cannot be decoded are read as none."""
    if ContentHeader.unmarshal is not _unmarshal:
        ContentHeader.unmarshal = _unmarshal  # type: ignore[method-assign,assignment]  # the client has no place for a decoder


def tolerant(decode: _Decode) -> _Decode:
    """Return a decoder of content headers that leaves out all properties if `decode` fails, or they are too long."""

    def unmarshal(header: ContentHeader, data: bytes) -> None:
        if len(data) <= LARGEST_PROPERTIES:
            try:
                decode(header, data)
                header.properties.validate()
            except Exception:  # noqa: BLE001, S110 - whatever is raised, the sender chose the bytes
                pass
            else:
                return
        header.class_id, header.weight, header.body_size = _BODY_SIZE.unpack(data[: _BODY_SIZE.size])
        header.properties = Basic.Properties()

    return unmarshal


_unmarshal = tolerant(ContentHeader.unmarshal)
