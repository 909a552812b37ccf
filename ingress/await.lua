-- Lets a connection wait until there is a gateway to try; without one in time it gets a 503. And makes new gateways wait for
-- their first check.
local LONGEST = 90 -- seconds: a gateway's drain, and the start of the next
local EVERY = 100 -- ms

local function refusal(id)
    local body = '{"error":{"code":"no_gateway","message":"no gateway is ready","retryable":true,"request_id":"' .. id .. '"}}'
    return "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        .. "x-request-id: " .. id .. "\r\nconnection: close\r\ncontent-length: " .. #body .. "\r\n\r\n" .. body
end

local gateways = {} -- the servers of both backends that are gateways: not those that lead to `later`
local found, stopping = false, false

core.register_init(function()
    for _, backend in ipairs({ "gateways", "waiting" }) do
        gateways[backend] = {}
        for name, server in pairs(core.backends[backend].servers) do
            if name ~= "later" then
                table.insert(gateways[backend], server)
            end
        end
    end
end)

local function has_address(server)
    return server:get_addr() ~= "<unknown>"
end

-- Whether a check has passed: HAProxy may say UP of one that has lost its address and got it back within EVERY.
local function is_there()
    for _, server in ipairs(gateways.waiting) do
        if has_address(server) then
            local stats = server:get_stats()
            if stats.status:find("^UP") and stats.check_status:find("L7OK") then
                return true
            end
        end
    end
    return false
end

core.register_action("await_gateway", { "tcp-req" }, function(txn)
    for _ = 1, LONGEST * 1000 / EVERY do
        if stopping then
            break
        end
        if found then
            found = is_there() -- what was true EVERY ago would bring it back here at once, again and again
            if found then
                return
            end
        end
        core.msleep(EVERY)
    end
    local id = txn.f:uuid():gsub("-", "")
    local why = stopping and "the ingress stops" or "none was there within " .. LONGEST .. " s"
    core.Warning('event="no gateway" request=' .. id .. ' reason="' .. why .. '"')
    txn.res:send(refusal(id))
    txn:done()
end)

-- HAProxy takes a server for healthy from when its name resolves to its first check: connections would go to a container
-- that does not listen yet. So a server without an address drains, and with one it is down until a check succeeds.
local function park(server, parked)
    if not has_address(server) and not parked[server] then
        server:set_drain()
        parked[server] = true
    elseif has_address(server) and parked[server] then
        server:check_force_down()
        server:set_ready()
        parked[server] = nil
    end
end

core.register_task(function()
    local parked = {}
    while true do
        for _, servers in pairs(gateways) do
            for _, server in ipairs(servers) do
                park(server, parked)
            end
        end
        found = is_there()
        stopping = core.get_info().Stopping ~= 0 -- it checks no more: nobody who waits would be let go
        core.msleep(EVERY)
    end
end)
