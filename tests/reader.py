"""Reads a queue folder and prints one line of JSON for each thing found. Needs Python 3 alone.

Written from docs/FORMAT.md and nothing else: what that page leaves out shows here.
usage: python3 reader.py FOLDER
"""

import json
import os
import re
import struct
import sys
import zlib

PAGE = 4096
LIMIT = 1 << 48
SEGMENT = 1 << 35
COUNT = 1 << 63
HELD = 0xFFFFFFFF


class Bad(Exception):
    """foreign, newer or damaged, and why"""

    def __init__(self, verdict, why):
        super().__init__(f"{verdict}: {why}")
        self.verdict = verdict


def number(data, at, size):
    if at + size > len(data):
        raise Bad("damaged", f"cut short at {at}")
    return int.from_bytes(data[at : at + size], "little")


def seeded(salt, position, data):
    return zlib.crc32(struct.pack("<IQ", salt, position) + data)


def zero(data):
    return not any(data)


def say(what, **fields):
    print(json.dumps({"what": what, **fields}))


def show(data):
    """bytes as text where they are plain ASCII, else in hex"""
    plain = all(32 <= byte < 127 for byte in data)
    return data.decode("ascii") if plain else "hex:" + data.hex()


def is_group(name):
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) is not None


def load(root, name):
    try:
        with open(os.path.join(root, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise Bad("damaged", f"{name} is missing") from None


# §1.2 sections


def sections(data):
    found, at = [], 0
    while at < len(data):
        tag, length = number(data, at, 4), number(data, at + 4, 4)
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise Bad("damaged", "a section is longer than what holds it")
        if any(tag == other for other, _ in found):
            raise Bad("damaged", f"section {tag} stands twice")
        found.append((tag, body))
        at += 8 + length
    return found


def known_sections(data, count, last=0):
    """Those up to `count` must be there, those up to `last` may."""
    found = dict(sections(data))
    for tag in found:
        if tag > max(count, last) and tag >> 31:
            raise Bad("newer", f"section {tag:#x} is not known")
    if any(tag not in found for tag in range(1, count + 1)):
        raise Bad("damaged", "a section is missing")
    return [found[tag] for tag in range(1, max(count, last) + 1) if tag in found]


# §3 header pages


def header_copy(magic, copy):
    if copy[:8] != magic:
        raise Bad("damaged" if zero(copy) else "foreign", "other magic")
    version = number(copy, 8, 4)
    if version > 1:
        raise Bad("newer", f"version {version}")
    if number(copy, 508, 4) != zlib.crc32(copy[:508]) or version == 0 or not zero(copy[24:28]):
        raise Bad("damaged", "header checksum")
    head = {
        "optional": number(copy, 12, 4),
        "writing": number(copy, 16, 4),
        "required": number(copy, 20, 4),
        "salt": number(copy, 28, 4),
        "queue": f"{number(copy, 32, 16):032x}",
        "created": number(copy, 48, 8),
    }
    if magic == b"backlogM":
        head["slot_bytes"], end = number(copy, 56, 8), 64
    elif magic == b"backlogS":
        head["number"], head["capacity"], end = number(copy, 56, 8), number(copy, 64, 8), 80
        head["rewritten"] = number(copy, 72, 8)
        if head["rewritten"] > 1:
            raise Bad("newer", "unknown value in the header")
    else:
        for index, field in enumerate(["incarnation", "generation", "snapshot", "entries", "length"]):
            head[field] = number(copy, 56 + 8 * index, 8)
        size = copy[96]
        head["group"], end = copy[97 : 97 + size].decode("utf-8", "replace"), 97 + size
        if size > 64 or not is_group(head["group"]):
            raise Bad("damaged", "an impossible group")
    if not zero(copy[end:508]):
        raise Bad("newer", "unknown fields in the header")
    return head


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Bad as bad:
        return bad


def header(magic, data):
    if len(data) < PAGE:
        raise Bad("damaged", "shorter than a header page")
    both = [attempt(header_copy, magic, data[at : at + 512]) for at in (0, 2048)]
    good = [copy for copy in both if not isinstance(copy, Bad)]
    if not good:
        raise next((bad for bad in both if bad.verdict == "newer"), both[0])
    head = good[0]
    wounded = len(good) < 2 or good[0] != good[1]
    if wounded and len(good) == 2:
        if magic != b"backlogO":
            raise Bad("damaged", "two headers that differ")
        head = max(good, key=lambda copy: copy["generation"])
    if head["required"]:
        raise Bad("newer", "required features")
    superseded = []
    for sector in range(512, PAGE, 512):
        piece = data[sector : sector + 512]
        if magic == b"backlogO" and sector in (1024, 3072):
            good_sector = piece[:8] == b"backlogX" and number(piece, 508, 4) == seeded(
                head["salt"], sector, piece[:508]
            )
            superseded.append(number(piece, 8, 8) if good_sector else None)
            wounded |= not good_sector and not zero(piece)
        elif sector != 2048:
            wounded |= not zero(piece)
    if superseded:
        wounded |= superseded[0] != superseded[1]
        head["superseded"] = superseded[0] if superseded[0] is not None else superseded[1]
    head["wounded"] = wounded
    return head


# §4 manifest


def slot(queue, position, data):
    length = number(data, 4, 4)
    if not 16 <= length <= len(data):
        raise Bad("damaged", "slot length")
    if number(data, 0, 4) != seeded(queue & 0xFFFFFFFF, position, data[4:length]):
        raise Bad("damaged", "slot checksum")
    if not zero(data[length:]):
        raise Bad("damaged", "bytes behind a slot")
    log, rows, names = known_sections(data[16:length], 3, 6)[:3]
    told, kept, limits = (dict(sections(data[16:length])).get(tag) for tag in (4, 5, 6))
    if len(log) != 56 or len(rows) % 72 or not rows or log[41:48] != bytes(7) or log[40] > 1:
        raise Bad("damaged", "slot sections")
    keys = ["segment", "position", "next", "messages", "reserved"]
    mark = dict(zip(keys, struct.unpack("<5Q", log[:40])), closed=log[40] == 1, numbers=number(log, 48, 8))
    segments = []
    keys = ["number", "base", "messages_before", "length", "first", "last", "tags", "end", "salt"]
    for at in range(0, len(rows), 72):
        row = dict(zip(keys, struct.unpack("<8QI", rows[at : at + 68])))
        flags = number(rows, at + 68, 4)
        if flags > 1:
            raise Bad("damaged", "segment flags")
        segments.append(dict(row, rewritten=flags == 1))
    groups = []
    while names:
        keys = ["incarnation", "generation", "settles_from", "mark"]
        row = {key: number(names, 8 * index, 8) for index, key in enumerate(keys)}
        size = number(names, 32, 1)
        name = names[33 : 33 + size].decode("utf-8", "replace")
        if not is_group(name) or len(names) < 33 + size:
            raise Bad("damaged", "group name")
        groups.append(dict(name=name, **row))
        names = names[33 + size :]
    schedules = []
    while told or told == b"":
        size = number(told, 8, 1) if len(told) > 8 else 0
        name, last = told[9 : 9 + size].decode("utf-8", "replace"), number(told, 0, 8)
        if not is_group(name) or len(told) < 9 + size or last >= 1 << 48:
            raise Bad("damaged", "schedule")
        schedules.append(dict(name=name, last=last))
        told = told[9 + size :] or None
    if kept is not None and (not kept or len(kept) % 32):
        raise Bad("damaged", "kept keys")
    keys, sides = ["number", "length", "last", "salt"], []
    for at in range(0, len(kept or b""), 32):
        *row, rest = struct.unpack("<3QII", kept[at : at + 32])
        if rest:
            raise Bad("damaged", "kept keys")
        sides.append(dict(zip(keys, row)))
    keys = ["retain_for", "retain_bytes", "max_bytes", "max_messages", "min_free", "wait", "when_full"]
    keys += ["dedup_count", "dedup_for"]
    if limits is not None:
        if len(limits) != 72 or zero(limits) or number(limits, 48, 4) > 2 or number(limits, 52, 4):
            raise Bad("damaged", "limits")
        limits = dict(zip(keys, struct.unpack("<6QI2Q", limits[:52] + limits[56:])))
    active = segments[-1]
    sound = (
        active["length"] == 0
        and active["end"] == 0
        and all(low["base"] <= low["end"] <= high["base"] for low, high in zip(segments, segments[1:]))
        and all(row["number"] < mark["numbers"] and PAGE <= row["length"] <= SEGMENT for row in sides)
        and len({row["number"] for row in segments + sides}) == len(segments + sides)
        and all(PAGE <= row["length"] <= SEGMENT for row in segments[:-1])
        and mark["numbers"] <= COUNT
        and all(row["number"] < mark["numbers"] for row in segments)
        and len({row["name"] for row in groups}) == len(groups)
        and len({row["name"] for row in schedules}) == len(schedules)
        and all(
            low[key] <= high[key]
            for low, high in zip(segments, segments[1:])
            for key in ("base", "messages_before")
        )
        and mark["segment"] == active["number"]
        and PAGE <= mark["position"] <= SEGMENT
        and mark["position"] % 8 == 0
        and active["base"] <= mark["next"] <= LIMIT
        and mark["reserved"] <= LIMIT
        and active["messages_before"] <= mark["messages"] <= LIMIT
        and all(row["mark"] % 32 == 0 for row in groups)
    )
    if not sound:
        raise Bad("damaged", "a slot contradicts itself")
    found = {"sequence": number(data, 8, 8), "log": mark, "segments": segments, "groups": groups}
    extra = {"schedules": schedules, "kept": sides, "limits": limits}
    return dict(found, **{key: value for key, value in extra.items() if value})


def manifest(root):
    data = load(root, "MANIFEST")
    head = header(b"backlogM", data)
    say("manifest", **head)
    size, best = head["slot_bytes"], None
    for place in range(4):
        position = PAGE + place * size
        found = attempt(slot, int(head["queue"], 16), position, data[position : position + size])
        if isinstance(found, Bad):
            if found.verdict == "newer":
                raise found
            say("slot", place=place, bad=str(found))
            continue
        if found["sequence"] % 2 != place // 2 or found["sequence"] >= COUNT:
            say("slot", place=place, bad="damaged: in the wrong slot")
            continue
        say("slot", place=place, sequence=found["sequence"])
        if best is None or found["sequence"] > best["sequence"]:
            best = found
    if best is None:
        raise Bad("damaged", "no slot of the manifest counts")
    say("log", sequence=best["sequence"], **best["log"])
    return head["queue"], best


# §5 segment


def batch_header(data, salt, position, capacity, expected, reserve=LIMIT):
    """what the header at a position says, or None if it does not count"""
    if position % 8 or position < PAGE or position + 32 > capacity:
        return None
    raw = data[position : position + 32]
    if len(raw) < 32:
        return None
    flags = raw[31]
    head = {
        "at": position,
        "sum": number(raw, 4, 4),
        "body": number(raw, 8, 4),
        "mark": 8 * number(raw, 12, 4),
        "base": number(raw, 16, 6),
        "time": number(raw, 22, 6),
        "records": number(raw, 28, 3),
        "attributes": bool(flags & 2),
        "settles": bool(flags & 4),
    }
    head["messages"] = head["records"] - head["settles"]
    head["table"] = 8 * head["records"] if head["records"] > 1 else 0
    head["end"] = head["base"] + head["messages"]
    head["next"] = position + (32 + head["body"] + 7) // 8 * 8
    counts = (
        flags & 1
        and not flags & ~7
        and head["records"] >= 1
        and head["table"] <= head["body"] <= 1 << 30
        and head["mark"] <= position
        and head["end"] <= min(LIMIT, reserve)
        and number(raw, 0, 4) == seeded(salt, position, raw[4:])
        and head["next"] <= capacity
        and head["base"] >= expected
    )
    return head if counts else None


def records(data, head):
    """the records of a batch, None for a bad one; None if the table does not count"""
    start = head["at"] + 32
    body = data[start : start + head["body"]]
    if head["records"] == 1:
        rows = [(head["body"], head["sum"])]
    else:
        table = body[: head["table"]]
        if zlib.crc32(table) != head["sum"]:
            return None
        rows = list(struct.iter_unpack("<II", table))
        if head["table"] + sum(length for length, _ in rows) != head["body"]:
            return None
    found, at = [], head["table"]
    for length, checksum in rows:
        piece = body[at : at + length]
        found.append(piece if len(piece) == length and zlib.crc32(piece) == checksum else None)
        at += length
    return found


def counts_whole(data, head):
    if head is None:
        return False
    found = records(data, head)
    padding = data[head["at"] + 32 + head["body"] : head["next"]]
    return found is not None and None not in found and zero(padding)


def attributes(data):
    names = [None, "due", "expiry", "lease", "priority", "dedup_key", "ordering_key"]
    names += ["kind", "encoding", "header", "origin", "unique"]
    found, at = [], 0
    while at < len(data):
        tag, length = number(data, at, 1), number(data, at + 1, 3)
        value = data[at + 4 : at + 4 + length]
        if len(value) < length:
            raise Bad("damaged", "an attribute does not fit")
        at += 4 + length
        wanted = {1: 8, 2: 8, 3: 8, 4: 1, 8: 1, 10: 12, 11: 1}.get(tag)
        if wanted is not None and wanted != length:
            raise Bad("damaged", "length of an attribute")
        if tag in (1, 2, 3, 4, 8, 11):
            found.append([names[tag], number(value, 0, length)])
        elif tag in (5, 6):
            found.append([names[tag], show(value)])
        elif tag == 7:
            try:
                found.append([names[tag], value.decode("utf-8")])
            except UnicodeDecodeError:
                raise Bad("damaged", "kind is no UTF-8") from None
        elif tag == 9:
            size = number(value, 0, 1)
            kind = number(value, 1 + size, 1)
            found.append([names[tag], show(value[1 : 1 + size]), kind, show(value[2 + size :])])
        elif tag == 10:
            found.append([names[tag], number(value, 0, 4), number(value, 4, 8)])
        elif tag >= 128:
            raise Bad("newer", f"attribute {tag}")
    return found


# by number of the segment: offset, position and time of the batch, attribute list of each good message
LISTS = {}


def show_batch(data, segment, head):
    keys = ("at", "next", "mark", "base", "end", "time", "records")
    say("batch", segment=segment, **{key: head[key] for key in keys})
    found = records(data, head)
    if found is None:
        say("damaged", segment=segment, at=head["at"], offsets=[head["base"], head["end"]])
        return
    offset = head["base"]
    if head["settles"]:
        first = found.pop(0)
        if first is None or not first or len(first) % 24:
            say("damaged", segment=segment, at=head["at"], why="settles")
        else:
            rows = [list(row) for row in struct.iter_unpack("<QQQ", first)]
            say("settles", rows=rows)
    for record in found:
        try:
            if record is None:
                raise Bad("damaged", "record checksum")
            listed, raw = [], b""
            if head["attributes"]:
                size = number(record, 0, 4)
                if 4 + size > len(record):
                    raise Bad("damaged", "attribute list")
                raw, record = record[4 : 4 + size], record[4 + size :]
                listed = attributes(raw)
            say("message", offset=offset, attributes=listed, payload=show(record))
            LISTS.setdefault(segment, []).append((offset, head["at"], head["time"], raw))
        except Bad as bad:
            say("damaged", offset=offset, why=str(bad))
        offset += 1


def take(data, salt, capacity, position, expected, reserve):
    """batches as long as each counts"""
    while counts_whole(data, head := batch_header(data, salt, position, capacity, expected, reserve)):
        yield head
        position, expected = head["next"], head["end"]


def scan(data, salt, capacity, position, expected, reserve):
    while position < capacity:
        head = batch_header(data, salt, position, capacity, expected, reserve)
        if counts_whole(data, head):
            yield head
            position = head["next"]
        else:
            position += 8


def headers(data, salt, capacity, start, expected, reserve):
    for position in range(start, capacity, 8):
        head = batch_header(data, salt, position, capacity, expected, reserve)
        if head is not None:
            yield head


def walk(data, segment, salt, capacity, position, stop, expected, behind, reserve=LIMIT):
    """in place, up to a position that is known; damage reaches to `behind` at most, or, without one,
    to what lies behind that position"""
    while position < stop:
        head = batch_header(data, salt, position, capacity, expected, reserve)
        if head is None:
            later = next(headers(data, salt, capacity, position, expected, reserve), None)
            known = later is not None and (behind is None or later["at"] <= stop)
            upto, end = (min(later["at"], stop), later["base"]) if known else (stop, behind or expected)
            say("damaged", segment=segment, at=position, upto=upto, offsets=[expected, end])
            position, expected = upto, end
            continue
        show_batch(data, segment, head)
        position, expected = head["next"], head["end"]
    return expected


def segment(root, queue, row, log, behind):
    name = f"log/{row['number']:09}.seg"
    data = load(root, name)
    head = header(b"backlogS", data)
    say("segment", **row)
    say("segment header", **head)
    if head["queue"] != queue or head["number"] != row["number"] or head["salt"] != row["salt"]:
        raise Bad("foreign", f"{name} is another file")
    salt, capacity = row["salt"], head["capacity"]
    if len(data) < capacity or capacity > SEGMENT:
        raise Bad("damaged", f"{name} is shortened")
    if log is None:
        walk(data, row["number"], salt, capacity, PAGE, row["length"], row["base"], behind)
        side_file(root, queue, row)
        return
    mark, following = log["position"], log["next"]
    if log["closed"] and counts_whole(data, batch_header(data, salt, mark, capacity, following)):
        say("manifest put back")
    elif log["closed"]:
        walk(data, row["number"], salt, capacity, PAGE, mark, row["base"], following)
        say("end", at=mark, next=following)
        return
    walk(data, row["number"], salt, capacity, PAGE, mark, row["base"], following)
    reserve = log["reserved"]
    batches = list(take(data, salt, capacity, mark, following, reserve))
    last = batches[-1] if batches else {"next": mark, "end": following}
    batches += scan(data, salt, capacity, last["next"], last["end"], reserve)
    bound = max([mark] + [head["mark"] for head in batches])
    expected = walk(data, row["number"], salt, capacity, mark, bound, following, None, reserve)
    position = bound
    for head in take(data, salt, capacity, position, expected, reserve):
        show_batch(data, row["number"], head)
        position, expected = head["next"], head["end"]
    say("end", at=position, next=expected)
    for torn in headers(data, salt, capacity, position, expected, reserve):
        say("torn", at=torn["at"], base=torn["base"])


# §9 side file


def siphash(key, data):
    """SipHash-2-4 with 128 bits of output, as a number"""
    ones = (1 << 64) - 1
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turn(word, by):
        return (word << by | word >> (64 - by)) & ones

    def rounds(count):
        a, b, c, d = v
        for _ in range(count):
            a, c = (a + b) & ones, (c + d) & ones
            b, d, a = turn(b, 13) ^ a, turn(d, 16) ^ c, turn(a, 32)
            a, c = (a + d) & ones, (c + b) & ones
            d, b, c = turn(d, 21) ^ a, turn(b, 17) ^ c, turn(c, 32)
        v[:] = a, b, c, d

    whole = len(data) // 8 * 8
    last = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", data[:whole] + last):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    return (v[0] ^ v[1] ^ v[2] ^ v[3]) << 64 | low


def side_row(queue, offset, at, time, raw):
    """the row that a message should have, or None"""
    found = {}
    while raw:
        size = number(raw, 1, 3)
        found.setdefault(raw[0], raw[4 : 4 + size])
        raw = raw[4 + size :]

    def hashed(kind, tag):
        key = found.get(tag)
        return 0 if key is None else siphash(queue.to_bytes(16, "little"), bytes([kind]) + key) or 1

    priority = found.get(4, b"\4")[0]
    ordering = hashed(6, 6) % (1 << 64) or (1 if 6 in found else 0)
    unique = 11 in found and 5 in found
    dedup = hashed(11 if unique else 5, 5)
    if priority == 4 and not ordering and not dedup:
        return None
    due = min(number(found[1], 0, 8), LIMIT - 1) if 1 in found else 0
    small = [(offset, 6), (at // 8, 4), (time, 6), (due, 6), (priority, 1), (int(unique), 1), (ordering, 8)]
    return b"".join(value.to_bytes(size, "little") for value, size in small + [(dedup, 16)])


def side_file(root, queue, row):
    name = f"log/{row['number']:09}.idx"
    if not os.path.exists(os.path.join(root, name)):
        return
    data, salt, queue = load(root, name), row["salt"], int(queue, 16)
    sectors = [data[at : at + 512] for at in range(0, len(data), 512)]
    good = sectors and all(
        len(sector) == 512 and number(sector, 508, 4) == seeded(salt, 512 * index, sector[:508])
        for index, sector in enumerate(sectors)
    )
    fields = struct.unpack("<8sII16sQQQ", sectors[0][:56]) if good else None
    whole = (b"backlogI", 1, salt, queue.to_bytes(16, "little"), row["number"], row["length"])
    if not good or fields[:6] != whole or len(sectors) != 1 + -(-fields[6] // 10):
        say("side file", segment=row["number"], fits=False)
        return
    rows = [sectors[1 + index // 10][48 * (index % 10) :][:48] for index in range(fields[6])]
    listed = [side_row(queue, *message) for message in LISTS.get(row["number"], [])]
    counts = [sum(entry[22] == priority for entry in rows) for priority in range(10)]
    told = list(struct.unpack("<10Q", sectors[0][56:136]))
    agrees = rows == [entry for entry in listed if entry is not None] and counts == told
    say("side file", segment=row["number"], fits=True, agrees=agrees, rows=[entry.hex() for entry in rows])


# §7 offset file


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return number(self.data, self.at - size, size)

    def text(self):
        size = self.take(8)
        if size > len(self.data) - self.at:
            raise Bad("damaged", "a text is longer than what holds it")
        self.at += size
        try:
            return self.data[self.at - size : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("damaged", "a text is no UTF-8") from None

    def items(self, least, read):
        count = self.take(8)
        if count > (len(self.data) - self.at) // least:
            raise Bad("damaged", "a list is longer than what holds it")
        return [read() for _ in range(count)]

    def end(self):
        if self.at != len(self.data):
            raise Bad("damaged", "bytes behind a structure")


def exception(cursor):
    found = {"offset": cursor.take(8), "end": cursor.take(8)}
    variant = cursor.take(4)
    fields = [
        ("ready", []),
        ("delayed", [("due", 8)]),
        ("lent", [("delivery", 8), ("lease", 4), ("since", 8)]),
        ("dead", [("reason", 4), ("since", 8)]),
    ]
    if variant >= len(fields):
        raise Bad("damaged", f"state {variant}")
    found["state"] = fields[variant][0]
    for name, size in fields[variant][1]:
        found[name] = cursor.take(size)
    found["failures"], found["losses"] = cursor.take(1), cursor.take(1)
    found["late"] = cursor.take(8)
    found["error"] = cursor.text()
    found["priority"] = cursor.take(1)
    found["key"] = cursor.take(8)
    return found


def snapshot(head, data):
    size = head["snapshot"]
    out = b""
    for at in range(PAGE, PAGE + (size + 507) // 508 * 512, 512):
        sector = data[at : at + 512]
        if number(sector, 508, 4) != seeded(head["salt"], at, sector[:508]):
            raise Bad("damaged", f"snapshot sector at {at}")
        out += sector[:508]
    if len(out) < size:
        raise Bad("damaged", "snapshot cut short")
    cursors = [Cursor(body) for body in known_sections(out[:size], 4, 7)]
    first, second, third, fourth = cursors[:4]
    tagged = dict(sections(out[:size]))
    reading = {key: first.take(8) for key in ("floor", "head", "passed")}
    reading["hint"] = [first.take(8), first.take(8)]
    reading.update(holder=first.take(4), first_count=first.take(4), settled=first.take(8))
    done = second.items(16, lambda: [second.take(8), second.take(8)])
    exceptions = third.items(47, lambda: exception(third))
    policy = {"max_failures": fourth.take(1), "max_losses": fourth.take(1)}
    policy.update(retry_kind=fourth.take(1), retry_first=fourth.take(8), retry_cap=fourth.take(8))
    policy["retry_steps"] = [fourth.take(8) for _ in range(16)]
    policy["retry_jitter"] = fourth.take(4)
    policy["synced"] = fourth.take(1)
    policy["lease"] = fourth.take(4)
    policy["discard_expired"] = fourth.take(1)
    paused = number(tagged[5], 0, 8) if 5 in tagged else None
    rows = tagged.get(6, b"")
    if len(rows) % 16:
        raise Bad("damaged", "waiting rows are cut")
    waiting = [
        {
            "offset": number(rows, at + 10, 6),
            "due": number(rows, at + 4, 6) % 2**44,
            "priority": number(rows, at + 4, 6) // 2**44 ^ 4,
            "position": 8 * number(rows, at, 4),
        }
        for at in range(0, len(rows), 16)
    ]
    kinds = None
    if 7 in tagged:
        fifth = Cursor(tagged[7])
        kinds = fifth.items(9, fifth.text)
        fifth.end()
        sizes = [len(kind.encode()) for kind in kinds]
        texts = [kind.encode() for kind in kinds]
        if not kinds or min(sizes) < 1 or max(sizes) > 255 or any(one >= other for one, other in zip(texts, texts[1:])):
            raise Bad("damaged", "the kinds are none")
    for cursor in cursors[:4]:
        cursor.end()
    floor, top = reading["floor"], reading["head"]
    spans = [[item["offset"], item["end"]] for item in exceptions]
    edges = [floor] + [edge for pair in done for edge in pair]
    sound = (
        floor <= top <= LIMIT
        and policy["synced"] in (0, 1)
        and policy["discard_expired"] in (0, 1)
        and all(low < high for low, high in zip(edges, edges[1:]))
        and edges[-1] <= LIMIT
        and all(high <= top or low > top for low, high in done)
        and all(floor <= low < high <= LIMIT and (high <= top or low >= top) for low, high in spans)
        and all(one[1] <= other[0] for one, other in zip(spans, spans[1:]))
        and all(high <= start or low >= end for low, high in spans for start, end in done)
        and all(floor <= row["offset"] < top for row in waiting)
        and all(one["offset"] < other["offset"] for one, other in zip(waiting, waiting[1:]))
        and not any(low <= row["offset"] < high for row in waiting for low, high in [*spans, *done])
        and all(item["priority"] <= 9 for item in [*exceptions, *waiting])
        and not any(
            (item["error"] or item["priority"] != 4 or item["key"]) and item["end"] - item["offset"] > 1
            for item in exceptions
        )
    )
    if not sound:
        raise Bad("damaged", "a snapshot contradicts itself")
    return reading, done, exceptions, policy, paused, waiting, kinds


KINDS = "lent extended released done nacked dead revived discarded purged seek paused policy"
KINDS = [None] + KINDS.split() + ["holder gone", "own mark", "aside", "undeleted"]


def entry(data, salt, position):
    """the entry that counts at a position and its slots, or None"""
    first = data[position : position + 32]
    if len(first) < 32 or not 1 <= first[4] < len(KINDS) or first[5] > 33:
        return None
    slots = 1 + first[5]
    whole = data[position : position + 32 * slots]
    if len(whole) < 32 * slots or number(whole, 0, 4) != seeded(salt, position, whole[4:]):
        return None
    found = {
        "kind": KINDS[first[4]],
        "failures": first[6],
        "losses": first[7],
        "offset": number(first, 8, 6),
        "time": number(first, 14, 6),
        "lease": number(first, 20, 4),
        "delivery": number(first, 24, 8),
    }
    if slots > 1:
        more = whole[32:]
        size = number(more, 2, 2)
        value = more[4 : 4 + size]
        if more[1] or len(value) < size or not zero(more[4 + size :]):
            return None
        if more[0] == 1 and size == 16:
            found["end"], found["messages"] = struct.unpack("<QQ", value)
            if found["end"] > LIMIT or found["messages"] > found["end"]:
                return None
        elif more[0] == 2 and size <= 1024:
            try:
                found["text"] = value.decode("utf-8")
            except UnicodeDecodeError:
                return None
        else:
            return None
    return found, slots


def group(root, queue, row):
    say("group", **row)
    halves = []
    for which in (0, 1):
        name = f"groups/{row['name']}/{which}.offsets"
        data = load(root, name)
        try:
            head = header(b"backlogO", data)
            say("half", which=which, **head)
            if head["queue"] != queue or head["group"] != row["name"]:
                raise Bad("foreign", f"{name} is another file")
            behind = PAGE + (head["snapshot"] + 507) // 508 * 512
            fits = head["snapshot"] > 0 and behind <= head["entries"] <= head["length"]
            if not fits or len(data) < head["length"] or head["entries"] % 32:
                raise Bad("damaged", f"{name} is shortened")
            if head["incarnation"] != row["incarnation"]:
                raise Bad("damaged", "of an earlier group with this name")
            halves.append((head, snapshot(head, data), data[: head["length"]]))
        except Bad as bad:
            say("half", which=which, bad=str(bad))
    if not halves:
        raise Bad("damaged", "no half is good")
    head, (reading, done, exceptions, policy, paused, waiting, kinds), data = max(halves, key=lambda half: half[0]["generation"])
    generation = head["generation"]
    marks = [other["superseded"] or 0 for other, _, _ in halves]
    if generation < row["generation"] or any(mark > generation for mark in marks):
        raise Bad("damaged", f"the newest half of group {row['name']} is bad or missing")
    if len({other["generation"] for other, _, _ in halves}) < len(halves):
        raise Bad("damaged", "both halves have the same generation")
    if any(other["superseded"] not in (None, generation) for other, _, _ in halves):
        raise Bad("damaged", "the older half was superseded by another one")
    say("reading", generation=generation, **reading)
    say("done ranges", ranges=done)
    for item in exceptions:
        say("exception", **item)
    for item in waiting:
        say("waiting", **item)
    say("policy", **policy)
    if paused is not None:
        say("paused", until=paused)
    if kinds is not None:
        say("kinds", kinds=kinds)
    entries(head, data, row["mark"] if generation == row["generation"] else 0)


def entries(head, data, bound):
    position, last, walking = head["entries"], head["entries"], True
    while position + 32 <= len(data):
        found = entry(data, head["salt"], position)
        if found is None:
            walking = False
            position += 32
            continue
        if walking:
            say("entry", at=position, **found[0])
            last = position + 32 * found[1]
        if found[0]["kind"] == "own mark":
            bound = max(bound, min(position, 32 * found[0]["offset"]))
        position += 32 * found[1]
    if last < bound:
        raise Bad("damaged", f"an entry is missing at {last}, and all before {bound} was durable")
    say("entries end", at=last)


def main(root):
    queue, slot_that_holds = manifest(root)
    rows, log = slot_that_holds["segments"], slot_that_holds["log"]
    for row, following in zip(rows, rows[1:] + [None]):
        behind = following["base"] if following else None
        segment(root, queue, row, log if following is None else None, behind)
    for row in slot_that_holds.get("schedules", []):
        say("schedule", **row)
    for row in slot_that_holds["groups"]:
        try:
            group(root, queue, row)
        except Bad as bad:
            say("group refused", name=row["name"], bad=str(bad))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except Bad as bad:
        say("refused", bad=str(bad))
        sys.exit(1)
