-- Were these devices heard within what Postgres already promises them? Notes the contact where so.
--
-- KEYS[i]           the license's hash
-- ARGV[1]           epoch: older headers count as missing
-- ARGV[2]           now, seconds since 1970 by the database's clock
-- ARGV[3], ARGV[4]  the shortest lease with a floor, and the age at which a floor has to be committed anew (seconds)
-- ARGV[5]           for each key 16 bytes: the device's field (8), its generation (4, little-endian; 0 for any) and
--                   what it counted its contacts to (4; 0 when it does not count, 1 when it begins anew)
--
-- Returns for each: '' when nothing is known of the license; the header when nothing is known of the device; the header
-- and the count of its last contact (4 bytes; 0 for another generation's) when the answer is not a plain yes; the
-- header, generation and floor (4 bytes each) when it is.
-- A count that went back is no plain yes. One that began anew is none either, nor is anything where some versions alone
-- are served; but such a contact is noted.
local STATUS, EXPIRY_WARNS, VERSIONS_RANGED = 0x0F, 0x10, 0x20

local epoch, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local shortest, floor_age = tonumber(ARGV[3]), tonumber(ARGV[4])
local asked = ARGV[5]

local function serves(standing, expires)
    return bit.band(standing, STATUS) == 0
        and (expires == 0 or now < expires or bit.band(standing, EXPIRY_WARNS) ~= 0)
end

local function is_young(floor, lease)
    return lease >= shortest and lease - (floor - now) < floor_age
end

local answers = {}
for i, key in ipairs(KEYS) do
    local field = string.sub(asked, 16 * i - 15, 16 * i - 8)
    local found = redis.call('HMGET', key, '0', field)
    local header, seat = found[1], found[2]
    local answer = ''
    if header and epoch_of(header) >= epoch then
        answer = header
        if seat then
            local standing, lease, expires = terms_of(header)
            local generation, floor, heard, counter = unpack_seat(seat)
            local wanted, told = struct.unpack('<I4I4', asked, 16 * i - 7)
            local meant = wanted == 0 or wanted == generation
            local good = meant and (told < 2 or told >= counter) and serves(standing, expires) and is_young(floor, lease)
            local anew = told == 1 and counter > 1
            if good and (now > heard + 60 or (told ~= 0 and told ~= counter)) then
                local count = told ~= 0 and told or counter
                redis.call('HSET', key, field, pack_seat(generation, floor, math.max(now, heard), count))
            end
            if good and not anew and bit.band(standing, VERSIONS_RANGED) == 0 then
                answer = header .. struct.pack('<I4I4', generation, floor)
            else
                answer = header .. struct.pack('<I4', meant and counter or 0)
            end
        end
    end
    answers[i] = answer
end
return answers
