-- Lets a connection wait until a gateway takes it; without one in time it gets a 503.
local LONGEST = 90 -- seconds: a gateway's drain, and the start of the next
local EVERY = 100 -- ms

local body = '{"error":{"code":"no_gateway","message":"no gateway is ready","retryable":true}}'
local refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    .. "connection: close\r\ncontent-length: " .. #body .. "\r\n\r\n" .. body

core.register_action("await_gateway", { "tcp-req" }, function(txn)
    for _ = 1, LONGEST * 1000 / EVERY do
        if txn.f:nbsrv("waiting") > 0 then
            return
        end
        core.msleep(EVERY)
    end
    txn:Warning("no gateway took a connection within " .. LONGEST .. " s")
    txn.res:send(refusal)
    txn:done()
end)
