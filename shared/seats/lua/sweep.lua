-- Remove licenses of older epochs: nobody reads them any more.
--
-- KEYS[i]  the license's hash
-- ARGV[1]  epoch
-- ARGV[2]  1 to remove, 0 to count alone
--
-- Returns the number of licenses found so.
local epoch, remove = tonumber(ARGV[1]), ARGV[2] == '1'
local found = 0
for _, key in ipairs(KEYS) do
    local header = redis.call('HGET', key, '0')
    if header and #header >= 4 and epoch_of(header) < epoch then
        found = found + 1
        if remove then
            redis.call('UNLINK', key)
        end
    end
end
return found
