-- Keep the watermark that tells an emptied, restarted or set-back Redis.
--
-- KEYS[1]  the watermark
-- ARGV[1]  epoch
-- ARGV[2]  whose history it is: the server's run id and the timeline of Postgres
-- ARGV[3]  now, microseconds since 1970 by the database's clock
-- ARGV[4]  the greatest age of a watermark that proves an unbroken history, microseconds
-- ARGV[5]  the last watermark that the caller itself saw, microseconds; 0 for none
-- ARGV[6]  1 to begin a history where there is no watermark, after the epoch was raised; else 0
--
-- Returns 1 when the mark was moved: the history is unbroken, or is begun by a higher epoch.
-- Else nothing is written: 2 when the mark is of a higher epoch, which the caller is about to hear of; 0 when what is
-- here counts as lost and the epoch has to be raised first.
local epoch, run, now = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local mark = redis.call('GET', KEYS[1])
if not mark then
    if ARGV[6] ~= '1' then
        return 0
    end
else
    local old_epoch, old_run, old_at = string.match(mark, '^(%d+):(%w+):(%d+)$')
    old_epoch, old_at = tonumber(old_epoch), tonumber(old_at)
    if old_epoch > epoch then
        return 2
    end
    if old_epoch == epoch then
        if old_run ~= run or now - old_at > tonumber(ARGV[4]) or old_at < tonumber(ARGV[5]) then
            return 0
        end
        now = math.max(now, old_at)
    end
end
redis.call('SET', KEYS[1], string.format('%d:%s:%.0f', epoch, run, now))
return 1
