"""Seeded simulation of the protocol: the real Term, Acceptance and deciders on an unreliable log, database and clock.

A world has two partitions, engines that pause, crash and take over from each other, executors that die or come back as
zombies, clients that double-text, cancel, delete and repeat themselves. Appends are delayed, duplicated, lost for
good, or land after they were reported unknown; projections race; old commands are trimmed. Some commands
are poison: one stage (decode, decide, encode, append, project) fails for them, whenever it is tried. Into `events`
others append what is not an event record, or only like one. All of it follows from the seed.

Invariants, checked on every seed (`checks`; those marked * also at every step, in `world`):

I1   Every command is decided by exactly one accepted event record, in offset order.
I2*  The projection applies exactly the accepted records, in order; its position never goes back.
I3   Read models == the fold of the accepted log from its beginning.
I4   The accepted events == what the deciders make of the commands, one after the other, without any log; the stored
     decider states are those of that fold.
I5   The attempts of a run are 1, 2, 3 …: each comes from one `run.scheduled`.
I6   A thread never has two unfinished attempts; the queue never has two rows of one thread*.
I7   A run gets at most one final status and does not start after it; after quiescence with live executors every run has
     ended exactly once, or was deleted, by itself or with its thread.
I8   What is reported by an attempt that is not the current one changes nothing; a run that was rolled back or deleted
     leaves no checkpoint, a checkpoint is saved once, and no attempt is told that there is none when there is.
I9   After quiescence nothing is in flight: the queue, the timers and all slots are empty, no thread is busy.
I10  A command sent again with the same id changes nothing.
I11  A status a client has been shown as final never changes afterwards*.
I12  A command of which a stage fails is decided once, to a refusal (the report of an attempt in flight: to the end of
     its run); what fails only in the projection of a log that is elsewhere is left out of the read models, and recorded
     once. All the invariants hold for the others meanwhile: they are decided, run and end. What is in `events` and is
     not an event record counts for no reader.
I13  A thread has the error `UserInterrupt`, with the reason, exactly if the last ended attempt was cancelled.
I14  The items of the store are what the writes leave, one after the other: the last one of an item counts, and nothing
     is removed but what was deleted or had expired.
I15* A run that ended with a webhook asks for it once; its attempts are 1, 2, 3 …, each with one fate, and it ends as
     delivered or dead. Nothing is sent after the log says that it was delivered (before that, a crash or a take-over
     between the POST and its report sends it again).
I16  A thread expires only when nothing is in flight on it and nothing has happened on it for its ttl, whatever was
     found when the command to do so was sent; after quiescence no thread is left whose time has passed.
I17  A cron fires once per due time and in order; each firing has exactly one run, or is recorded as refused and has
     none, unless the cron is deleted before; no run is of a cron that has not fired.
I18  A key belongs to one request until it expires, which has one answer; each of its commands takes effect once,
     however often the request is sent, whichever apis carry it out and wherever they die.
I19  What is imported from another world's log (`imports`; importers are killed, begin anew, are two at a time, appends
     are lost in part) is what it was: the same events, times, actors and decider states, once each and without a
     gap, the same read models; meanwhile the aggregate takes nothing else. No run of it is executed, no webhook is
     sent, no cron fires for a time that is past; what was in flight has ended.

`python -m tests.simulation SEED…` replays seeds and prints what happened.
"""
