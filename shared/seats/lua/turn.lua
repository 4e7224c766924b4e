-- Take or keep the turn to look, which one has at a time.
--
-- KEYS[1]  who has it
-- ARGV[1]  who asks
-- ARGV[2]  how long it lasts, milliseconds, if it is not kept by asking again
--
-- Returns 1 when it is the asker's, else 0.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
