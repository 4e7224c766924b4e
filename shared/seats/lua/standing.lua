-- The headers of licenses: how they stand.
--
-- KEYS[i]  the license's hash
-- ARGV[1]  epoch: older headers count as missing
--
-- Returns for each the header, or '' when nothing is known.
local epoch = tonumber(ARGV[1])
local answers = {}
for i, key in ipairs(KEYS) do
    local header = redis.call('HGET', key, '0')
    answers[i] = header and epoch_of(header) >= epoch and header or ''
end
return answers
