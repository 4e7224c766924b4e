-- Rates by GCRA: each key holds the moment from which it owes nothing, and every unit puts that off by an interval.
--
-- KEYS[i]        what is limited
-- ARGV[4i - 3]   its interval, microseconds: one unit in each
-- ARGV[4i - 2]   how far ahead of now it may come to owe, microseconds: the burst
-- ARGV[4i - 1]   units that are owed whether or not they fit
-- ARGV[4i]       units that are asked for, and given as far as they fit
--
-- Returns for each a pair: how many of the asked were given, and the microseconds until one more would fit (0 when
-- it does now). By Redis's own clock; a key lasts until it owes nothing. What lies further ahead than ten bursts comes
-- of a clock that was set back.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local answers = {}
for i, key in ipairs(KEYS) do
    local interval, burst = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
    local owed, asked = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
    local free = math.max(tonumber(redis.call('GET', key) or '0'), now)
    free = math.min(free + owed * interval, now + 10 * burst)
    local given = math.max(0, math.min(asked, math.floor((now + burst - free) / interval)))
    free = free + given * interval
    if owed + given > 0 then
        redis.call('SET', key, string.format('%.0f', free), 'PX', math.ceil((free - now) / 1000))
    end
    answers[i] = {given, math.max(0, free + interval - burst - now)}
end
return answers
