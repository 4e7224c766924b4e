-- Write what the ledger holds, unless something newer is here already. Values are absolute.
--
-- KEYS[i]  the license's hash
-- ARGV     for each license in turn: header, base version, number of devices, then (field, seat) of each;
--          an empty seat removes the field
--
-- Newer (epoch, version) here: ignored. The same, or the base of this change: merged. Older, or a gap: replaced,
-- so that a field never outlives a change that was missed. Within one generation the later floor and contact stay, and
-- with the later contact its count; of two in one second that which was pushed, unless it counts nothing.
--
-- Returns the number of licenses written.
local function later(old, new)
    local generation, floor, heard, counter = unpack_seat(new)
    local was_generation, was_floor, was_heard, was_counter = unpack_seat(old)
    if generation ~= was_generation then
        return new
    end
    if was_heard > heard or (was_heard == heard and counter == 0) then
        heard, counter = was_heard, was_counter
    end
    return pack_seat(generation, math.max(floor, was_floor), heard, counter)
end

local next, written = 1, 0
for _, key in ipairs(KEYS) do
    local header, base, count = ARGV[next], tonumber(ARGV[next + 1]), tonumber(ARGV[next + 2])
    next = next + 3
    local epoch, version = epoch_of(header), version_of(header)
    local old = redis.call('HGET', key, '0')
    local verdict = 'replace'
    if old then
        local old_epoch, old_version = epoch_of(old), version_of(old)
        if old_epoch > epoch or (old_epoch == epoch and old_version > version) then
            verdict = 'ignore'
        elseif old_epoch == epoch and (old_version == version or old_version == base) then
            verdict = 'merge'
        end
    end
    if verdict == 'replace' then
        redis.call('DEL', key)
    end
    if verdict ~= 'ignore' then
        written = written + 1
        redis.call('HSET', key, '0', header)
        for device = 0, count - 1 do
            local field, seat = ARGV[next + 2 * device], ARGV[next + 2 * device + 1]
            if seat == '' then
                redis.call('HDEL', key, field)
            else
                local was = verdict == 'merge' and redis.call('HGET', key, field)
                redis.call('HSET', key, field, was and later(was, seat) or seat)
            end
        end
    end
    next = next + 2 * count
end
return written
