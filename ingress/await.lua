-- Lets a connection wait until there is a gateway to try; without one in time it gets a 503.
local LONGEST = 90 -- seconds: a gateway's drain, and the start of the next
local EVERY = 100 -- ms

local body = '{"error":{"code":"no_gateway","message":"no gateway is ready","retryable":true}}'
local refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    .. "connection: close\r\ncontent-length: " .. #body .. "\r\n\r\n" .. body

local found = false

core.register_action("await_gateway", { "tcp-req" }, function(txn)
    for _ = 1, LONGEST * 1000 / EVERY do
        if found then
            return
        end
        core.msleep(EVERY)
    end
    core.Warning("no gateway took a connection within " .. LONGEST .. " s")
    txn.res:send(refusal)
    txn:done()
end)

-- By a check that passed: HAProxy says UP of one that has only got its address. nbsrv() would count `later` too.
local function is_there()
    for name, server in pairs(core.backends.waiting.servers) do
        if name ~= "later" and server:get_addr() ~= "<unknown>" then
            local stats = server:get_stats()
            if stats.status:find("^UP") and stats.check_status:find("L7OK") then
                return true
            end
        end
    end
    return false
end

core.register_task(function()
    while true do
        found = is_there()
        core.msleep(EVERY)
    end
end)
