// The acceptance rule of threadlog's topic `events`, for any JavaScript client: hand over every message of a partition,
// in offset order, from the beginning; what comes back counts.

export class AcceptedEvents {
  #partitions = new Map();

  /** The record of a message (`{epoch, cmd_off, key, at, actor, events, …}`), or null for one that does not count. */
  read(partition, offset, value, headers = {}) {
    let state = this.#partitions.get(partition);
    if (!state) this.#partitions.set(partition, (state = { next: 0, epoch: 0, cmdOff: -1, chunks: new Map() }));
    if (Number(offset) < state.next) return null; // it was read before
    state.next = Number(offset) + 1;
    const whole = this.#whole(state, value, headers);
    const record = whole && parsed(whole);
    if (!record || record.epoch < state.epoch) return null; // of an engine that was fenced
    state.epoch = record.epoch;
    if (record.start) return null; // the announcement of a term
    if (record.cmd_off <= state.cmdOff) return null; // a duplicate
    if (record.after != null && record.after !== state.cmdOff) return null; // decided after a record that was lost
    state.cmdOff = record.cmd_off;
    return record;
  }

  // A record above 512 KiB comes in several messages, the last of which is where the record is.
  #whole(state, value, headers) {
    if (!headers.chunk) return value;
    const [id, index, count] = headers.chunk.toString().split(":");
    const parts = state.chunks.get(id) ?? [];
    state.chunks.set(id, parts);
    parts.push(value);
    if (Number(index) + 1 < Number(count)) return null;
    state.chunks.delete(id);
    return parts.length === Number(count) ? Buffer.concat(parts) : null;
  }
}

function parsed(value) {
  try {
    const record = JSON.parse(value.toString());
    const isRecord = Number.isInteger(record?.epoch) && Number.isInteger(record?.cmd_off) && typeof record?.key === "string";
    return isRecord ? record : null;
  } catch {
    return null; // bytes that are no record count for no reader
  }
}
