-- Remove licenses that are as they were seen.
--
-- KEYS[i]  the license's hash
-- ARGV[i]  its header as it was seen; '' where it had none
--
-- A header that is another by now came with something newer: that license is left alone.
-- Returns the number of licenses removed.
local removed = 0
for i, key in ipairs(KEYS) do
    if (redis.call('HGET', key, '0') or '') == ARGV[i] then
        removed = removed + redis.call('UNLINK', key)
    end
end
return removed
