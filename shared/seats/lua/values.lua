-- Headers and seats, each in its short or its long form (see keys.py). What every script begins with.

local function epoch_of(header)
    return (struct.unpack(#header == 21 and '<I2' or '<I4', header))
end

local function version_of(header)
    if #header == 21 then
        return (struct.unpack('<I4', header, 3))
    end
    return (struct.unpack('<I8', header, 5))
end

-- Status and flags, the lease in seconds, and the end in seconds since 1970 (0: never).
local function terms_of(header)
    if #header == 21 then
        local standing, lease, expires = struct.unpack('<BxxxxI2xxxxI4', header, 7)
        return standing, lease < 32768 and lease or (lease - 32768) * 3600, expires
    end
    return struct.unpack('<BxxxxxxxxI4xxxxxxxxI4', header, 13)
end

-- Generation, floor, last contact and count.
local function unpack_seat(seat)
    if #seat == 10 then
        local floor, generation, before, counter = struct.unpack('<I4BI3I2', seat)
        return generation, floor, floor - before, counter
    end
    return struct.unpack('<I4I4I4I4', seat)
end

local function pack_seat(generation, floor, heard, counter)
    local before = floor - heard
    if generation < 256 and before >= 0 and before < 16777216 and counter < 65536 then
        return struct.pack('<I4BI3I2', floor, generation, before, counter)
    end
    return struct.pack('<I4I4I4I4', generation, floor, heard, counter)
end

