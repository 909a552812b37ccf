-- Lets a connection wait until a gateway takes it; without one in time it gets a 503. And makes new gateways wait for their
-- first check.
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

-- HAProxy takes a server for healthy from when its name resolves to its first check: connections would go to a container
-- that does not listen yet. So a server without an address drains, and with one it is down until a check succeeds.
core.register_task(function()
    local parked = {}
    while true do
        for _, backend in ipairs({ "gateways", "waiting" }) do
            for name, server in pairs(core.backends[backend].servers) do
                local key, has_address = backend .. "/" .. name, server:get_addr() ~= "<unknown>"
                if not has_address and not parked[key] then
                    server:set_drain()
                    parked[key] = true
                elseif has_address and parked[key] then
                    server:check_force_down()
                    server:set_ready()
                    parked[key] = nil
                end
            end
        end
        core.msleep(EVERY)
    end
end)
