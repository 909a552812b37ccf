"""Events as AutoGen's runtime carries them, and the same as frames of the relay."""

from autogen_core import PROTOBUF_DATA_CONTENT_TYPE, AgentId, TopicId
from autogen_ext.runtimes.grpc import _constants as attribute
from autogen_ext.runtimes.grpc.protos import cloudevent_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from fleet.bus import relay, topics

TYPE_URL = "type.googleapis.com/"
"""Before a message's full name, in the events that carry it."""


def event(message: Message, topic: TopicId, event_id: str, sender: AgentId | None = None) -> cloudevent_pb2.CloudEvent:
    """``message`` as the event that AutoGen's runtime carries (its PROTOBUF payload format)."""
    payload = any_pb2.Any()
    payload.Pack(message)
    return _cloud_event(payload, message.DESCRIPTOR.full_name, topic.type, topic.source, event_id, sender)


def _cloud_event(
    payload: any_pb2.Any, name: str, topic_type: str, source: str, event_id: str, sender: AgentId | None
) -> cloudevent_pb2.CloudEvent:
    value = cloudevent_pb2.CloudEvent.CloudEventAttributeValue
    return cloudevent_pb2.CloudEvent(
        id=event_id,
        spec_version="1.0",
        type=topic_type,
        source=source,
        attributes={
            attribute.DATA_CONTENT_TYPE_ATTR: value(ce_string=PROTOBUF_DATA_CONTENT_TYPE),
            attribute.DATA_SCHEMA_ATTR: value(ce_string=name),
            attribute.AGENT_SENDER_TYPE_ATTR: value(ce_string=sender.type if sender else "unknown"),
            attribute.AGENT_SENDER_KEY_ATTR: value(ce_string=sender.key if sender else "unknown"),
            attribute.MESSAGE_KIND_ATTR: value(ce_string=attribute.MESSAGE_KIND_VALUE_PUBLISH),
        },
        proto_data=payload,
    )


def event_of(frame: bytes) -> cloudevent_pb2.CloudEvent:
    """The event that came as a frame of the relay. Raises ``ValueError``."""
    topic, name, payload = relay.unpack(frame)
    return _cloud_event(
        any_pb2.Any(type_url=TYPE_URL + name, value=payload), name, topic, topics.SOURCE, "relayed", None
    )


def fits_a_frame(cloud_event: cloudevent_pb2.CloudEvent) -> bool:
    """Whether the relay can carry an event: one such as ours, not every one that AutoGen knows."""
    return (
        cloud_event.HasField("proto_data")
        and cloud_event.source == topics.SOURCE
        and relay.fits(cloud_event.type, cloud_event.proto_data.type_url.removeprefix(TYPE_URL))
    )


def packed(cloud_event: cloudevent_pb2.CloudEvent) -> bytes:
    """An event as a frame of the relay, if it fits."""
    payload = cloud_event.proto_data
    return relay.pack_bytes(cloud_event.type, payload.type_url.removeprefix(TYPE_URL), payload.value)
