"""One subscription of a member."""

from typing import NamedTuple

from autogen_ext.runtimes.grpc.protos import agent_worker_pb2

from host.roles import Rights


class Subscription(NamedTuple):
    """What it listens to: one topic, or all that begin with it."""

    topic: str
    is_prefix: bool
    agent_type: str

    @classmethod
    def parse(cls, message: agent_worker_pb2.Subscription) -> "Subscription":
        """From AutoGen's message. Raises ``ValueError``."""
        match message.WhichOneof("subscription"):
            case "typeSubscription":
                exact = message.typeSubscription
                return cls(exact.topic_type, False, exact.agent_type)
            case "typePrefixSubscription":
                prefix = message.typePrefixSubscription
                return cls(prefix.topic_type_prefix, True, prefix.agent_type)
        raise ValueError("the subscription is of no known kind")

    def message(self, subscription_id: str) -> agent_worker_pb2.Subscription:
        """As AutoGen's message."""
        message = agent_worker_pb2.Subscription(id=subscription_id)
        if self.is_prefix:
            message.typePrefixSubscription.topic_type_prefix = self.topic
            message.typePrefixSubscription.agent_type = self.agent_type
        else:
            message.typeSubscription.topic_type = self.topic
            message.typeSubscription.agent_type = self.agent_type
        return message

    def is_allowed(self, rights: Rights, member_id: str) -> bool:
        """Whether a member with these rights and this id may have it."""
        if self.is_prefix:
            return rights.may_listen_to_all(self.topic)
        return rights.may_listen(self.topic, member_id)
