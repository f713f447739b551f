-- wrk's side of the bench: every event has an id, a time and, for carts, a state of its own.
-- Arguments: events in a request, a run's number (so that no two runs share ids), and of each
-- connection the pause between two requests, in milliseconds and on average.

local context = '"context":{"consent":"full","visitorId":"0f5e2c1a9b7d4e63","sessionId":"s-%08x",'
    .. '"contactId":"5a1f0c3e-7b2d-4c8e-9f60-1d2e3f405162",'
    .. '"language":"sv-SE"}'
local kinds = {
    '{"type":"page","id":"%s","time":"%s","title":"Trail running shoes for wet and stony ground",'
        .. '"url":"https://shop.example/c/shoes/running?colour=blue&size=42&sort=price&page=%d",'
        .. '"referrer":"https://search.example/results?q=trail+running+shoes+wet+ground&hl=sv",'
        .. '"utm":{"utm_source":"newsletter","utm_medium":"email"}}',
    '{"type":"product","id":"%s","time":"%s","category":"Shoes > Running > Trail",'
        .. '"itemId":"SKU-%d","newSession":false,'
        .. '"url":"https://shop.example/p/trail-running-shoe-for-wet-ground?colour=blue&size=42",'
        .. '"referrer":"https://shop.example/c/shoes/running?colour=blue&size=42&sort=price"}',
    '{"type":"cart","id":"%s","time":"%s","cartReference":"cart-%d",'
        .. '"url":"https://shop.example/cart/restore?reference=2b1f66c0d9e84c1ab3",'
        .. '"items":[{"sku":"SKU-100042-BLUE-42","quantity":1},'
        .. '{"sku":"SKU-200871-RED-M","quantity":2},{"sku":"SKU-300055-ONE-SIZE","quantity":3}]}',
}
local head = "POST %s HTTP/1.1\r\nHost: %s\r\nOrigin: http://shop.test\r\n"
    .. "Content-Type: text/plain;charset=UTF-8\r\nUser-Agent: Mozilla/5.0 (bench)\r\n"
    .. "Accept: */*\r\nContent-Length: %d\r\n\r\n%s"
local number = 0
local events, run, kept_second, kept_text

function init(args)
    events, run = tonumber(args[1]), tonumber(args[2])
    local pause = tonumber(args[3])
    if pause > 0 then  -- wrk asks for `delay` where there is one
        function delay()
            return pause / 2 + math.random(0, pause)
        end
    end
    path = wrk.path
    host = wrk.host .. ":" .. wrk.port
end

local function second()
    local now = os.time()
    if now ~= kept_second then
        kept_second, kept_text = now, os.date("!%Y-%m-%dT%H:%M:%S", now)
    end
    return kept_text
end

function request()
    local now, made = second(), {}
    for index = 1, events do
        number = number + 1
        local id = string.format("%08x-%04x-7000-8000-%012x", kept_second, run, number)
        local time = string.format("%s.%06dZ", now, number % 1000000)
        made[index] = string.format(kinds[number % 3 + 1], id, time, number % 4999)
    end
    local body = string.format('{"key":"pk_shop","sentAt":"%s.000Z",' .. context .. ',"events":[%s]}',
        now, number, table.concat(made, ","))
    return string.format(head, path, host, #body, body)
end

function done(summary, latency)
    io.write(string.format(
        '{"requests":%d,"seconds":%.3f,"failed":%d,"p50_ms":%.3f,'
            .. '"p95_ms":%.3f,"p99_ms":%.3f}\n',
        summary.requests, summary.duration / 1e6,
        summary.errors.status + summary.errors.read + summary.errors.write
            + summary.errors.timeout + summary.errors.connect,
        latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
