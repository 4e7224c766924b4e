-- Were these devices heard within what Postgres already promises them? Notes the contact where so.
--
-- KEYS[i]           the license's hash
-- ARGV[1]           epoch: older headers count as missing
-- ARGV[2]           now, seconds since 1970 by the database's clock
-- ARGV[3], ARGV[4]  the shortest lease with a floor, and the age at which a floor has to be committed anew (seconds)
-- ARGV[5]           for each key 12 bytes: the device's field (8), its generation (4, little-endian; 0 for any)
--
-- Returns for each: '' when nothing is known; the header when the answer is not a plain yes;
-- the header followed by the seat when it is.
local epoch, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local shortest, floor_age = tonumber(ARGV[3]), tonumber(ARGV[4])
local asked = ARGV[5]
local answers = {}
for i, key in ipairs(KEYS) do
    local field = string.sub(asked, 12 * i - 11, 12 * i - 4)
    local found = redis.call('HMGET', key, 'h', field)
    local header, seat = found[1], found[2]
    local answer = ''
    if header and struct.unpack('<I4', header) >= epoch then
        answer = header
        if seat then
            local status = struct.unpack('<B', header, 13)
            local lease = struct.unpack('<I4', header, 26)
            local expires = struct.unpack('<I4', header, 38)
            local generation, floor, heard = struct.unpack('<I4I4I4', seat)
            local wanted = struct.unpack('<I4', asked, 12 * i - 3)
            if status == 0 and (expires == 0 or now < expires) and (wanted == 0 or wanted == generation)
                and lease >= shortest and lease - (floor - now) < floor_age then
                if now > heard + 60 then
                    seat = struct.pack('<I4I4I4', generation, floor, now)
                    redis.call('HSET', key, field, seat)
                end
                answer = header .. seat
            end
        end
    end
    answers[i] = answer
end
return answers
