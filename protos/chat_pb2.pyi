from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]
    ROLE_TOOL: _ClassVar[Role]

class ContentShape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTENT_SHAPE_UNSPECIFIED: _ClassVar[ContentShape]
    CONTENT_SHAPE_TEXT: _ClassVar[ContentShape]
    CONTENT_SHAPE_PARTS: _ClassVar[ContentShape]
    CONTENT_SHAPE_NULL: _ClassVar[ContentShape]
    CONTENT_SHAPE_ABSENT: _ClassVar[ContentShape]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_READY: _ClassVar[WorkerState]
    WORKER_STATE_DRAINING: _ClassVar[WorkerState]
    WORKER_STATE_LEFT: _ClassVar[WorkerState]

class LeaveCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEAVE_CAUSE_UNSPECIFIED: _ClassVar[LeaveCause]
    LEAVE_CAUSE_CLOSED: _ClassVar[LeaveCause]
    LEAVE_CAUSE_SILENT: _ClassVar[LeaveCause]
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
ROLE_TOOL: Role
CONTENT_SHAPE_UNSPECIFIED: ContentShape
CONTENT_SHAPE_TEXT: ContentShape
CONTENT_SHAPE_PARTS: ContentShape
CONTENT_SHAPE_NULL: ContentShape
CONTENT_SHAPE_ABSENT: ContentShape
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_READY: WorkerState
WORKER_STATE_DRAINING: WorkerState
WORKER_STATE_LEFT: WorkerState
LEAVE_CAUSE_UNSPECIFIED: LeaveCause
LEAVE_CAUSE_CLOSED: LeaveCause
LEAVE_CAUSE_SILENT: LeaveCause

class Image(_message.Message):
    __slots__ = ("url", "data", "media_type", "detail")
    URL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    url: str
    data: bytes
    media_type: str
    detail: str
    def __init__(self, url: _Optional[str] = ..., data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ContentPart(_message.Message):
    __slots__ = ("text", "image", "other", "extra")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    text: str
    image: Image
    other: str
    extra: str
    def __init__(self, text: _Optional[str] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., other: _Optional[str] = ..., extra: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "name", "arguments", "index", "extra")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    index: int
    extra: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ..., index: _Optional[int] = ..., extra: _Optional[str] = ...) -> None: ...

class ToolResult(_message.Message):
    __slots__ = ("call_id", "name", "content", "is_error")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    content: str
    is_error: bool
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ..., content: _Optional[str] = ..., is_error: bool = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "source", "content", "tool_calls", "tool_results", "extra", "shape")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULTS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    role: Role
    source: str
    content: _containers.RepeatedCompositeFieldContainer[ContentPart]
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    tool_results: _containers.RepeatedCompositeFieldContainer[ToolResult]
    extra: str
    shape: ContentShape
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., source: _Optional[str] = ..., content: _Optional[_Iterable[_Union[ContentPart, _Mapping]]] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., tool_results: _Optional[_Iterable[_Union[ToolResult, _Mapping]]] = ..., extra: _Optional[str] = ..., shape: _Optional[_Union[ContentShape, str]] = ...) -> None: ...

class Tool(_message.Message):
    __slots__ = ("name", "description", "parameters", "strict", "extra", "other")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: str
    strict: bool
    extra: str
    other: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[str] = ..., strict: bool = ..., extra: _Optional[str] = ..., other: _Optional[str] = ...) -> None: ...

class ChatOptions(_message.Message):
    __slots__ = ("tools", "tool_choice", "response_format", "extra", "other")
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    tool_choice: str
    response_format: str
    extra: str
    other: str
    def __init__(self, tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., response_format: _Optional[str] = ..., extra: _Optional[str] = ..., other: _Optional[str] = ...) -> None: ...

