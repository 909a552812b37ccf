"""Streams as Claude's API sends them, byte for byte: event names, pings between events, blanks after colons."""

HEAD = b"""\
event: message_start
data: {"type":"message_start","message":{"model":"claude-opus-5-5","id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":300,"cache_read_input_tokens":2000,"cache_creation":{"ephemeral_5m_input_tokens":300,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard","inference_geo":"global"}}      }

"""  # noqa: E501

PING = b"""\
event: ping
data: {"type": "ping"}

"""

TEXT_START = b"""\
event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}           }

"""

TEXT = (
    HEAD
    + TEXT_START
    + PING
    + b"""\
event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}        }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":", \\u00fcbrigens \\ud83d\\ude00"}     }

event: content_block_stop
data: {"type":"content_block_stop","index":0  }

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null},"usage":{"input_tokens":25,"cache_creation_input_tokens":300,"cache_read_input_tokens":2000,"output_tokens":15,"output_tokens_details":{"thinking_tokens":0}}   }

event: message_stop
data: {"type":"message_stop"     }

"""  # noqa: E501
)

THINKING = (
    HEAD
    + b"""\
event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""} }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"The user wants"} }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" the weather."}    }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"}  }

event: content_block_stop
data: {"type":"content_block_stop","index":0             }

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP"}     }

event: content_block_stop
data: {"type":"content_block_stop","index":1 }

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}  }

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Checking."}   }

event: content_block_stop
data: {"type":"content_block_stop","index":2       }

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","name":"get_weather","input":{},"caller":{"type":"direct"}}              }

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}       }

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\\"location\\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":" \\"San Francisco, CA\\"}"}   }

event: content_block_stop
data: {"type":"content_block_stop","index":3      }

event: content_block_start
data: {"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_01VY","name":"get_time","input":{},"caller":{"type":"direct"}}   }

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}    }

event: content_block_stop
data: {"type":"content_block_stop","index":4          }

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null,"stop_details":null},"usage":{"output_tokens":89,"output_tokens_details":{"thinking_tokens":30}} }

event: message_stop
data: {"type":"message_stop"         }

"""  # noqa: E501
)

SEARCH = (
    HEAD
    + TEXT_START
    + b"""\
event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"I'll check."} }

event: content_block_stop
data: {"type":"content_block_stop","index":0 }

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_014hJH82","name":"web_search","input":{}} }

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"query\\": \\"weather"} }

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" NYC\\"}"} }

event: content_block_stop
data: {"type":"content_block_stop","index":1 }

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_014hJH82","content":[{"type":"web_search_result","title":"Weather","url":"https://weather.example/","encrypted_content":"Ev0DCioIAxgC","page_age":null}]} }

event: content_block_stop
data: {"type":"content_block_stop","index":2 }

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"text","text":"","citations":[]} }

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"Sunny","url":"https://weather.example/","title":"Weather","encrypted_index":"Eo8B"}} }

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"It is sunny."} }

event: content_block_stop
data: {"type":"content_block_stop","index":3 }

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":510,"server_tool_use":{"web_search_requests":1}} }

event: message_stop
data: {"type":"message_stop" }

"""  # noqa: E501
)

REFUSAL = (
    HEAD
    + TEXT_START
    + b"""\
event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"First, "}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","category":"bio","explanation":"Not this."}},"usage":{"output_tokens":22}}

event: message_stop
data: {"type":"message_stop"}

"""  # noqa: E501
)

OVERLOADED = b"""\
event: error
data: {"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011C"}

"""

CUT = TEXT[: TEXT.index(b"event: content_block_stop")]
BROKEN = CUT + OVERLOADED

WHOLE = b"""{"model":"claude-opus-5-5","id":"msg_01","type":"message","role":"assistant","content":[\
{"type":"thinking","thinking":"Hm.","signature":"Eq"},{"type":"text","text":"Hi."},\
{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":[1]}}],"stop_reason":"tool_use","stop_sequence":null,\
"usage":{"input_tokens":3,"output_tokens":9}}"""
"""The same API's answer to a request that asked for no stream."""
