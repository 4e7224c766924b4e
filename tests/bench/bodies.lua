-- wrk's script: posts the bodies of a file one after another, from a place of its own for each thread.
-- In a body, @N@ becomes a number never used before, and @NOW@ the time.
-- Arguments: the file, a prefix that makes this run's numbers its own.
local threads = 0

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

function init(args)
    bodies, count = {}, 0
    for line in io.lines(args[1]) do
        bodies[#bodies + 1] = line
    end
    prefix = args[2] .. "-" .. id .. "-"
    at = (id * 7919) % #bodies
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    at, count = at % #bodies + 1, count + 1
    local body = bodies[at]:gsub("@N@", prefix .. count):gsub("@NOW@", os.time())
    return wrk.format(nil, nil, nil, body)
end