class ChatHistory(_message.Message):
    __slots__ = ("request_id", "attempt", "reply_to", "model", "messages", "options", "deadline", "traceparent", "endpoint", "body", "tracestate", "sent_by")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempt: int
    reply_to: str
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    options: ChatOptions
    deadline: _duration_pb2.Duration
    traceparent: str
    endpoint: str
    body: bytes
    tracestate: str
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., attempt: _Optional[int] = ..., reply_to: _Optional[str] = ..., model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., options: _Optional[_Union[ChatOptions, _Mapping]] = ..., deadline: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., traceparent: _Optional[str] = ..., endpoint: _Optional[str] = ..., body: _Optional[bytes] = ..., tracestate: _Optional[str] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class CancelChat(_message.Message):
    __slots__ = ("request_id", "reason", "attempt", "reply_to", "sent_by")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reason: str
    attempt: int
    reply_to: str
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., reason: _Optional[str] = ..., attempt: _Optional[int] = ..., reply_to: _Optional[str] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("request_id", "attempt", "consumed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempt: int
    consumed: int
    def __init__(self, request_id: _Optional[str] = ..., attempt: _Optional[int] = ..., consumed: _Optional[int] = ...) -> None: ...

class ChunkAck(_message.Message):
    __slots__ = ("gateway_id", "epoch", "received", "credits", "complete", "counts_all", "asked_at", "sent_by")
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_ALL_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    epoch: int
    received: int
    credits: _containers.RepeatedCompositeFieldContainer[Credit]
    complete: bool
    counts_all: bool
    asked_at: float
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, gateway_id: _Optional[str] = ..., epoch: _Optional[int] = ..., received: _Optional[int] = ..., credits: _Optional[_Iterable[_Union[Credit, _Mapping]]] = ..., complete: bool = ..., counts_all: bool = ..., asked_at: _Optional[float] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "extra")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    extra: str
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., extra: _Optional[str] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Done(_message.Message):
    __slots__ = ("finish_reason", "usage", "reason")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    finish_reason: str
    usage: Usage
    reason: str
    def __init__(self, finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retryable", "retry_after", "usage", "provider", "full")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    retry_after: _duration_pb2.Duration
    usage: Usage
    provider: ProviderError
    full: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., provider: _Optional[_Union[ProviderError, _Mapping]] = ..., full: _Optional[str] = ...) -> None: ...

