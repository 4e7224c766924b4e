-- wrk's script: posts the bodies of a file one after another, from a place of its own for each thread.
-- In a body, @N@ becomes a number never used before, and @NOW@ the time.
-- Arguments: the file, a prefix that makes this run's numbers its own; then a text that is in each answer, and how often.
local threads = {}

function setup(thread)
    thread:set("id", #threads)
    threads[#threads + 1] = thread
end

function init(args)
    bodies, count, wrong = {}, 0, 0
    for line in io.lines(args[1]) do
        bodies[#bodies + 1] = line
    end
    prefix = args[2] .. "-" .. id .. "-"
    at = (id * 7919) % #bodies
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    if args[3] then
        response = function(status, headers, body)
            if select(2, body:gsub(args[3], "")) ~= tonumber(args[4]) then
                wrong = wrong + 1
            end
        end
    end
end

function request()
    at, count = at % #bodies + 1, count + 1
    local body = bodies[at]:gsub("@N@", prefix .. count):gsub("@NOW@", os.time())
    return wrk.format(nil, nil, nil, body)
end

function done()
    for _, thread in ipairs(threads) do
        if thread:get("wrong") > 0 then
            print("Wrong answers: " .. thread:get("wrong"))
        end
    end
end