class ProviderError(_message.Message):
    __slots__ = ("status", "code", "type", "param", "extra")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PARAM_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    status: int
    code: str
    type: str
    param: str
    extra: str
    def __init__(self, status: _Optional[int] = ..., code: _Optional[str] = ..., type: _Optional[str] = ..., param: _Optional[str] = ..., extra: _Optional[str] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("reason", "usage")
    REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    usage: Usage
    def __init__(self, reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class MessageMark(_message.Message):
    __slots__ = ("id", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: str
    end: bool
    def __init__(self, id: _Optional[str] = ..., end: bool = ...) -> None: ...

class Handoff(_message.Message):
    __slots__ = ("target", "content")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    target: str
    content: str
    def __init__(self, target: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("id", "content")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: str
    def __init__(self, id: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Custom(_message.Message):
    __slots__ = ("kind", "json")
    KIND_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    json: str
    def __init__(self, kind: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class Fields(_message.Message):
    __slots__ = ("json", "cut", "beside")
    JSON_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    json: str
    cut: bool
    beside: bool
    def __init__(self, json: _Optional[str] = ..., cut: bool = ..., beside: bool = ...) -> None: ...

class ReplyEvent(_message.Message):
    __slots__ = ("request_id", "attempt", "accepted", "text", "reasoning", "tool_call", "done", "error", "cancelled", "logprobs", "tool_result", "message", "handoff", "approval", "custom", "usage", "fields", "tokens", "position", "source", "extra")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HANDOFF_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempt: int
    accepted: Accepted
    text: str
    reasoning: str
    tool_call: ToolCall
    done: Done
    error: Error
    cancelled: Cancelled
    logprobs: str
    tool_result: ToolResult
    message: MessageMark
    handoff: Handoff
    approval: Approval
    custom: Custom
    usage: Usage
    fields: Fields
    tokens: int
    position: int
    source: str
    extra: str
    def __init__(self, request_id: _Optional[str] = ..., attempt: _Optional[int] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., text: _Optional[str] = ..., reasoning: _Optional[str] = ..., tool_call: _Optional[_Union[ToolCall, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., logprobs: _Optional[str] = ..., tool_result: _Optional[_Union[ToolResult, _Mapping]] = ..., message: _Optional[_Union[MessageMark, _Mapping]] = ..., handoff: _Optional[_Union[Handoff, _Mapping]] = ..., approval: _Optional[_Union[Approval, _Mapping]] = ..., custom: _Optional[_Union[Custom, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., fields: _Optional[_Union[Fields, _Mapping]] = ..., tokens: _Optional[int] = ..., position: _Optional[int] = ..., source: _Optional[str] = ..., extra: _Optional[str] = ...) -> None: ...

class ChunkBatch(_message.Message):
    __slots__ = ("worker_id", "epoch", "number", "base", "events", "quiet", "asked_at", "sent_by")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    QUIET_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    epoch: int
    number: int
    base: int
    events: _containers.RepeatedCompositeFieldContainer[ReplyEvent]
    quiet: bool
    asked_at: float
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., epoch: _Optional[int] = ..., number: _Optional[int] = ..., base: _Optional[int] = ..., events: _Optional[_Iterable[_Union[ReplyEvent, _Mapping]]] = ..., quiet: bool = ..., asked_at: _Optional[float] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class Endpoints(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class Details(_message.Message):
    __slots__ = ("description", "concurrency", "active_by_gateway", "server")
    class ActiveByGatewayEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_BY_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    description: str
    concurrency: int
    active_by_gateway: _containers.ScalarMap[str, int]
    server: int
    def __init__(self, description: _Optional[str] = ..., concurrency: _Optional[int] = ..., active_by_gateway: _Optional[_Mapping[str, int]] = ..., server: _Optional[int] = ...) -> None: ...

class Failing(_message.Message):
    __slots__ = ("name", "endpoint", "code", "since", "trial")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    endpoint: str
    code: str
    since: _duration_pb2.Duration
    trial: bool
    def __init__(self, name: _Optional[str] = ..., endpoint: _Optional[str] = ..., code: _Optional[str] = ..., since: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., trial: bool = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("worker_id", "models", "capacity", "active", "state", "version", "active_by_gateway", "started_total", "routes", "endpoints", "details", "failing", "sent_by")
    class ActiveByGatewayEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class EndpointsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Endpoints
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Endpoints, _Mapping]] = ...) -> None: ...
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Details
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Details, _Mapping]] = ...) -> None: ...
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_BY_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    STARTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    FAILING_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    models: _containers.RepeatedScalarFieldContainer[str]
    capacity: int
    active: int
    state: WorkerState
    version: str
    active_by_gateway: _containers.ScalarMap[str, int]
    started_total: int
    routes: _containers.RepeatedScalarFieldContainer[int]
    endpoints: _containers.MessageMap[str, Endpoints]
    details: _containers.MessageMap[str, Details]
    failing: _containers.RepeatedCompositeFieldContainer[Failing]
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., capacity: _Optional[int] = ..., active: _Optional[int] = ..., state: _Optional[_Union[WorkerState, str]] = ..., version: _Optional[str] = ..., active_by_gateway: _Optional[_Mapping[str, int]] = ..., started_total: _Optional[int] = ..., routes: _Optional[_Iterable[int]] = ..., endpoints: _Optional[_Mapping[str, Endpoints]] = ..., details: _Optional[_Mapping[str, Details]] = ..., failing: _Optional[_Iterable[_Union[Failing, _Mapping]]] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class GatewayStatus(_message.Message):
    __slots__ = ("gateway_id", "version", "draining", "in_flight", "requests_total", "waiting", "sent_by")
    class WaitingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    version: str
    draining: bool
    in_flight: int
    requests_total: int
    waiting: _containers.ScalarMap[str, int]
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, gateway_id: _Optional[str] = ..., version: _Optional[str] = ..., draining: bool = ..., in_flight: _Optional[int] = ..., requests_total: _Optional[int] = ..., waiting: _Optional[_Mapping[str, int]] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...

class MemberLeft(_message.Message):
    __slots__ = ("member_id", "kind", "cause", "sent_by")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    SENT_BY_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    kind: str
    cause: LeaveCause
    sent_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, member_id: _Optional[str] = ..., kind: _Optional[str] = ..., cause: _Optional[_Union[LeaveCause, str]] = ..., sent_by: _Optional[_Iterable[str]] = ...) -> None: ...
